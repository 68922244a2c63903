"""The entry scripts: quick --help, exit codes, and no installed package shadowed by a file of pipeline/."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import command

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("preprocess", "pretrain", "export", "finetune", "evaluate", "explain", "replay")


def run(stage: str, *arguments: str, cwd: Path, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, *python, str(ROOT / "pipeline" / f"{stage}.py"), *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("stage", STAGES)
def test_help_is_light(stage: str, tmp_path: Path) -> None:
    done = run(stage, "--help", cwd=tmp_path, python=("-X", "importtime"))
    assert done.returncode == 0
    assert "key=value" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert not loaded & {"torch", "ray", "mlflow", "deepspeed", "transformers", "pydantic"}


@pytest.mark.parametrize("stage", STAGES)
def test_the_script_shadows_nothing(stage: str, tmp_path: Path) -> None:
    code = f"import runpy, sys; runpy.run_path({str(ROOT / 'pipeline' / (stage + '.py'))!r}); print(sys.path[0])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(ROOT), done.stderr


@pytest.mark.parametrize("stage", STAGES)
def test_unknown_key_is_one_message_and_exit_2(stage: str, tmp_path: Path) -> None:
    done = run(stage, "train.stpes=3", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == f"{stage}: command line: unknown key train.stpes; did you mean train.steps?"
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_that_only_another_rank_meets_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "OTHERS_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(command, "FIRST_RANK_SECONDS", 0.0)
    monkeypatch.setenv("RANK", "3")
    with socket.create_server(("127.0.0.1", 0)) as first_rank:
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(first_rank.getsockname()[1]))
        assert command.main("pretrain", ["--config", "absent.yaml"]) == 2
        assert capsys.readouterr().err == "pretrain, rank 3: the config file absent.yaml does not exist.\n"
    assert command.main("pretrain", ["--config", "absent.yaml"]) == 2
    assert capsys.readouterr().err == ""


def test_settings_may_stand_anywhere(tmp_path: Path) -> None:
    done = run("pretrain", "train.steps=0", "--dry-run", "seed=1", cwd=tmp_path)
    assert done.returncode == 2
    assert "train.steps: Input should be greater than 0 (got 0)" in done.stderr


def test_missing_config_file(tmp_path: Path) -> None:
    done = run("preprocess", "--config", "absent.yaml", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "absent.yaml does not exist" in done.stderr


@pytest.mark.slow
def test_an_installed_wheel_works_from_another_folder(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for part in ("model", "pipeline", "cluster", "configs"):
        shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / part, source / part)
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*wheel, str(source)], check=True, timeout=300, cwd=tmp_path)
    (built,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(built)]
    subprocess.run(install, check=True, timeout=300)
    code = (
        "from pipeline.base.config import load_config; import model.config as m; "
        "print(load_config(None).run_dir, m.__file__)"
    )
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    run_dir, origin = done.stdout.split()
    assert run_dir == "runs/default"
    assert Path(origin).is_relative_to(site)
