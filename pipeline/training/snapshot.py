"""A copy of this rank's part of the fp32 weights and moments, in host memory that is used again for every save.

Price: 12 bytes a parameter, divided by the ranks, from the start of the run on (allocating them at each save would cost
more than the copy). The copy is all that training waits for; the rest happens behind its back.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.training.engine import Engine
from pipeline.training.engine_local import local_parts
from pipeline.training.engine_state import KINDS
from pipeline.training.tensor_file import ELEMENT, Layout, Piece, layout_of


@dataclass(frozen=True)
class Held:
    """Bytes of a file, and the copy that has them."""

    piece: Piece
    values: Tensor

    @property
    def content(self) -> memoryview:
        """The copy's bytes."""
        return bytes_of(self.values)


def bytes_of(values: Tensor) -> memoryview:
    """A tensor's own bytes; it is on the CPU and without gaps."""
    return values.numpy().data.cast("B")


class Snapshot:
    """The buffers. `take` fills them; nobody may call it while they are being written."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.layout: Layout = layout_of(engine.shapes)
        on_cuda = engine.ranks.device.type == "cuda"
        self.held: dict[str, list[Held]] = {}
        for kind in KINDS:
            parts = list(local_parts(engine, kind))
            buffer = torch.empty(sum(part.values.numel() for part in parts), pin_memory=on_cuda).fill_(0)
            views = buffer.split([part.values.numel() for part in parts]) if parts else ()
            self.held[kind] = [
                Held(Piece(self.layout.starts[part.name] + ELEMENT * part.start, ELEMENT * len(view)), view)
                for part, view in zip(parts, views, strict=True)
            ]

    def take(self) -> None:
        """Copies the state as it is now."""
        with torch.no_grad():
            for kind, held in self.held.items():
                for place, part in zip(held, local_parts(self.engine, kind), strict=True):
                    place.values.copy_(part.values, non_blocking=True)
        if self.engine.ranks.device.type == "cuda":
            torch.cuda.synchronize(self.engine.ranks.device)

    def pieces(self) -> dict[str, list[Piece]]:
        """What this rank writes, by kind."""
        return {kind: [place.piece for place in held] for kind, held in self.held.items()}
