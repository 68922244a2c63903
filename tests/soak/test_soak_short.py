"""The soak in short; `python -m tests.soak` is the long form. And its plan."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.soak.plan import STEPS_A_KILL, make_plan
from tests.soak.run import soak


def test_a_plan_has_its_shares_and_can_be_repeated() -> None:
    plan = make_plan(100, 0)
    assert plan == make_plan(100, 0)
    assert plan != make_plan(100, 1)
    assert Counter(kill.kind for kill in plan) == {"rank": 50, "all": 25, "launcher": 25}
    assert 33 <= sum(kill.moment == "save" for kill in plan) <= 37
    assert Counter(kill.stage for kill in plan) == dict.fromkeys(range(4), 25)
    for stage in range(4):
        steps = [kill.step for kill in plan if kill.stage == stage]
        assert steps == sorted(steps)
        assert max(steps) <= 25 * STEPS_A_KILL


@pytest.mark.slow
def test_three_kills(tmp_path: Path) -> None:
    """With this seed one of each kind, one of them inside a save."""
    lines: list[dict[str, Any]] = []
    good = soak(tmp_path, 3, 35, lines.append, (1,))
    print(*lines, sep="\n")
    assert good == 3
    assert lines[-1]["bit_equal"]
    assert {line["kind"] for line in lines[:-1]} == {"rank", "all", "launcher"}
