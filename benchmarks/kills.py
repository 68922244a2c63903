"""Preprocessing under kills: parts of it are killed at random, the same command is started again, the bytes compared.

    python benchmarks/kills.py [--kills 50] [--seed 0] [--corpus FILE] [--size 12] [--clean] [--log FILE]

--corpus: a .txt or .jsonl file; by default `--size` megabytes of documentation strings of the installed packages.
--clean: with cleaning and deduplication. A job of many small tasks on a local Ray is run undisturbed, then again in
another folder while a worker, the raylet, the GCS, the driver, or all but the workers (the head) get SIGKILL, at
moments spread over all passes by a seeded plan. The killed run has to end with exit code 0, every file of data/ and
the tokenizer have to be the same bytes, and log/tasks.jsonl may have no task twice. Price: a start of Ray for every
kill but a worker's, 5 to 20 seconds each.
"""

import argparse
import ctypes
import hashlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pipeline.demo.docstrings import gather, to_lines

PREPROCESS = Path(__file__).resolve().parents[1] / "pipeline" / "preprocess.py"
SETTINGS = [
    "tokenizer.vocab_size=2000",
    "tokenizer.sample_bytes=2000000",
    "corpus.task_bytes=100000",
    "corpus.validation_fraction=0.02",
    "data.block_tokens=1024",
    "data.shard_blocks=20",
    "ray.address=local",
]
CLEAN = [
    "corpus.clean={gopher_quality: {}, gopher_repetition: {}, fineweb: {}, length: {min_words: 5}, ratios: {}}",
    "corpus.deduplicate={documents: true, near: true, paragraphs: true}",
]
PHASES = {"start": 2, "reading": 12, "duplicates": 6, "tokenizer": 4, "tokenising": 12, "shards": 12, "end": 2}
"""In order, each with its share of the kills."""
PASSES = {"read": "reading", "tokens": "tokenising", "shards": "shards"}
"""Phases by the names of the passes."""
CONNECTED = b"workers: a local Ray"
"""What a driver says once it has its Ray."""
DELAYS = {"start": 8.0, "duplicates": 2.0, "tokenizer": 3.0, "end": 0.5}
"""Phases that log no task: the kills come at most so many seconds after they have begun."""
KINDS = {"worker": 8, "raylet": 3, "gcs": 2, "driver": 4, "head": 3}
PR_SET_CHILD_SUBREAPER = 36
MOST_SECONDS = 150.0
"""A run that has neither ended nor finished a task so long after a kill hangs."""
LATE_SECONDS = 10.0
"""Tasks that were under way end within that time; one that ends later shows that the run goes on."""
LEFT_SECONDS = 120.0
"""Within that time after the last run all processes have to be gone; Ray's helpers look up once a minute."""


class Kill(NamedTuple):
    """One kill of the plan; share: how far in the phase, 0 to 1."""

    phase: str
    share: float
    kind: str


class Outcome(NamedTuple):
    """What a kill led to; code: that of the run, None where it went on; seconds: until it ended."""

    kill: Kill
    code: int | None
    seconds: float | None


