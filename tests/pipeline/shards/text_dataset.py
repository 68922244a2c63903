"""A run folder with a trained tokenizer and shards of known texts, without Ray; tests read and break copies of it."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from model.config import SEP_ID
from pipeline.base.run_folder import RunFolder
from pipeline.base.sections import TokenizerConfig
from pipeline.shards.block import token_dtype
from pipeline.shards.manifest import CorpusEntry, Manifest, TokenizerEntry, write_manifest
from pipeline.vocabulary.codec import SentencePieceCodec
from pipeline.vocabulary.train import train_tokenizer
from tests.datasets import write_split
from tests.pipeline.vocabulary.generated_text import make_documents

BLOCK, SHARD = 256, 4


@cache
def codec() -> SentencePieceCodec:
    """A small vocabulary."""
    return SentencePieceCodec(train_tokenizer(make_documents(300), TokenizerConfig(vocab_size=400), seed=0))


@dataclass(frozen=True)
class TextDataset:
    """folder: the run's; documents: (texts as the tokenizer gives them back, ids) of each split."""

    folder: Path
    manifest: Manifest
    documents: dict[str, list[tuple[str, list[int]]]]

    @property
    def data(self) -> Path:
        return self.folder / "data"


def make_text_dataset(folder: Path) -> TextDataset:
    """Two corpora of a mixture and a validation split; one document is longer than a shard."""
    run, tokenizer = RunFolder(folder), codec()
    run.tokenizer.parent.mkdir(parents=True)
    run.tokenizer.write_bytes(tokenizer.model)
    splits, documents = {}, {}
    for split, texts in {
        "train-web": [*make_documents(60, 1), " ".join(make_documents(40, 2)), *make_documents(30, 3)],
        "train-books": make_documents(20, 4),
        "validation": make_documents(5, 5),
    }.items():
        encoded = tokenizer.encode(texts)
        flat = np.array([token for ids in encoded for token in (*ids, SEP_ID)], np.int64)
        starts = np.cumsum([0, *(len(ids) + 1 for ids in encoded)])[:-1]
        splits[split] = write_split(run.data, split, flat, starts, BLOCK, SHARD, token_dtype(tokenizer.vocab_size))
        documents[split] = list(zip(tokenizer.decode(encoded), encoded, strict=True))
    manifest = Manifest(
        block_tokens=BLOCK,
        dtype=token_dtype(tokenizer.vocab_size).name,
        tokenizer=TokenizerEntry(sha256=tokenizer.sha256, vocab_size=tokenizer.vocab_size),
        corpus=CorpusEntry(sha256="0" * 64, documents=sum(map(len, documents.values())), quarantined=0),
        splits=splits,
        config={},
    )
    write_manifest(run.manifest, manifest)
    write_manifest(run.data / "manifests" / "000001.json", manifest)
    return TextDataset(folder, manifest, documents)
