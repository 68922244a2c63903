"""Folders of networks that score texts: discriminators (ELECTRA's head, ours over ModernBERT), masked language models.

Any folder of transformers with such a head. It is loaded whole or refused: a head of random numbers would give figures
that mean nothing.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from pipeline.base.errors import UserError
from pipeline.base.files import sha256_file
from pipeline.tasks.pretrained import (
    WEIGHTS,
    check_vocabulary,
    from_folder,
    open_config_and_tokenizer,
    pretrained_digest,
    quiet_transformers,
    weight_files,
)

Kind = Literal["discriminator", "generator"]
KINDS: tuple[Kind, ...] = ("discriminator", "generator")
TAGS = {"original", "replaced"}
"""Labels of a token classifier that is a discriminator."""
TOKENIZER_FILES = ("*token*.json", "vocab.*", "merges.txt", "*.model")
"""What a tokenizer is made from, its settings and added tokens included."""
WANTED = {
    "discriminator": "ElectraForPreTraining, or a token classifier with the labels original and replaced",
    "generator": "a masked language model (…ForMaskedLM)",
}


@dataclass(frozen=True)
class Folder:
    """A folder that has been looked at, not yet loaded."""

    kind: Kind
    path: Path
    config: Any
    tokenizer: Any
    auto_class: str
    section: str = "evaluate"
    """The config's section that names it, for messages."""

    @property
    def where(self) -> str:
        """The config's key and the path, for messages."""
        return f"{self.section}.{self.kind}: {self.path}"

    @property
    def positions(self) -> int | None:
        """Longest input, special tokens included; None where positions are rotary and nothing is known."""
        most = getattr(self.config, "max_position_embeddings", None)
        offset = 2 if self.config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
        return None if most is None else int(most) - offset

    def digest(self) -> str:
        """sha256 of the weights (several files: of each)."""
        return pretrained_digest(self.path)

    def tokenizer_digest(self) -> str:
        """sha256 of the tokenizer's files, by their names and digests."""
        files = sorted({file for pattern in TOKENIZER_FILES for file in self.path.glob(pattern)})
        return hashlib.sha256("".join(f"{file.name} {sha256_file(file)}\n" for file in files).encode()).hexdigest()

    def describe(self) -> str:
        """Path and class."""
        return f"{self.path} ({(self.config.architectures or ['?'])[0]})"


def open_folder(path: Path, kind: Kind, section: str = "evaluate") -> Folder:
    """Config and tokenizer, and whether the folder has the head that `kind` needs. Raises UserError.

    path: the network's folder, or the export as a whole.
    """
    quiet_transformers()
    if not (path / "config.json").is_file() and (path / kind / "config.json").is_file():
        path = path / kind
    where = f"{section}.{kind}: {path}"
    if not (path / "config.json").is_file():
        raise UserError(
            f"{where} is no Hugging Face folder (it has no config.json). Run pipeline/export.py "
            f"first, or set {section}.{kind} to a folder that has one."
        )
    if not weight_files(path):
        raise UserError(f"{where} has no weights ({' or '.join(WEIGHTS)}).")
    config, tokenizer = open_config_and_tokenizer(path, where)
    auto_class = _auto_class(config, kind)
    if auto_class is None:
        has = ", ".join(config.architectures or ["no architecture"])
        raise UserError(f"{where} holds {has}; wanted is {WANTED[kind]}.")
    check_vocabulary(config, tokenizer, where)
    needed = ("pad_token_id", "mask_token_id") if kind == "generator" else ("pad_token_id",)
    for name in needed:
        if getattr(tokenizer, name) is None:
            raise UserError(f"{section}.{kind}: the tokenizer of {path} has no {name.removesuffix('_id')}.")
    return Folder(kind, path, config, tokenizer, auto_class, section)


def load_network(folder: Folder, device: torch.device) -> Any:
    """The network in fp32 on the device, dropout off. Raises UserError where weights are missing."""
    model, report = from_folder(folder.path, folder.auto_class, folder.where)
    missing = sorted(map(str, report["missing_keys"]))
    if missing:
        raise UserError(
            f"{folder.where} does not hold the whole {type(model).__name__}: {len(missing)} of its tensors are "
            f"missing, {missing[0]} first. Scores of a head of random numbers would mean nothing."
        )
    return model.eval().to(device)


def replaced_logits(folder: Folder, logits: Tensor) -> Tensor:
    """Log odds of "replaced", (texts, tokens), from a discriminator's logits: those, or a pair of them a token."""
    if logits.dim() == 2:
        return logits
    replaced = int({str(name): index for index, name in folder.config.id2label.items()}["replaced"])
    return logits[..., replaced] - logits[..., 1 - replaced]


def _auto_class(config: Any, kind: Kind) -> str | None:
    names = config.architectures or []
    if kind == "generator":
        whole = any(name.endswith("ForMaskedLM") for name in names) or names == ["BertForPreTraining"]
        return "AutoModelForMaskedLM" if whole else None
    if "ElectraForPreTraining" in names:
        return "AutoModelForPreTraining"
    tags = {str(label) for label in (config.id2label or {}).values()}
    tagger = any(name.endswith("ForTokenClassification") for name in names) and tags == TAGS
    return "AutoModelForTokenClassification" if tagger else None
