"""Checkpoints in a store: whole or absent whatever is killed, copied to this machine with their digests checked."""

import logging
import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline.base.config import RunConfig, dump_config
from pipeline.base.errors import UserError
from pipeline.base.files import write_json
from pipeline.base.run_folder import RunFolder
from pipeline.base.storage import place_of
from pipeline.base.stores import faults
from pipeline.stream.cache import Cache
from pipeline.training import checkpoint as module
from pipeline.training import keep
from pipeline.training.checkpoint import (
    TENSORS,
    WEIGHTS,
    TrainState,
    checkpoint_name,
    find_checkpoint,
    list_checkpoints,
    load_tensors,
    load_weights,
    move_latest,
    newest_whole,
    read_checkpoint_config,
    read_state,
    upload_checkpoint,
    write_manifest,
)
from pipeline.training.keep import prune
from pipeline.training.resume import check_place
from pipeline.training.save import put
from tests.s3_server import S3Server

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(s3: S3Server, tmp_path: Path) -> RunFolder:
    return RunFolder.of(RunConfig(run_dir=str(tmp_path / "run"), store=f"{s3.url}/runs/x"))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 10**9)


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("pipeline"), "propagate", True)
    return caplog


def write(folder: RunFolder, step: int, value: float | None = None) -> Path:
    """A checkpoint as it is saved."""
    path = folder.checkpoints / checkpoint_name(step)
    local = folder.path / "checkpoints"
    local.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=local) as name:
        aside = Path(name)
        for kind in TENSORS:
            save_file({"a": torch.full((300,), float(step if value is None else value))}, aside / f"{kind}.safetensors")
        write_json(aside / "state.json", asdict(TrainState(step=step)) | {"loss_scale": {}})
        (aside / "config.yaml").write_text(dump_config(RunConfig(seed=step)))
        (aside / "tokenizer").mkdir()
        (aside / "tokenizer" / "tokenizer.model").write_bytes(b"pieces")
        write_manifest(aside, {"step": step, "vocab_size": 5})
        put(aside, path)
    move_latest(folder, path.name)
    return path


def names(folder: RunFolder) -> list[str]:
    return [path.name for path in list_checkpoints(folder)]


def test_what_is_uploaded_is_read_from_a_copy(folder: RunFolder, cache: Cache) -> None:
    path = write(folder, 7)
    copy = find_checkpoint(folder, cache=cache)
    assert copy.name == path.name == "step-00000007"
    assert copy.is_relative_to(cache.folder)
    assert copy == newest_whole(folder, cache) == find_checkpoint(folder, path.name, cache)
    assert [load_tensors(copy, kind)["a"][0] for kind in TENSORS] == [7.0] * 3
    assert read_checkpoint_config(copy) == read_checkpoint_config(path) == RunConfig(seed=7)
    assert read_state(copy)[0] == TrainState(step=7)
    assert (copy / "tokenizer" / "tokenizer.model").read_bytes() == b"pieces"
    assert (folder.checkpoints / "latest").read_text() == f"{path.name}\n"
    assert list((folder.path / "checkpoints").iterdir()) == []  # what was aside
    with pytest.raises(UserError, match=r"there are: step-00000007\."):
        find_checkpoint(folder, "step-00000008", cache)


def test_only_the_tensors_asked_for_are_copied(folder: RunFolder, cache: Cache) -> None:
    write(folder, 7)
    copy = find_checkpoint(folder, cache=cache, kinds=(WEIGHTS,))
    assert sorted(file.name for file in copy.iterdir()) == [
        *("config.yaml", "manifest.json", "state.json", "tokenizer", "weights.safetensors")
    ]
    bare = find_checkpoint(folder, cache=cache, kinds=())
    assert not list(bare.glob("*.safetensors"))
    cache.release_at(copy)
    cache.release_at(folder.path)  # not a copy: nothing


