"""Checkpoints of whole runs: a disk that is full for a while, which ones stay, and another precision on resume."""

import logging
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from pipeline.base.files import read_json
from pipeline.command import main
from pipeline.training.checkpoint import find_checkpoint, list_checkpoints, load_weights
from tests.pipeline.training.pretrain_runs import Workshop, losses, records

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """With a run `done` of 4 steps."""
    shop = Workshop(tmp_path_factory.mktemp("saves"))
    assert main("pretrain", shop.arguments("done", "train.steps=4")) == 0
    return shop


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[None]:
    """A file system of that size at `path`."""
    path.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if os.getuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs the rights of root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_a_full_disk_costs_a_save_and_not_the_run(
    shop: Workshop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shop.run_folder("full")
    ballast, told = folder.checkpoints / "ballast", []

    def free_at_the_second_error(record: logging.LogRecord) -> bool:
        if "not saved" in record.getMessage():
            told.append(record)
            if len(told) == 2:
                ballast.unlink()
        return True

    monkeypatch.setattr(logging.getLogger("pipeline"), "filters", [free_at_the_second_error])
    arguments = shop.arguments("full", "train.steps=4", "train.save_every=1", "train.keep_last=1")
    with small_disk(folder.checkpoints, "400k"):
        ballast.write_bytes(bytes(380 << 10))
        assert main("pretrain", arguments) == 0
        assert [path.name for path in list_checkpoints(folder)] == ["step-00000004"]
        path = find_checkpoint(folder)
        mine, theirs = load_weights(path), load_weights(find_checkpoint(shop.run_folder("done")))
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())
        assert read_json(path / "state.json")["save_failures"] == 2
        assert sorted(entry.name for entry in folder.checkpoints.iterdir()) == ["latest", "step-00000004"]
        assert losses(folder) == losses(shop.run_folder("done"))
        assert [line["train/save_failures"] for line in records(folder) if "train/save_failures" in line] == [1, 2]
        errors = [record for record in told if record.levelno == logging.ERROR]
        assert len(errors) == 2
        assert "step 1: not saved: cannot write" in errors[0].getMessage()
        assert "no space left on device" in errors[0].getMessage()

        ballast.write_bytes(bytes(200 << 10))
        told.clear()
        told.append(errors[0])  # so that the next error does not free the disk
        told.append(errors[0])
        capsys.readouterr()
        longer = [word.replace("train.steps=4", "train.steps=6") for word in arguments]
        assert main("pretrain", longer) == 2
        error = capsys.readouterr().err
        assert error.startswith("pretrain: step 6 could not be saved: cannot write")
        assert "The last good checkpoint is step-00000004" in error or "The one before it stays" in error
        assert "Traceback" not in error
        ballast.unlink()
        assert find_checkpoint(folder) == path
        assert main("pretrain", longer) == 0
        assert list(losses(folder)) == [1, 2, 3, 4, 5, 6]


def test_the_best_and_every_third_stay(shop: Workshop) -> None:
    settings = ("train.steps=8", "train.keep_last=1", "train.keep_every=3", "train.eval_every=2")
    assert main("pretrain", shop.arguments("kept", *settings, "train.save_every=3", "train.keep_best=eval/loss")) == 0
    folder = shop.run_folder("kept")
    found = losses(folder, name="eval/loss")
    best = min(found, key=lambda step: found[step])
    assert find_checkpoint(folder, "best").name == f"step-{best:08d}"
    steps = {int(path.name[-8:]) for path in list_checkpoints(folder)}
    assert steps == {3, 6, 8, best}
    manifest = read_json(find_checkpoint(folder, "best") / "manifest.json")
    assert manifest["evaluation"]["eval/loss"] == found[best]


def test_precision_and_micro_batch_may_change(shop: Workshop) -> None:
    """fp32, two steps each of bf16 and fp16 (with a fresh scale), fp32 again: close to fp32 all the way."""
    from deepspeed.accelerator import get_accelerator

    turns = [(2, "fp32", "2"), (4, "bf16", "3"), (8, "fp32", "null")]
    if get_accelerator().is_fp16_supported():
        turns.insert(2, (6, "fp16", "5"))
    for steps, precision, micro in turns:
        base = (f"train.steps={steps}", "schedule.warmup_steps=1", "optimizer.lr=1e-3")
        settings = (*base, f"train.precision={precision}", f"train.micro_batch_size={micro}")
        assert main("pretrain", shop.arguments("mixed", *settings, stage=1)) == 0
        assert main("pretrain", shop.arguments("plain", *base, stage=1)) == 0
    mixed, plain = losses(shop.run_folder("mixed")), losses(shop.run_folder("plain"))
    assert list(mixed) == list(range(1, 9))
    assert mixed == pytest.approx(plain, rel=0.01)
    assert mixed[2] == pytest.approx(plain[2], rel=1e-6)
    assert mixed[4] != pytest.approx(plain[4], rel=1e-9)
