"""Planted faults are named, in few steps of a tiny model, and a sound run is silent."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.training.distributed import start_ranks
from pipeline.training.ranks import Ranks
from tests.pipeline.health import planted
from tests.pipeline.health.planted import PLANTED, found_in, rows_of_step

STEPS = 16


@pytest.fixture(scope="module")
def ranks() -> Ranks:
    return start_ranks(1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_sound_run_is_silent(tmp_path: Path, ranks: Ranks, precision: str) -> None:
    assert found_in(tmp_path, ranks, 20, f"train.precision={precision}", "model.dropout=0.1") == []


def test_mlm_is_silent(tmp_path: Path, ranks: Ranks) -> None:
    assert found_in(tmp_path, ranks, STEPS, "objective.name=mlm") == []


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_named(name: str, tmp_path: Path, ranks: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    code, plant, settings = PLANTED[name]
    plant(monkeypatch)
    found = found_in(tmp_path, ranks, STEPS, *settings)
    assert code in {one[1] for one in found}, found


def test_a_gradient_of_another_size_is_not_of_other_labels(
    tmp_path: Path, ranks: Ranks, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted.gradient_times(100.0)(monkeypatch)
    found = {one[1] for one in found_in(tmp_path, ranks, STEPS)}
    assert "discriminator-gradient-size" in found
    assert not {code for code in found if "labels" in code}


def test_the_same_batch_again(tmp_path: Path, ranks: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planted, "rows_of_step", lambda step: rows_of_step(0))
    assert "repeated-batch" in {one[1] for one in found_in(tmp_path, ranks, 2)}


def test_the_same_row_again(tmp_path: Path, ranks: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_row(step: int) -> object:
        rows = rows_of_step(step)
        rows.ids[:] = rows.ids[0]
        return rows

    monkeypatch.setattr(planted, "rows_of_step", one_row)
    found = {one[1] for one in found_in(tmp_path, ranks, 1)}
    assert "repeated-rows" in found
    assert np.all(rows_of_step(0).ids[:, 0] == rows_of_step(1).ids[:, 0])
