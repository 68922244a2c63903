"""`python -m pipeline.demo [--seed N] [key=value ...]`: the demo's command line; `make demo` calls it."""

import argparse
import sys
from pathlib import Path

from pipeline.base.errors import UserError
from pipeline.demo.driver import StageFailed, gather_corpus, run
from pipeline.demo.stages import DEFAULT_CORPUS_DIR, DEFAULT_RUN_DIR, Plan

REPOSITORY = Path(__file__).resolve().parents[2]


def main(argv: list[str] | None = None) -> int:
    """Runs the demo; returns the exit code: a failing stage's own, 2 for the user's mistake."""
    arguments = argparse.ArgumentParser(prog="python -m pipeline.demo", description="The main job, end to end.")
    arguments.add_argument("--seed", type=int, default=0, help="another seed trains another model in another folder")
    arguments.add_argument("--config", default="configs/demo.yaml", help="default: %(default)s")
    arguments.add_argument("--run-dir", help="default: runs/demo, or runs/demo-seed-N for a seed that is not 0")
    arguments.add_argument(
        "--corpus-dir", default=DEFAULT_CORPUS_DIR, help="gathered once, for every run; default: %(default)s"
    )
    arguments.add_argument("--gather-only", action="store_true", help="only write the text and its labelled examples")
    arguments.add_argument("settings", nargs="*", metavar="key=value", help="passed on to every stage")
    given = arguments.parse_intermixed_args(argv)
    folder = given.run_dir or (DEFAULT_RUN_DIR if given.seed == 0 else f"{DEFAULT_RUN_DIR}-seed-{given.seed}")
    try:
        plan = Plan(REPOSITORY, given.config, folder, given.seed, given.corpus_dir, tuple(given.settings))
        gather_corpus(plan, 1) if given.gather_only else run(plan)
    except StageFailed as failure:
        print(f"demo: {failure}", file=sys.stderr, flush=True)
        return failure.code
    except UserError as error:
        print(f"demo: {error}", file=sys.stderr, flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
