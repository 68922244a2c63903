"""The command line of every stage: `[--config FILE] [--dry-run] [key=value ...]`, and the exit codes.

Light on purpose: torch, Ray and MLflow are imported after the arguments are read, so that --help answers at once.
"""

import argparse
import importlib
import os
import socket
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from threading import current_thread, main_thread

from pipeline.base.errors import EXIT_INTERRUPTED, EXIT_PREEMPTED, EXIT_USER, Preempted, UserError
from pipeline.base.signals import heard

DESCRIPTIONS = {
    "preprocess": "Corpus to tokenizer and tar shards, on Ray (a local one starts by itself).",
    "pretrain": "Shards to checkpoints, on DeepSpeed: one process, or many by the deepspeed launcher.",
    "export": "A checkpoint to Hugging Face folders: discriminator and generator.",
    "finetune": "A task on top of an export, or a sweep over tasks, exports and seeds.",
    "evaluate": "A checkpoint on the validation split, a fine-tuned model on a file, or pairs of texts.",
    "replay": "One step that gave no finite numbers, run again: which module and which loss term.",
    "explain": "What the networks make of a text: a page of judgements, candidates and attributions.",
}
OTHERS_WAIT_SECONDS = 5.0
"""Rank 0 tells a mistake that all ranks meet, and its exit makes the launcher end the others while they wait."""
FIRST_RANK_SECONDS = 20.0
"""After that: how long rank 0 may take to be ready for the others, as it is where it has not met the mistake."""


def parser(stage: str) -> argparse.ArgumentParser:
    """The arguments of a stage. No abbreviations: the deepspeed launcher's own flags stand on the same line."""
    arguments = argparse.ArgumentParser(
        prog=f"{stage}.py",
        description=DESCRIPTIONS[stage],
        allow_abbrev=False,
        epilog="docs/configuration.md lists the keys. Exit codes: 0 done, 2 a mistake to mend, 75 preempted "
        "(start the same command again), 1 a defect of this program.",
    )
    arguments.add_argument("--config", type=Path, help="a run's YAML file (default: configs/default.yaml)")
    arguments.add_argument("--dry-run", action="store_true", help="check everything, print the plan, write nothing")
    if stage == "preprocess":
        arguments.add_argument("--fresh", action="store_true", help="remove what is in data/ and begin anew")
    arguments.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)
    arguments.add_argument("settings", nargs="*", metavar="key=value", help="set a dotted key, such as train.steps=30")
    return arguments


def main(stage: str, argv: list[str] | None = None) -> int:
    """Runs a stage; returns the exit code. A UserError is one message, never a traceback: rank 0's if it has it too."""
    arguments = parser(stage).parse_intermixed_args(argv)
    rank = int(os.environ.get("RANK", "0"))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a peer's end is told by us, in one sentence
    # A signal that comes while torch is imported is acted on as soon as the stage runs.
    heard_early = stage == "pretrain" and not arguments.dry_run and current_thread() is main_thread()
    try:
        with heard() if heard_early else nullcontext():
            return _run(stage, arguments, rank)
    except UserError as error:
        if rank == 0 or _only_met_here(error):
            _tell(stage, rank, error)
        return EXIT_USER
    except Preempted as error:
        if error.told or (error.told is None and rank == 0):
            _tell(stage, rank, error)
        return EXIT_PREEMPTED
    except KeyboardInterrupt:
        print(f"{stage}: interrupted; the same command goes on from what is complete.", file=sys.stderr, flush=True)
        return EXIT_INTERRUPTED


def _tell(stage: str, rank: int, error: Exception) -> None:
    from pipeline.base.stores.faults import shown

    print(f"{stage}{f', rank {rank}' if rank else ''}: {shown(error)}", file=sys.stderr, flush=True)


def _run(stage: str, arguments: argparse.Namespace, rank: int) -> int:
    from pipeline.base.config import load_config

    config = load_config(arguments.config, arguments.settings)
    module = importlib.import_module(f"pipeline.stages.{stage}")
    options = {"fresh": arguments.fresh} if stage == "preprocess" else {}
    if arguments.dry_run:
        if rank == 0:
            print_plan(stage, module.plan(config, **options))
        return 0
    module.run(config, **options)
    return 0


def _only_met_here(error: UserError) -> bool:
    """Whether rank 0 goes on and listens for the others: it has not met the mistake, so nobody else would tell it."""
    time.sleep(OTHERS_WAIT_SECONDS)
    if error.shared is not None:
        return not error.shared
    address = (os.environ.get("MASTER_ADDR", "127.0.0.1"), int(os.environ.get("MASTER_PORT", "29500")))
    until = time.monotonic() + FIRST_RANK_SECONDS
    while True:
        try:
            socket.create_connection(address, timeout=1).close()
            return True
        except OSError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.5)


def print_plan(stage: str, plan: list[tuple[str, str]]) -> None:
    """The lines of --dry-run, aligned."""
    width = max((len(label) for label, _ in plan), default=0)
    print(f"{stage}: dry run, nothing is written")
    for label, value in plan:
        print(f"  {label:<{width}}  {value}")
