"""A stream from a store: the same rows as from local shards, whatever the server does; and what is told of bad ones."""

import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest

from pipeline.base.errors import UserError
from pipeline.base.sections import DataConfig
from pipeline.base.storage import Location, place_of, upload
from pipeline.base.stores import faults
from pipeline.shards.manifest import all_shards, read_manifest
from pipeline.stream.check import check_shards
from pipeline.stream.loader import Prefetcher, TokenStream
from tests.datasets import make_dataset
from tests.s3_server import S3Server

pytestmark = pytest.mark.slow

BATCH, STEPS = 6, 60


@pytest.fixture
def local(tmp_path: Path) -> Path:
    make_dataset(tmp_path, tokens=6_000, block_tokens=128, shard_blocks=4)
    return tmp_path / "data"


@pytest.fixture
def data(s3: S3Server, local: Path) -> Location:
    place = place_of(f"{s3.url}/set/data")
    for file in (*local.rglob("*.tar"), local / "manifest.json"):
        upload(file, place / file.relative_to(local).as_posix())
    return place


def settings(tmp_path: Path, **changes: int) -> DataConfig:
    own = {"cache": str(tmp_path / "cache"), "cache_bytes": 200_000} | changes
    return DataConfig(sequence_length=32, block_tokens=64, shuffle_window=8, shuffle_buffer=2, **own)  # type: ignore[arg-type]


def stream(data: Location, settings: DataConfig) -> TokenStream:
    return TokenStream(data, "train", settings, seed=5)  # type: ignore[arg-type]


def test_the_rows_are_those_of_local_shards(data: Location, local: Path, s3: S3Server, tmp_path: Path) -> None:
    """More than an epoch in a cache that does not hold one; the server is gone for a while, in mid-sentence."""
    expected = stream(local, settings(tmp_path))
    remote = stream(data, settings(tmp_path))
    assert remote.sequences < BATCH * STEPS
    back: list[threading.Thread] = []
    with Prefetcher(remote, BATCH, 0, 1, first_step=3) as batches:
        for step in range(3, STEPS):
            if step in (10, 30):
                for thread in back:
                    thread.join()
                s3.restart(dies_after=5_000)
                back.append(s3.start_later(1.5))
            rows = batches.next()
            np.testing.assert_array_equal(rows.sample, np.arange(step * BATCH, (step + 1) * BATCH))
            np.testing.assert_array_equal(rows.ids, expected.rows(rows.sample).ids)
    for thread in back:
        thread.join()
    assert stream(local, settings(tmp_path)).look_ahead() is None
    tars = list((tmp_path / "cache").rglob("*.tar"))
    assert 0 < sum(path.stat().st_size for path in tars) <= 200_000


def test_a_store_that_stays_away_ends_the_stream(
    data: Location, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "PATIENCE", 1.0)
    remote = stream(data, settings(tmp_path, cache_ahead=1))
    with Prefetcher(remote, BATCH, 0, 1, first_step=0) as batches:
        batches.next()
        s3.kill()
        with pytest.raises(UserError, match=r"cannot read s3://.*\.tar: the store was away or busy"):
            for _ in range(STEPS):
                batches.next()


def test_broken_shards_are_told(data: Location, local: Path, tmp_path: Path) -> None:
    manifest = read_manifest(data / "manifest.json")  # type: ignore[arg-type]
    entries = all_shards(manifest)
    check_shards(data, entries)
    entry = manifest.splits["train"].shards[2]
    content = bytearray((local / entry.name).read_bytes())
    content[700] ^= 1
    with (data / entry.name).open("wb") as file:
        file.write(bytes(content))
    check_shards(data, entries)  # the size is right: the digest is checked on copying
    reader = stream(data, settings(tmp_path)).parts[0].reader
    with pytest.raises(UserError, match=rf"{entry.name} is broken: 3 downloads") as error:
        reader.block(2, 0)
    assert hashlib.sha256(content).hexdigest() in str(error.value)
    with (data / entry.name).open("wb") as file:
        file.write(bytes(content[:-1]))
    with pytest.raises(UserError, match=rf"{entry.name} is broken: 20,479 bytes, the manifest says 20,480"):
        check_shards(data, entries)
    (data / entry.name).unlink()
    with pytest.raises(UserError, match=rf"cannot read .*{entry.name}: there is nothing of that name"):
        check_shards(data, entries)
