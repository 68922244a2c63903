"""Weights taken from others': what fits by name is copied, tables by their rows, and the rest is left and named.

Promise: nothing is guessed. A tensor is copied whole, or row by row for the vocabulary and the positions, or it keeps
the values it has and is listed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

VOCABULARY = (
    ".word_embeddings.weight",
    ".tok_embeddings.weight",
    ".embeddings.word.weight",
    "lm_head.bias",
    "decoder.bias",
)
"""Ends of the names, theirs and ours, of tensors with a row for each piece."""
POSITIONS = (".position_embeddings.weight", ".embeddings.position.weight")
"""The same with a row for each position."""
SEGMENTS = (".token_type_embeddings.weight", ".embeddings.segment.weight")
"""The same for token types."""


@dataclass
class Filled:
    """What became of one network's tensors."""

    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Not in the state: they keep their initial values."""
    unused: list[str] = field(default_factory=list)
    """In the state, with no place here."""


def position_rows(have: int, trained: int, wanted: int, needed: int) -> list[int]:
    """For each of `wanted` positions, the row of a table of `have` to take.

    trained: how many of these have been trained; needed: the longest sequence that is to come. Rows are taken as they
    are where there are any, but only trained ones where sequences will be longer than those; all others are the trained
    ones again in order, row n from n % trained (Longformer, Beltagy et al. 2020, section 5: nearness is kept within
    each copy, and such a start takes far fewer steps than a random one).
    """
    trained = max(1, min(trained, have))
    kept = have if needed <= trained else trained
    return [row if row < kept else row % trained for row in range(wanted)]


@torch.no_grad()
def fill(
    views: Mapping[str, Tensor], state: Mapping[str, Tensor], rows: Sequence[int] | None, places: Sequence[int] | None
) -> Filled:
    """Copies what fits from `state` into `views`, by name.

    rows (vocab,): row of the state's vocabulary for each piece, -1 for none (it keeps its values); None: the same.
    places (positions,): row of the state's position table for each position; None: the same. Raises ValueError for a
    tensor of another shape, before anything is written.
    """
    filled = Filled(unused=sorted(state.keys() - views.keys()))
    copies: list[tuple[Tensor, Tensor]] = []
    for name, view in views.items():
        if name not in state:
            filled.missing.append(name)
            continue
        source = state[name]
        if name.endswith(VOCABULARY) and rows is not None:
            chosen = torch.tensor(rows)
            chosen[chosen >= len(source)] = -1
            known = chosen >= 0
            source = torch.where(known.view(-1, *[1] * (view.ndim - 1)), _rows(source, chosen, view, name), view)
        elif name.endswith(POSITIONS) and places is not None:
            source = _rows(source, torch.tensor(places), view, name)
        elif name.endswith(SEGMENTS) and len(source) != len(view):
            common = min(len(source), len(view))
            source = torch.cat([_rows(source, torch.arange(common), view, name), view[common:]])
        if source.shape != view.shape:
            raise ValueError(f"{name} has shape {tuple(source.shape)}, but this network's is {tuple(view.shape)}")
        copies.append((view, source))
        filled.loaded.append(name)
    for view, source in copies:
        view.copy_(source)
    return filled


def _rows(source: Tensor, chosen: Tensor, view: Tensor, name: str) -> Tensor:
    if source.shape[1:] != view.shape[1:]:
        raise ValueError(f"{name} has rows of shape {tuple(source.shape[1:])}, this network's {tuple(view.shape[1:])}")
    return source[chosen.clamp(min=0)].to(view.dtype)
