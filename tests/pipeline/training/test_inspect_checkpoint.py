"""Checkpoints read without us, by the lines that docs/checkpoints.md shows, and by `python -m pipeline.checkpoint`."""

import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from pipeline.base.config import RunConfig, config_from_dict, dump_config
from pipeline.base.files import write_json
from pipeline.base.run_folder import RunFolder
from pipeline.checkpoint import main
from pipeline.training.checkpoint import TENSORS, TrainState, checkpoint_name, move_latest, write_manifest
from pipeline.training.precision import make_objective

PAGE = Path(__file__).resolve().parents[3] / "docs" / "checkpoints.md"
SIZES: dict[str, Any] = {
    **{"body": "electra", "hidden_size": 8, "embedding_size": 8, "layers": 1, "heads": 1, "ffn_size": 8},
    **{"max_positions": 8, "generator": {"hidden_size": 8, "heads": 1}},
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with checkpoints of steps 3 and 7."""
    folder = RunFolder(tmp_path / "run")
    config: RunConfig = config_from_dict({"model": SIZES, "data": {"sequence_length": 8}, "seed": 5}, "here")
    for step in (3, 7):
        path = folder.checkpoints / checkpoint_name(step)
        path.mkdir(parents=True)
        weights = {name: p.detach() + step for name, p in make_objective(config, 11).named_parameters()}
        for kind in TENSORS:
            safetensors.torch.save_file(weights, path / f"{kind}.safetensors")
        write_json(path / "state.json", asdict(TrainState(step=step, samples=step)) | {"loss_scale": {}})
        (path / "config.yaml").write_text(dump_config(config))
        write_json(path / "config.json", config.to_dict())
        write_manifest(path, {"step": step, "vocab_size": 11})
        move_latest(folder, path.name)
    return folder.path


def test_the_lines_of_the_page(run: Path) -> None:
    lines = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert lines is not None
    found: dict[str, Any] = {}
    exec(lines[1].replace("runs/mine", str(run)), found)
    assert found["config"]["seed"] == 5
    assert found["state"]["step"] == 7
    theirs = safetensors.torch.load_file(run / "checkpoints" / "step-00000007" / "weights.safetensors")
    assert found["weights"].keys() == theirs.keys()
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(found["weights"][name], tensor.numpy())


def test_every_field_of_the_state_is_described() -> None:
    for name in asdict(TrainState()):
        assert f"`{name}`" in PAGE.read_text(), name


def test_show(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(run), "--tensors"]) == 0
    shown = capsys.readouterr().out
    for word in ("step-00000007", "step: 7", "samples: 7", "seed: 5", "vocab_size: 11", "weights.safetensors"):
        assert word in shown
    weights = safetensors.torch.load_file(run / "checkpoints" / "step-00000007" / "weights.safetensors")
    norm = torch.cat([tensor.double().flatten() for tensor in weights.values()]).norm()
    assert f"weights: {len(weights)} tensors" in shown
    assert f"norm {float(norm):.6g}" in shown


def test_verify(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(run)]) == 0
    assert capsys.readouterr().out.count(": whole, 6 files") == 2
    bad = run / "checkpoints" / "step-00000003"
    file = bad / "exp_avg.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 4
    file.write_bytes(content)
    assert main(["verify", str(run)]) == 2
    out = capsys.readouterr()
    assert "step-00000007: whole" in out.out
    assert f"checkpoint verify: checkpoint file {file} is damaged" in out.err
    assert main(["verify", str(run / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(("change", "told"), [("nan", "not finite"), ("shape", "does not have the shape")])
def test_verify_looks_behind_the_digests(run: Path, capsys: pytest.CaptureFixture[str], change: str, told: str) -> None:
    path = run / "checkpoints" / "step-00000007"
    weights = safetensors.torch.load_file(path / "weights.safetensors")
    name = min(weights)
    weights[name] = torch.full_like(weights[name], torch.nan) if change == "nan" else torch.zeros(3)
    safetensors.torch.save_file({key: tensor.clone() for key, tensor in weights.items()}, path / "weights.safetensors")
    write_manifest(path, {"step": 7, "vocab_size": 11})
    assert main(["verify", str(path)]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert name in error


def test_diff(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    older, newer = (str(run / "checkpoints" / checkpoint_name(step)) for step in (3, 7))
    assert main(["diff", newer, str(run)]) == 0
    assert capsys.readouterr().out.startswith("equal")
    assert main(["diff", older, newer]) == 1
    shown = capsys.readouterr().out
    assert "state step: 3 in the first, 7 in the second" in shown
    assert re.search(r"weights: (\d+) of \1 tensors differ, by 4 at most, in ", shown)
    assert "config" not in shown
    one_bit = tmp_path / "step-00000007"
    shutil.copytree(newer, one_bit)
    weights = safetensors.torch.load_file(one_bit / "weights.safetensors")
    name = max(weights)
    changed = {key: tensor.clone() for key, tensor in weights.items()}
    changed[name].view(torch.int32).flatten()[0] ^= 1
    safetensors.torch.save_file(changed, one_bit / "weights.safetensors")
    write_manifest(one_bit, {"step": 7, "vocab_size": 11})
    assert main(["diff", newer, str(one_bit)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"weights: 1 of {len(weights)} tensors differ")
    assert lines[0].endswith(f"in {name}")
