"""Neighbours of a rank while a machine is calibrated: processes that train a small model until they are ended.

Ranks of one host share its caches and its memory's bandwidth: alone, a rank is quicker than it will be.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.base.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ("-m", "pipeline.planning.neighbour")


@contextmanager
def neighbours(count: int, threads: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Within, so many others work on as many threads each. UserError where one ends before."""
    command = [sys.executable, *COMMAND, str(threads)]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            started.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE))
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()  # it works now, or has ended
        yield started
        if any(process.poll() is not None for process in started):
            raise UserError("a process that worked beside the calibration has ended: its message is above.")
    finally:
        for process in started:
            process.kill()
            process.communicate()


def main() -> None:
    """Works as long as the process that started it."""
    import torch

    from pipeline.base.config import load_config
    from pipeline.planning.micro import random_rows
    from pipeline.training.memory import keep_freed_memory
    from pipeline.training.precision import make_objective

    parent = os.getppid()
    torch.set_num_threads(int(sys.argv[1]))
    keep_freed_memory()
    config = load_config(None, ["train.precision=fp32", "model.layers=4", "model.generator.size=0.25"])
    objective, batch = make_objective(config, 8000), random_rows(8, 128, 8000)
    totals = objective.counts(batch)
    print("ready", flush=True)
    while os.getppid() == parent:
        objective.zero_grad()
        objective(batch, totals)[0].backward()


if __name__ == "__main__":
    main()
