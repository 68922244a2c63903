"""What pipeline/plan.py foretells for two hosts, beside two network namespaces joined by a shaped link. Root only.

    python benchmarks/links.py MACHINE [--megabits 200 1000] [--stages 0 1 2] [--steps 4]

A rank of one thread in each namespace, a bridge between them, `tc tbf` on both ends. Of a step's wall time the
exchange is what is left when the same config's processor time is taken away. MACHINE: what plan.py --calibrate wrote.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from benchmarks.predictor import foretell, run, worker  # noqa: E402
from benchmarks.report import table  # noqa: E402
from pipeline.planning.machine import Link, read_machine  # noqa: E402
from pipeline.planning.many import Cluster  # noqa: E402
from tests.cluster.namespaces import NamespaceHost, make_hosts, why_not  # noqa: E402

CONFIG: tuple[str | int, ...] = ("electra", 256, 4, 16000, 64, 4)
LATENCY = 1e-4
"""Seconds of a message over the bridge, which has next to none; the exchange here is bandwidth."""


def shape(host: NamespaceHost, megabits: int) -> None:
    """What leaves this host from now on goes at this rate."""
    rate = ("rate", f"{megabits}mbit", "burst", "256kb", "latency", "100ms")
    subprocess.run(host.command(["tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", *rate]), check=True)


def measure(config: tuple[str | int, ...], hosts: list[NamespaceHost], steps: int) -> dict[str, float]:
    """As predictor.measure, one rank on each host."""
    shared = {"LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0", "GLOO_SOCKET_IFNAME": "eth0"}
    shared |= {"MASTER_ADDR": hosts[0].address, "MASTER_PORT": "29777"}
    return run(config, [host.command(worker(config, steps)) for host in hosts], shared)


def main() -> None:
    """Prints the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("machine", type=Path)
    arguments.add_argument("--megabits", type=int, nargs="+", default=[200, 1000])
    arguments.add_argument("--stages", type=int, nargs="+", choices=range(3), default=[0, 1, 2])
    arguments.add_argument("--steps", type=int, default=4)
    chosen = arguments.parse_args()
    machine = read_machine(chosen.machine)
    if reason := why_not(ssh=False):
        arguments.error(reason)
    lines = []
    with tempfile.TemporaryDirectory() as folder, make_hosts(Path(folder), ssh=False) as hosts:
        for megabits in chosen.megabits:
            for host in hosts:
                shape(host, megabits)
            for stage in chosen.stages:
                config = (*CONFIG, stage, 2, "fp32")
                between = Link(LATENCY, megabits * 1e6 / 8)
                found = foretell(config, machine, Cluster(2, 1, machine.link, between))
                measured = measure(config, hosts, chosen.steps)
                exchange, foretold = measured["wall"] - measured["seconds"], found.step.exposed
                figures = (exchange, foretold, measured["wall"], found.step.compute + found.step.update + foretold)
                cells = [f"{figure:.2f}" for figure in figures]
                ratios = [f"{figures[1] / figures[0]:.2f}", f"{figures[3] / figures[2]:.2f}"]
                lines.append([str(megabits), str(stage), *cells[:2], ratios[0], *cells[2:], ratios[1]])
    head = ["Mbit/s", "ZeRO stage", "exchange, s", "foretold", "ratio", "step, s", "foretold", "ratio"]
    print(f"{CONFIG}, two ranks, fp32.\n\n{table(head, lines)}")


if __name__ == "__main__":
    main()