@dataclass
class Trial:
    """A run of one folder, started as often as it takes."""

    folder: Path
    settings: Sequence[str]
    log: Path
    starts: int = 0
    codes: Counter[int] = field(default_factory=Counter)

    @property
    def run_dir(self) -> Path:
        """The same name in every trial: the data report tells it."""
        return self.folder / "run"

    def start(self) -> "subprocess.Popen[bytes]":
        """Starts the command once more."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.starts += 1
        command = [sys.executable, str(PREPROCESS), f"run_dir={self.run_dir}", *self.settings]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)

    def tasks(self) -> Counter[tuple[str, int]]:
        """How often each task of each pass was done."""
        path = self.run_dir / "log" / "tasks.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.is_file() else []
        entries = [json.loads(line) for line in lines if line.endswith("\n")]
        return Counter((str(entry["pass"]), int(entry["task"])) for entry in entries)

    def logged(self) -> Counter[str]:
        """Finished tasks by phase, as the log tells them."""
        return Counter(PASSES[name.partition("-")[0]] for name, _ in self.tasks())

    def done(self) -> Counter[str]:
        """Finished tasks by phase, by their marks: of a task that ends as the driver is killed the log has no line."""
        work = self.run_dir / "data" / ".work"
        return Counter(PASSES[mark.parts[-3].partition("-")[0]] for mark in work.glob("*/done/*.json"))

    def end_of_log(self) -> str:
        """The last that the runs have said."""
        return self.log.read_text(errors="replace")[-4000:]


def make_plan(kills: int, seed: int, *, duplicates: bool) -> list[Kill]:
    """The kills in the order of their moments; phases and kinds have fixed shares, drawn without replacement."""
    draw = random.Random(seed)
    shares = {phase: share for phase, share in PHASES.items() if duplicates or phase != "duplicates"}
    phases = sorted(deck(shares, kills, draw), key=list(PHASES).index)
    kinds, plan = deck(KINDS, kills, draw), []
    for phase in phases:
        idle = phase in ("start", "tokenizer", "end")
        fits = [kind for kind in kinds if kind != "worker" or not idle] or ["driver"]
        if fits[0] in kinds:
            kinds.remove(fits[0])
        plan.append(Kill(phase, draw.random(), fits[0]))
    return sorted(plan, key=lambda kill: (list(PHASES).index(kill.phase), kill.share))


def deck(shares: dict[str, int], count: int, draw: random.Random) -> list[str]:
    """So many names, each as often as its share says; what is left over is drawn. Shuffled."""
    whole = sum(shares.values())
    names = [name for name, share in shares.items() for _ in range(share * count // whole)]
    names += draw.choices(list(shares), list(shares.values()), k=count - len(names))
    draw.shuffle(names)
    return names


class Watch:
    """Says when the moment of a kill has come, from what a run has written."""

    def __init__(self, trial: Trial, totals: Counter[str]) -> None:
        self.trial, self.totals = trial, totals
        self.begun: dict[str, float] = {}
        self.told = 0

    def restart(self) -> None:
        """The command is about to be started again."""
        self.begun = {"start": time.monotonic()}
        self.told = self.trial.log.stat().st_size

    def connected(self) -> bool:
        """Whether the driver has its Ray."""
        with self.trial.log.open("rb") as log:
            log.seek(self.told)
            return CONNECTED in log.read()

    def reached(self, kill: Kill) -> bool:
        """Whether the run is at the kill's moment, or past it."""
        if kill.phase == "start":
            return time.monotonic() - self.begun["start"] >= kill.share * DELAYS["start"]
        if not self.connected():
            return False
        order, work = list(PHASES), self.trial.run_dir / "data" / ".work"
        done = self.trial.done()
        now = "start"
        for phase in ("reading", "tokenising", "shards"):
            now = phase if done[phase] else now
        if now == "reading" and (work / "duplicates").exists():
            now = "duplicates"
        if now in ("reading", "duplicates") and done["reading"] == self.totals["reading"]:
            compares = self.trial.settings[-1] == CLEAN[-1] and not (work / "duplicates" / "totals.json").exists()
            now = "duplicates" if compares else "tokenizer"
        if done["shards"] == self.totals["shards"] or (work.parent / "manifest.json").exists():
            now = "end"
        self.begun.setdefault(now, time.monotonic())
        if kill.phase != now:
            return order.index(now) > order.index(kill.phase)
        if kill.phase in DELAYS:
            return time.monotonic() - self.begun[kill.phase] >= kill.share * DELAYS[kill.phase]
        return done[now] >= kill.share * self.totals[now]


