"""Carries a plan out, a run for each ZeRO stage: every kill is answered by the same command; the end is compared."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.pipeline.training.pretrain_runs import Workshop, assert_same_end
from tests.soak.plan import STEPS_A_KILL, Kill, make_plan
from tests.soak.trial import Trial, arguments

AFTER = 6
"""Steps after the last kill's."""
GOES_ON = re.compile(r"going on from \S*(step-\d+)")
TOLD = re.compile(r"^pretrain(?:, rank \d+)?: (.*)$", re.MULTILINE)
CODES = {0, 75, 1, 247}
"""Of the command: done; asked to stop or a rank gone; SIGKILL to its own processes (-9 and what it makes of it)."""


def soak(folder: Path, kills: int, seed: int, say: Callable[[dict[str, Any]], None], stages: tuple[int, ...]) -> int:
    """Returns how many kills were answered as promised; `say` gets a line for each, and one for each run's end."""
    shop, plan, good = Workshop(folder), make_plan(kills, seed, stages), 0
    for stage in dict.fromkeys(kill.stage for kill in plan):
        mine = [kill for kill in plan if kill.stage == stage]
        steps = len(mine) * STEPS_A_KILL + AFTER
        whole = f"whole-{stage}"
        with shop.ranks(2, arguments(shop, whole, stage, steps)) as ranks:
            assert [rank.wait(3600.0) for rank in ranks] == [0, 0]
        trial = Trial(shop, f"cut-{stage}", stage, steps)
        try:
            good += sum([_answered(trial, kill, say) for kill in mine])
            code = _finish(trial)
            assert code == 0, trial.said()[-3000:]
            assert_same_end(shop.run_folder(whole), trial.folder)
            half = [path.name for path in trial.folder.checkpoints.iterdir() if path.name.startswith(".")]
            assert not half, half
            say({"run": stage, "steps": steps, "exit": code, "bit_equal": True, "left": trial.left()})
        finally:
            trial.end()
    return good


def _answered(trial: Trial, kill: Kill, say: Callable[[dict[str, Any]], None]) -> bool:
    """Starts the command, unless it runs, and kills; whether it had gone on, and left nothing behind."""
    began = time.monotonic()
    trial.start()
    problem = trial.wait_for(kill)
    reached, came = trial.step(), time.monotonic()
    struck = trial.strike(kill)
    died = trial.wait_for_end() if kill.patient or kill.kind != "launcher" else None
    said = trial.said()
    left = trial.left() if kill.patient or kill.kind != "launcher" else {}
    if not struck:
        problem = "nobody was struck"
    if "Traceback" in said:
        problem = "a traceback"
    resumed = GOES_ON.findall(said)
    line = {
        **kill._asdict(),
        "struck": len(struck),
        "resumed_from": resumed[-1] if resumed else None,
        "at_step": reached,
        "after": _after_death(trial),
        "exit": died,
        "told": TOLD.findall(said)[-1:],
        "seconds": [round(came - began, 1), round(time.monotonic() - came, 1)],
        "left": left,
        "problem": problem,
    }
    say(line)
    return problem is None and not left


def _after_death(trial: Trial) -> str:
    """What the kill left of the save that it struck, if it struck one."""
    checkpoints = trial.folder.checkpoints
    if not checkpoints.is_dir():
        return "no checkpoint yet"
    names = [path.name for path in checkpoints.iterdir()]
    newest = max((name for name in names if name.startswith("step-")), default="")
    latest = (checkpoints / "latest").read_text().strip() if (checkpoints / "latest").exists() else ""
    if any(name.startswith(".step-") for name in names):
        return "a save half-written"
    return "a save in place, latest not moved" if newest > latest else "no save under way"


def _finish(trial: Trial) -> int | None:
    trial.start()
    return trial.wait_for_end(3600.0)


def to_line(entry: dict[str, Any]) -> str:
    """A line of the log."""
    return json.dumps(entry) + "\n"
