"""Small data sets of several corpora for tests, without Ray."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.base.files import write_atomic
from pipeline.base.run_folder import RunFolder
from pipeline.shards.block import token_dtype
from pipeline.shards.manifest import CorpusEntry, Manifest, TokenizerEntry, split_entry, write_manifest
from tests.datasets import make_stream, write_split


def corpus_config(weights: Mapping[str, float], temperature: float | None = None) -> dict[str, Any]:
    """The `corpus` section of a config with these corpora."""
    corpora = {name: {"paths": [name], "weight": weight} for name, weight in weights.items()}
    return {"corpora": corpora, "temperature": temperature}


def make_mixture(
    folder: Path,
    tokens: Mapping[str, int],
    corpus: dict[str, Any],
    *,
    vocab_size: int = 128,
    block_tokens: int = 512,
    shard_blocks: int = 4,
) -> Manifest:
    """Writes folder/data, a split train-NAME of tokens[NAME] tokens a corpus and one validation split, and tokenizer/.

    `corpus` is the section of the config that the data was made with. Same arguments, same bytes.
    """
    run, dtype = RunFolder(Path(folder)), token_dtype(vocab_size)
    sizes = {f"train-{name}": size for name, size in tokens.items()} | {"validation": 2_000}
    splits = {}
    for number, (split, size) in enumerate(sizes.items()):
        ids, starts = make_stream(max(1, size), vocab_size, number)
        written = write_split(run.data, split, ids, starts, block_tokens, shard_blocks, dtype) if size else None
        splits[split] = written or split_entry(())
    run.tokenizer.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(run.tokenizer, b"")
    manifest = Manifest(
        block_tokens=block_tokens,
        dtype=dtype.name,
        tokenizer=TokenizerEntry(sha256=hashlib.sha256(b"").hexdigest(), vocab_size=vocab_size),
        corpus=CorpusEntry(sha256="0" * 64, documents=sum(split.documents for split in splits.values()), quarantined=0),
        splits=splits,
        config={"corpus": corpus},
    )
    write_manifest(run.manifest, manifest)
    return manifest
