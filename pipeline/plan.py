"""`python pipeline/plan.py [--config FILE] --machine FILE | --card NAME ... [key=value ...]`: what a run will take.

Light on purpose: torch is imported after the arguments are read.
"""

import argparse
import sys
from pathlib import Path

# A script's own folder comes first on the path, where its files would shadow installed packages of the same name.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from pipeline.base.tool import run_tool  # noqa: E402


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    arguments = argparse.ArgumentParser(
        prog="plan.py",
        description="Foretells memory, time and price of pretraining, and the best ZeRO stage and micro-batch. "
        "Neither data nor a run's folder is needed.",
        allow_abbrev=False,
        epilog="docs/planning.md says how it is reckoned, and how near it comes. Exit codes: 0 done, 2 a mistake.",
    )
    arguments.add_argument("--config", type=Path, help="a run's YAML file (default: configs/default.yaml)")
    where = arguments.add_mutually_exclusive_group(required=True)
    where.add_argument("--calibrate", type=Path, metavar="FILE", help="measure this CPU (minutes), and keep it there")
    where.add_argument("--machine", type=Path, metavar="FILE", help="a CPU that was calibrated")
    where.add_argument("--card", metavar="NAME", help="H200, H100, A100, L40S or L4, by its data sheet")
    add = arguments.add_argument
    add("--efficiency", type=float, default=0.4, help="share of the card's peak that is reached (0.4, an assumption)")
    add("--hosts", type=int, default=1, help="how many (1)")
    add("--ranks", type=int, default=1, help="ranks, or cards, a host; for --calibrate, how many work at once (1)")
    add("--network", type=float, default=12.5, help="GB/s that a host sends to others (12.5: 100 Gbit/s)")
    add("--latency", type=float, default=20.0, help="microseconds of a message between hosts (20)")
    add("--jitter", type=float, default=0.0, help="deviation of a rank's step time, as a share of it (0)")
    add("--memory", type=float, help="GB a rank may use (default: the card's, less a tenth)")
    add("--tokens", type=float, help="token budget (default: train.steps)")
    add("--price", type=float, help="dollars an hour of a host")
    add("--threads", type=int, default=1, help="of a rank, for --calibrate (1)")
    add("settings", nargs="*", metavar="key=value", help="set a dotted key, such as model.layers=6")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Runs it; returns the exit code."""
    arguments = parser().parse_intermixed_args(argv)
    return run_tool("plan", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.planning.report import calibrated, planned

    for line in calibrated(arguments) if arguments.calibrate else planned(arguments):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
