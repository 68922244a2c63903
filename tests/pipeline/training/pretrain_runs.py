"""Tiny pretraining runs for tests: their arguments, their ranks as processes, what they left."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import torch

from pipeline.base.run_folder import RunFolder
from pipeline.training.checkpoint import find_checkpoint, load_tensors
from tests.datasets import make_dataset
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
VOCABULARY = 300
SECONDS = 300
"""Most that a process may take; only reached when ranks wait for each other."""

CONFIG = """
tokenizer: {vocab_size: 300}
data: {sequence_length: 24}
model: {body: electra, hidden_size: 16, embedding_size: 8, layers: 1, heads: 2, ffn_size: 32, max_positions: 32,
        dropout: 0.0, attention_dropout: 0.0, generator: {hidden_size: 8, heads: 1}}
optimizer: {lr: 1.0e-2}
schedule: {warmup_steps: 4}
train: {steps: 20, batch_size: 5, micro_batch_size: 2, precision: fp32, threads: 1, log_every: 1, eval_every: 10,
        eval_sequences: 21, save_every: 5, keep_last: 2}
"""


class Workshop:
    """A folder with a data set, a config and runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "tiny.yaml"
        self.config.write_text(CONFIG)
        make_dataset(folder / "data", tokens=12_000, vocab_size=VOCABULARY)

    def arguments(self, name: str, *settings: str, stage: int = 0) -> list[str]:
        """The command line of run `name`."""
        return [
            *("--config", str(self.config), f"run_dir={self.folder / name}", f"data.path={self.folder / 'data'}"),
            *(f"deepspeed.zero_optimization.stage={stage}", f"tracking.uri=sqlite:///{self.folder / 'mlflow.db'}"),
            *settings,
        ]

    def run_folder(self, name: str) -> RunFolder:
        """Where run `name` is."""
        return RunFolder(self.folder / name)

    @contextmanager
    def ranks(self, world: int, *runs: Sequence[str]) -> Iterator[list["Rank"]]:
        """The stage once for each argument list, on `world` ranks; killed on leaving, if still there."""
        with forked(world, "tests.pipeline.training.rank_server", "pretrain", *runs) as processes:
            yield processes

    def wait_for_step(self, name: str, step: int) -> None:
        """Until run `name` has logged `step`."""
        deadline = time.monotonic() + SECONDS
        while max(losses(self.run_folder(name), cut_off=True), default=0) < step:
            assert time.monotonic() < deadline, f"{name} did not reach step {step}"
            time.sleep(0.005)


class Rank:
    """A process of rank_server.py."""

    def __init__(self, process: int) -> None:
        self.process = process
        self.code: int | None = None

    def wait(self, seconds: float = SECONDS) -> int:
        """Its exit code."""
        if self.code is None:
            self.code = _order(process=self.process, seconds=seconds)
        assert self.code is not None, f"a rank is there after {seconds:.0f} s"
        return self.code

    def send_signal(self, number: int) -> None:
        """Unless it has been waited for."""
        if self.code is None:
            os.kill(self.process, number)


@contextmanager
def forked(world: int, module: str, function: str, *arguments: Any) -> Iterator[list[Rank]]:
    """`world` ranks that call the module's function with the arguments; killed on leaving, if still there."""
    shared = {"WORLD_SIZE": world, "LOCAL_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    work = {"module": module, "function": function, "arguments": arguments}
    processes: list[Rank] = []
    try:
        for rank in range(world):
            own = {key: str(value) for key, value in {**shared, "RANK": rank, "LOCAL_RANK": rank}.items()}
            processes.append(Rank(_order(environment=os.environ | own, **work)))
        yield processes
    finally:
        kill(processes)


@cache
def _server() -> TextIO:
    """Orders for a server that lives as long as this process."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, str(Path(__file__).with_name("rank_server.py")), str(theirs.fileno())]
        subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()])
    return ours.makefile("rw")


def _order(**order: Any) -> Any:
    """The server's answer."""
    print(json.dumps(order), file=_server(), flush=True)
    return json.loads(_server().readline())


def wait(processes: list[Rank]) -> list[int]:
    """Exit codes."""
    return [process.wait() for process in processes]


def kill(processes: list[Rank]) -> None:
    """SIGKILL to all."""
    for process in processes:
        process.send_signal(signal.SIGKILL)
    wait(processes)


def records(folder: RunFolder, cut_off: bool = False) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl; with cut_off the last may be half-written."""
    if not folder.metrics.is_file():
        return []
    lines = folder.metrics.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if not cut_off or line.endswith("\n")]


def losses(folder: RunFolder, cut_off: bool = False, name: str = "train/loss") -> dict[int, float]:
    """{step: train/loss}, or of another figure; no step stands there twice."""
    found = [(line["step"], line[name]) for line in records(folder, cut_off) if name in line]
    assert len(dict(found)) == len(found)
    return dict(found)


def assert_same_end(one: RunFolder, other: RunFolder) -> None:
    """Weights and moments of the newest checkpoints, and all that was logged but times, bit by bit."""
    for kind in ("weights", "exp_avg", "exp_avg_sq"):
        mine, theirs = load_tensors(find_checkpoint(one), kind), load_tensors(find_checkpoint(other), kind)
        assert mine.keys() == theirs.keys()
        for name, tensor in mine.items():
            assert torch.equal(tensor, theirs[name]), (kind, name)
    timed = ("time", "train/tokens_per_second", "train/data_wait_fraction")
    bare = [[{k: v for k, v in r.items() if k not in timed} for r in records(folder)] for folder in (one, other)]
    assert bare[0] == bare[1]
