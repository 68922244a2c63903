"""The ranks of a job and what they agree on. One rank's error is every rank's: no rank waits forever.

Tensors on the accelerator are summed by its own backend; decisions (stop, errors) travel over gloo on the host, so that
asking does not wait for the accelerator.
"""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.base.errors import UserError
from pipeline.base.signals import caught
from pipeline.training.launcher import LauncherWatch

T = TypeVar("T")
STOPPING, FAILED = 1, 2
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Ranks:
    """This process among the others. All but `attempt` and signals are collectives: every rank calls them alike."""

    def __init__(self, rank: int = 0, world: int = 1, device: torch.device | None = None) -> None:
        self.rank, self.world = rank, world
        self.device = device or torch.device("cpu")
        self.stopping = False
        self._launcher = LauncherWatch()
        self._failure: UserError | None = None
        self._host = None
        if world > 1 and dist.get_backend() != "gloo":
            self._host = dist.new_group(backend="gloo")

    def sum(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sums of scalars or vectors over the ranks, as one float64 message; keys and shapes are equal everywhere."""
        wide = {key: value.detach().to(self.device, torch.float64) for key, value in values.items()}
        if self.world == 1 or not wide:
            return wide
        packed = torch.cat([value.reshape(-1) for value in wide.values()])
        dist.all_reduce(packed)
        parts = packed.split([value.numel() for value in wide.values()])
        return {key: part.view_as(value) for (key, value), part in zip(wide.items(), parts, strict=True)}

    def from_first(self, value: Any) -> Any:
        """Rank 0's value (plain Python), on every rank."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._host)
        return box[0]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Runs a part that may fail on some ranks only: the UserError of the lowest such rank is raised on all."""
        problem: UserError | None = None
        try:
            yield
        except UserError as error:
            problem = error
        found = self._gather(str(problem) if problem else None)
        message = next((text for text in found if text is not None), None)
        if message is not None:
            shared = UserError(message)
            shared.shared = True
            raise shared from problem

    def attempt(self, work: Callable[[], T]) -> T | None:
        """The work's result; None after a UserError, which the next `agreed_to_stop` raises on all ranks."""
        try:
            return work()
        except UserError as error:
            self._failure = error
            return None

    def agreed_to_stop(self) -> bool:
        """Whether any rank was asked to stop, or lost its launcher. Raises any rank's UserError of an `attempt`."""
        news = FAILED if self._failure else STOPPING if self.stopping or self._launcher.gone() else 0
        if self.world > 1:
            worst = torch.tensor([news])
            dist.all_reduce(worst, op=dist.ReduceOp.MAX, group=self._host)
            news = int(worst.item())
        if news == FAILED:
            with self.together():
                if self._failure is not None:
                    raise self._failure
        return news == STOPPING

    def barrier(self) -> None:
        """Waits for all."""
        if self.world > 1:
            dist.barrier(group=self._host)

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: asks all ranks to stop after the step at hand. A second Ctrl-C ends this process at once."""
        self.stopping = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """While it holds, SIGTERM, SIGINT and SIGUSR1 ask for a stop. Main thread only."""
        with caught(STOP_SIGNALS, self.stop):
            yield

    def _gather(self, value: str | None) -> list[str | None]:
        if self.world == 1:
            return [value]
        box: list[str | None] = [None] * self.world
        dist.all_gather_object(box, value, group=self._host)
        return box
