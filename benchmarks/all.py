"""All benchmarks in a short form, each one's output into its place in docs/benchmarks.md.

    python benchmarks/all.py [NAME ...] [--list] [--page FILE]

A benchmark is a line of COMMANDS; docs/benchmarks.md has `<!-- bench:NAME -->` and `<!-- /bench:NAME -->` for it. One
after another, with nothing beside: what it prints is kept with command, seconds, machine, versions and date. One that
fails leaves its table as it was; the others run, and the exit code is 1. Longer forms: the scripts by hand.
"""

import argparse
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from benchmarks.report import PAGE, machine, replace  # noqa: E402

STEP = "benchmarks/step.py --rounds 2"
MODERN = "model.body=modernbert model.embedding_size=null data.segments=none"
COMMANDS = {
    "step-128": f"{STEP} --batch 8",
    "step-512": f"{STEP} --batch 2 --seq 512 --shape small-512",
    "step-modern": f"{STEP} --batch 8 --documents 100 {MODERN}",
    "growth": "benchmarks/growth.py --rounds 2",
    "curves": "benchmarks/curves.py --steps 150 --dropout 0.0",
    "overhead": "benchmarks/overhead.py --batch 4 --rounds 3",
    "start": "benchmarks/start.py --presets small --rounds 2",
    "loader": "benchmarks/loader.py --batch 32 --seconds 2 --many 5000",
    "preprocess": "benchmarks/preprocess.py --size 8 --rounds 1 --workers 1",
}
"""Name -> script and arguments, as a shell would read them."""


def run(name: str, page: Path) -> bool:
    """One benchmark, its table put into the page. Whether it went well."""
    print(f"bench: {name}: python {COMMANDS[name]}", file=sys.stderr, flush=True)
    began = time.monotonic()
    command = [sys.executable, *shlex.split(COMMANDS[name])]
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    took = time.monotonic() - began
    if ran.returncode or not ran.stdout.strip():
        print(f"bench: {name} failed with exit code {ran.returncode}; its table is left", file=sys.stderr)
        return False
    print(ran.stdout, flush=True)
    replace(name, f"`python {COMMANDS[name]}`: {took:.0f} s. {machine()}.\n\n{ran.stdout}", page)
    return True


def main() -> int:
    """Reads the command line."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*", metavar="NAME", help=", ".join(COMMANDS))
    arguments.add_argument("--list", action="store_true", help="print the commands and run none")
    arguments.add_argument("--page", type=Path, default=PAGE)
    chosen = arguments.parse_args()
    unknown = [name for name in chosen.names if name not in COMMANDS]
    if unknown:
        arguments.error(f"no benchmark {', '.join(unknown)}: one of {', '.join(COMMANDS)}")
    names = chosen.names or list(COMMANDS)
    if chosen.list:
        print(*(f"{name}: python {COMMANDS[name]}" for name in names), sep="\n")
        return 0
    went = {name: run(name, chosen.page) for name in names}
    return 0 if all(went.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
