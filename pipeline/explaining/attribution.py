"""Integrated gradients (Sundararajan et al. 2017) of a classifier's answer over its word embeddings, by captum.

The path goes in a straight line from the baseline's embeddings to the text's. How well the sum of the attributions
meets F(text) - F(baseline), as it would exactly for infinitely many points (completeness), is always given; where the
gap is too wide, the integral is taken again with twice the points, up to MOST_DOUBLINGS times.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import LayerIntegratedGradients
from torch import Tensor

from pipeline.probing.scores import BATCH_TOKENS

WIDE_GAP = 0.05
"""Relative gap over which the attributions are not to be trusted."""
MOST_DOUBLINGS = 3


@dataclass(frozen=True)
class Attribution:
    """What each token adds to F, the answer (logit or score) that is explained."""

    values: list[float]
    """One a token, special tokens included; more than 0: speaks for the answer."""
    at_text: float
    """F of the text."""
    at_baseline: float
    """F of the baseline."""
    steps: int
    """Points of the integral."""

    @property
    def total(self) -> float:
        """Sum of the attributions."""
        return sum(self.values)

    @property
    def gap(self) -> float:
        """Sum of the attributions less F(text) - F(baseline); 0 if the integral were exact."""
        return self.total - (self.at_text - self.at_baseline)

    @property
    def relative_gap(self) -> float | None:
        """|gap| / |F(text) - F(baseline)|; None where that difference is 0."""
        difference = abs(self.at_text - self.at_baseline)
        return abs(self.gap) / difference if difference else None

    @property
    def is_wide(self) -> bool:
        """Whether to warn: the relative gap is over WIDE_GAP."""
        return (self.relative_gap or 0.0) > WIDE_GAP or (self.relative_gap is None and abs(self.gap) > 1e-6)


def baseline_ids(ids: Sequence[int], special: Sequence[bool], filler: int) -> list[int]:
    """`filler` ([PAD] or [MASK]) for every token of the text; the special ones around it stay."""
    return [token if flag else filler for token, flag in zip(ids, special, strict=True)]


def attribute(
    model: Any,
    ids: Sequence[int],
    baseline: Sequence[int],
    target: int,
    steps: int,
    types: Sequence[int] | None = None,
) -> Attribution:
    """Attributions for output `target`, with `steps` points or, while the gap is wide, more."""
    for doubling in range(MOST_DOUBLINGS + 1):
        result = integrate(model, ids, baseline, target, steps << doubling, types)
        if not result.is_wide:
            break
    return result


def integrate(
    model: Any,
    ids: Sequence[int],
    baseline: Sequence[int],
    target: int,
    steps: int,
    types: Sequence[int] | None = None,
) -> Attribution:
    """One integral by Gauss-Legendre quadrature. ids, baseline and token types: (tokens,), attended to as one row."""
    device = next(model.parameters()).device

    def forward(rows: Tensor) -> Tensor:
        """Logits (rows, labels)."""
        more = {} if types is None else {"token_type_ids": torch.tensor([types], device=device).expand_as(rows)}
        logits: Tensor = model(input_ids=rows, attention_mask=torch.ones_like(rows), **more).logits
        return logits

    inputs, start = (torch.tensor([row], device=device) for row in (list(ids), list(baseline)))
    captum = LayerIntegratedGradients(forward, model.get_input_embeddings())
    at_once = max(1, min(steps, BATCH_TOKENS // len(ids)))
    values = captum.attribute(inputs, start, target=target, n_steps=steps, internal_batch_size=at_once)
    with torch.no_grad():
        at_text, at_baseline = forward(inputs)[0, target], forward(start)[0, target]
    return Attribution(values[0].double().sum(-1).tolist(), float(at_text), float(at_baseline), steps)
