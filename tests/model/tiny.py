"""Small models and batches for the tests of model/, and the transformers twin of a network."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from model.config import CLS_ID, PAD_ID, SEP_ID, SPECIAL_IDS, GeneratorConfig, ModelConfig
from model.hf import to_hf
from model.objectives.base import Batch, Objective, build_objective, objective_class

VOCAB = 300
SEQ = 32


def tiny_model(body: str, **changes: Any) -> ModelConfig:
    """Four layers, local and global ones in modernbert, no dropout; the generator has another shape."""
    sizes: dict[str, Any] = {
        "body": body,
        "hidden_size": 64,
        "layers": 4,
        "heads": 4,
        "ffn_size": 96,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "max_positions": 64,
        "local_window": 8,
        "generator": GeneratorConfig(size=0.5),
    }
    if body == "electra":
        sizes["embedding_size"] = 48
    return ModelConfig(**(sizes | changes))


def tiny_objective(name: str, body: str, seed: int = 0, config: Any = None, **changes: Any) -> Objective:
    """An objective whose weights are far from their small start, biases and norms included."""
    config = objective_class(name).Config() if config is None else config
    objective = build_objective(name, tiny_model(body, **changes), config, VOCAB, seed)
    shake(objective, seed)
    return objective


@torch.no_grad()
def shake(module: nn.Module, seed: int = 0) -> None:
    """Add noise to every parameter."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def tiny_batch(
    rows: int = 4, seq: int = SEQ, seed: int = 0, padding: bool = False, documents: bool = False, segments: bool = False
) -> Batch:
    """[CLS] tokens [SEP]; with padding, row r is 5 * r tokens shorter; with documents, two or three in a row."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(len(SPECIAL_IDS), VOCAB, (rows, seq), generator=generator)
    ids[:, 0] = CLS_ID
    place = torch.arange(seq)[None]
    ends = seq - 1 - (5 * torch.arange(rows)[:, None] if padding else 0)
    ids = ids.masked_fill(place == ends, SEP_ID).masked_fill(place > ends, PAD_ID)
    cuts = torch.randint(1, seq, (rows, 2), generator=generator)
    numbers = (place[..., None] >= cuts[:, None, :]).sum(-1)
    halves = (place >= seq // 2).long().expand(rows, seq)
    return Batch(ids, torch.arange(rows) + 1000, numbers if documents else None, halves if segments else None)


def rows_of(batch: Batch, rows: slice) -> Batch:
    """Some rows of a batch."""

    def part(x: Tensor | None) -> Tensor | None:
        return None if x is None else x[rows]

    return Batch(batch.ids[rows], batch.sample[rows], part(batch.documents), part(batch.segments))


def twin(network: nn.Module, attention: str = "eager") -> transformers.PreTrainedModel:
    """The transformers model with the same weights, dropout off."""
    config, state, class_name = to_hf(network)
    settings = transformers.AutoConfig.for_model(**config)
    model = getattr(transformers, class_name)._from_config(settings, attn_implementation=attention)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert unexpected == []
    assert set(missing) <= {"generator_lm_head.weight", "decoder.weight"}
    return model.eval()


def twin_inputs(batch: Batch) -> dict[str, Tensor]:
    """What the twin takes for a batch without documents."""
    inputs = {"input_ids": batch.ids, "attention_mask": (batch.ids != PAD_ID).long()}
    return inputs if batch.segments is None else inputs | {"token_type_ids": batch.segments}


def searched_draws(scores: Tensor, uniforms: Tensor) -> Tensor:
    """What model/sampling.py must draw, by NumPy in float64. scores (n, vocab), uniforms (n, 2) -> (n,)."""
    draws = []
    for row, (first, second) in zip(scores.double().softmax(-1).numpy(), uniforms.tolist(), strict=True):
        blocks = np.split(row, range(256, len(row), 256))
        block = _search([part.sum() for part in blocks], first)
        draws.append(256 * block + _search(blocks[block], second))
    return torch.tensor(draws)


def _search(weights: Sequence[float], uniform: float) -> int:
    cumulative = np.cumsum(weights)
    return int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
