"""What a task costs the driver: tasks that do nothing, through the connection that every Ray stage uses.

    python benchmarks/driver.py [--tasks 100000] [--workers 2]

Prints milliseconds a task, the driver's peak, and how the driver and Ray's own processes grow with the tasks: by a
straight line through the second half of the run, and on to ten times as many.
"""

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.base.config import load_config
from pipeline.base.log import setup_logging
from pipeline.base.workers import connected

SAMPLES = 50
OURS = "driver"
NAMES = {"gcs_server": "gcs_server", "raylet": "raylet"}


def nothing(place: str, job: str, number: int) -> float:
    """A task with the arguments and the result of a stage's."""
    return 0.0


def processes() -> dict[str, int]:
    """Process numbers: this one, and Ray's own that descend from it."""
    parents: dict[int, int] = {}
    named: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            head, _, tail = (entry / "stat").read_text().rpartition(")")
        except OSError:
            continue
        parents[int(entry.name)] = int(tail.split()[1])
        named[int(entry.name)] = head.partition("(")[2]
    found = {OURS: os.getpid()}
    for number, name in named.items():
        above = number
        while above in parents and above != os.getpid():
            above = parents[above]
        if name in NAMES and above == os.getpid():
            found[name] = number
    return found


def resident(process: int, field: str = "VmRSS") -> int:
    """Bytes of memory of the process, now (VmRSS) or at most so far (VmHWM)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def arguments(tasks: int) -> Iterator[tuple[str, str, int]]:
    """As a stage makes them: where the work is, its id, and the task's number."""
    for number in range(tasks):
        yield "/shared/runs/mine/data/.work", "0123456789abcdef", number


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    setup_logging(None, rank=1)
    config = load_config(None, ["ray.address=local", f"ray.num_cpus={chosen.workers}"])
    with connected(config.ray) as workers:
        list(workers.map_unordered(nothing, arguments(10 * chosen.workers), plain=True))  # the processes are up
        watched = processes()
        samples = {name: [(0, resident(process))] for name, process in watched.items()}
        began, processor = time.perf_counter(), time.process_time()
        results = workers.map_unordered(nothing, arguments(chosen.tasks), plain=True, give_up=True)
        for done, _ in enumerate(results, start=1):
            if done % max(1, chosen.tasks // SAMPLES) == 0:
                for name, process in watched.items():
                    samples[name].append((done, resident(process)))
        seconds, processor = time.perf_counter() - began, time.process_time() - processor
        peaks = {name: resident(process, "VmHWM") for name, process in watched.items()}
    print(f"{chosen.tasks:,} tasks that do nothing, {chosen.workers} workers: {1000 * seconds / chosen.tasks:.2f} ms a")
    print(f"task, of which the driver's own processor time is {1000 * processor / chosen.tasks:.2f} ms.\n")
    print("| process | before, MB | peak, MB | bytes a task | at ten times the tasks, MB |")
    print("|---|---|---|---|---|")
    for name, points in samples.items():
        x, y = np.array(points[len(points) // 2 :], float).T
        slope = float(np.polyfit(x, y, 1)[0])
        more = points[-1][1] + 9 * chosen.tasks * max(slope, 0.0)
        print(f"| {name} | {points[0][1] / 1e6:.0f} | {peaks[name] / 1e6:.0f} | {slope:.0f} | {more / 1e6:.0f} |")


if __name__ == "__main__":
    main()
