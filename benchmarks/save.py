"""What a save costs training: the stall of one behind its back against a synchronous one, in interleaved rounds.

    python benchmarks/save.py [--shape base] [--ranks 1 2] [--rounds 3] [--sequences 2] [--seq 128] [--folder DIR]

Each round saves and waits, then saves behind steps until it has ended, then makes as many steps without. Real engines,
ZeRO stage 1, made-up rows; the folder's disk is what is measured. Medians over the rounds behind the first.
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

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for the data sets of tests

import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks.ranks import run_on_ranks  # noqa: E402
from pipeline.base.config import load_config  # noqa: E402
from pipeline.base.run_folder import RunFolder  # noqa: E402
from pipeline.stream.loader import Rows  # noqa: E402
from pipeline.training.checkpoint import TrainState  # noqa: E402
from pipeline.training.distributed import start_ranks  # noqa: E402
from pipeline.training.engine import Engine  # noqa: E402
from pipeline.training.origin import find_origin  # noqa: E402
from pipeline.training.save import CheckpointFiles, Content  # noqa: E402
from pipeline.training.step import train_step  # noqa: E402
from pipeline.training.writer import Writer  # noqa: E402
from tests.datasets import make_dataset  # noqa: E402

VOCABULARY = 30_522


def prepare(chosen: argparse.Namespace, folder: Path) -> tuple[Writer, Callable[[], float]]:
    """This rank's writer, and a step that gives its seconds."""
    world = int(os.environ["WORLD_SIZE"])
    config = load_config(
        ROOT / "configs" / f"{chosen.shape}.yaml",
        [
            *(f"run_dir={folder / 'run'}", f"data.path={folder}", f"data.sequence_length={chosen.seq}"),
            *("data.segments=none", f"train.batch_size={chosen.sequences * world}", "train.micro_batch_size=null"),
            *("train.precision=fp32", "train.keep_last=1"),
        ],
    )
    ranks = start_ranks(max(1, len(os.sched_getaffinity(0)) // world))
    engine = Engine(config, VOCABULARY, ranks)
    ids = np.random.default_rng(ranks.rank).integers(5, VOCABULARY, (chosen.sequences, chosen.seq)).astype(np.int64)
    rows = Rows(ids, None, None, np.arange(chosen.sequences) + ranks.rank * chosen.sequences)

    def timed_step() -> float:
        ranks.barrier()
        began = time.perf_counter()
        train_step(engine, rows, TrainState())
        ranks.barrier()
        return time.perf_counter() - began

    return Writer(CheckpointFiles(engine, RunFolder.of(config), find_origin(config))), timed_step


def work(chosen: argparse.Namespace, folder: Path) -> dict[str, float]:
    """One rank's part; the figures."""
    writer, timed_step = prepare(chosen, folder)
    ranks, count = writer.files.engine.ranks, 0
    seen: dict[str, list[float]] = {name: [] for name in ("synchronous", "stall", "ended", "during", "alone")}
    for number in range(chosen.rounds + 1):
        found: dict[str, float] = {}
        ranks.barrier()
        began = time.perf_counter()
        writer.start(Content(TrainState(step=(count := count + 1))))
        waited = writer.wait()
        found["synchronous"] = time.perf_counter() - began
        ranks.barrier()
        began = time.perf_counter()
        writer.start(Content(TrainState(step=(count := count + 1))))
        found["stall"] = time.perf_counter() - began
        during = []
        while (ended := writer.ended()) is None:
            during.append(timed_step())
        found["ended"], found["during"] = ended.seconds, statistics.mean(during or [0.0])
        found["alone"] = statistics.mean(timed_step() for _ in range(max(1, len(during))))
        if waited is None or not waited.saved or not ended.saved:
            sys.exit(f"the folder {folder} does not take the checkpoints: {ended.problem}")
        for name, value in found.items():
            if number > 0:
                seen[name].append(float(ranks.sum({"x": torch.tensor(value, dtype=torch.float64)})["x"]) / ranks.world)
    ranks.barrier()
    figures = {name: statistics.median(values) for name, values in seen.items()}
    return figures | {"bytes": 3.0 * writer.files.snapshot.layout.size}


def main() -> None:
    """Starts the ranks and prints the table; in a rank, its part."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--shape", default="base", help="a preset of configs/")
    arguments.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--sequences", type=int, default=2, help="of a rank's step")
    arguments.add_argument("--seq", type=int, default=128)
    arguments.add_argument("--folder", type=Path, help="on the disk to measure (default: the temporary folder)")
    arguments.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.inside:
        figures = work(chosen, chosen.inside)
        if os.environ["RANK"] == "0":
            (chosen.inside / "figures.json").write_text(json.dumps(figures))
        return
    print(f"\n{chosen.shape}, ZeRO stage 1, {chosen.sequences} x {chosen.seq} tokens a rank and step, fp32, medians\n")
    print("| ranks | checkpoint | synchronous | stall | of it | behind steps | step alone | step meanwhile |")
    print("|---|---|---|---|---|---|---|---|")
    for world in chosen.ranks:
        with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
            make_dataset(Path(name), tokens=20_000, vocab_size=VOCABULARY)
            run_on_ranks([sys.executable, *sys.argv, "--inside", name], world)
            found = json.loads((Path(name) / "figures.json").read_text())
        print(
            f"| {world} | {found['bytes'] / 1e9:.2f} GB | {found['synchronous']:.2f} s | {found['stall']:.3f} s | "
            f"{found['stall'] / found['synchronous']:.1%} | {found['ended']:.1f} s | {found['alone']:.2f} s | "
            f"{found['during']:.2f} s |"
        )


if __name__ == "__main__":
    main()
