"""The driver over stand-in stages: order, resuming, exit codes, and the closing report. No stage works here."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.demo import __main__ as command
from pipeline.demo import driver, stages
from pipeline.demo.docstrings import Module
from pipeline.demo.report import last_figures, report, table
from pipeline.demo.stages import Plan, next_commands

STAND_IN = """
import json, os, pathlib, sys
name = pathlib.Path(__file__).stem
with open("calls.jsonl", "a") as calls:
    calls.write(json.dumps([name, *sys.argv[1:], os.environ.get("DS_ACCELERATOR", "")]) + "\\n")
if pathlib.Path(f"fail-{name}").exists():
    sys.exit("the reason of it" if name == "export" else 75)
run = pathlib.Path("runs/demo-seed-3")
metrics = run / "metrics.jsonl"
if name == "preprocess":
    (run / "data").mkdir(parents=True)
    splits = {"train": {"tokens": 6000000}, "validation": {"tokens": 120000}}
    (run / "data/manifest.json").write_text(json.dumps({"splits": splits, "tokenizer": {"vocab_size": 8000}}))
elif name == "pretrain":
    figures = {"step": 3200, "train/generator/loss": 4.0, "train/discriminator/loss": 0.33}
    metrics.write_text(json.dumps(figures) + "\\n")
elif name == "export":
    (run / "export/generator").mkdir(parents=True)
    (run / "export/generator/config.json").write_text("{}")
elif name == "finetune":
    (run / "finetune/packages").mkdir(parents=True)
    figures = {"name": "packages", "labels": ["omega", "zeta"], "finetune/packages/test/accuracy": 0.75}
    (run / "finetune/packages/metrics.json").write_text(json.dumps(figures))
else:
    figures = {"step": 3200, "eval/generator/accuracy": 0.41, "eval/discriminator/auc": 0.61}
    (run / "evaluation.json").write_text(json.dumps(figures))
