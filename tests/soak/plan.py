"""Which kill comes when: drawn from a seed, with fixed shares of kinds and moments."""

import random
from typing import NamedTuple

from benchmarks.kills import deck

KINDS = {"rank": 2, "all": 1, "launcher": 1}
"""Who gets SIGKILL: one rank, all ranks, or one of the two processes of the deepspeed launcher; with shares."""
MOMENTS = {"save": 4, "between": 7, "start": 1}
"""With shares: a third of the kills strikes inside a save."""
MOST_DELAY = {"save": 0.1, "between": 0.3, "start": 6.0}
STEPS_A_KILL = 6
"""The run goes on by about so many steps between two kills."""
STAGES = (0, 1, 2, 3)


class Kill(NamedTuple):
    """One kill of the plan."""

    number: int
    stage: int
    """ZeRO stage of the run that it strikes."""
    step: int
    """It comes once the run has logged this step."""
    kind: str
    moment: str
    """In a save: it waits for the next one to begin; between; or in the start, before anything is trained."""
    delay: float
    """Seconds after the moment."""
    victim: int
    """Which of two: rank 0 or 1, or the launcher's first or second process."""
    patient: bool
    """Whether the command is started again only when all processes of the start before are gone."""


def make_plan(kills: int, seed: int, stages: tuple[int, ...] = STAGES) -> list[Kill]:
    """The kills of all runs, one run a stage; within a run in the order of their steps."""
    draw = random.Random(seed)
    kinds, moments = deck(KINDS, kills, draw), deck(MOMENTS, kills, draw)
    plan: list[Kill] = []
    for number, (kind, moment) in enumerate(zip(kinds, moments, strict=True)):
        stage = stages[number * len(stages) // kills]
        place = sum(kill.stage == stage for kill in plan)
        step = place * STEPS_A_KILL + draw.randint(1, STEPS_A_KILL)
        delay = draw.uniform(0.0, MOST_DELAY[moment])
        plan.append(Kill(number, stage, step, kind, moment, delay, draw.randint(0, 1), draw.random() < 0.5))
    return plan
