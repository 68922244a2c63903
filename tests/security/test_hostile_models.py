"""Checkpoints and tokenizers that somebody else made, changed anywhere: refused in words, or sound."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipeline.base.config import RunConfig, dump_config
from pipeline.base.errors import UserError
from pipeline.base.files import write_json
from pipeline.base.run_folder import RunFolder
from pipeline.training.checkpoint import (
    TrainState,
    find_checkpoint,
    load_weights,
    read_checkpoint_config,
    read_state,
    read_vocab_size,
    write_manifest,
)
from pipeline.vocabulary.reading import load_codec
from tests.pipeline.vocabulary.hf_tokenizers import save, word_piece

STRANGE: list[Any] = [None, -1, 2**70, 1e308, "", "../x", [], {}, [[[]]], True, "9" * 50, "\u0000", {"type": "BPE"}]


def mutated(value: Any, draw: random.Random) -> Any:
    """One value, somewhere in it, is another one, or is gone."""
    if isinstance(value, dict) and value and draw.random() < 0.8:
        key = draw.choice(list(value))
        if draw.random() < 0.15:
            return {name: inner for name, inner in value.items() if name != key}
        return value | {key: mutated(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.8:
        place = draw.randrange(len(value))
        return [*value[:place], mutated(value[place], draw), *value[place + 1 :]]
    return draw.choice(STRANGE)


def refused(work: Callable[[], object]) -> bool:
    """Whether it is a UserError; anything else fails the test."""
    try:
        work()
    except UserError:
        return True
    return False


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def write_checkpoint(folder: RunFolder) -> Path:
    path = folder.checkpoints / "step-00000004"
    path.mkdir(parents=True)
    save_file({"a": torch.ones(3)}, path / "weights.safetensors")
    write_json(path / "state.json", vars(TrainState(step=4)) | {"loss_scale": {}})
    (path / "config.yaml").write_text(dump_config(RunConfig()))
    write_manifest(path, {"step": 4, "vocab_size": 5})
    return path


def read_everything(folder: RunFolder) -> None:
    path = find_checkpoint(folder)
    for read in (read_state, read_checkpoint_config, read_vocab_size, load_weights):
        read(path)  # type: ignore[operator]


def test_a_sound_checkpoint_is_read(folder: RunFolder) -> None:
    write_checkpoint(folder)
    read_everything(folder)


@pytest.mark.parametrize("name", ["manifest.json", "state.json"])
def test_a_checkpoint_changed_anywhere(folder: RunFolder, name: str) -> None:
    """With a manifest that fits the change: who made it so has made both."""
    path, draw = write_checkpoint(folder), random.Random(0)
    content = json.loads((path / name).read_text())
    for _ in range(60):
        write_json(path / name, mutated(content, draw))
        if name != "manifest.json":
            write_manifest(path, {"step": 4, "vocab_size": 5})
        refused(lambda: read_everything(folder))


@pytest.mark.parametrize("name", ["manifest.json", "state.json", "config.yaml", "weights.safetensors"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff" * 8 + b"{",
        b"a: &a [*a]\n",
        b"!!python/name:os\n",
    ],
    ids=["empty", "no text", "deep list", "deep mapping", "long header", "in itself", "an object"],
)
def test_a_poisoned_checkpoint(folder: RunFolder, name: str, content: bytes) -> None:
    path = write_checkpoint(folder)
    (path / name).write_bytes(content)
    if name != "manifest.json":
        write_manifest(path, {"step": 4, "vocab_size": 5})
    assert refused(lambda: read_everything(folder)) or (name, content) == ("config.yaml", b"")


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside"])
def test_a_checkpoint_that_names_files_elsewhere(folder: RunFolder, name: str) -> None:
    path = write_checkpoint(folder)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest.pop("sha256", None)
    write_json(path / "manifest.json", manifest | {"files": manifest["files"] | {name: {"bytes": 0, "sha256": "0"}}})
    assert refused(lambda: find_checkpoint(folder))


def test_a_checkpoint_with_a_link_that_leads_out(folder: RunFolder, tmp_path: Path) -> None:
    path = write_checkpoint(folder)
    (path / "weights.safetensors").rename(tmp_path / "elsewhere")
    (path / "weights.safetensors").symlink_to(tmp_path / "elsewhere")
    assert refused(lambda: find_checkpoint(folder))


def test_a_tokenizer_changed_anywhere(tmp_path: Path) -> None:
    save(word_piece(300), tmp_path / "whole")
    content, draw = json.loads((tmp_path / "whole" / "tokenizer.json").read_text()), random.Random(0)
    for _ in range(150):
        changed = mutated(content, draw)
        (tmp_path / "tokenizer.json").write_text(json.dumps(changed))
        refused(lambda: load_codec(tmp_path / "tokenizer.json").encode(["a text of words"]))


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.json", "vocab.txt"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 1000,
        random.Random(0).randbytes(5000),
        b"[" * 100_000,
        b'{"model":' * 100_000,
        b"\x0a\xff\xff\xff\xff\x7f",
    ],
    ids=["empty", "ones", "noise", "deep list", "deep mapping", "a huge length"],
)
def test_a_poisoned_tokenizer(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert refused(lambda: load_codec(tmp_path / name))
