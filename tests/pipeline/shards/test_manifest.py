"""The manifest: its fields, and what is said when it or a shard is not what was written."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import UserError
from pipeline.shards.manifest import (
    Manifest,
    all_shards,
    check_tokenizer,
    read_manifest,
    verify_shards,
    write_manifest,
)
from tests.datasets import make_dataset


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_dataset(tmp_path, tokens=5_000, block_tokens=512, shard_blocks=4, tokenizer=b"a tokenizer")
    return tmp_path / "data"


def test_fields_are_those_of_the_interface(data: Path) -> None:
    content = json.loads((data / "manifest.json").read_text())
    assert set(content) == {"version", "block_tokens", "dtype", "tokenizer", "corpus", "splits", "config"}
    assert set(content["tokenizer"]) == {"sha256", "vocab_size"}
    assert set(content["corpus"]) == {"sha256", "documents", "quarantined"}
    assert set(content["splits"]) == {"train", "validation"}
    train = content["splits"]["train"]
    assert set(train) == {"blocks", "tokens", "documents", "shards"}
    assert set(train["shards"][0]) == {"name", "blocks", "tokens", "documents", "bytes", "sha256"}
    assert train["tokens"] == 5_000
    assert [shard["name"] for shard in train["shards"]] == [f"train/00000{n}.tar" for n in range(3)]
    for shard in train["shards"]:
        assert hashlib.sha256((data / shard["name"]).read_bytes()).hexdigest() == shard["sha256"]


def test_written_and_read_again(data: Path, tmp_path: Path) -> None:
    manifest = read_manifest(data / "manifest.json")
    write_manifest(tmp_path / "again" / "manifest.json", manifest)
    assert read_manifest(tmp_path / "again" / "manifest.json") == manifest
    assert len(all_shards(manifest)) == 4
    verify_shards(data, all_shards(manifest))


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no data set in .*nowhere: manifest.json is missing.*preprocess"):
        read_manifest(tmp_path / "nowhere" / "manifest.json")


def _drop_dtype(content: dict[str, Any]) -> None:
    del content["dtype"]


def _text_blocks(content: dict[str, Any]) -> None:
    content["splits"]["train"]["shards"][0]["blocks"] = "many"


def _unknown_key(content: dict[str, Any]) -> None:
    content["shards"] = []


def _no_version(content: dict[str, Any]) -> None:
    content["version"] = 0


def _other_sum(content: dict[str, Any]) -> None:
    content["splits"]["train"]["tokens"] += 1


def _other_block_length(content: dict[str, Any]) -> None:
    content["block_tokens"] = 100


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_drop_dtype, "not a valid manifest: dtype: Field required"),
        (_text_blocks, r"splits\.train\.shards\.0\.blocks: Input should be a valid integer"),
        (_unknown_key, "shards: Extra inputs"),
        (_no_version, "version: Input should be greater than or equal to 1"),
        (_other_sum, "totals of split train"),
        (_other_block_length, "totals of split train"),
    ],
)
def test_broken(data: Path, change: Callable[[dict[str, Any]], None], said: str) -> None:
    path = data / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=said) as error:
        read_manifest(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_not_a_manifest_at_all(data: Path, content: bytes) -> None:
    (data / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match=r"manifest\.json"):
        read_manifest(data / "manifest.json")


def test_flipped_byte(data: Path) -> None:
    manifest = read_manifest(data / "manifest.json")
    shard = data / "train" / "000001.tar"
    content = bytearray(shard.read_bytes())
    content[1500] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError) as error:
        verify_shards(data, all_shards(manifest))
    message = str(error.value)
    assert str(shard) in message
    assert manifest.splits["train"].shards[1].sha256 in message
    assert hashlib.sha256(content).hexdigest() in message
    assert "preprocess" in message


def test_truncated_and_missing(data: Path) -> None:
    manifest = read_manifest(data / "manifest.json")
    shard = data / "validation" / "000000.tar"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"validation/000000\.tar is broken: .* bytes, the manifest says"):
        verify_shards(data, all_shards(manifest))
    shard.unlink()
    with pytest.raises(UserError, match=r"validation/000000\.tar is missing"):
        verify_shards(data, all_shards(manifest))


def test_another_tokenizer(data: Path) -> None:
    manifest: Manifest = read_manifest(data / "manifest.json")
    digest = hashlib.sha256(b"a tokenizer").hexdigest()
    check_tokenizer(manifest, digest, 128, "tokenizer.model")
    other = hashlib.sha256(b"another").hexdigest()
    with pytest.raises(UserError) as error:
        check_tokenizer(manifest, other, 128, "tokenizer.model")
    assert digest in str(error.value)
    assert other in str(error.value)
    with pytest.raises(UserError, match="256 pieces"):
        check_tokenizer(manifest, digest, 256, "tokenizer.model")
