"""What DeepSpeed costs: an update at ZeRO stages beside a plain PyTorch loop that exchanges the same bytes.

    python benchmarks/overhead.py [--shape small] [--ranks 2] [--batch 16] [--seq 128] [--stages 1 2] [--rounds 7]
                                  [--profile STAGE] [key=value ...]

Local ranks of one thread. The plain loop is DistributedDataParallel (its gradients are views of its buckets), torch's
fused AdamW and clipping of the whole norm, on the same objective, rows and global counts; the engine's side is
train_step and the ranks' word on whether to stop, as in the training loop. All are in the same processes and take
turns, each round in another order. Wall time between barriers, and the ranks' processor time, on which other work on
the machine tells less. --profile: where one stage's processor time goes on rank 0, beside the plain loop's.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

from benchmarks.ranks import run_on_ranks  # noqa: E402
from pipeline.base.config import RunConfig, load_config  # noqa: E402
from pipeline.stream.loader import Rows  # noqa: E402
from pipeline.training.checkpoint import TrainState  # noqa: E402
from pipeline.training.distributed import start_ranks  # noqa: E402
from pipeline.training.engine import Engine  # noqa: E402
from pipeline.training.optimizer import build_optimizer  # noqa: E402
from pipeline.training.precision import make_objective  # noqa: E402
from pipeline.training.ranks import Ranks  # noqa: E402
from pipeline.training.step import to_batch, train_step  # noqa: E402

VOCABULARY = 30_522
SHOWN = 18
Step = Callable[[], None]


def config_of(chosen: argparse.Namespace, stage: int) -> RunConfig:
    """The preset with this batch and stage, in fp32 unless told otherwise: every CPU has that."""
    share = [f"data.sequence_length={chosen.seq}", f"train.batch_size={chosen.batch * chosen.ranks}"]
    fixed = ["data.segments=none", "train.micro_batch_size=null", "train.precision=fp32"]
    stages = [f"deepspeed.zero_optimization.stage={stage}"]
    return load_config(ROOT / "configs" / f"{chosen.shape}.yaml", [*share, *fixed, *chosen.changes, *stages])


def plain(config: RunConfig, ranks: Ranks, rows: Rows) -> Step:
    """An update without DeepSpeed."""
    objective = make_objective(config, VOCABULARY)
    replicas = nn.parallel.DistributedDataParallel(objective, gradient_as_bucket_view=True)
    optimizer = build_optimizer(config.optimizer, objective.named_parameters())
    for group in optimizer.param_groups:
        group["lr"] = config.optimizer.lr
    batch = to_batch(rows)

    def step() -> None:
        totals = ranks.sum(objective.counts(batch))
        loss, _ = replicas(batch, totals)
        (loss * ranks.world).backward()
        nn.utils.clip_grad_norm_(objective.parameters(), config.optimizer.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    return step


def staged(config: RunConfig, ranks: Ranks, rows: Rows) -> Step:
    """An update by the engine, as in the training loop."""
    engine = Engine(config, VOCABULARY, ranks)

    def step() -> None:
        ranks.agreed_to_stop()
        train_step(engine, rows, TrainState())

    return step


def work(chosen: argparse.Namespace) -> dict[str, Any]:
    """One rank's part; milliseconds of the rounds by variant, (wall, processor time of all ranks)."""
    ranks = start_ranks(1)
    ids = np.random.default_rng(ranks.rank).integers(5, VOCABULARY, (chosen.batch, chosen.seq)).astype(np.int64)
    rows = Rows(ids, None, None, np.arange(chosen.batch) + ranks.rank * chosen.batch)
    steps = {"plain": plain(config_of(chosen, 0), ranks, rows)}
    steps |= {f"ZeRO {stage}": staged(config_of(chosen, stage), ranks, rows) for stage in chosen.stages}
    found: dict[str, Any] = {name: [] for name in steps}
    for number in range(chosen.rounds + 1):
        names = list(steps)[number % len(steps) :] + list(steps)[: number % len(steps)]
        for name in names:
            ranks.barrier()
            wall, processor = time.perf_counter(), time.process_time()
            steps[name]()
            processor = time.process_time() - processor
            ranks.barrier()
            wall = time.perf_counter() - wall
            spent = ranks.sum({"seconds": torch.tensor(processor, dtype=torch.float64)})["seconds"]
            if number > 0:
                found[name].append((wall * 1e3, float(spent) * 1e3))
    if chosen.profile is not None:
        found["profile"] = {name: operations(steps[name]) for name in ("plain", f"ZeRO {chosen.profile}")}
    return found


def operations(step: Step) -> dict[str, float]:
    """Milliseconds of this rank's processor time in an update by operation, what it calls left out."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    return {event.key: event.self_cpu_time_total / 1e3 for event in profiler.key_averages()}


def print_table(found: dict[str, Any]) -> None:
    """Medians, spread and ratios; the spread is from the first to the third quartile."""
    print("| update | wall, ms | spread | x plain | processor, ms | spread | x plain, median of the rounds |")
    print("|---|---|---|---|---|---|---|")
    for name, rounds in found.items():
        cells = []
        for place in (0, 1):
            values = [one[place] for one in rounds]
            low, middle, high = statistics.quantiles(values, n=4)
            ratios = [one[place] / other[place] for one, other in zip(rounds, found["plain"], strict=True)]
            cells += [f"{middle:.0f}", f"{low:.0f} to {high:.0f}", f"{statistics.median(ratios):.3f}"]
        print(f"| {name} | {' | '.join(cells)} |")


def print_profile(found: dict[str, dict[str, float]]) -> None:
    """The operations that differ most."""
    plain, other = found.values()
    names = sorted({*plain, *other}, key=lambda name: -abs(other.get(name, 0.0) - plain.get(name, 0.0)))
    print("\n| ms | " + " | ".join(found) + " |\n|---|---|---|")
    for name in names[:SHOWN]:
        print(f"| {name[:60]} | {plain.get(name, 0.0):.1f} | {other.get(name, 0.0):.1f} |")


def main() -> None:
    """Starts the ranks and prints the table; in a rank, its part."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--shape", default="small", help="a preset of configs/")
    arguments.add_argument("--ranks", type=int, default=2)
    arguments.add_argument("--batch", type=int, default=16, help="sequences of a rank")
    arguments.add_argument("--seq", type=int, default=128)
    arguments.add_argument("--stages", type=int, nargs="+", default=[1, 2])
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--profile", type=int, metavar="STAGE")
    arguments.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("changes", nargs="*", metavar="key=value")
    chosen = arguments.parse_intermixed_args()
    if chosen.rounds < 2:
        arguments.error("--rounds: 2 at least, for a spread")
    if chosen.inside:
        found = work(chosen)
        if os.environ["RANK"] == "0":
            chosen.inside.write_text(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        world = chosen.ranks
        run_on_ranks([sys.executable, *sys.argv, "--inside", str(file)], world)
        found = json.loads(file.read_text())
    profiles = found.pop("profile", None)
    print(
        f"\n{chosen.shape} {' '.join(chosen.changes)}: {world} ranks of one thread, each {chosen.batch} x {chosen.seq}"
    )
    print(f"tokens an update, {chosen.rounds} rounds\n")
    print_table(found)
    if profiles:
        print_profile(profiles)


if __name__ == "__main__":
    main()
