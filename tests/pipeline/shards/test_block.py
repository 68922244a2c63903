"""Blocks: joined and cut at their offsets they give back exactly the documents, however the stream came in pieces."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import PAD_ID, SEP_ID
from pipeline.shards.block import (
    Block,
    Piece,
    Pieces,
    PieceSlice,
    block_count,
    cut_blocks,
    shard_count,
    shard_range,
    take,
    token_dtype,
)

U2 = token_dtype(100)
documents_lists = st.lists(
    st.lists(st.integers(5, 99), max_size=30).map(lambda ids: [*ids, SEP_ID]), min_size=1, max_size=20
)


def cut(pieces_of_documents: list[list[list[int]]], block_tokens: int, shard_blocks: int) -> list[Block]:
    """All blocks of a split, cut shard by shard, last shard first, each by its own token range only."""
    ids = [np.array([id for document in piece for id in document], U2) for piece in pieces_of_documents]
    starts = [np.cumsum([0, *map(len, piece)])[:-1] for piece in pieces_of_documents]
    pieces = [Piece(len(i), len(s), f"unit-{n}") for n, (i, s) in enumerate(zip(ids, starts, strict=True))]
    tokens = sum(piece.tokens for piece in pieces)
    shards = []
    for shard in reversed(range(shard_count(tokens, block_tokens, shard_blocks))):
        blocks = shard_range(shard, tokens, block_tokens, shard_blocks)
        allowed = range(blocks.start * block_tokens, blocks.stop * block_tokens)

        def read(piece: int, start: int, stop: int, allowed: range = allowed) -> PieceSlice:
            offset = sum(p.tokens for p in pieces[:piece])
            assert start < stop
            assert offset + start in allowed
            assert offset + stop - 1 in allowed
            return take(ids[piece], starts[piece], start, stop)

        shards.append(list(cut_blocks("train", Pieces.of(pieces), read, block_tokens, blocks, U2)))
    return [block for shard in reversed(shards) for block in shard]


def join(blocks: list[Block], block_tokens: int) -> list[list[int]]:
    stream = np.concatenate([block.ids[: block.meta["tokens"]] for block in blocks])
    starts = np.concatenate([block.documents + n * block_tokens for n, block in enumerate(blocks)])
    return [part.tolist() for part in np.split(stream, starts[1:])]


@settings(max_examples=150)
@given(documents_lists, st.integers(1, 40), st.integers(1, 5), st.integers(1, 20))
def test_joined_blocks_are_the_documents(
    documents: list[list[int]], block_tokens: int, shard_blocks: int, piece_documents: int
) -> None:
    grouped = [documents[at : at + piece_documents] for at in range(0, len(documents), piece_documents)]
    blocks = cut([[], *grouped, []], block_tokens, shard_blocks)  # empty units at both ends change nothing
    assert join(blocks, block_tokens) == documents

    tokens = sum(map(len, documents))
    assert len(blocks) == block_count(tokens, block_tokens)
    assert [block.meta["tokens"] for block in blocks[:-1]] == [block_tokens] * (len(blocks) - 1)
    last = blocks[-1]
    assert (last.ids[last.meta["tokens"] :] == PAD_ID).all()
    assert all(block.ids.shape == (block_tokens,) and block.ids.dtype == U2 for block in blocks)
    assert len({block.key for block in blocks}) == len(blocks)

    numbers = np.repeat(np.arange(len(documents)), [len(d) for d in documents])
    assert [block.meta["first_document"] for block in blocks] == numbers[::block_tokens].tolist()
    whole = cut([documents], block_tokens, shard_blocks)
    assert all(
        (a.ids == b.ids).all() and (a.documents == b.documents).all() for a, b in zip(blocks, whole, strict=True)
    )


def test_a_document_that_continues_has_no_offset() -> None:
    blocks = cut([[[5, 6, 7, 8, 9, 10, SEP_ID], [11, SEP_ID]]], block_tokens=3, shard_blocks=2)
    assert [block.documents.tolist() for block in blocks] == [[0], [], [1]]
    assert [block.meta["first_document"] for block in blocks] == [0, 0, 0]
    assert [block.documents.dtype for block in blocks] == [np.int32] * 3
    assert [block.key for block in blocks] == ["train-000000000", "train-000000001", "train-000000002"]


def test_provenance_names_the_first_and_the_last_unit() -> None:
    blocks = cut([[[5, SEP_ID]], [[6, SEP_ID]], [[7, SEP_ID]]], block_tokens=3, shard_blocks=8)
    assert [block.meta["sources"] for block in blocks] == [["unit-0", "unit-1"], ["unit-1", "unit-2"]]


@pytest.mark.parametrize(("vocab_size", "name"), [(128, "uint16"), (65_536, "uint16"), (65_537, "uint32")])
def test_width_of_an_id(vocab_size: int, name: str) -> None:
    assert token_dtype(vocab_size).name == name


def test_an_empty_split_has_no_shards() -> None:
    assert shard_count(0, 64, 4) == 0
    assert len(shard_range(0, 0, 64, 4)) == 0
