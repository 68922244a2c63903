"""Blocks: a split's token stream cut into runs of exactly T tokens, so that every position is arithmetic.

A split is ONE stream: a document's ids, SEP_ID, the next document's ids, SEP_ID, ... in input order. Block b holds its
tokens [b*T, (b+1)*T), shard s its blocks [s*S, (s+1)*S). Who tokenises makes the stream as *pieces* (one a work unit,
in input order, of any sizes); who writes shard s needs only the counts of all pieces and the tokens of that shard:

    pieces = Pieces.of([Piece(tokens=len(ids), documents=len(starts), source="a.txt:0"), ...])    # the split, in order
    def read(piece: int, start: int, stop: int) -> PieceSlice:                            # a range inside one piece
        return take(ids_of(piece), starts_of(piece), start, stop)                         # arrays, or mapped .npy files
    for shard in range(shard_count(tokens, T, S)):                                        # each may be a Ray task
        blocks = cut_blocks(split, pieces, read, T, shard_range(shard, tokens, T, S), token_dtype(vocab_size))
        write_shard(data / split / shard_name(shard), blocks)

So a shard's bytes depend on the stream and its pieces alone, not on workers or their order (where given, `source` must
be free of a machine's own paths). Price: documents are cut at block borders; a split's last block is padded.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from model.config import PAD_ID

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Block:
    """One sample of a shard.

    ids (block_tokens,) uint16 or uint32, PAD_ID after the last real token of a split; documents (n,) int32: increasing
    offsets at which documents begin in this block (one that continues from the block before has none here);
    meta {"tokens": real tokens, "first_document": number, within the split and from 0, of the document that the first
    token belongs to, "sources": [source of the first token's piece, source of the last's]}.
    """

    key: str
    ids: Array
    documents: Array
    meta: dict[str, Any]


@dataclass(frozen=True)
class Piece:
    """One work unit's part of a split's stream: its tokens, and the documents that begin in it. Both may be 0."""

    tokens: int
    documents: int
    source: str = ""


@dataclass(frozen=True)
class Pieces:
    """The pieces of a stream, in order, as running sums.

    ends (pieces,) int64: the stream's tokens up to and with each; begun (pieces,) int64: documents before each;
    source(piece): where it comes from. The stream is cut from block `first_block` on, which begins with piece 0: what
    lies before it is cut already.
    """

    ends: Array
    begun: Array
    source: Callable[[int], str]
    first_block: int = 0

    @classmethod
    def of(cls, pieces: Sequence[Piece]) -> "Pieces":
        """From a list of all pieces."""
        tokens = np.array([piece.tokens for piece in pieces], np.int64)
        documents = np.array([piece.documents for piece in pieces], np.int64)
        return cls(np.cumsum(tokens), np.cumsum(documents) - documents, lambda number: pieces[number].source)


class PieceSlice(NamedTuple):
    """Tokens [start, stop) of a piece.

    ids (stop - start,); starts (n,) counted from `start`; documents begun before it.

    `take` makes one.
    """

    ids: Array
    starts: Array
    before: int


ReadPiece = Callable[[int, int, int], PieceSlice]


def take(ids: Array, starts: Array, start: int, stop: int) -> PieceSlice:
    """The slice [start, stop) of a piece held as arrays: ids (tokens,), starts (documents,) increasing offsets."""
    first, last = np.searchsorted(starts, (start, stop), side="left")
    return PieceSlice(ids[start:stop], starts[first:last] - start, int(first))


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """uint16 where every id fits, else uint32; little-endian on every machine."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def block_count(tokens: int, block_tokens: int) -> int:
    """Blocks of a split of `tokens` tokens; the last one may be short."""
    return -(-tokens // block_tokens)


def shard_count(tokens: int, block_tokens: int, shard_blocks: int) -> int:
    """Shards of a split of `tokens` tokens; 0 where it is empty."""
    return -(-block_count(tokens, block_tokens) // shard_blocks)


def shard_range(shard: int, tokens: int, block_tokens: int, shard_blocks: int) -> range:
    """Numbers, within the split, of the blocks of one shard."""
    return range(shard * shard_blocks, min((shard + 1) * shard_blocks, block_count(tokens, block_tokens)))


def shard_name(shard: int) -> str:
    """File name of a shard inside its split's folder."""
    return f"{shard:06d}.tar"


def block_key(split: str, block: int) -> str:
    """Key of a sample: unique in the whole data set."""
    return f"{split}-{block:09d}"


def cut_blocks(
    split: str, pieces: Pieces, read: ReadPiece, block_tokens: int, blocks: range, dtype: np.dtype[Any]
) -> Iterator[Block]:
    """The blocks of the given numbers, in order; holds one block in memory.

    pieces: all of the split; read(piece, start, stop): see the top of this module, asked only for what these blocks
    hold; dtype: `token_dtype(vocab_size)`. blocks: numbers of existing blocks, as from `shard_range`.
    """
    ends = pieces.ends
    for block in blocks:
        begin = (block - pieces.first_block) * block_tokens
        end = min(begin + block_tokens, int(ends[-1]))
        ids = np.full(block_tokens, PAD_ID, dtype)
        starts: list[Array] = []
        piece = first = int(np.searchsorted(ends, begin, side="right"))
        begun = 0
        at = begin
        while at < end:
            offset = int(ends[piece - 1]) if piece else 0
            stop = min(end, int(ends[piece]))
            part = read(piece, at - offset, stop - offset)
            ids[at - begin : stop - begin] = part.ids
            starts.append(np.asarray(part.starts, np.int64) + (at - begin))
            if piece == first:
                begun = int(pieces.begun[piece]) + part.before
            at = stop
            piece = int(np.searchsorted(ends, at, side="right"))
        documents = np.concatenate(starts).astype("<i4")
        continues = documents.size == 0 or documents[0] > 0
        last = int(np.searchsorted(ends, end - 1, side="right"))
        meta = {
            "tokens": end - begin,
            "first_document": begun - int(continues),
            "sources": [pieces.source(first), pieces.source(last)],
        }
        yield Block(block_key(split, block), ids, documents, meta)
