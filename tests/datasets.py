"""Small data sets for tests: valid data/ folders in well under a second, without Ray or a corpus."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from model.config import MASK_ID, SEP_ID
from pipeline.base.files import write_atomic
from pipeline.base.run_folder import RunFolder
from pipeline.shards.block import (
    Array,
    Piece,
    Pieces,
    cut_blocks,
    shard_count,
    shard_name,
    shard_range,
    take,
    token_dtype,
)
from pipeline.shards.manifest import (
    CorpusEntry,
    Manifest,
    SplitEntry,
    TokenizerEntry,
    split_entry,
    write_manifest,
)
from pipeline.shards.writer import write_shard

SUCCESSORS = 4


def make_stream(tokens: int, vocab_size: int, seed: int, structure: bool = True) -> tuple[Array, Array]:
    """A split's stream of about 4 to 40 tokens a document: ids (tokens,) int64, SEP_ID last; starts (documents,).

    With structure, each piece has four successors of probabilities 0.7, 0.15, 0.1 and 0.05, the same for every seed: a
    model can learn them. Without, pieces are uniform.
    """
    rng = np.random.default_rng(seed)
    first = MASK_ID + 1
    pieces = vocab_size - first
    lengths = rng.integers(4, 41, size=max(1, tokens // 4))  # with the closing [SEP]
    lengths = lengths[: np.searchsorted(np.cumsum(lengths), tokens) + 1]
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    successors = np.random.default_rng(7).integers(0, pieces, size=(pieces, SUCCESSORS))
    chains = np.empty((len(lengths), 40), np.int64)
    chains[:, 0] = rng.integers(0, pieces, size=len(lengths))
    for position in range(1, 40):
        if structure:
            choice = rng.choice(SUCCESSORS, size=len(lengths), p=(0.7, 0.15, 0.1, 0.05))
            chains[:, position] = successors[chains[:, position - 1], choice]
        else:
            chains[:, position] = rng.integers(0, pieces, size=len(lengths))
    chains += first
    chains[np.arange(len(lengths)), lengths - 1] = SEP_ID
    ids = chains[np.arange(40) < lengths[:, None]][:tokens]
    ids[-1] = SEP_ID
    return ids, starts


def write_split(
    data: Path, split: str, ids: Array, starts: Array, block_tokens: int, shard_blocks: int, dtype: np.dtype[Any]
) -> SplitEntry:
    """Writes the shards of one split of the stream ids (tokens,) with documents at starts (documents,)."""
    pieces = Pieces.of([Piece(len(ids), len(starts), "test")])
    sizes = (len(ids), block_tokens, shard_blocks)
    return split_entry(
        write_shard(
            data / split / shard_name(shard),
            cut_blocks(
                split,
                pieces,
                lambda piece, start, stop: take(ids, starts, start, stop),
                block_tokens,
                shard_range(shard, *sizes),
                dtype,
            ),
        )
        for shard in range(shard_count(*sizes))
    )


def make_dataset(
    folder: Path,
    *,
    tokens: int = 20_000,
    vocab_size: int = 128,
    block_tokens: int = 1024,
    shard_blocks: int = 8,
    seed: int = 0,
    structure: bool = True,
    tokenizer: bytes = b"",
) -> Manifest:
    """Writes folder/data (train of `tokens` tokens, validation of a tenth, manifest) and folder/tokenizer/.

    `folder` is a run folder: set run_dir or data.path to it. `tokenizer` is written to tokenizer.model as it stands and
    its digest put into the manifest; vocab_size must then be its number of pieces. Same arguments, same bytes.
    """
    run = RunFolder(Path(folder))
    dtype = token_dtype(vocab_size)
    splits = {}
    documents = 0
    for number, (split, size) in enumerate((("train", tokens), ("validation", max(1, tokens // 10)))):
        ids, starts = make_stream(size, vocab_size, seed * 2 + number, structure)
        splits[split] = write_split(run.data, split, ids, starts, block_tokens, shard_blocks, dtype)
        documents += splits[split].documents
    run.tokenizer.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(run.tokenizer, tokenizer)
    manifest = Manifest(
        block_tokens=block_tokens,
        dtype=dtype.name,
        tokenizer=TokenizerEntry(sha256=hashlib.sha256(tokenizer).hexdigest(), vocab_size=vocab_size),
        corpus=CorpusEntry(sha256=hashlib.sha256(str(seed).encode()).hexdigest(), documents=documents, quarantined=0),
        splits=splits,
        config={},
    )
    write_manifest(run.manifest, manifest)
    return manifest
