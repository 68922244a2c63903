"""Loss spikes: what is one, and a rollback that a kill, a repeat and a run that knew it beforehand all end alike."""

import json
from pathlib import Path
from typing import Any

import pytest

from model.objectives.electra import Electra
from pipeline.command import main
from pipeline.stages import pretrain
from pipeline.training.checkpoint import TrainState, find_checkpoint, read_state
from pipeline.training.spikes import robust_score, with_passed
from tests.pipeline.training.pretrain_runs import Workshop, assert_same_end, losses

SPIKE = range(60, 65)
"""Samples of the 13th batch of five."""
SETTINGS = ("train.on_spike=rollback", "train.spike_window=8", "train.spike_skip=2", "schedule.warmup_steps=0")


def test_the_score() -> None:
    window = tuple(10 + x / 10 for x in range(-4, 5))
    assert robust_score(10.0, window) == 0
    assert robust_score(11.0, window) == pytest.approx(1 / (1.4826 * 0.2))
    assert robust_score(9.0, window) < 0
    assert robust_score(11.0, (*window[:-1], 1e9)) == pytest.approx(robust_score(11.0, window), rel=0.6)
    assert robust_score(10.1, (10.0,) * 9) == pytest.approx(0.1 / 0.02)  # no spread: 0.2 % of the median


def test_positions_pass_over_what_is_left_out() -> None:
    passed = ("11-12", "3-3", "12-14", "20-21")
    left_out = {3, *range(11, 15), 20, 21}
    expected = [batch for batch in range(40) if batch not in left_out]
    assert [TrainState(step=step, passed=passed).position for step in range(30)] == expected[:30]


def test_what_was_left_out_before_a_rollback_stays_left_out() -> None:
    state = TrainState(passed=("1-2",), bad_shards=("b",))
    entry = {"first_batch": 11, "last_batch": 12, "bad_shards": ["c", "a"]}
    older = {"first_batch": 1, "last_batch": 2}
    found = with_passed(state, [older, entry])
    assert (found.passed, found.bad_shards) == (("1-2", "11-12"), ("a", "b", "c"))


@pytest.fixture
def spiking(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Electra.forward

    def spiked(self: Electra, batch: Any, totals: Any) -> Any:
        loss, sums = forward(self, batch, totals)
        bad = self.training and bool(((batch.sample >= SPIKE.start) & (batch.sample < SPIKE.stop)).any())
        return loss * (50.0 if bad else 1.0), sums

    monkeypatch.setattr(Electra, "forward", spiked)


@pytest.mark.slow
def test_a_rollback_is_repeatable(tmp_path: Path, spiking: None, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Workshop(tmp_path)

    def go(name: str, *more: str) -> int:
        return main("pretrain", shop.arguments(name, *SETTINGS, *more, stage=1))

    assert go("one") == 0
    one = shop.run_folder("one")
    (entry,) = json.loads((one.path / "rollbacks.json").read_text())
    assert (entry["step"], entry["checkpoint"]) == (13, "step-00000010")
    assert (entry["first_batch"], entry["last_batch"]) == (11, 12)
    assert list(losses(one)) == list(range(1, 21))
    assert read_state(find_checkpoint(one))[0].passed == ("11-12",)
    assert max(losses(one).values()) < 2 * min(losses(one).values())

    known = shop.run_folder("known")  # its rollback is there from the start, so it never meets the spike
    known.path.mkdir()
    (known.path / "rollbacks.json").write_text(json.dumps([entry]))
    assert go("known") == 0
    assert_same_end(one, known)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "go_back", killed)  # after the decision, before it takes effect
        assert go("killed") == 130
    assert go("killed") == 0
    assert_same_end(one, shop.run_folder("killed"))


@pytest.mark.slow
def test_a_spike_is_recorded(tmp_path: Path, spiking: None, capsys: pytest.CaptureFixture[str]) -> None:
    shop = Workshop(tmp_path)
    settings = (*SETTINGS[1:], "train.steps=14")
    assert main("pretrain", shop.arguments("run", *settings)) == 0
    folder = shop.run_folder("run")
    (line,) = [json.loads(line) for line in (folder.path / "spikes.jsonl").read_text().splitlines()]
    assert (line["step"], line["first_sample"], line["last_sample"]) == (13, 60, 64)
    assert line["score"] > 8
    assert "step 13: the loss spikes" in capsys.readouterr().out
    assert not (folder.path / "rollbacks.json").exists()