def parents() -> dict[int, int]:
    """Parent of each process."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            found[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
    return found


def below(top: int) -> list[int]:
    """All processes that come from `top`."""
    above, found = parents(), {top}
    for _ in above:
        more = {process for process, parent in above.items() if parent in found} - found
        if not more:
            break
        found |= more
    return sorted(found - {top})


def title(process: int) -> str:
    """The command line, or what Ray has made of it."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def kind_of(name: str) -> str:
    """Which part of a run a process with that command line is; "" for Ray's helpers."""
    command = name.partition(" ")[0]
    if command.startswith("ray::"):
        helper = command in ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
        return "" if helper else "idle" if command == "ray::IDLE" else "worker"
    if " -m pipeline.base.alone " in name:
        return "worker"
    return {"raylet": "raylet", "gcs_server": "gcs"}.get(command.rpartition("/")[2], "")


def strike(driver: int, kind: str, draw: random.Random) -> bool:
    """Kills one process of the kind, or all of a head; whether there was one."""
    found: dict[str, list[int]] = {"driver": [driver]}
    for process in below(driver):
        found.setdefault(kind_of(title(process)), []).append(process)
    if kind == "head":
        victims = [*found.get("gcs", []), *found.get("raylet", []), driver] if "raylet" in found else []
    else:
        victims = [draw.choice(found[kind])] if kind in found else []
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    return bool(victims)


def reap(child: int = 0) -> None:
    """Frees the entries of ended processes whose parents were killed; `child` is left to its owner."""
    for process, parent in parents().items():
        if parent == os.getpid() and process != child:
            try:
                os.waitpid(process, os.WNOHANG)
            except ChildProcessError:
                continue


def end_all(child: int = 0) -> None:
    """Kills everything below this process, and below it `child` too."""
    for process in below(os.getpid()):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
    reap(child)


def run_under_kills(trial: Trial, plan: list[Kill], totals: Counter[str], draw: random.Random) -> list[Outcome]:
    """Starts the trial's command until it has ended well; takes the kills that were done off the plan."""
    watch, outcomes = Watch(trial, totals), []
    while True:
        watch.restart()
        child = trial.start()
        while child.poll() is None:
            reap(child.pid)
            if not plan or not watch.reached(plan[0]) or not strike(child.pid, plan[0].kind, draw):
                time.sleep(0.02)
                continue
            outcomes.append(follow(trial, child, plan.pop(0)))
            print_outcome(len(outcomes), outcomes[-1])
        trial.codes[child.returncode] += 1
        if child.returncode == 0:
            return outcomes
        if child.returncode not in (75, -signal.SIGKILL):
            sys.exit(f"{trial.end_of_log()}\nexit code {child.returncode}")


def follow(trial: Trial, child: "subprocess.Popen[bytes]", kill: Kill) -> Outcome:
    """Waits for what the kill leads to: the end of the run, or a task that shows that it goes on."""
    began, before = time.monotonic(), trial.tasks().total()
    while child.poll() is None:
        seconds, total = time.monotonic() - began, trial.tasks().total()
        if kill.kind != "worker" and seconds < LATE_SECONDS:
            before = total
        if total > before:
            break
        if seconds > MOST_SECONDS:
            end_all(child.pid)
            sys.exit(f"{trial.end_of_log()}\nthe run hangs after {kill}")
        time.sleep(0.05)
    code = child.poll()
    return Outcome(kill, code, None if code is None else time.monotonic() - began)


def contents(run_dir: Path) -> dict[str, str]:
    """Digest of every file of data/ and of the tokenizer; a manifest's without the folder in its config."""
    found = {}
    own = json.dumps(str(run_dir)).encode()
    for path in (path for name in ("data", "tokenizer") for path in (run_dir / name).rglob("*") if path.is_file()):
        data = path.read_bytes().replace(own, b'"run"')
        found[str(path.relative_to(run_dir))] = hashlib.sha256(data).hexdigest()
    return found


def compare(trial: Trial, undisturbed: Trial) -> tuple[int, list[str]]:
    """(files compared, what differs)."""
    ours, theirs = contents(trial.run_dir), contents(undisturbed.run_dir)
    differs = [name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)]
    return len(theirs), differs


def print_outcome(number: int, outcome: Outcome) -> None:
    """A line as the run goes on."""
    kill = outcome.kill
    end = "went on" if outcome.seconds is None else f"exit code {outcome.code} after {outcome.seconds:.1f} s"
    print(f"{number:3d} {kill.kind:7s} {kill.phase:10s} {end}", flush=True)


