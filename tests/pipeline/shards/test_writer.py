"""Shards: repeatable bytes, readable by stock webdataset, no pickle, whole or absent."""

import errno
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import webdataset

from pipeline.base.errors import UserError
from pipeline.shards import writer
from pipeline.shards.block import Block
from pipeline.shards.manifest import read_manifest
from pipeline.shards.writer import write_shard
from tests.datasets import make_dataset


def blocks(dtype: str = "<u2") -> Iterator[Block]:
    for number in range(3):
        yield Block(
            key=f"train-{number:09d}",
            ids=np.arange(number, number + 64).astype(dtype),
            documents=np.array([3, 9], "<i4"),
            meta={"tokens": 64, "first_document": number, "sources": ["a", "b"]},
        )


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_stock_webdataset_reads_it(tmp_path: Path, dtype: str) -> None:
    entry = write_shard(tmp_path / "train" / "000000.tar", blocks(dtype))
    samples = list(webdataset.WebDataset(str(tmp_path / entry.name), shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == [block.key for block in blocks()]
    for sample, block in zip(samples, blocks(dtype), strict=True):
        assert sample["ids.npy"].dtype == np.dtype(dtype)
        np.testing.assert_array_equal(sample["ids.npy"], block.ids)
        assert sample["documents.npy"].dtype == np.int32
        np.testing.assert_array_equal(sample["documents.npy"], block.documents)
        assert sample["meta.json"] == block.meta


def test_the_entry_describes_the_file(tmp_path: Path) -> None:
    entry = write_shard(tmp_path / "train" / "000004.tar", blocks())
    data = (tmp_path / "train" / "000004.tar").read_bytes()
    assert entry.model_dump() == {
        "name": "train/000004.tar",
        "blocks": 3,
        "tokens": 192,
        "documents": 6,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def test_same_blocks_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write_shard(tmp_path / "a" / "train" / "000000.tar", blocks())
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    old = os.umask(0o077)
    try:
        second = write_shard(tmp_path / "b" / "train" / "000000.tar", blocks())
    finally:
        os.umask(old)
    assert first == second


def test_the_bytes_are_those_of_tarfile(tmp_path: Path) -> None:
    write_shard(tmp_path / "train" / "000000.tar", blocks())
    again = io.BytesIO()
    with (
        tarfile.open(tmp_path / "train" / "000000.tar") as ours,
        tarfile.open(fileobj=again, mode="w", format=tarfile.USTAR_FORMAT) as theirs,
    ):
        for member in ours:
            info = tarfile.TarInfo(member.name)
            info.size, info.mode = member.size, 0o644
            theirs.addfile(info, ours.extractfile(member))
    assert again.getvalue() == (tmp_path / "train" / "000000.tar").read_bytes()


def test_members_are_plain_and_nothing_is_pickled(tmp_path: Path) -> None:
    write_shard(tmp_path / "train" / "000000.tar", blocks())
    with tarfile.open(tmp_path / "train" / "000000.tar") as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            assert (member.mode, member.isfile(), member.pax_headers) == (0o644, True, {})
            file = tar.extractfile(member)
            assert file is not None
            data = file.read()
            if member.name.endswith(".npy"):
                np.load(io.BytesIO(data), allow_pickle=False)
            else:
                json.loads(data)


def test_an_object_array_is_refused(tmp_path: Path) -> None:
    block = Block("train-000000000", np.array([{}], object), np.array([0], "<i4"), {"tokens": 1})
    with pytest.raises(ValueError, match="allow_pickle"):
        write_shard(tmp_path / "train" / "000000.tar", [block])
    assert list((tmp_path / "train").iterdir()) == []


def test_a_failure_half_way_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[Block]:
        yield next(blocks())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path / "train" / "000000.tar", broken())
    assert list((tmp_path / "train").iterdir()) == []


def test_a_full_disk_is_told_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writer._Archive, "write", full)
    with pytest.raises(UserError, match=r"000000\.tar: no space left on the device"):
        write_shard(tmp_path / "train" / "000000.tar", blocks())
    assert list((tmp_path / "train").iterdir()) == []


def test_keys_are_unique_in_the_whole_data_set(tmp_path: Path) -> None:
    make_dataset(tmp_path, tokens=9_000, block_tokens=256, shard_blocks=7)
    shards = [str(path) for path in sorted((tmp_path / "data").rglob("*.tar"))]
    keys = [sample["__key__"] for sample in webdataset.WebDataset(shards, shardshuffle=False)]
    splits = read_manifest(tmp_path / "data" / "manifest.json").splits
    assert len(keys) == len(set(keys)) == sum(split.blocks for split in splits.values())
