"""What pipeline/plan.py foretells beside what is measured: memory and time of eight configs on a CPU.

    python benchmarks/predictor.py MACHINE [--steps 4] [--only NUMBER ...]

Each config trains in processes of its own (predictor_worker.py), one thread a rank. Memory is the most that the
operating system counts as resident above the process's base; time is a rank's processor time a step, so that other work
on the machine counts little. MACHINE: what plan.py --calibrate wrote, once, on none of these configs.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from pipeline.base.config import load_config  # noqa: E402
from pipeline.planning.estimate import Estimate, estimate  # noqa: E402
from pipeline.planning.machine import Machine, read_machine  # noqa: E402
from pipeline.planning.many import Cluster  # noqa: E402
from pipeline.training.distributed import free_port  # noqa: E402

COMMON = ("run_dir=runs/predictor", "model.embedding_size=null", "model.generator.size=0.25")
COLUMNS = ("body", "hidden", "layers", "vocabulary", "length", "micro-batch", "stage", "ranks", "precision")
CONFIGS: tuple[tuple[str | int, ...], ...] = (
    ("electra", 256, 6, 30522, 128, 16, 0, 1, "fp32"),
    ("electra", 512, 4, 8000, 256, 8, 1, 2, "fp32"),
    ("electra", 128, 12, 16000, 64, 64, 1, 1, "fp32"),
    ("electra", 768, 3, 30522, 128, 8, 2, 2, "fp32"),
    ("modernbert", 256, 8, 16000, 128, 16, 0, 1, "fp32"),
    ("modernbert", 384, 4, 30522, 512, 4, 2, 2, "fp32"),
    ("electra", 256, 4, 16000, 128, 8, 0, 2, "bf16"),
    ("modernbert", 256, 4, 8000, 256, 4, 1, 1, "bf16"),
)


def settings(config: tuple[str | int, ...]) -> list[str]:
    """The config as key=value."""
    body, hidden, layers, vocabulary, seq, micro, stage, world, precision = config
    return [
        *COMMON,
        f"model.body={body}",
        f"model.hidden_size={hidden}",
        f"model.layers={layers}",
        f"model.heads={int(hidden) // 64}",
        f"model.ffn_size={4 * int(hidden) if body == 'electra' else 2 * int(hidden)}",
        f"tokenizer.vocab_size={vocabulary}",
        f"data.sequence_length={seq}",
        f"train.micro_batch_size={micro}",
        f"train.batch_size={int(micro) * int(world)}",
        f"train.precision={precision}",
        f"deepspeed.zero_optimization.stage={stage}",
    ]


def worker(config: tuple[str | int, ...], steps: int) -> list[str]:
    """A rank's command."""
    return [sys.executable, str(ROOT / "benchmarks" / "predictor_worker.py"), str(steps), *settings(config)]


def measure(config: tuple[str | int, ...], steps: int) -> dict[str, float]:
    """The config on ranks of this machine."""
    world = int(config[7])
    shared = {"LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return run(config, [worker(config, steps)] * world, shared)


def run(config: tuple[str | int, ...], commands: Sequence[Sequence[str]], shared: dict[str, str]) -> dict[str, float]:
    """A command a rank, each of which prints what predictor_worker.py does; shared: how they meet.

    Bytes above the base and processor seconds a step of the rank that takes most; wall seconds a step. Raises
    SystemExit where a rank fails.
    """
    world = {"WORLD_SIZE": str(len(commands)), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            command,
            env=os.environ | world | {"RANK": str(rank), "LOCAL_RANK": str(rank)} | shared,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank, command in enumerate(commands)
    ]
    found: list[dict[str, Any]] = []
    for process in ranks:
        out, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"a rank of {config} ended with {process.returncode}")
        found.append(json.loads(out.splitlines()[-1]))
    return {
        "bytes": max(one["above"] for one in found),
        "seconds": max(min(one["processor"]) for one in found),
        "wall": max(statistics.median(one["wall"]) for one in found),
    }


def foretell(config: tuple[str | int, ...], machine: Machine, cluster: Cluster | None = None) -> Estimate:
    """The predictor's word; by default all ranks are on this machine."""
    cluster = cluster or Cluster(1, int(config[7]), machine.link, machine.link)
    return estimate(load_config(None, settings(config)), int(config[3]), machine, cluster)


def main() -> None:
    """Prints the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("machine", type=Path)
    arguments.add_argument("--steps", type=int, default=4)
    arguments.add_argument("--only", type=int, nargs="+", choices=range(len(CONFIGS)))
    chosen = arguments.parse_args()
    machine = read_machine(chosen.machine)
    print("| " + " | ".join(COLUMNS) + " | MB, measured | foretold | ratio | ms, measured | foretold | ratio |")
    print("|---" * (len(COLUMNS) + 6) + "|", flush=True)
    for number, config in enumerate(CONFIGS):
        if chosen.only is None or number in chosen.only:
            row(config, foretell(config, machine), measure(config, chosen.steps))


def row(config: tuple[str | int, ...], found: Estimate, measured: dict[str, float]) -> None:
    """One line of it."""
    foretold = {"bytes": found.memory.total, "seconds": found.processor}
    cells = list(map(str, config))
    for name, factor in (("bytes", 1e-6), ("seconds", 1e3)):
        cells += [f"{measured[name] * factor:.0f}", f"{foretold[name] * factor:.0f}"]
        cells += [f"{foretold[name] / measured[name]:.2f}"]
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