"""
STAGES = ["preprocess", "pretrain", "export", "finetune", "evaluate"]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose stages only note that they were called; the corpus is of a hundred modules."""
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)  # a training run in this process has set it
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/demo.yaml").write_text("seed: 0\n")
    (tmp_path / "pipeline").mkdir()
    for name in STAGES:
        (tmp_path / f"pipeline/{name}.py").write_text(STAND_IN)
    launcher = tmp_path / "deepspeed"
    launcher.write_text(
        f'#!/bin/sh\n[ "$1 $2 $3" = "--quiet --num_accelerators 2" ] || exit 9\nshift 5\nexec {sys.executable} "$@"\n'
    )
    launcher.chmod(0o755)
    programs = {"python": sys.executable, "deepspeed": str(launcher), "mlflow": "mlflow"}
    monkeypatch.setattr(stages, "_program", programs.__getitem__)
    monkeypatch.setattr(command, "REPOSITORY", tmp_path)
    text = "The words of number {} are here to be told apart by the one who reads them all"
    names = [(package, chr(97 + n // 26) + chr(97 + n % 26)) for package in ("zeta", "omega") for n in range(100)]
    modules = [
        Module(path=f"{package}/{name}.py", docstrings=((text.format(package[0] + name),),)) for package, name in names
    ]
    monkeypatch.setattr(driver, "gather", lambda: modules)
    return tmp_path


def called(repository: Path) -> list[list[str]]:
    """The calls so far: stage, its arguments, DS_ACCELERATOR."""
    return [json.loads(line) for line in (repository / "calls.jsonl").read_text().splitlines()]


def test_stages_run_in_order_with_the_seed_and_a_second_run_is_a_no_op(
    repository: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--seed", "3", "train.steps=7"]) == 0
    calls = called(repository)
    assert [call[0] for call in calls] == STAGES
    for call in calls:
        assert call[1:4] == ["--config", "configs/demo.yaml", "run_dir=runs/demo-seed-3"]
        assert {"seed=3", "train.steps=7", "run_dir=runs/demo-seed-3"} <= set(call)
    assert [call[-1] for call in calls] == ["", "cpu", "", "", ""]
    told = capfd.readouterr().out
    assert "6,000,000 tokens for train" in told
    assert "3,200 steps" in told
    assert "accuracy 0.750" in told
    assert (repository / "runs/demo-corpus/docstrings.jsonl").read_text().count("\n") == 200

    assert command.main(["--seed", "3", "train.steps=7"]) == 0
    assert called(repository) == calls
    told = capfd.readouterr().out
    assert "nothing left to do" in told
    assert "generator accuracy" in told


@pytest.mark.parametrize(("failing", "code"), [("export", 1), ("pretrain", 75)])
def test_a_failing_stage_stops_the_demo_with_its_code_and_the_next_run_goes_on(
    repository: Path, capfd: pytest.CaptureFixture[str], failing: str, code: int
) -> None:
    (repository / f"fail-{failing}").touch()
    assert command.main(["--seed", "3"]) == code
    done = STAGES[: STAGES.index(failing) + 1]
    assert [call[0] for call in called(repository)] == done
    told = capfd.readouterr().err
    assert f"demo: {failing} ended with exit code {code}" in told
    (repository / f"fail-{failing}").unlink()
    assert command.main(["--seed", "3"]) == 0
    assert [call[0] for call in called(repository)] == done + STAGES[STAGES.index(failing) :]


def test_a_missing_config_is_a_message(repository: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--config", "configs/none.yaml"]) == 2
    assert "configs/none.yaml does not exist" in capfd.readouterr().err


@pytest.mark.slow
def test_a_command_does_not_outlive_a_killed_demo(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    child = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = (
        "import sys; from pathlib import Path; from pipeline.demo.driver import run_command; "
        "from pipeline.demo.stages import Stage; "
        f"run_command(Stage('x', 'x', (sys.executable, '-c', {child!r}), 'x'), Path('.'))"
    )
    demo = subprocess.Popen([sys.executable, "-c", parent], cwd=Path(__file__).parents[3])
    deadline = time.monotonic() + 30
    while not (pid.exists() and pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    demo.send_signal(signal.SIGKILL)
    demo.wait()
    while Path(f"/proc/{pid.read_text()}").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{pid.read_text()}/stat").read_text().split()[2] == "Z":  # ended, and not yet reaped by init
            return
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_the_demo_as_it_stands_needs_no_settings() -> None:
    for stage in stages.stages(Plan(Path("."), "configs/demo.yaml", "runs/demo", 0)):
        assert stage.command[-2:] == ("--config", "configs/demo.yaml")


def test_the_table_shows_baselines_and_what_is_missing() -> None:
    figures = {
        "eval/generator/accuracy": 0.4123,
        "eval/generator/unigram_accuracy": 0.06,
        "eval/discriminator/auc": 0.61,
    }
    lines = table(figures).splitlines()
    assert lines[1].split()[2:4] == ["0.412", "0.060"]
    assert lines[2].split()[2:4] == ["0.610", "-"]
    assert lines[3].split()[4:6] == ["-", "1.000"]


def test_figures_are_the_newest_and_a_cut_line_is_passed_over(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"step": 1, "eval/a": 1.0, "eval/b": 5.0}\n{"step": 2, "eval/a": 2.0}\n{"step": 3, "ev')
    assert last_figures(metrics, "eval/") == {"eval/a": 2.0, "eval/b": 5.0}
    assert last_figures(tmp_path / "none.jsonl", "eval/") == {}


def test_the_report_ends_with_three_commands_and_says_what_the_figures_are_not(tmp_path: Path) -> None:
    plan = Plan(tmp_path, "configs/demo.yaml", "runs/demo", 0)
    told = report(plan)
    assert "only begins to learn" in told
    assert "for days" in told
    assert [line for line in told.splitlines() if not line.startswith("#")][-3:] == [
        line for _, line in next_commands(plan)
    ]
