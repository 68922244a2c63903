"""From the command to the first step, and what a checkpoint takes, by model size: real runs of pipeline/pretrain.py.

    python benchmarks/start.py [--presets small base] [--ranks 1] [--rounds 3] [--sequences 2] [key=value ...]

Each round of a preset is a run of two steps in a new folder, saved at the end, and then the same command with a third
step, which goes on from there. Seconds as the run logs them: to the first step from the process's begin on, imports
included; of a save what it took and what training waited for. Medians with their range. With two ranks and more the
deepspeed launcher's own start counts too.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # for the data sets of tests

from benchmarks.report import spread, table  # noqa: E402
from tests.datasets import make_dataset  # noqa: E402

VOCABULARY, SEQ = 30_522, 128
LOGGED = {
    "parameters": re.compile(r"([\d,]+) parameters"),
    "first": re.compile(r"first step after ([\d.]+) s"),
    "own": re.compile(r"the last ([\d.]+) of them"),
    "save": re.compile(r"saved .* in ([\d.]+) s"),
    "stall": re.compile(r"for ([\d.]+) s of which"),
}


def run(chosen: argparse.Namespace, preset: str, folder: Path, steps: int) -> dict[str, float]:
    """One run's figures, by the names of LOGGED. Raises SystemExit where it fails."""
    settings = [
        *(f"run_dir={folder / 'run'}", f"data.path={folder.parent / 'data'}", f"data.sequence_length={SEQ}"),
        *(f"train.steps={steps}", f"train.batch_size={chosen.sequences * chosen.ranks}", "schedule.warmup_steps=0"),
        *("train.micro_batch_size=null", "train.precision=fp32", "train.log_every=1", "train.eval_sequences=2"),
        *("data.segments=none", f"tracking.uri=sqlite:///{folder / 'mlflow.db'}"),
    ]
    ranks = [sys.executable, "pipeline/pretrain.py"]
    if chosen.ranks > 1:
        ranks = [str(Path(sys.executable).with_name("deepspeed")), f"--num_gpus={chosen.ranks}", "pipeline/pretrain.py"]
    command = [*ranks, "--config", f"configs/{preset}.yaml", *settings, *chosen.changes]
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    found = {name: pattern.search(ended.stdout) for name, pattern in LOGGED.items()}
    if ended.returncode or None in found.values():
        raise SystemExit(f"{ended.stdout}\n{' '.join(command)} ended with {ended.returncode}")
    return {name: float(match[1].replace(",", "")) for name, match in found.items() if match is not None}


def main() -> None:
    """Prints the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--presets", nargs="+", default=["small", "base"])
    arguments.add_argument("--ranks", type=int, default=1)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--sequences", type=int, default=2, help="of a rank and step")
    arguments.add_argument("changes", nargs="*", metavar="key=value")
    chosen = arguments.parse_intermixed_args()
    lines = []
    with tempfile.TemporaryDirectory() as place:
        make_dataset(Path(place) / "data", tokens=200_000, vocab_size=VOCABULARY)
        new: dict[str, list[dict[str, float]]] = {preset: [] for preset in chosen.presets}
        resumed: dict[str, list[dict[str, float]]] = {preset: [] for preset in chosen.presets}
        for _ in range(chosen.rounds):
            for preset in chosen.presets:
                with tempfile.TemporaryDirectory(dir=place) as folder:
                    new[preset].append(run(chosen, preset, Path(folder), 2))
                    resumed[preset].append(run(chosen, preset, Path(folder), 3))
        for preset in chosen.presets:
            begun, again = new[preset], resumed[preset]
            columns = [(begun, "first"), (begun, "own"), (again, "first"), (begun, "save"), (begun, "stall")]
            size = f"{statistics.median(one['parameters'] for one in begun) / 1e6:.1f}"
            lines.append([preset, size, *(spread([one[name] for one in rounds]) for rounds, name in columns)])
    head = ["preset", "million parameters", "first step after, s", "its own part, s", "after a resume, s"]
    print(f"{chosen.ranks} rank(s), {chosen.sequences} x {SEQ} tokens a rank and step, fp32.\n")
    print(table([*head, "a save, s", "of which training waited, s"], lines))


if __name__ == "__main__":
    main()
