"""`python -m pipeline.checkpoint show|verify|diff PATH...`: looks into checkpoints, changes nothing.

Light on purpose: torch is imported after the arguments are read.
"""

import argparse
import sys

from pipeline.base.errors import EXIT_USER, UserError
from pipeline.base.tool import run_tool

EXIT_DIFFERENT = 1
_PLACE = "a checkpoint's folder, or a run's (its newest one): a path, or s3://, gs://"


def parser() -> argparse.ArgumentParser:
    """The arguments of all three."""
    arguments = argparse.ArgumentParser(
        prog="python -m pipeline.checkpoint",
        description="Looks into checkpoints; changes nothing.",
        epilog="docs/checkpoints.md has the format. Exit codes: 0 done, whole, or equal; 1 diff found differences; 2 "
        "something is wrong with a checkpoint or the arguments.",
    )
    commands = arguments.add_subparsers(dest="command", required=True, metavar="show|verify|diff")
    show = commands.add_parser("show", help="state, origin, files, config and tensors")
    show.add_argument("--tensors", action="store_true", help="a line for each tensor")
    verify = commands.add_parser(
        "verify", help="digests, shapes, types, finite numbers; all checkpoints of a run's folder"
    )
    for one in (show, verify):
        one.add_argument("places", nargs="+", metavar="PATH", help=_PLACE)
    diff = commands.add_parser("diff", help="what differs: config, state, tensors to the bit")
    diff.add_argument("places", nargs=2, metavar="PATH", help=_PLACE)
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns the exit code. A UserError is one message."""
    arguments = parser().parse_args(argv)
    return run_tool(f"checkpoint {arguments.command}", lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    from pipeline.training.inspect_checkpoint import checkpoints_at, diff, show, verify

    found = [checkpoints_at(place) for place in arguments.places]
    if arguments.command == "diff":
        lines = list(diff(found[0][0], found[1][0]))
        print("\n".join(lines) or "equal: config, state and every bit of the tensors")
        return EXIT_DIFFERENT if lines else 0
    code = 0
    for places in found:
        if arguments.command == "show":
            for line in show(places[0], arguments.tensors):
                print(line)
            continue
        for place in places:
            try:
                print(verify(place), flush=True)
            except UserError as error:
                print(f"checkpoint verify: {error}", file=sys.stderr, flush=True)
                code = EXIT_USER
    sys.stdout.flush()
    return code


if __name__ == "__main__":
    raise SystemExit(main())
