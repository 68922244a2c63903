"""A rank that plants NaN in its own share of one step and tells whether anything of the state moved: see
test_nonfinite.py."""

import gc
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.base.config import load_config
from pipeline.health.rules import RULES
from pipeline.stream.loader import Rows
from pipeline.stream.order import share
from pipeline.training.checkpoint import TrainState
from pipeline.training.distributed import start_ranks
from pipeline.training.engine import Engine
from pipeline.training.engine_state import KINDS
from pipeline.training.health_job import expected_of, figures_of
from pipeline.training.probe import Probe
from pipeline.training.ranks import Ranks
from pipeline.training.step import StepResult, train_step


def rows_of_step(step: int, ranks: Ranks, batch: int) -> Rows:
    """This rank's rows of a global batch of random ids."""
    ids = np.random.default_rng(step).integers(5, 300, (batch, 24))
    mine = share(batch, ranks.rank, ranks.world)
    return Rows(ids[mine.start : mine.stop], None, None, np.arange(batch)[mine.start : mine.stop] + step * batch)


def plant(engine: Engine, kind: str) -> Any:
    """From now on the objective of this rank gives NaN: as its loss, or as one parameter's gradient alone."""
    parameter = next(p for name, p in engine.objective.named_parameters() if name.startswith("discriminator.head"))

    def bad(objective: torch.nn.Module, given: Any, output: Any) -> Any:
        loss, sums = output
        # The second is 0, and its gradient 0 / 0.
        return (loss * float("nan") if kind == "loss" else loss + (parameter * 0).sum().sqrt()), sums

    return engine.objective.register_forward_hook(bad)


def snapshot(engine: Engine) -> dict[str, torch.Tensor]:
    return {f"{kind} {name}": tensor.clone() for kind in KINDS for name, tensor in engine.read(kind)}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def look(engine: Engine, rows: Rows) -> dict[str, Any]:
    """A step that is looked at: what the figures say of gradient and update, and what they were."""
    expected, before = expected_of(engine.config, engine.vocab_size), snapshot(engine)
    probe = Probe(engine, expected)
    result = train_step(engine, rows, TrainState(step=3), probe)
    facts = probe.facts(result, 4, 3)
    moved = {name: float((now - before[name]).norm()) for name, now in snapshot(engine).items() if "weights" in name}
    return {
        "findings": [finding.words for rule in RULES for finding in rule(facts, expected)],
        "gradient": [math.hypot(*facts.parameters.gradient.values()), float(engine.grad_norm or 0)],
        "update": [math.hypot(*facts.parameters.update.values()), math.hypot(*moved.values())],
        "figures": figures_of(facts, engine.config),
        "skipped after": result.skipped,
    }


def trial(arguments: list[str], ranks: Ranks, folder: Path, kind: str) -> dict[str, Any]:
    """Two good steps, one planted on the last rank alone, one good; beside an engine that never saw the planted."""
    config = load_config(folder / "tiny.yaml", arguments)
    engine, twin = Engine(config, 300, ranks), Engine(config, 300, ranks)
    batch = config.train.batch_size

    def go(which: Engine, step: int) -> StepResult:
        return train_step(which, rows_of_step(step, ranks, batch), TrainState(step=step))

    for step in range(2):
        go(engine, step)
        go(twin, step)
    before = snapshot(engine)
    planted = plant(engine, kind) if ranks.rank == ranks.world - 1 else None
    result = go(engine, 2)
    after = snapshot(engine)
    if planted is not None:
        planted.remove()
    looked_at = look(engine, rows_of_step(3, ranks, batch))
    go(twin, 3)
    return {
        **looked_at,
        "kept": same(before, after),
        "skipped": result.skipped,
        "loss": str(result.loss),
        "own": [str(float(part)) for part in result.shares],
        "goes on": same(snapshot(engine), snapshot(twin)) and not same(after, snapshot(engine)),
    }


def main(folder: str) -> None:
    """All trials of a rank, written to found-RANK.json in the folder, where tiny.yaml is."""
    ranks = start_ranks(1)
    found = {}
    for stage in range(4):
        for precision, kind in (("fp32", "loss"), ("bf16", "gradient")):
            settings = [f"deepspeed.zero_optimization.stage={stage}", f"train.precision={precision}"]
            found[f"{kind} {precision} {stage}"] = trial(settings, ranks, Path(folder), kind)
            gc.collect()  # engines whose end comes within an import break it: they import themselves
    (Path(folder) / f"found-{ranks.rank}.json").write_text(json.dumps(found))
