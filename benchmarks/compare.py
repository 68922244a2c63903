"""The step of two commits in turns: whether the second is slower. benchmarks/compare.sh starts it and says how.

Each commit is a work tree in a temporary folder, whose packages the worker imports; the two answer step by step, in
turns, and each pair of neighbours gives a ratio. Processor time of one thread. Slower: the lower quartile of the ratios
B / A is above 1 + margin.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SLOWER, MISTAKE = 1, 2


def fail(message: str) -> SystemExit:
    """One message, exit code 2."""
    print(f"compare: {message}", file=sys.stderr)
    return SystemExit(MISTAKE)


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A git command in this checkout; it may fail."""
    return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)


def commit(name: str) -> str:
    """Its 40 digits. Exits with 2 if there is no such commit."""
    found = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if found.returncode:
        raise fail(f"{name!r} is not a commit of {ROOT}: give a branch, a tag or a commit's digits")
    return found.stdout.strip()


@contextmanager
def checked_out(name: str, folder: Path) -> Iterator[Path]:
    """The commit's files as a work tree, removed at the end."""
    made = git("worktree", "add", "--quiet", "--detach", str(folder), name)
    if made.returncode:
        raise fail(f"git cannot check {name} out: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        git("worktree", "remove", "--force", str(folder))


@contextmanager
def worker(tree: Path, chosen: argparse.Namespace) -> Iterator[subprocess.Popen[str]]:
    """A process that makes a step for each line it reads."""
    sizes = (str(value) for value in (chosen.batch, chosen.seq, chosen.precision))
    command = [sys.executable, "-P", str(Path(__file__).resolve()), "--work", *sizes, *chosen.changes]
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(
        command, cwd=tree, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


def step_seconds(process: subprocess.Popen[str], name: str) -> float:
    """One step's processor time. Exits with 2 if the process has ended: its message is above."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write("step\n")
        process.stdin.flush()
        return float(json.loads(process.stdout.readline()))
    except (BrokenPipeError, ValueError) as error:
        raise fail(f"the step of {name} did not run: its message is above") from error


def work(batch: str, seq: str, precision: str, *changes: str) -> None:
    """A worker: the small preset's step, of whichever packages PYTHONPATH has first."""
    import torch

    from benchmarks.step_variants import ours, text
    from pipeline.base.config import load_config

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = load_config(Path.cwd() / "configs" / "small.yaml", list(changes))
    given = text(int(batch), int(seq), None)
    step = ours(config, given, given.packed(int(seq)), precision)
    for _ in sys.stdin:
        began = time.process_time()
        step()
        print(json.dumps(time.process_time() - began), flush=True)


def verdict(ratios: list[float], margin: float) -> tuple[str, int]:
    """What to say about the ratios B / A, and the exit code."""
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    slower = low > 1 + margin
    said = "slower" if slower else "not slower"
    text = f"B / A: {middle:.3f} in the median, quartiles {low:.3f} to {high:.3f}, {len(ratios)} rounds: "
    return f"{text}B is {said} by more than {margin:.0%} beyond the spread", SLOWER if slower else 0


def compare(chosen: argparse.Namespace) -> int:
    """Runs both in turns; the exit code."""
    names = [commit(name) for name in (chosen.A, chosen.B)]
    ratios: list[float] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="compare-")))
        trees = [stack.enter_context(checked_out(name, folder / side)) for side, name in zip("AB", names, strict=True)]
        workers = [stack.enter_context(worker(tree, chosen)) for tree in trees]
        for number in range(chosen.rounds + 1):
            order = (0, 1) if number % 2 else (1, 0)  # neither is always first
            seconds = dict(sorted((side, step_seconds(workers[side], names[side])) for side in order))
            if number > 0:  # the first step is slower
                ratios.append(seconds[1] / seconds[0])
    text, code = verdict(ratios, chosen.margin)
    print(f"A {names[0][:12]}, B {names[1][:12]}; {text}")
    return code


def main() -> int:
    """Reads the command line."""
    arguments = argparse.ArgumentParser(
        prog="benchmarks/compare.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("A")
    arguments.add_argument("B")
    arguments.add_argument("--rounds", type=int, default=10)
    arguments.add_argument("--margin", type=float, default=0.05, help="share by which B may be slower")
    arguments.add_argument("--batch", type=int, default=4)
    arguments.add_argument("--seq", type=int, default=128)
    arguments.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    arguments.add_argument("changes", nargs="*", metavar="key=value")
    chosen = arguments.parse_intermixed_args()
    if chosen.rounds < 2 or chosen.margin < 0 or chosen.batch < 1 or chosen.seq < 8:
        raise fail("at least 2 rounds, a margin of 0 or more, a row or more, and 8 tokens or more are needed")
    return compare(chosen)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(*sys.argv[2:])
    else:
        sys.exit(main())
