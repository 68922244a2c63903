"""Loads an exported folder as a user would, by transformers' Auto classes, and compares its logits with ours."""

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from model.config import CLS_ID, PAD_ID, SEP_ID, SPECIAL_IDS
from model.networks import Discriminator
from pipeline.release.folder import AUTO_CLASSES, folder_class

TOLERANCE = 1e-5
"""Largest difference of logits that is let pass, as a part of the largest logit (at least 1)."""

ROWS = 3
MOST_TOKENS = 256


@torch.no_grad()
def largest_difference(folder: Path, network: nn.Module, length: int) -> float:
    """Largest difference of any logit on a few padded sequences of up to `length` tokens, over the largest logit or 1.

    fp32, on the CPU. For two-label folders ours is the pair (0, z).
    """
    ids, segments = _sequences(int(network.config.vocab_size), min(length, MOST_TOKENS))  # type: ignore[union-attr,arg-type]
    class_name = folder_class(folder)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    theirs = getattr(transformers, AUTO_CLASSES[class_name]).from_pretrained(folder, local_files_only=True).eval()
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": (ids != PAD_ID).long()}
    if class_name.startswith("Electra"):
        inputs["token_type_ids"] = segments
        ours = network.logits(ids, None, segments)  # type: ignore[operator]
    else:
        ours = network.logits(ids)  # type: ignore[operator]
    if isinstance(network, Discriminator) and class_name.endswith("TokenClassification"):
        ours = torch.stack((torch.zeros_like(ours), ours), -1)
    seen = ids != PAD_ID
    found: Tensor = theirs(**inputs).logits
    return float((found[seen] - ours[seen]).abs().max() / max(1.0, float(ours[seen].abs().max())))


def _sequences(vocab_size: int, length: int) -> tuple[Tensor, Tensor]:
    """ids and segments (ROWS, length): [CLS] pieces [SEP], each row a little shorter than the one before."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(len(SPECIAL_IDS), vocab_size, (ROWS, length), generator=generator)
    place, rows = torch.arange(length)[None], torch.arange(ROWS)[:, None]
    ends = length - 1 - rows * (length // 8)
    ids[:, 0] = CLS_ID
    ids = ids.masked_fill(place == ends, SEP_ID).masked_fill(place > ends, PAD_ID)
    return ids, ((place > length // 2) & (place <= ends)).long()
