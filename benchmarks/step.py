"""A training step against the usual way of writing it with `transformers`, each in a process of its own, in turns.

    python benchmarks/step.py [--shape small] [--batch 16] [--seq 128] [--rounds 5] [--threads 1] [--parts]
                              [--documents MEDIAN] [key=value ...]

step_variants.py has the two. key=value changes the preset, such as model.body=modernbert. With --documents the text is
documents of that median length: ours packs them into rows, each apart, theirs has one a row, padded. --parts: where the
time goes. Times are processor time with one thread (others' work on the machine then counts little), else wall time.
Memory is the operating system's peak of the process. On a CPU without products of bfloat16 the usual bf16 takes 20
times as long and is left out unless --only names it. --device cuda: the table of step_device.py, with its options.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from benchmarks.report import spread  # noqa: E402

VARIANTS = ("usual fp32", "usual bf16", "ours fp32", "ours bf16")


def work(name: str, chosen: argparse.Namespace) -> None:
    """A variant's process: a line on stdin is a step, or a question; a line of JSON on stdout answers."""
    import torch

    from benchmarks.step_variants import ours, text, usual
    from pipeline.base.config import load_config

    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    config = load_config(ROOT / "configs" / f"{chosen.shape}.yaml", chosen.changes)
    given = text(chosen.batch, chosen.seq, chosen.documents)
    who, precision = name.split()
    batch = given.packed(chosen.seq) if who == "ours" else given.padded()
    step = (ours if who == "ours" else usual)(config, given, batch, precision)
    step()
    clock = time.process_time if chosen.threads == 1 else time.perf_counter
    print(json.dumps({"rows": list(batch.ids.shape)}), flush=True)
    for line in sys.stdin:
        answer: dict[str, Any] = {}
        if line.strip() == "step":
            began = clock()
            step()
            answer["seconds"] = clock() - began
        elif line.strip() == "memory":
            answer["megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        elif line.strip() == "parts":
            from benchmarks.step_parts import breakdown, products_alone

            answer = {"products": products_alone(step), "parts": breakdown(step)}
        print(json.dumps(answer), flush=True)


class Variant:
    """The other end of work()."""

    def __init__(self, name: str) -> None:
        command = [sys.executable, __file__, *sys.argv[1:], "--worker", name]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.rows = self.read()["rows"]

    def ask(self, what: str) -> dict[str, Any]:
        """One line there, one back."""
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self.read()

    def read(self) -> dict[str, Any]:
        """Raises SystemExit when the process has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a variant's process has ended: its message is above")
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> None:
        """Lets it go."""
        self.process.communicate()


def usable() -> list[str]:
    """The variants that this CPU runs in reasonable time."""
    from model.paths import multiplies_bfloat16

    return [name for name in VARIANTS if name != "usual bf16" or multiplies_bfloat16()]


def compare(chosen: argparse.Namespace) -> None:
    """Runs the variants in turns and prints the tables."""
    names = [name for name in VARIANTS if name in (chosen.only or usable())]
    variants = {name: Variant(name) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(chosen.rounds + 1):
        for name, variant in variants.items():
            took = variant.ask("step")["seconds"]
            if number > 0:
                seconds[name].append(took)
    memory = {name: variant.ask("memory")["megabytes"] for name, variant in variants.items()}
    parts = {name: variant.ask("parts") for name, variant in variants.items()} if chosen.parts else {}
    for variant in variants.values():
        variant.end()
    median = {name: statistics.median(values) for name, values in seconds.items()}
    tokens, clock = chosen.batch * chosen.seq, "processor" if chosen.threads == 1 else "wall"
    print(f"\n{chosen.shape} {' '.join(chosen.changes)}: {tokens} tokens of text, rows of {chosen.seq}, ", end="")
    print(f"{chosen.threads} thread(s), {clock} time, medians of {chosen.rounds}, ratios with their range\n")
    references = [name for name in names if name.startswith("usual")]
    print("| step | rows | ms | tokens/s | " + " | ".join(f"x {name}" for name in references) + " | peak MB |")
    print("|---|---|---|---|" + "---|" * len(references) + "---|")
    for name in names:
        ratios = " | ".join(spread(rates(seconds[one], seconds[name])) for one in references)
        rows = " x ".join(str(n) for n in variants[name].rows)
        print(f"| {name} | {rows} | {median[name] * 1e3:.0f} | {tokens / median[name]:,.0f} | {ratios} | ", end="")
        print(f"{memory[name]:.0f} |")
    if parts:
        print_parts(parts, median)


def rates(theirs: list[float], ours: list[float]) -> list[float]:
    """How many times as fast, round by round."""
    return [other / own for other, own in zip(theirs, ours, strict=True)]


def print_parts(parts: dict[str, dict[str, Any]], median: dict[str, float]) -> None:
    """Milliseconds by kind, and the step over its products alone."""
    print("\n| ms | " + " | ".join(parts) + " |\n|---|" + "---|" * len(parts))
    for kind in next(iter(parts.values()))["parts"]:
        print(f"| {kind} | " + " | ".join(f"{found['parts'][kind]:.0f}" for found in parts.values()) + " |")
    print("| products run alone | " + " | ".join(f"{found['products']:.0f}" for found in parts.values()) + " |")
    over = (f"{median[name] * 1e3 / found['products']:.2f}" for name, found in parts.items())
    print("| step / products alone | " + " | ".join(over) + " |")


def main() -> None:
    """Reads the command line."""
    device = argparse.ArgumentParser(add_help=False)
    device.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    if device.parse_known_args()[0].device == "cuda":
        raise SystemExit(subprocess.call([sys.executable, str(ROOT / "benchmarks" / "step_device.py"), *sys.argv[1:]]))
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments.add_argument("--shape", default="small", help="a preset of configs/")
    arguments.add_argument("--batch", type=int, default=16)
    arguments.add_argument("--seq", type=int, default=128)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--documents", type=int, metavar="MEDIAN")
    arguments.add_argument("--parts", action="store_true")
    arguments.add_argument("--only", nargs="+", choices=VARIANTS)
    arguments.add_argument("--worker", help=argparse.SUPPRESS)
    arguments.add_argument("changes", nargs="*", metavar="key=value")
    chosen = arguments.parse_intermixed_args()
    if chosen.worker:
        work(chosen.worker, chosen)
    else:
        compare(chosen)


if __name__ == "__main__":
    main()
