"""Saving by all ranks at once: the files are those of one rank, byte for byte, at any number of ranks."""

import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from pipeline.base.errors import UserError
from pipeline.training.agreement import Agreement
from pipeline.training.ranks import Ranks
from pipeline.training.tensor_file import Layout, Piece, check_cover, create, digest, layout_of, write_piece

SHAPES = {"b.weight": (3, 4), "a": (5,), "b.bias": (1,), "é": (2, 1, 2), "scalar": ()}


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {name: torch.randn(shape) for name, shape in SHAPES.items()}


def pieces_of(layout: Layout, world: int) -> list[list[Piece]]:
    """Every tensor cut over the ranks, in elements of 4 bytes."""
    found: list[list[Piece]] = [[] for _ in range(world)]
    for name, shape in SHAPES.items():
        count = torch.Size(shape).numel()
        for rank in range(world):
            start, end = count * rank // world, count * (rank + 1) // world
            if end > start:
                found[rank].append(Piece(layout.starts[name] + 4 * start, 4 * (end - start)))
    return found


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_a_file_in_pieces_is_what_safetensors_writes(tmp_path: Path, world: int) -> None:
    layout, wanted = layout_of(SHAPES), save(tensors())
    assert wanted.startswith(layout.header)
    assert len(wanted) == layout.size
    by_rank = pieces_of(layout, world)
    check_cover(layout, [piece for own in by_rank for piece in own])
    create(tmp_path / "x", layout)
    checksums = {}
    with open(tmp_path / "x", "r+b") as file:
        for own in reversed(by_rank):
            for piece in own:
                content = memoryview(wanted)[piece.start : piece.start + piece.size]
                checksums[piece] = write_piece(file.fileno(), piece, content)
                assert checksums[piece] == zlib.crc32(content)
    assert (tmp_path / "x").read_bytes() == wanted
    import hashlib

    assert digest(tmp_path / "x", layout, checksums) == hashlib.sha256(wanted).hexdigest()


def test_a_write_that_the_disk_lost_is_noticed(tmp_path: Path) -> None:
    layout = layout_of(SHAPES)
    create(tmp_path / "x", layout)
    whole = Piece(len(layout.header), layout.size - len(layout.header))
    content = memoryview(bytes(whole.size))
    with open(tmp_path / "x", "r+b") as file:
        checksums = {whole: write_piece(file.fileno(), whole, content)}
        digest(tmp_path / "x", layout, checksums)
        file.seek(whole.start + 5)
        file.write(b"?")
    with pytest.raises(UserError, match="loses writes"):
        digest(tmp_path / "x", layout, checksums)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda pieces: pieces[1:], "not at all"),
        (lambda pieces: [*pieces, pieces[0]], "twice"),
        (lambda pieces: [*pieces[:-1], Piece(pieces[-1].start, pieces[-1].size - 4)], "would be written"),
    ],
)
def test_every_byte_is_written_exactly_once(change: Callable[[list[Piece]], list[Piece]], what: str) -> None:
    layout = layout_of(SHAPES)
    pieces = sorted(piece for own in pieces_of(layout, 2) for piece in own)
    with pytest.raises(RuntimeError, match=what):
        check_cover(layout, change(pieces))


def test_one_rank_agrees_with_itself() -> None:
    agreement = Agreement(Ranks())

    def full() -> None:
        raise OSError(28, "No space left on device", "/x/y")

    assert agreement.each(lambda: {"a": 1}) == [{"a": 1}]
    with pytest.raises(UserError, match=r"^cannot write /x/y: no space left on device\.$"):
        agreement.each(full)
