"""Runs the demo: gathers the corpus, then each stage's command, then prints the report.

Promise: a stage that ended is not run again; killed anywhere, the same command goes on, because every stage does; a
stage that fails stops the demo with its own message and exit code. Price: demo.json remembers what ended, so delete
the run's folder to start afresh.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline.base.errors import UserError
from pipeline.base.files import read_json, sha256_file, write_atomic, write_json
from pipeline.base.log import setup_logging
from pipeline.demo.docstrings import gather, to_lines
from pipeline.demo.packages_task import derive
from pipeline.demo.report import outcome, report
from pipeline.demo.stages import Plan, Stage, stages


class StageFailed(Exception):
    """A stage's command did not end well. `code` is its exit code (128 + the signal's number if it was killed)."""

    def __init__(self, stage: Stage, code: int) -> None:
        self.code = code
        told = "its message is above" if code != 75 else "its state is saved"
        super().__init__(f"{stage.name} ended with exit code {code}; {told}. The same command goes on from there.")


def run(plan: Plan) -> None:
    """All stages that have not ended yet, and the report. Raises StageFailed, UserError."""
    setup_logging(None)
    began = time.monotonic()
    done = Done(plan)
    commands = stages(plan)
    if not done.missing(commands) and plan.corpus.exists():
        say(f"demo: nothing left to do, every stage has ended. Results lie in {plan.run_dir}; delete it to run again.")
    else:
        say(f"demo: {len(commands) + 1} stages into {plan.run_dir}; about a quarter of an hour on two CPU cores.")
        gather_corpus(plan, len(commands) + 1)
        for number, stage in enumerate(commands, start=2):
            run_stage(plan, stage, done, f"{number} of {len(commands) + 1}")
        say(f"\ndemo: done in {time.monotonic() - began:.0f} s.")
    say(report(plan))


class Done:
    """Which stages have ended, and how long they took: run_dir/demo.json. Forgotten when the config changes."""

    def __init__(self, plan: Plan) -> None:
        self.path = plan.folder.path / "demo.json"
        config = plan.repository / plan.config
        if not config.is_file():
            raise UserError(f"{plan.config} does not exist; start the demo with a config that does.")
        self.key = {"config": sha256_file(config), "seed": plan.seed, "settings": list(plan.settings)}
        known: dict[str, Any] = read_json(self.path) if self.path.exists() else {}
        self.seconds: dict[str, float] = known.get("seconds", {}) if known.get("key") == self.key else {}

    def missing(self, commands: list[Stage]) -> list[str]:
        """Names of the stages that have not ended."""
        return [stage.name for stage in commands if stage.name not in self.seconds]

    def mark(self, name: str, seconds: float) -> None:
        """The stage has ended."""
        self.seconds[name] = round(seconds, 1)
        write_json(self.path, {"key": self.key, "seconds": self.seconds})


def gather_corpus(plan: Plan, total: int) -> None:
    """Stage 1, in this process: docstrings.jsonl and task/*.jsonl. Kept once there: all seeds have one corpus."""
    headline(f"1 of {total}: gather", "reads the documentation strings of the installed packages (nothing is imported)")
    if plan.corpus.exists():
        say(f"there already: {relative(plan, plan.corpus)}, sha256 {sha256_file(plan.corpus)}")
        return
    began = time.monotonic()
    modules = gather()
    data, gathered = to_lines(modules)
    for split, lines in derive(modules).items():
        write_atomic(plan.task / f"{split}.jsonl", lines)
    write_atomic(plan.corpus, data)  # last: without it this stage has not ended
    say(
        f"gather: done in {time.monotonic() - began:.0f} s. {gathered.documents:,} documents (one a module) of "
        f"{gathered.packages} packages, {gathered.text_bytes / 1e6:.1f} MB of prose, sha256 {gathered.sha256}\n"
        f"in {relative(plan, plan.corpus)}; the fine-tuning task in {relative(plan, plan.task)}"
    )


def run_stage(plan: Plan, stage: Stage, done: Done, number: str) -> None:
    """Runs one command unless it has ended before; says what came of it."""
    headline(f"{number}: {stage.name}", stage.does)
    if stage.name in done.seconds:
        say(f"ended before, in {done.seconds[stage.name]:.0f} s: {outcome(plan, stage.name)}")
        return
    say(f"$ {stage.typed}")
    began = time.monotonic()
    code = run_command(stage, plan.repository)
    if code:
        raise StageFailed(stage, code)
    seconds = time.monotonic() - began
    done.mark(stage.name, seconds)
    say(f"{stage.name}: done in {seconds:.0f} s. {outcome(plan, stage.name)}\nin {plan.run_dir}/{stage.result}")


def run_command(stage: Stage, folder: Path) -> int:
    """Runs a command to its end, its output on ours; returns its exit code. It does not outlive this process."""
    environment = os.environ | dict(stage.environment)
    process = subprocess.Popen(stage.command, cwd=folder, env=environment, preexec_fn=_end_with_parent)

    def pass_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    before = signal.signal(signal.SIGTERM, pass_on)
    try:
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt:  # the terminal told the command too: let it save and end
                continue
    finally:
        signal.signal(signal.SIGTERM, before)
    return code if code >= 0 else 128 - code


def _end_with_parent() -> None:
    """In the child: ask Linux for SIGTERM when the demo is killed: the next demo must find the run's folder free."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def headline(title: str, does: str) -> None:
    """A stage begins."""
    say(f"\n== {title} == {does}")


def relative(plan: Plan, path: Path) -> str:
    """The path as one would type it in the repository's folder."""
    return os.path.relpath(path, plan.repository)


def say(text: str) -> None:
    """To the console, in order with the output of the commands."""
    print(text, flush=True)
