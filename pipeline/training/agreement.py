"""What threads of all ranks say to each other, beside and independent of the loop: over a gloo group of their own.

One thread a rank uses it at a time. A peer that is gone or silent for ten minutes is `Lost`, never an endless wait.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor

from pipeline.base.errors import UserError
from pipeline.base.storage import Location, is_remote
from pipeline.training.peers import Lost
from pipeline.training.ranks import Ranks, gather_json

T = TypeVar("T")


@contextmanager
def briefly(place: Location) -> Iterator[None]:
    """Turns the system's refusal to write `place` into a UserError that leaves the way out to whoever tells it."""
    try:
        yield
    except UserError as error:
        if is_remote(place) or not isinstance(error.__cause__, OSError):
            raise
        raise refusal(error.__cause__, place) from error
    except OSError as error:
        raise refusal(error, place) from error


def refusal(error: OSError, place: object) -> UserError:
    """What the system said."""
    return UserError(f"cannot write {error.filename or place}: {(error.strerror or str(error)).lower()}.")


class Agreement:
    """This rank's end. Collective, as every method is: all ranks call them in the same order."""

    def __init__(self, ranks: Ranks) -> None:
        self.rank, self.world = ranks.rank, ranks.world
        self._group = ranks.group_for_a_thread()

    def each(self, work: Callable[[], Any]) -> list[Any]:
        """What `work` gives on every rank (plain JSON values). UserError on all ranks where one has it."""
        value, problem = None, None
        try:
            value = work()
        except UserError as error:
            problem = str(error)
        except OSError as error:
            problem = str(refusal(error, "a checkpoint"))
        mine = {"value": value, "problem": problem}
        found = self._told(lambda: gather_json(mine, self.world, self._group))
        told = next((one["problem"] for one in found if one["problem"] is not None), None)
        if told is not None:
            raise UserError(told)
        return [one["value"] for one in found]

    def send(self, values: Tensor) -> None:
        """To the first rank, which receives it."""
        self._told(lambda: dist.send(values, dst=0, group=self._group))

    def receive(self, values: Tensor, source: int) -> None:
        """From that rank."""
        self._told(lambda: dist.recv(values, src=source, group=self._group))

    def _told(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except RuntimeError as error:
            raise Lost(str(error).splitlines()[0]) from error
