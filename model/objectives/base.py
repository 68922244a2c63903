"""What an objective is: a module that turns token ids into its share of the global batch's loss; found by file name.

Promise: sums travel, means come last. `counts`, the loss and the sums of any split of a batch over micro-batches and
ranks add up to those of the whole. Masks and samples depend on (seed, global sample index, position) alone.
"""

import importlib
import pkgutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.measures import Sums


@dataclass(frozen=True)
class Batch:
    """Rows of token ids, all (batch, seq) int64 but `sample` (batch,) int64, the rows' global index."""

    ids: Tensor
    sample: Tensor
    documents: Tensor | None = None
    """Number of the document that a token belongs to; tokens of different documents do not attend to each other."""
    segments: Tensor | None = None
    """Token types 0 and 1."""
    room: int | None = None
    """At least as many as the stretches of one document, padding one of them, counted on the host; each document of a
    row is one stretch. None: not counted, and a GPU's attention takes a mask."""

    def to(self, device: torch.device | str) -> "Batch":
        """The same rows on another device."""
        return self._each(lambda x: x.to(device, non_blocking=True))

    def pinned(self) -> "Batch":
        """The same rows in memory from which a GPU copies by itself."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        documents = None if self.documents is None else change(self.documents)
        segments = None if self.segments is None else change(self.segments)
        return Batch(change(self.ids), change(self.sample), documents, segments, self.room)


class Objective(nn.Module):
    """The networks that train together and the loss that trains them. The trainer's engine wraps this one module."""

    Config: ClassVar[type[Any]]
    """Frozen, keyword-only dataclass of the objective's own settings, checked in its __post_init__ (ValueError)."""

    compute_dtype: torch.dtype | None = None
    """torch.bfloat16 or float16: the networks run under autocast over float32 parameters, while softmax, LayerNorm,
    sampling and losses stay float32. None: everything as the parameters are."""

    def __init__(self, model: ModelConfig, config: Any, vocab_size: int, seed: int) -> None:
        super().__init__()
        self.model_config, self.config, self.vocab_size, self.seed = model, config, vocab_size, seed

    def counts(self, batch: Batch) -> Sums:
        """What each loss term is divided by: {term: float64 scalar}; adds up over micro-batches and ranks."""
        raise NotImplementedError

    def forward(self, batch: Batch, totals: Sums) -> tuple[Tensor, Sums]:
        """This micro-batch's share of the global batch's loss, and detached sums for `metrics`.

        totals: `counts` added over the whole global batch.
        The loss is the sum over the terms of weight * term's sum / totals[term].
        """
        raise NotImplementedError

    def evaluate(self, batch: Batch, frequency: Tensor | None = None) -> Sums:
        """Sums and histograms for `metrics(..., training=False)`; no gradient. The caller sets eval mode.

        frequency (vocab,): counts of the pieces in the training data, for the baselines that know nothing else.
        """
        raise NotImplementedError

    def metrics(self, sums: Sums, training: bool) -> dict[str, float]:
        """Means and curves from sums added over all micro-batches and ranks; in training the losses alone."""
        raise NotImplementedError

    def networks(self) -> dict[str, nn.Module]:
        """The networks to export, by name; each has .config (EncoderConfig) and .logits(ids, documents, segments)."""
        raise NotImplementedError

    def flops(self, batch: int, seq: int) -> float:
        """Floating point operations of forward and backward of `batch` rows of `seq` tokens, matrix products alone."""
        raise NotImplementedError

    def recompute(self) -> None:
        """From now on the backward pass runs each layer again: memory of one layer, for a third more time."""
        for network in self.networks().values():
            network.encoder.recompute = True  # type: ignore[union-attr]

    def computing(self, device: torch.device) -> AbstractContextManager[Any]:
        """Autocast to compute_dtype, for the networks' matrix products."""
        return nullcontext() if self.compute_dtype is None else torch.autocast(device.type, dtype=self.compute_dtype)


def objective_names() -> list[str]:
    """Names of all objectives: the files beside this one."""
    return sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name != "base")


def objective_class(name: str) -> type[Objective]:
    """The one Objective that model/objectives/NAME.py defines. Raises ValueError for an unknown name."""
    if name not in objective_names():
        raise ValueError(f"objective {name!r} is not known: one of {', '.join(objective_names())}")
    module = importlib.import_module(f"model.objectives.{name}")
    found = [
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, Objective) and c.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise ValueError(f"model/objectives/{name}.py defines {len(found)} objectives: it must define one")
    return found[0]


def build_objective(name: str, model: ModelConfig, config: Any, vocab_size: int, seed: int) -> Objective:
    """A fresh objective; the same weights for the same seed, on every rank. config: an instance of its Config."""
    return objective_class(name)(model, config, vocab_size, seed)
