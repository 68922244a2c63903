"""The demo's stages: the commands that a person would type, what each one does and where its results lie.

Promise: nothing here does a stage's work; the demo runs what the README shows, so what it proves holds for you.
"""

import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.run_folder import RunFolder

DEFAULT_RUN_DIR, DEFAULT_CORPUS_DIR = "runs/demo", "runs/demo-corpus"
RANKS = 2


@dataclass(frozen=True)
class Plan:
    """What to run: everything that a stage's command depends on."""

    repository: Path
    """Working folder of every command."""
    config: str
    run_dir: str
    """Relative to the repository, or absolute."""
    seed: int
    corpus_dir: str = DEFAULT_CORPUS_DIR
    """What is gathered, for every seed: beside the runs, which share it."""
    settings: tuple[str, ...] = ()
    """key=value, passed on to every stage."""

    @property
    def folder(self) -> RunFolder:
        """The run's folder, resolved."""
        return RunFolder(self.repository / self.run_dir)

    @property
    def corpus(self) -> Path:
        """The gathered text."""
        return self.repository / self.corpus_dir / "docstrings.jsonl"

    @property
    def task(self) -> Path:
        """Folder of the fine-tuning data: train.jsonl, dev.jsonl, test.jsonl."""
        return self.repository / self.corpus_dir / "task"


@dataclass(frozen=True)
class Stage:
    """One command."""

    name: str
    does: str
    command: tuple[str, ...]
    result: str
    """Where to look, relative to the run's folder."""
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def typed(self) -> str:
        """The command as one would type it in the repository's folder."""
        words = [f"{name}={value}" for name, value in self.environment] + list(self.command)
        return " ".join(words)


def stages(plan: Plan) -> list[Stage]:
    """The five commands after gathering, in order."""
    python = (_program("python"),)
    launcher = (_program("deepspeed"), "--quiet", "--num_accelerators", str(RANKS), "--master_port", str(_free_port()))
    return [
        Stage(
            "preprocess",
            "text to a vocabulary and token blocks, on a local Ray",
            _command(plan, "preprocess", python),
            "data",
        ),
        Stage(
            "pretrain",
            f"trains generator and discriminator together, by DeepSpeed on {RANKS} local ranks of one thread",
            _command(plan, "pretrain", launcher),
            "checkpoints",
            # Sized for two CPU cores: it stays there on a machine with one GPU too, where two ranks would not start.
            (("DS_ACCELERATOR", "cpu"),),
        ),
        Stage("export", "writes both networks as Hugging Face folders", _command(plan, "export", python), "export"),
        Stage(
            "finetune",
            "fine-tunes the discriminator to tell which package a text comes from",
            _command(plan, "finetune", python),
            "finetune",
        ),
        Stage(
            "evaluate",
            "measures the last checkpoint on the validation split",
            _command(plan, "evaluate", python),
            "evaluation.json",
        ),
    ]


def next_commands(plan: Plan) -> list[tuple[str, str]]:
    """(what it shows, command): three lines to copy and paste in the repository's folder."""
    python, export = _program("python"), f"{plan.run_dir}/export"
    fill = (
        f"{python} -c 'from transformers import pipeline; "
        f'[print("%.2f" % r["score"], r["sequence"]) for r in pipeline("fill-mask", "{export}/generator")'
        f'("Returns the number of [MASK] in the array.")]\''
    )
    detect = (
        f"{python} -c 'from transformers import pipeline; "
        f'[print("%.2f" % (r["score"] if r["entity"] == "replaced" else 1 - r["score"]), r["word"]) '
        f'for r in pipeline("token-classification", "{export}/discriminator")'
        f'("Returns the number of banana in the array.")]\''
    )
    return [
        ("the curves and parameters of every stage (http://127.0.0.1:5000)", f"{_program('mlflow')} ui"),
        ("what the generator puts in a gap", fill),
        ("how likely the discriminator thinks each piece replaced (higher is more suspicious)", detect),
    ]


def _command(plan: Plan, stage: str, launch: tuple[str, ...]) -> tuple[str, ...]:
    return (*launch, f"pipeline/{stage}.py", "--config", plan.config, *_run_settings(plan), *plan.settings)


def _run_settings(plan: Plan) -> tuple[str, ...]:
    """What differs from the config for other folders or another seed; nothing for the demo as it stands."""
    settings: tuple[str, ...] = ()
    if plan.run_dir != DEFAULT_RUN_DIR:
        settings += (f"run_dir={plan.run_dir}",)
    if plan.seed:
        settings += (f"seed={plan.seed}",)
    if plan.corpus_dir != DEFAULT_CORPUS_DIR:
        settings += (f"corpus.paths=[{plan.corpus_dir}/docstrings.jsonl]",)
        settings += tuple(
            f"finetune.{split}={plan.corpus_dir}/task/{split}.jsonl" for split in ("train", "dev", "test")
        )
    return settings


def _free_port() -> int:
    """A port for the ranks to meet at; the launcher's own is the same for every job of a machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _program(name: str) -> str:
    """A program of the running environment, as short as it can be typed from the current folder."""
    path = Path(sys.executable).parent / name
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else str(path)
