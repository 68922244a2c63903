"""The learning rate is the released code's: linear decay from update 0 times the warm-up ramp."""

import pytest

from pipeline.base.config import config_from_dict
from pipeline.base.sections import ScheduleConfig
from pipeline.training.schedule import learning_rate, odd_warmup


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        (0, 0.0),
        (1, 2.0 * 0.1 * 0.99),
        (5, 2.0 * 0.5 * 0.95),
        (10, 2.0 * 0.90),
        (55, 2.0 * 0.45),
        (99, 2.0 * 0.01),
        (100, 0.0),
    ],
)
def test_decay_times_warm_up(update: int, expected: float) -> None:
    assert learning_rate(2.0, ScheduleConfig(warmup_steps=10), update, 100) == pytest.approx(expected, rel=1e-12)


def test_without_warm_up_the_first_update_has_the_peak() -> None:
    assert learning_rate(2.0, ScheduleConfig(warmup_steps=0), 0, 100) == 2.0


def test_a_warm_up_longer_than_the_run_is_told() -> None:
    told = odd_warmup(config_from_dict({"train": {"steps": 30}, "schedule": {"warmup_steps": 31}}))
    assert told.startswith("schedule.warmup_steps 31 is more than train.steps 30")
    assert not odd_warmup(config_from_dict({"train": {"steps": 30}, "schedule": {"warmup_steps": 30}}))
