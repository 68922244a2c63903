"""The ranks of a job and what they agree on. One rank's error is every rank's: no rank waits forever.

Tensors on the accelerator are summed by its own backend; decisions (stop, errors) travel over gloo on the host, so that
asking does not wait for the accelerator.
"""

import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.base.errors import Preempted, UserError
from pipeline.training.peers import Member, is_peer_error, meet_peers
from pipeline.training.watchdog import Watchdog

T = TypeVar("T")
STOPPING, FAILED = 1, 2
THREAD_PATIENCE = timedelta(minutes=10)
"""Most that a background thread waits for its peers: ranks write to one disk at very different speeds."""


class Ranks:
    """This process among the others. All but `attempt` and `told` are collectives: every rank calls them alike."""

    def __init__(
        self, rank: int = 0, world: int = 1, device: torch.device | None = None, watch: Watchdog | None = None
    ) -> None:
        self.rank, self.world = rank, world
        self.device = device or torch.device("cpu")
        self.watch = watch or Watchdog()
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
        """Rank 0's value (of JSON), on every rank."""
        if self.world == 1:
            return value
        text = _as_tensor(value if self.rank == 0 else None)
        size = torch.tensor([len(text)])
        dist.broadcast(size, src=0, group=self._host)
        if self.rank:
            text = torch.zeros(int(size), dtype=torch.uint8)
        dist.broadcast(text, src=0, group=self._host)
        return _from_tensor(text)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Runs a part that may fail on some ranks only: the UserError of the lowest such rank is raised on all."""
        problem: UserError | None = None
        try:
            yield
        except UserError as error:
            problem = error
        found = self.gather(str(problem) if problem else None)
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
        news = FAILED if self._failure else STOPPING if self.watch.stop_asked else 0
        if self.world > 1:
            worst = torch.tensor([news])
            dist.all_reduce(worst, op=dist.ReduceOp.MAX, group=self._host)
            news = int(worst.item())
        if news == FAILED:
            failure, self._failure = self._failure, None
            with self.together():
                if failure is not None:
                    raise failure
        if news == STOPPING:
            self.watch.ask_to_stop("another rank was asked to stop")
        return news == STOPPING

    def gather(self, value: Any) -> list[Any]:
        """The values (of JSON) of all ranks, by rank."""
        return gather_json(value, self.world, self._host)

    def stop_if_asked(self) -> None:
        """Raises Preempted on all ranks when any was asked to stop; for the parts before the first step."""
        if self.agreed_to_stop():
            raise Preempted("stopped before the first step; the same command begins again.")

    def least(self, number: int) -> int:
        """The smallest of the ranks' numbers."""
        if self.world == 1:
            return number
        smallest = torch.tensor([number])
        dist.all_reduce(smallest, op=dist.ReduceOp.MIN, group=self._host)
        return int(smallest.item())

    def group_for_a_thread(self) -> Any:
        """A gloo group of its own: what one thread and the loop say to each other's peers must never mix."""
        return dist.new_group(backend="gloo", timeout=THREAD_PATIENCE) if self.world > 1 else None

    def barrier(self) -> None:
        """Waits for all; for none once some are gone."""
        if self.world > 1 and self.watch.lost is None:
            dist.barrier(group=self._host)

    def leave(self, text: str = "") -> None:
        """Waits for all before this rank ends: the first to exit makes the launcher end the others."""
        self.watch.leave(text)
        self.barrier()

    def join_heartbeats(self) -> None:
        """From now on a rank that is gone or silent ends the others too, in words."""
        if self.world == 1:
            return
        members = [Member(*one) for one in self.gather(Member.own())]
        token = self.from_first(secrets.token_hex(8))
        peers = meet_peers(self.rank, members, token, self.watch.limits.peer)
        self.barrier()  # now all have beaten once
        self.watch.peers = peers

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turns what collectives raise when a rank is gone into one sentence: who, since when, and what to do."""
        try:
            yield
        except Exception as error:
            if self.world == 1 or self.watch.lost is not None or not is_peer_error(error):
                raise
            raise self.watch.lose(error) from None


def gather_json(value: Any, world: int, group: Any) -> list[Any]:
    """The values (of JSON) of all ranks of a gloo group, by rank. Collective."""
    if world == 1:
        return [value]
    text = _as_tensor(value)
    sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(world)]
    dist.all_gather(sizes, torch.tensor([len(text)]), group=group)
    longest = max(int(size) for size in sizes)
    texts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(world)]
    dist.all_gather(texts, torch.nn.functional.pad(text, (0, longest - len(text))), group=group)
    return [_from_tensor(text[: int(size)]) for text, size in zip(texts, sizes, strict=True)]


def _as_tensor(value: Any) -> Tensor:
    """JSON, never pickle: what a peer sends can run nothing here."""
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def _from_tensor(text: Tensor) -> Any:
    return json.loads(text.numpy().tobytes())
