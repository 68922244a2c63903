"""Stands in for Ray's workers in fast tests: the same calls, in one process, ending in a shuffled order.

`here` has the stage itself use them. `life` runs it in a fork of a clean process that is killed as it begins its n-th
operation on its files.
"""

import json
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import isfunction
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.config import RunConfig, load_config
from pipeline.base.run_folder import RunFolder
from pipeline.base.sections import RayConfig
from pipeline.base.workers import WINDOW, Workers
from pipeline.shards.manifest import Manifest
from pipeline.stages import preprocess
from pipeline.stages.preprocess_build import Build
from pipeline.stages.preprocess_inputs import read_inputs

OPERATIONS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([__name__])


class InProcess(Workers):
    """`cpus` workers. `each` is called before every task and may give a Failure in its place, or raise."""

    def __init__(self, cpus: int = 2, seed: int = 0, each: Callable[..., Any] | None = None) -> None:
        super().__init__("this process", cpus)
        self.draw = random.Random(seed)
        self.each = each

    def map_unordered(
        self,
        function: Callable[..., Any],
        arguments: Iterable[tuple[Any, ...]],
        *,
        plain: bool = False,
        give_up: bool = False,
    ) -> Iterator[tuple[int, Any]]:
        assert isfunction(function), "Ray takes nothing else"
        waiting = enumerate(arguments)
        under_way: list[tuple[int, tuple[Any, ...]]] = []
        while True:
            while len(under_way) < WINDOW * self.cpus and (one := next(waiting, None)) is not None:
                under_way.append(one)
            if not under_way:
                return
            place, given = under_way.pop(self.draw.randrange(len(under_way)))
            if plain:
                given = tuple(json.loads(json.dumps(given)))
            outcome = self.each(function, given) if self.each is not None else None
            yield place, function(*given) if outcome is None else outcome


@contextmanager
def here() -> Iterator[None]:
    """Within it `preprocess.run` has its tasks done in this process, in place of a local Ray of so many CPUs."""

    @contextmanager
    def connected(config: RayConfig) -> Iterator[InProcess]:
        yield InProcess(config.num_cpus or 2)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(preprocess, "connected", connected)
        yield


def build(config: RunConfig, workers: Workers | None = None) -> Manifest:
    """The whole stage but for Ray, MLflow and what is asked before."""
    folder = RunFolder.of(config)
    return Build(config, folder, read_inputs(config, folder), workers or InProcess()).run()


def life(settings: list[str], begun: Path, deadly: int) -> int:
    """Exit code of a fork that runs the stage: 0, or -9 as it began its `deadly`-th operation below run_dir (0: never).

    begun: gets a line for each task that is begun, and at the end how many operations there were.
    """
    fork = FORKS.Process(target=_live, args=(settings, begun, deadly))
    fork.start()
    fork.join()
    assert fork.exitcode is not None
    return fork.exitcode


def _live(settings: list[str], begun: Path, deadly: int) -> None:
    config = load_config(None, settings)
    operations = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal operations
        if event in OPERATIONS and config.run_dir in str(arguments[0]):
            operations += 1
            if operations == deadly:
                os.kill(os.getpid(), signal.SIGKILL)

    def each(function: Callable[..., Any], given: tuple[Any, ...]) -> None:
        if "job" in function.__code__.co_varnames[: function.__code__.co_argcount] and len(given) > 2:
            print(function.__name__, *given[2:], file=notes, flush=True)

    @contextmanager
    def connected(config: RayConfig) -> Iterator[InProcess]:
        yield InProcess(2, deadly, each)

    os.fsync = lambda descriptor: None  # type: ignore[assignment]
    preprocess.connected = connected  # type: ignore[assignment]
    preprocess.start_run = partial(preprocess.start_run, active=False)
    with begun.open("a") as notes:
        sys.addaudithook(hook)
        preprocess.run(config)
        print("operations", operations, file=notes)
