"""Neighbours of a calibration work until it ends, and one that ends before is noticed."""

import pytest

from pipeline.base.errors import UserError
from pipeline.base.processes import birth_of
from pipeline.planning import neighbour
from pipeline.planning.neighbour import neighbours


def test_none_are_started_for_a_rank_alone() -> None:
    with neighbours(0, 1):
        pass


def test_they_work_and_are_gone_afterwards() -> None:
    with neighbours(1, 1) as started:
        (process,) = started
        assert birth_of(process.pid) is not None
    assert birth_of(process.pid) is None


def test_one_that_ends_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour, "COMMAND", ("-c", "raise SystemExit(3)"))
    with pytest.raises(UserError, match="beside the calibration has ended"), neighbours(1, 1) as started:
        started[0].wait()