def print_table(outcomes: Sequence[Outcome]) -> None:
    """Kills by kind, what the runs ended with, and when."""
    print("\n| killed | kills | exit codes | seconds to the end, median | most |\n|---|---|---|---|---|")
    for kind in KINDS:
        ours = [outcome for outcome in outcomes if outcome.kill.kind == kind]
        if ours:
            codes = Counter("goes on" if outcome.code is None else str(outcome.code) for outcome in ours)
            told = ", ".join(f"{code} ({number})" for code, number in codes.most_common())
            seconds = [outcome.seconds for outcome in ours if outcome.seconds is not None]
            times = f"{statistics.median(seconds):.1f} | {max(seconds):.1f}" if seconds else " | "
            print(f"| {kind} | {len(ours)} | {told} | {times} |")
    phases = Counter(outcome.kill.phase for outcome in outcomes)
    print("\nkills by pass: " + ", ".join(f"{phase} {phases[phase]}" for phase in PHASES if phases[phase]))


def main() -> None:
    """Runs the trials and prints the tables; exit code 1 where a byte differs or a task was done twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--size", type=float, default=12, metavar="MB")
    parser.add_argument("--clean", action="store_true")
    parser.add_argument("--log", type=Path, help="where to keep what the runs say")
    chosen = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # what outlives a killed driver stays below this process
    with tempfile.TemporaryDirectory(prefix="kills-") as temporary:
        base = Path(temporary)
        corpus = chosen.corpus.absolute() if chosen.corpus else base / "docstrings.jsonl"
        if not chosen.corpus:
            data = to_lines(gather())[0][: int(chosen.size * 1e6)]
            corpus.write_bytes(data[: data.rindex(b"\n") + 1])
        settings = [*SETTINGS, f"corpus.paths=[{corpus}]", f"tracking.uri=sqlite:///{base / 'mlflow.db'}"]
        sys.exit(trials(base, settings + CLEAN * chosen.clean, chosen))


def trials(base: Path, settings: Sequence[str], chosen: argparse.Namespace) -> int:
    """The undisturbed run and the killed ones; the exit code."""
    log = chosen.log.absolute() if chosen.log else base / "log"
    log.touch()
    undisturbed, began = Trial(base / "undisturbed", settings, log), time.monotonic()
    if undisturbed.start().wait():
        sys.exit(undisturbed.end_of_log())
    print(f"undisturbed: {undisturbed.tasks().total():,} tasks in {time.monotonic() - began:.0f} s", flush=True)
    draw, outcomes, rounds, bad = random.Random(chosen.seed), [], 0, 0
    plan = make_plan(chosen.kills, chosen.seed, duplicates=chosen.clean)
    starts, codes = 0, Counter[int]()
    while plan:  # kills that a run has ended before are done in another one
        rounds += 1
        trial = Trial(base / f"killed-{rounds}", settings, log)
        outcomes += run_under_kills(trial, plan, undisturbed.logged(), draw)
        files, differs = compare(trial, undisturbed)
        twice = sum(1 for times in trial.tasks().values() if times > 1)
        bad += len(differs) + twice
        starts, codes = starts + trial.starts, codes + trial.codes
        print(f"\nrun {rounds}: {trial.tasks().total():,} tasks, {twice} of them twice; {files} files compared")
        print("\n".join(["  differs: " + name for name in differs]) or "  all the same bytes")
    print_table(outcomes)
    print(f"\n{len(outcomes)} kills, {starts} starts, exit codes {dict(codes)}, {time.monotonic() - began:.0f} s")
    ended = time.monotonic()
    while below(os.getpid()) and time.monotonic() - ended < LEFT_SECONDS:
        reap()
        time.sleep(0.2)
    left = [title(process) for process in below(os.getpid())]
    print(f"processes left after {time.monotonic() - ended:.0f} s: {len(left)}", *left, sep="\n  ")
    end_all()
    return 1 if bad or left else 0


if __name__ == "__main__":
    main()
