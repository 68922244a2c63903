"""The memory that a plan foretells is what is taken."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.training import snapshot
from pipeline.training.engine_local import Part, _share
from pipeline.training.plan import bytes_for_saves

SHAPES = {"a": (7, 12), "b": (5,), "c": ()}
PARAMETERS = 90


@pytest.mark.parametrize("world", [1, 2, 3, 16])
def test_what_saves_hold_in_memory(world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ranks' buffers are together three fp32 copies, and a rank's is its share, but for a remainder a tensor."""

    def local_parts(engine: Any, kind: str) -> Iterator[Part]:
        parts = (_share(engine, name, torch.zeros(shape)) for name, shape in SHAPES.items())
        return (part for part in parts if part.values.numel())

    monkeypatch.setattr(snapshot, "local_parts", local_parts)
    held = []
    for rank in range(world):
        ranks = SimpleNamespace(rank=rank, world=world, device=torch.device("cpu"))
        taken: Any = snapshot.Snapshot(SimpleNamespace(shapes=SHAPES, ranks=ranks))  # type: ignore[arg-type]
        held.append(sum(place.values.nbytes for places in taken.held.values() for place in places))
    assert sum(held) == 12 * PARAMETERS == pytest.approx(world * bytes_for_saves(PARAMETERS, world))
    assert held == pytest.approx([bytes_for_saves(PARAMETERS, world)] * world, abs=12 * len(SHAPES))
