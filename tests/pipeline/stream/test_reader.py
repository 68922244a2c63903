"""Reading blocks: equal to what was written, and a plain message for every way in which a shard can be broken."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset

from pipeline.base.arrays import npy_bytes
from pipeline.base.errors import UserError
from pipeline.shards.manifest import read_manifest
from pipeline.stream.reader import ShardReader
from tests.datasets import make_dataset

KEY = "train-000000005"  # the second block of the second shard


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_dataset(tmp_path, tokens=5_000, block_tokens=512, shard_blocks=4)
    return tmp_path / "data"


def open_reader(data: Path) -> ShardReader:
    return ShardReader(data, read_manifest(data / "manifest.json"), "train", open_blocks=4)


def test_blocks_are_what_webdataset_reads(data: Path) -> None:
    reader = open_reader(data)
    for shard in (2, 0, 1):
        url = str(data / "train" / f"{shard:06d}.tar")
        for block, sample in enumerate(webdataset.WebDataset(url, shardshuffle=False).decode()):
            opened = reader.block(shard, block)
            np.testing.assert_array_equal(opened.ids, sample["ids.npy"])
            begun = [(sample["documents.npy"] <= place).sum() for place in range(512)]
            np.testing.assert_array_equal(opened.numbers, begun)


def test_last_blocks_stay_open(data: Path) -> None:
    reader = open_reader(data)
    opened = reader.block(0, 1)
    assert reader.block(0, 1) is opened
    for block in range(4):
        reader.block(1, block)
    assert reader.block(0, 1) is not opened


def rewrite(shard: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Writes the shard again with each member changed; None drops it."""
    with tarfile.open(shard) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            changed = change(name, data)
            if changed is not None:
                info = tarfile.TarInfo(name)
                info.size = len(changed)
                tar.addfile(info, io.BytesIO(changed))


def member(field: str, data: bytes | None) -> Callable[[str, bytes], bytes | None]:
    return lambda name, old: data if name == f"{KEY}.{field}.npy" else old


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("field", "content", "said"),
    [
        ("ids", None, f"{KEY}.ids.npy is not in it"),
        ("ids", b"not an array", "cannot be read"),
        ("ids", pickled(), "allow_pickle=False"),
        ("ids", npy_bytes(np.zeros(511, np.uint16)), r"ids are uint16 \(511,\), not uint16 \(512,\)"),
        ("ids", npy_bytes(np.zeros(512, np.int64)), r"ids are int64 \(512,\)"),
        ("ids", npy_bytes(np.full(512, 128, np.uint16)), "id 128 is past the 128 pieces"),
        ("documents", None, f"{KEY}.documents.npy is not in it"),
        ("documents", npy_bytes(np.array([4, 3], np.int32)), "not rising"),
        ("documents", npy_bytes(np.array([4, 512], np.int32)), "not rising"),
        ("documents", npy_bytes(np.array([-1, 5], np.int32)), "not rising"),
        ("documents", npy_bytes(np.array([1.0])), "not rising"),
    ],
)
def test_broken_sample(data: Path, field: str, content: bytes | None, said: str) -> None:
    rewrite(data / "train" / "000001.tar", member(field, content))
    with pytest.raises(UserError, match=said) as error:
        open_reader(data).block(1, 1)
    assert str(data / "train" / "000001.tar") in str(error.value)
    assert KEY in str(error.value)
    assert "preprocess" in str(error.value)


@pytest.mark.parametrize("keep", [0, 100, 512, 1_000, 3_000, 4_000])
def test_truncated_tar(data: Path, keep: int) -> None:
    shard = data / "train" / "000001.tar"
    shard.write_bytes(shard.read_bytes()[:keep])
    reader = open_reader(data)
    with pytest.raises(UserError, match=r"shard .*000001\.tar.*cannot be read"):
        reader.block(1, 1)


def test_truncated_or_gone_after_its_index_was_read(data: Path) -> None:
    shard = data / "train" / "000001.tar"
    reader = open_reader(data)
    reader.block(1, 0)
    shard.write_bytes(shard.read_bytes()[:4_000])
    with pytest.raises(UserError, match=rf"000001\.tar, sample {KEY}, cannot be read: the file ends within it"):
        reader.block(1, 1)
    shard.unlink()
    with pytest.raises(UserError, match=rf"000001\.tar, sample {KEY}, cannot be read: .*No such file"):
        reader.block(1, 1)


def test_not_a_tar_and_missing(data: Path) -> None:
    shard = data / "train" / "000001.tar"
    shard.write_bytes(b"x" * 5_000)
    with pytest.raises(UserError, match=r"000001\.tar cannot be read"):
        open_reader(data).block(1, 1)
    shard.unlink()
    with pytest.raises(UserError, match=r"000001\.tar cannot be read: .*No such file"):
        open_reader(data).block(1, 1)