def test_an_upload_that_breaks_off_leaves_the_one_before(
    folder: RunFolder, cache: Cache, warnings: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, 4)
    plain, left = module.upload, [0]

    def breaks(local: Path, place: Path) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        plain(local, place)

    for files in (1, 3, 6):
        left[0] = files
        with monkeypatch.context() as patch:
            patch.setattr(module, "upload", breaks)
            with pytest.raises(KeyboardInterrupt):
                write(folder, 8)
        assert newest_whole(folder, cache) == find_checkpoint(folder, "step-00000004", cache)
        assert "step-00000008 is not complete" in warnings.text
    write(folder, 8)
    assert load_weights(find_checkpoint(folder, cache=cache))["a"][0] == 8
    left[0] = 2
    with monkeypatch.context() as patch:  # over a whole one of the same name: it is none from the first file on
        patch.setattr(module, "upload", breaks)
        with pytest.raises(KeyboardInterrupt):
            write(folder, 8, value=9.0)
    assert load_weights(find_checkpoint(folder, cache=cache))["a"][0] == 4


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "manifest"])
def test_a_damaged_one_is_passed_over_by_name(
    folder: RunFolder, cache: Cache, damage: str, warnings: pytest.LogCaptureFixture
) -> None:
    write(folder, 4)
    path = write(folder, 8)
    file = path / ("manifest.json" if damage == "manifest" else "exp_avg.safetensors")
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    else:
        content[-1] ^= 1
        file.write_bytes(bytes(content[:-5] if damage in ("cut", "manifest") else content))
    newest = newest_whole(folder, cache)
    assert newest is not None
    assert newest.name == "step-00000004"
    assert str(file) in warnings.text
    with pytest.raises(UserError, match=file.name):
        find_checkpoint(folder, path.name, cache)


def test_a_store_that_is_away_is_no_damage(
    folder: RunFolder, cache: Cache, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a run would go on from an older checkpoint than it has."""
    monkeypatch.setattr(faults, "PATIENCE", 1.0)
    write(folder, 4)
    s3.kill()
    for action in (lambda: newest_whole(folder, cache), lambda: write(folder, 8)):
        with pytest.raises(UserError, match="away or busy"):
            action()
    assert list((folder.path / "checkpoints").iterdir()) == []
    s3.start()
    assert names(folder) == ["step-00000004"]
    assert newest_whole(folder, cache) is not None


def test_pruning_removes_older_ones_and_half_uploads(
    folder: RunFolder, s3: S3Server, monkeypatch: pytest.MonkeyPatch, warnings: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2, 3, 4, 5):
        write(folder, step)
    (folder.checkpoints / "step-00000002" / "manifest.json").unlink()
    (folder.checkpoints / "step-00000005" / "manifest.json").unlink()  # newer than the one just saved: left alone
    (folder.path / "checkpoints" / ".step-00000003.1-abc.aside").mkdir()
    prune(folder, 4, 2)  # the step just saved
    assert names(folder) == ["step-00000005", "step-00000004", "step-00000003"]
    assert list((folder.path / "checkpoints").iterdir()) == []

    def refuse(path: Path) -> None:
        raise UserError("cannot write it: access denied")

    monkeypatch.setattr(keep, "remove_tree", refuse)
    prune(folder, 4, 1)
    assert "older checkpoints stay: cannot write it: access denied" in warnings.text


def test_a_run_whose_checkpoints_are_elsewhere_does_not_start_over(folder: RunFolder, s3: S3Server) -> None:
    local, other = RunFolder(folder.path), RunFolder(folder.path, place_of(f"{s3.url}/runs/y"))  # type: ignore[arg-type]
    for place in (folder, local, other):
        check_place(place)
    write(folder, 4)
    check_place(local)  # nothing says that this run had a store
    (folder.path / "config.yaml").write_text(dump_config(RunConfig(store=str(folder.store))))
    for place in (local, other):
        with pytest.raises(UserError, match=rf"there are in {folder.store}/checkpoints"):
            check_place(place)
    check_place(folder)
    write(local, 4)
    with pytest.raises(UserError, match=rf"there are in {folder.path}/checkpoints"):
        check_place(folder)


def test_upload_checkpoint_writes_the_mark_last(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(module, "upload", lambda local, place: order.append(place.name))
    local = tmp_path / "whole"
    (local / "tokenizer").mkdir(parents=True)
    for name in ("weights.safetensors", "a.json", "tokenizer/tokenizer.model", "manifest.json"):
        (local / name).touch()
    uploaded: list[int] = []
    path = place_of(f"{folder.checkpoints}/step-00000001")
    upload_checkpoint(local, path, lambda: uploaded.append(len(order)))
    assert uploaded == [1, 2, 3]
    assert order[-1] == "manifest.json"
    assert sorted(order) == ["a.json", "manifest.json", "tokenizer.model", "weights.safetensors"]
