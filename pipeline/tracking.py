"""`python -m pipeline.tracking push RUN_DIR`: sends to MLflow what a run could not, in order, each point once.

Where the points go is what tracking.json remembers of each stage; `tracking.uri=...` names another address. A stage
that was killed without a word is marked KILLED. Price: artifacts and models that the journals name are read from where
they lie, so push only what was written by somebody you trust (SECURITY.md).
"""

import argparse
from pathlib import Path

from pipeline.base.tool import run_tool


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    arguments = argparse.ArgumentParser(
        prog="python -m pipeline.tracking",
        description="Sends what is left of a run's points to MLflow.",
        epilog="Exit codes: 0 everything is sent, 2 a mistake to mend, or the server does not answer.",
    )
    commands = arguments.add_subparsers(dest="command", required=True, metavar="push")
    push = commands.add_parser("push", help="send what waits in RUN_DIR/log")
    push.add_argument("run_dir", metavar="RUN_DIR", type=Path)
    push.add_argument("settings", nargs="*", metavar="key=value", help="such as tracking.uri=http://127.0.0.1:5000")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns the exit code. A UserError is one message."""
    arguments = parser().parse_args(argv)
    return run_tool("tracking push", lambda: _push(arguments), "interrupted; the same command goes on.")


def _push(arguments: argparse.Namespace) -> int:
    from pipeline.base.tracking_push import push

    for line in push(arguments.run_dir, arguments.settings):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
