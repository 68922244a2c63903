"""Shards and manifests that somebody else made: nothing outside their folder is touched, all else is one sentence."""

import copy
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.base.errors import Damaged, UserError
from pipeline.base.names import file_inside, inside
from pipeline.shards.dataset import find_dataset
from pipeline.shards.manifest import all_shards, check_sizes, read_manifest, verify_shards
from pipeline.shards.sound import check_shard
from pipeline.stream import bad
from pipeline.stream.cache import Cache, Remote, RemoteFile
from pipeline.stream.reader import OpenBlock, ShardReader
from tests.datasets import make_dataset

LEADING_OUT = ["../x.tar", "/etc/passwd", "train/../../x", "a//b", "", ".", "..", "a/.", "a\\..\\b", "a\0b", "x" * 256]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bad, "PAUSES", ())
    make_dataset(tmp_path / "run", tokens=5_000, block_tokens=512, shard_blocks=4)
    return tmp_path / "run" / "data"


def manifest_of(data: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((data / "manifest.json").read_text())
    return content


@pytest.mark.parametrize("name", LEADING_OUT)
def test_no_name_leads_out_of_its_folder(name: str, data: Path) -> None:
    with pytest.raises(ValueError, match="is no name of a file inside"):
        inside(name)
    with pytest.raises(Damaged, match="is no name of a file inside"):
        file_inside(data, name)
    with pytest.raises(ValueError, match="is no name of a file inside"):
        RemoteFile(name, 1, "0" * 64)
    content = manifest_of(data)
    content["splits"]["train"]["shards"][0]["name"] = name
    (data / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"splits\.train\.shards\.0\.name"):
        read_manifest(data / "manifest.json")


@pytest.mark.parametrize("name", ["train/000001.tar", "a", "a.b/..c/d", "ü/文.tar"])
def test_plain_names_are_taken(name: str) -> None:
    assert inside(name) == name


def test_links_stay_inside(data: Path, tmp_path: Path) -> None:
    manifest = read_manifest(data / "manifest.json")
    shard = data / "train" / "000000.tar"
    shard.rename(data / "kept.tar")
    shard.symlink_to("../kept.tar")
    verify_shards(data, all_shards(manifest))
    (tmp_path / "linked").symlink_to(data)  # the folder as a whole
    verify_shards(tmp_path / "linked", all_shards(manifest))
    (data / "kept.tar").rename(tmp_path / "kept.tar")
    for target in (tmp_path / "kept.tar", shard):  # out of the folder; in a circle
        shard.unlink()
        shard.symlink_to(target)
        with pytest.raises(UserError, match="link that leads out"):
            check_sizes(data, all_shards(manifest))


def test_a_copy_of_a_store_is_written_inside_the_cache(data: Path, tmp_path: Path) -> None:
    """What a poisoned manifest of a store would have written beside the cache."""
    with pytest.raises(ValueError, match="is no name of a file inside"):
        Cache(tmp_path / "cache", 1000).hold(Remote(data, (RemoteFile("../../written", 1, "0" * 64),)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def told(work: Callable[[], object]) -> str | None:
    """The message of a UserError; None where there is none. Any other exception fails the test."""
    try:
        work()
    except UserError as error:
        return str(error)
    return None


def mutated(value: Any, draw: random.Random) -> Any:
    """One value, somewhere in it, is another one."""
    strange: list[Any] = [None, -1, 2**70, 1e308, "", "../x", "\ud800", [], {}, [[[]]], True, "9" * 5000, float("nan")]
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(sorted(value))
        if draw.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return value | {key: mutated(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.85:
        place = draw.randrange(len(value))
        return [*value[:place], mutated(value[place], draw), *value[place + 1 :]]
    return draw.choice(strange)


def test_a_manifest_changed_anywhere_is_refused_or_sound(data: Path) -> None:
    draw, content = random.Random(0), manifest_of(data)
    for _ in range(300):
        (data / "manifest.json").write_text(json.dumps(mutated(copy.deepcopy(content), draw)))
        assert told(lambda: check_sizes(data, all_shards(read_manifest(data / "manifest.json")))) != ""


def tell_anew(data: Path, name: str, shard: bytes) -> None:
    """Writes a shard, and its digest into the manifest: the attacker has made both."""
    (data / name).write_bytes(shard)
    content = manifest_of(data)
    (entry,) = (entry for entry in content["splits"]["train"]["shards"] if entry["name"] == name)
    entry |= {"bytes": len(shard), "sha256": hashlib.sha256(shard).hexdigest()}
    (data / "manifest.json").write_text(json.dumps(content))


def read_all(data: Path, name: str) -> None:
    """Every block as training reads it, and the shard as `verify` reads it: blocks, or a UserError from both."""
    manifest = read_manifest(data / "manifest.json")
    reader = ShardReader(data, manifest, "train", open_blocks=1)
    number = [entry.name for entry in reader.entries].index(name)
    for block in range(reader.entries[number].blocks):
        message = told(lambda block=block: check_block(reader.block(number, block)))  # type: ignore[misc]
        assert message is None or name in message
    (shard,) = (shard for shard in find_dataset(str(data)).shards if shard.name == name)
    message = told(lambda: check_shard(shard, find_dataset(str(data))))
    assert message is None or name in message


def check_block(opened: OpenBlock) -> None:
    assert opened.ids.shape == opened.numbers.shape == (512,)
    assert opened.ids.max() < 128


def packed(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return packed((info, content))


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([print], object), allow_pickle=True)
    return buffer.getvalue()


def negative_size() -> bytes:
    """A member whose base-256 size is negative: readers that seek by it go round for ever."""
    shard = bytearray(member("train-000000004.ids.npy", b"x"))
    shard[124:136] = b"\xff" * 11 + b"\x00"
    told = sum(shard[:512]) - sum(shard[148:156]) + 8 * 32
    shard[148:156] = f"{told:06o}\0 ".encode()
    return bytes(shard)


POISONED: dict[str, Callable[[], bytes]] = {
    "a path upwards": lambda: member("../../train-000000004.ids.npy", b"x"),
    "an absolute path": lambda: member("/tmp/train-000000004.ids.npy", b"x"),
    "a symbolic link": lambda: member("train-000000004.ids.npy", kind=tarfile.SYMTYPE, link="/etc/passwd"),
    "a hard link": lambda: member("train-000000004.ids.npy", kind=tarfile.LNKTYPE, link="../../x"),
    "a device": lambda: member("train-000000004.ids.npy", kind=tarfile.CHRTYPE),
    "a pickle": lambda: member("train-000000004.ids.npy", pickled()),
    "a negative size": negative_size,
    "an archive of archives": lambda: member("train-000000004.ids.npy", member("x", b"y")),
    "no archive": lambda: b"\x1f\x8b" + bytes(2000),
}


@pytest.mark.parametrize("kind", POISONED)
def test_poisoned_archives(kind: str, data: Path, tmp_path: Path) -> None:
    before = sorted(path for path in tmp_path.rglob("*"))
    tell_anew(data, "train/000001.tar", POISONED[kind]())
    reader = ShardReader(data, read_manifest(data / "manifest.json"), "train", open_blocks=1)
    with pytest.raises(UserError, match=r"train/000001\.tar"):
        reader.block(1, 0)
    read_all(data, "train/000001.tar")
    assert sorted(path for path in tmp_path.rglob("*")) == before
