"""The command: what it prints for a card and for a calibrated machine, and mistakes."""

from pathlib import Path

import numpy as np
import pytest

from pipeline import plan
from pipeline.planning.calibrate import fit
from pipeline.planning.machine import Link, Machine, read_machine, write_machine
from pipeline.planning.work import KINDS

SMALL = ("model.layers=2", "train.batch_size=8", "train.micro_batch_size=4", "train.precision=fp32", "train.steps=10")


def machine() -> Machine:
    rates = {f"{kind} {p}": (1e-9,) * len(counts) for kind, counts in KINDS.items() for p in ("fp32", "bf16")}
    rates |= {f"update {stage}": (1e-9,) * 3 for stage in range(3)}
    return Machine("a test's", rates, Link(1e-4, 1e9), 1e-10, {"torch": "2"})


def value(lines: str, label: str) -> str:
    (line,) = [line for line in lines.splitlines() if line.strip().startswith(label)]
    return line.strip().removeprefix(label).strip()


def test_a_card(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--card", "H100", "--hosts", "2", "--ranks", "2", "--price", "10", "--tokens", "1e9", *SMALL]
    assert plan.main([*line, "deepspeed.zero_optimization.stage=2"]) == 0
    told = capsys.readouterr().out
    assert value(told, "ranks") == "2 x 2, ZeRO stage 2, fp32"
    assert value(told, "batch") == "8 sequences, 1 x 2 a rank"
    assert "dollars" in value(told, "to 1e+09 tokens")
    assert value(told, "saves").endswith("host memory")
    assert "quickest in 72 GB a rank" in told


def test_a_calibrated_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "machine.json"
    write_machine(path, machine())
    assert read_machine(path) == machine()
    assert plan.main(["--machine", str(path), *SMALL]) == 0
    assert value(capsys.readouterr().out, "tokens a second").endswith("efficiency 1.000")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--card", "H1000"], "the card 'H1000' is not listed"),
        (["--machine", "absent.json"], "write one with --calibrate absent.json"),
        (["--card", "H100", "--hosts", "0"], "--hosts is 0: it must be above 0"),
        (["--card", "H100", "--efficiency", "2"], "share of 1 at most"),
        (["--card", "H100", "--ranks", "1000"], "train.batch_size 8 is smaller than the 1000 ranks"),
        (["--card", "L4", "--memory", "0.001"], "nothing fits in 0.001 GB a rank"),
        (["--card", "H100", "model.layer=2"], "unknown key model.layer"),
    ],
)
def test_mistakes(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert plan.main([*arguments, *SMALL]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


def test_a_file_that_is_no_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "machine.json"
    path.write_text('{"version": 1, "rates": {"linear fp32": [1]}}')
    assert plan.main(["--machine", str(path), *SMALL]) == 2
    assert "is not a machine's file of version 1" in capsys.readouterr().err


def test_a_fit_finds_the_rates_and_none_below_0() -> None:
    draw = np.random.default_rng(0)
    counts = [tuple(map(float, row)) for row in draw.uniform(1, 100, (9, 3))]
    exact = fit([(row, 2.0 * row[0] + 0.5 * row[2]) for row in counts])
    assert exact == pytest.approx((2.0, 0.0, 0.5), abs=1e-6)
    assert min(fit([(row, max(1e-3, 3.0 * row[0] - row[1])) for row in counts])) >= 0.0
