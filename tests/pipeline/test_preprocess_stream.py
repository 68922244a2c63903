"""Whatever the corpus, the blocks, the tasks and the workers: the shards spell exactly the documents that are valid."""

import gzip
import hashlib
import io
import json
import os
import tarfile
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.base.config import load_config
from pipeline.vocabulary.train import train_tokenizer
from tests.corpora import make_texts
from tests.in_process import InProcess, build

SEP = 3
LIMIT = 6000
"""corpus.max_record_bytes."""
LAST = "the last document is always there"
"""Its hash puts it into the training split."""

words = st.sampled_from(
    ["alpha", "beta", "[MASK]", "[SEP]", "漢字仮名", "мир", "e\u0301", "\U0001f600", "▁", "\u200b", "a  b"]
)
texts = st.one_of(
    st.lists(words, min_size=1, max_size=40).map(" ".join),
    st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=60),
    st.tuples(words, st.integers(100, 900)).map(lambda pair: " ".join([pair[0]] * pair[1])),
)
"""Short, any, and long ones, some longer than LIMIT."""


@dataclass(frozen=True)
class Made:
    """A record as it stands in a file, and its document, None where it has none."""

    data: bytes
    text: str | None


def valid(text: str, size: int) -> str | None:
    """The text where it is a document: not too long, and with a character that is to be seen."""
    seen = any(not one.isspace() and unicodedata.category(one) not in ("Cc", "Cf") for one in text)
    return text if seen and size <= LIMIT else None


def json_line(text: str, escaped: bool) -> Made:
    data = json.dumps({"id": 1, "text": text}, ensure_ascii=escaped).encode()
    return Made(data, valid(text, len(data)))


def text_lines(text: str) -> Made:
    """A document of a .txt: without blank lines, carriage returns and byte order marks."""
    lines = text.replace("\r", "").replace("\ufeff", "").split("\n")
    text = "\n".join(line for line in lines if line and not line.isspace())
    return Made(text.encode(), valid(text, len(text.encode())))


BAD_LINES = [
    b"{",
    b"[1]",
    b'"text"',
    b'{"body": "x"}',
    b'{"text": 7}',
    b'{"text": ""}',
    b'{"text": "\\ud800"}',
    b"\xff",
]
lines = st.one_of(
    st.builds(json_line, texts, st.booleans()), st.sampled_from(BAD_LINES).map(lambda data: Made(data, None))
)
paragraphs = st.one_of(texts.map(text_lines), st.sampled_from([Made(b"\xff\xfe", None), Made(b"\x00\x01", None)]))


@dataclass(frozen=True)
class File:
    """A file of the corpus."""

    suffix: str
    records: tuple[Made, ...]
    newline: bytes
    packed: bool

    @property
    def data(self) -> bytes:
        joint = self.newline * (2 if self.suffix == ".txt" else 1)
        whole = joint.join(record.data.replace(b"\n", self.newline) for record in self.records)
        return gzip.compress(whole) if self.packed else whole


def files(suffix: str, records: st.SearchStrategy[Made]) -> st.SearchStrategy[File]:
    some = st.lists(records, max_size=12).map(tuple)
    return st.builds(File, st.just(suffix), some, st.sampled_from([b"\n", b"\r\n"]), st.booleans())


corpora = st.lists(st.one_of(files(".txt", paragraphs), files(".jsonl", lines)), min_size=1, max_size=4)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "given.model"
    config = load_config(None, ["tokenizer.vocab_size=400"]).tokenizer
    path.write_bytes(train_tokenizer(make_texts(1, 200), config, 0))
    return path


def read_split(folder: Path, block_tokens: int) -> list[list[int]]:
    """The documents of a split's shards as ids, read with nothing of ours."""
    ids: list[int] = []
    starts: list[int] = []
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as tar:
            members = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
        for name in sorted(name for name in members if name.endswith(".ids.npy")):
            assert len(ids) % block_tokens == 0, "only the last block is short"
            block = np.load(io.BytesIO(members[name]), allow_pickle=False)
            offsets = np.load(io.BytesIO(members[name.replace(".ids.", ".documents.")]), allow_pickle=False)
            meta = json.loads(members[name.replace(".ids.npy", ".meta.json")])
            assert len(block) == block_tokens
            assert not block[meta["tokens"] :].any(), "padding"
            assert meta["first_document"] == len(starts) - (len(offsets) == 0 or offsets[0] > 0)
            starts += [len(ids) + int(offset) for offset in offsets]
            ids += block[: meta["tokens"]].tolist()
    ends = [*starts[1:], len(ids)] if starts else []
    return [ids[start:stop] for start, stop in zip(starts, ends, strict=True)]


def split_of(text: str, fraction: float) -> str:
    share = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest()[:8], "big") / 2**64
    return "validation" if share < fraction else "train"


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    corpus=corpora,
    task_bytes=st.sampled_from([1024, 1500, 5000, 1 << 20]),
    block_tokens=st.sampled_from([64, 65, 256]),
    shard_blocks=st.sampled_from([1, 2, 7]),
    fraction=st.sampled_from([0.0, 0.3]),
    distinct=st.booleans(),
    workers=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_the_shards_are_the_valid_documents(
    corpus: list[File],
    task_bytes: int,
    block_tokens: int,
    shard_blocks: int,
    fraction: float,
    distinct: bool,
    workers: int,
    seed: int,
    tokenizer: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "corpus").mkdir()
        for number, file in enumerate([*corpus, File(".txt", (Made(LAST.encode(), LAST),), b"\n", False)]):
            name = f"{number}{file.suffix}{'.gz' if file.packed else ''}"
            (folder / "corpus" / name).write_bytes(file.data)
        config = load_config(
            None,
            [
                f"run_dir={folder / 'run'}",
                f"corpus.paths=[{folder / 'corpus'}]",
                f"corpus.max_record_bytes={LIMIT}",
                f"corpus.task_bytes={task_bytes}",
                f"corpus.validation_fraction={fraction}",
                f"corpus.deduplicate.documents={distinct}",
                "corpus.max_bad_fraction=1",
                f"tokenizer.path={tokenizer}",
                "data.sequence_length=64",
                f"data.block_tokens={block_tokens}",
                f"data.shard_blocks={shard_blocks}",
            ],
        )
        manifest = build(config, InProcess(workers, seed))
        records = [record for file in corpus for record in file.records if record.data]
        kept = [record.text for record in records if record.text is not None] + [LAST]
        if distinct:
            kept = list(dict.fromkeys(kept))
        encode: Any = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer)).encode
        for split in ("train", "validation"):
            wanted = [[*encode(text), SEP] for text in kept if split_of(text, fraction) == split]
            assert read_split(folder / "run" / "data" / split, block_tokens) == wanted
            assert manifest.splits[split].documents == len(wanted)
        bad = (folder / "run" / "data" / "quarantine.jsonl").read_text().splitlines()
        assert len(bad) == manifest.corpus.quarantined == sum(record.text is None for record in records)
