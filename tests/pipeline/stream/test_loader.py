"""Rows: against the stream rebuilt by stock webdataset; batches over grids of ranks; the background thread."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset

from model.config import CLS_ID, MASK_ID, PAD_ID, SEP_ID
from pipeline.base.errors import UserError
from pipeline.base.sections import DataConfig
from pipeline.stream.loader import Prefetcher, Rows, TokenStream
from tests.datasets import make_dataset

LENGTH = 34
TOKENS = 7_000


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    make_dataset(folder, tokens=TOKENS, block_tokens=512, shard_blocks=4)
    return folder / "data"


def config(**changes: Any) -> DataConfig:
    return DataConfig(**{"sequence_length": LENGTH, "shuffle_window": 5, "shuffle_buffer": 3, **changes})


def open_stream(data: Path, split: str = "train", shuffle: bool = True, seed: int = 1, **changes: Any) -> TokenStream:
    return TokenStream(data, split, config(**changes), seed, shuffle)


def expected_content(data: Path, content: int) -> tuple[list[list[int]], list[list[int]]]:
    """Content and document number of every sequence of the training split, cut from what webdataset reads."""
    shards = sorted(str(path) for path in (data / "train").glob("*.tar"))
    contents, numbers = [], []
    for sample in webdataset.WebDataset(shards, shardshuffle=False).decode():
        ids, real = sample["ids.npy"].tolist(), sample["meta.json"]["tokens"]
        begins = set(sample["documents.npy"].tolist())
        for at in range(0, real - content + 1, content):
            contents.append(ids[at : at + content])
            number = [0]
            for place in range(at + 1, at + content):
                number.append(number[-1] + (place in begins))
            numbers.append(number)
    return contents, numbers


def test_unshuffled_rows_are_the_stream(data: Path) -> None:
    stream = open_stream(data, shuffle=False)
    contents, numbers = expected_content(data, LENGTH - 2)
    rows = stream.rows(np.arange(stream.sequences))
    assert rows.ids.tolist() == [[CLS_ID, *content, SEP_ID] for content in contents]
    assert rows.documents is not None
    assert rows.documents.tolist() == [[0, *number, number[-1]] for number in numbers]
    assert rows.documents.max() > 1
    assert rows.segments is None
    assert rows.ids.dtype == rows.documents.dtype == rows.sample.dtype == np.int64
    assert not np.isin(rows.ids, (PAD_ID, MASK_ID)).any()


@pytest.mark.parametrize("segments", ["none", "paper"])
def test_an_epoch_holds_every_sequence_once(data: Path, segments: str) -> None:
    stream = open_stream(data, segments=segments)
    contents, _ = expected_content(data, stream.content)
    rows = stream.rows(np.arange(stream.sequences, 2 * stream.sequences))
    if rows.segments is None:
        found = rows.ids[:, 1:-1]
    else:
        places = np.arange(LENGTH)
        middle = (rows.segments == 0).sum(axis=1, keepdims=True) - 1
        assert (np.take_along_axis(rows.ids, middle, axis=1) == SEP_ID).all()
        found = rows.ids[(places != middle) & (places != 0) & (places != LENGTH - 1)].reshape(-1, stream.content)
    assert len(contents) == stream.sequences
    assert sorted(found.tolist()) == sorted(contents)
    assert found.tolist() != contents


@pytest.mark.parametrize("segments", ["none", "paper"])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_global_batches_do_not_depend_on_the_ranks(data: Path, world: int, segments: str) -> None:
    batch_size = 19  # odd, and about eleven batches an epoch
    whole = open_stream(data, segments=segments)
    readers = [Prefetcher(open_stream(data, segments=segments), batch_size, rank, world, 5) for rank in range(world)]
    try:
        for step in range(5, 20):
            expected = whole.rows(np.arange(step * batch_size, (step + 1) * batch_size))
            shares = [reader.next() for reader in readers]
            for name in ("ids", "documents", "sample", *(["segments"] if segments == "paper" else [])):
                joined = np.concatenate([getattr(rows, name) for rows in shares])
                np.testing.assert_array_equal(joined, getattr(expected, name))
    finally:
        for reader in readers:
            reader.close()


def test_resumed_equals_unbroken(data: Path) -> None:
    with Prefetcher(open_stream(data), 16, 0, 1, 0) as unbroken:
        rows = [unbroken.next() for _ in range(30)]
    with Prefetcher(open_stream(data), 16, 0, 1, 23) as resumed:
        for expected in rows[23:]:
            again = resumed.next()
            np.testing.assert_array_equal(again.ids, expected.ids)
            np.testing.assert_array_equal(again.sample, expected.sample)


def test_documents_not_isolated(data: Path) -> None:
    assert open_stream(data, isolate_documents=False).rows(np.arange(3)).documents is None


def test_no_samples_no_rows(data: Path) -> None:
    rows = open_stream(data).rows(np.arange(0))
    assert rows.ids.shape == (0, LENGTH)


@pytest.mark.parametrize("length", [8, 130, 514])
def test_any_length_cuts_the_same_blocks(data: Path, length: int) -> None:
    stream = open_stream(data, sequence_length=length)
    rows = stream.rows(np.arange(stream.sequences))
    assert rows.ids.shape == (stream.sequences, length)
    last = TOKENS % 512
    assert stream.sequences == TOKENS // 512 * (512 // (length - 2)) + last // (length - 2)


def test_a_wide_vocabulary(tmp_path: Path) -> None:
    make_dataset(tmp_path, tokens=3_000, vocab_size=100_000, block_tokens=512, structure=False)
    rows = open_stream(tmp_path / "data").rows(np.arange(50))
    assert rows.ids.max() > 65_535


def test_too_little_data(tmp_path: Path, data: Path) -> None:
    make_dataset(tmp_path, tokens=200, block_tokens=512)
    assert open_stream(tmp_path / "data", "validation").sequences == 0
    make_dataset(tmp_path / "tiny", tokens=20, block_tokens=512)
    with pytest.raises(UserError, match=r"20 tokens .*Preprocess more text, or lower data\.sequence_length"):
        open_stream(tmp_path / "tiny" / "data")
    with pytest.raises(UserError, match="does not fill one sequence"):
        open_stream(data, sequence_length=1024)


def test_missing_data_and_split(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no data set"):
        open_stream(tmp_path)
    make_dataset(tmp_path, tokens=200)
    path = tmp_path / "data" / "manifest.json"
    content = json.loads(path.read_text())
    del content["splits"]["validation"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="has no split validation; it has train"):
        open_stream(tmp_path / "data", "validation")


def prefetchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetcher"]


def test_close_ends_the_thread(data: Path) -> None:
    before = len(prefetchers())
    reader = Prefetcher(open_stream(data), 8, 0, 1, 0)
    reader.next()
    assert len(prefetchers()) == before + 1
    reader.close()
    reader.close()
    assert len(prefetchers()) == before
    with pytest.raises(RuntimeError, match="closed"):
        reader.next()


def test_an_error_in_the_thread_is_raised_by_next(tmp_path: Path) -> None:
    make_dataset(tmp_path, tokens=TOKENS, block_tokens=512, shard_blocks=4)
    shard = tmp_path / "data" / "train" / "000002.tar"
    shard.write_bytes(shard.read_bytes()[:2_000])
    with Prefetcher(open_stream(tmp_path / "data"), 256, 0, 1, 0) as reader:  # more than an epoch
        for _ in range(2):  # and it stays
            with pytest.raises(UserError, match=r"000002\.tar"):
                reader.next()


def test_waiting_is_measured(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = open_stream(data)
    rows, may_start = stream.rows, threading.Event()

    def held(samples: np.ndarray[Any, Any]) -> Rows:
        may_start.wait()
        return rows(samples)

    monkeypatch.setattr(stream, "rows", held)
    with Prefetcher(stream, 8, 0, 1, 0) as reader:
        threading.Timer(0.4, may_start.set).start()
        reader.next()
        waited = reader.wait_seconds
        assert waited > 0.2
        while not reader._ready.full():
            time.sleep(0.01)
        reader.next()
        assert reader.wait_seconds - waited < 0.2
