"""Reading blocks: equal to what was written, and a plain message for every way in which a shard can be broken."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset

from pipeline.base.arrays import npy_bytes
from pipeline.base.errors import UserError
from pipeline.shards.manifest import read_manifest
from pipeline.stream import bad
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
    """Writes the shard again with each member changed, and the manifest with its digest; None drops a member."""
    with tarfile.open(shard) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    with tarfile.open(shard, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            changed = change(name, data)
            if changed is not None:
                info = tarfile.TarInfo(name)
                info.size = len(changed)
                tar.addfile(info, io.BytesIO(changed))
    told_anew(shard)


def told_anew(shard: Path) -> None:
    """The manifest tells the shard's digest and size as they are now: who made the data made it so."""
    path = shard.parent.parent / "manifest.json"
    manifest = json.loads(path.read_text())
    (entry,) = (entry for entry in manifest["splits"]["train"]["shards"] if entry["name"] == f"train/{shard.name}")
    entry |= {"bytes": shard.stat().st_size, "sha256": hashlib.sha256(shard.read_bytes()).hexdigest()}
    path.write_text(json.dumps(manifest))


def member(field: str, data: bytes | None) -> Callable[[str, bytes], bytes | None]:
    return lambda name, old: data if name == f"{KEY}.{field}.npy" else old


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], object), allow_pickle=True)
    return buffer.getvalue()


def huge() -> bytes:
    """A header that claims 2 PB, and a few bytes."""
    header = npy_bytes(np.zeros(1, np.uint16))[:-2]
    return header.replace(b"(1,), }" + b" " * 15, b"(1000000000000000,), }") + b"x" * 17


@pytest.mark.parametrize(
    ("field", "content", "said"),
    [
        ("ids", None, f"{KEY}.ids.npy is not in it"),
        ("ids", b"not an array", "it is no .npy file"),
        ("ids", pickled(), r"it holds object \(1,\), not one row of numbers"),
        ("ids", npy_bytes(np.zeros(511, np.uint16)), r"ids are uint16 \(511,\), not uint16 \(512,\)"),
        ("ids", npy_bytes(np.zeros(512, np.int64)), r"ids are int64 \(512,\)"),
        ("ids", npy_bytes(np.full(512, 128, np.uint16)), "id 128 is past the 128 pieces"),
        ("documents", None, f"{KEY}.documents.npy is not in it"),
        ("documents", npy_bytes(np.array([4, 3], np.int32)), "not rising"),
        ("documents", npy_bytes(np.array([4, 512], np.int32)), "not rising"),
        ("documents", npy_bytes(np.array([-1, 5], np.int32)), "not rising"),
        ("documents", npy_bytes(np.array([1.0])), "not rising"),
        ("ids", huge(), "17 bytes follow its header, which tells 1,000,000,000,000,000 of uint16"),
        ("ids", npy_bytes(np.zeros(512, np.uint16)) + b"x", "1,025 bytes follow"),
        ("ids", b"\x93NUMPY\x01\x00\x88\x13" + b"(" * 5_000, "it is no .npy file"),
        ("ids", b"\x93NUMPY\x01\x00\xff\xff", "it is no .npy file"),
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


def test_a_flipped_byte_is_noticed_when_a_shard_is_opened_and_after_that(data: Path) -> None:
    shard = data / "train" / "000001.tar"
    whole = shard.read_bytes()
    with tarfile.open(shard) as tar:
        place = tar.getmember(f"{KEY}.ids.npy").offset_data + 200
    flipped = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]  # another valid id
    reader = open_reader(data)
    reader.block(1, 0)
    shard.write_bytes(flipped)
    with pytest.raises(bad.BadShard, match=rf"sample {KEY}, cannot be read: its bytes have changed") as error:
        reader.block(1, 1)
    assert error.value.shard == "train/000001.tar"
    with pytest.raises(bad.BadShard, match="its bytes are not those that were written"):
        open_reader(data).block(1, 0)


def test_a_shard_that_comes_back_is_read(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard, away = data / "train" / "000001.tar", data / "away"
    expected = open_reader(data).block(1, 1)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            away.rename(shard)

    monkeypatch.setattr(bad, "PAUSES", (0.5, 1.0, 2.0, 4.0))
    monkeypatch.setattr(bad.time, "sleep", pause)
    shard.rename(away)
    np.testing.assert_array_equal(open_reader(data).block(1, 1).ids, expected.ids)
    assert pauses == [0.5, 1.0, 2.0]


def test_a_link_that_leads_out_of_the_data_is_not_followed(data: Path, tmp_path: Path) -> None:
    shard = data / "train" / "000001.tar"
    shard.rename(tmp_path / "elsewhere.tar")
    shard.symlink_to(tmp_path / "elsewhere.tar")
    with pytest.raises(UserError, match=r"000001\.tar is a link that leads out of"):
        open_reader(data).block(1, 1)
