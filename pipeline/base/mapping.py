"""A function over many tasks on Ray: what is under way is bounded, and what dies or fails is tried again.

Two kinds of trouble are kept apart. A worker or a host that is gone (killed, or out of memory) says nothing about the
task, which is done again, from the second time on in a process of its own, so that a kill can be told from a crash. A
task that fails by itself three times is given up where the caller allows it. Price: results come as they end.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.base.alone import Crashed, Killed, run_alone
from pipeline.base.errors import Preempted, UserError, first_line
from pipeline.base.log import get_logger

TRIES = 3
"""A task that fails by itself so often is given up."""
DEATHS = 8
"""A task under which so many workers were killed is not tried again: there is not enough memory for it."""
LONGEST_DELAY = 30.0
MEMORY_ADVICE = (
    "Lower ray.num_cpus (preprocessing: corpus.task_bytes, corpus.max_record_bytes; fine-tuning: "
    "finetune.batch_size), then start the same command again."
)


CHECK_SECONDS = 1.0
"""How often the driver looks whether Ray is still there."""


class Failure(NamedTuple):
    """In place of a result: why the task was given up."""

    reason: str


@dataclass
class _Job:
    place: int
    arguments: tuple[Any, ...]
    failures: list[str] = field(default_factory=list)
    deaths: int = 0
    not_before: float = 0.0


class _Gone(Exception):
    """The worker of a task is gone."""


class Mapping:
    """One map: function(*one) for each of `arguments`, at most `window` at a time.

    plain: arguments and results are JSON values, so that a task can be run alone after a death.
    """

    def __init__(self, function: Callable[..., Any], window: int, *, plain: bool, give_up: bool) -> None:
        import ray

        self.window, self.plain, self.give_up = window, plain, give_up
        self.function = function
        self.remote = ray.remote(max_retries=0, num_cpus=1)(function)
        self.lone = ray.remote(max_retries=0, num_cpus=1)(run_alone)
        self.again: deque[_Job] = deque()
        self.under_way: dict[Any, _Job] = {}

    def run(self, arguments: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        """(place in `arguments`, result or Failure) as they end."""
        import ray

        waiting, checked = enumerate(arguments), 0.0
        try:
            while self._fill(waiting):
                if not self.under_way:  # all that is left waits for its turn
                    time.sleep(0.1)
                    continue
                ended, _ = ray.wait(list(self.under_way), num_returns=1, timeout=CHECK_SECONDS)
                if time.monotonic() - checked >= CHECK_SECONDS:
                    _check_local_ray()
                    checked = time.monotonic()
                if ended and len(self.under_way) > 1:
                    ended, _ = ray.wait(list(self.under_way), num_returns=len(self.under_way), timeout=0)
                for reference in ended:
                    job = self.under_way.pop(reference)
                    outcome = self._outcome(job, reference)
                    if outcome is not None:
                        yield job.place, outcome[0]
        finally:
            for reference in self.under_way:
                ray.cancel(reference, force=True)

    def _fill(self, waiting: Iterator[tuple[int, tuple[Any, ...]]]) -> bool:
        """Sends out tasks until the window is full; whether anything is under way or waits."""
        now = time.monotonic()
        for _ in range(len(self.again)):
            job = self.again.popleft()
            if job.not_before > now or len(self.under_way) >= self.window:
                self.again.append(job)
            else:
                self._send(job)
        while len(self.under_way) + len(self.again) < self.window:
            following = next(waiting, None)
            if following is None:
                break
            self._send(_Job(*following))
        return bool(self.under_way or self.again)

    def _send(self, job: _Job) -> None:
        if job.deaths and self.plain:
            reference = self.lone.remote(self.function, job.arguments)
        else:
            reference = self.remote.remote(*job.arguments)
        self.under_way[reference] = job

    def _outcome(self, job: _Job, reference: Any) -> tuple[Any] | None:
        """(result,), or None where the task is to be done again."""
        try:
            return (_get(reference),)
        except (UserError, Preempted):
            raise
        except _Gone as gone:
            job.deaths += 1
            get_logger().warning(f"a worker is gone under a task ({gone}); the task is done again")
            if job.deaths == DEATHS:
                raise UserError(
                    f"Ray workers died over one task again and again ({DEATHS} times), for want of memory perhaps: "
                    f"{gone}\n{MEMORY_ADVICE}"
                ) from gone
            job.not_before = time.monotonic() + min(LONGEST_DELAY, 0.25 * 2**job.deaths)
        except Exception as error:
            job.failures.append(f"{type(error).__name__}: {first_line(error)}"[:300])
            get_logger().warning(f"a task failed ({job.failures[-1]}), {len(job.failures)} of {TRIES} times")
            if len(job.failures) == TRIES:
                if not self.give_up:
                    raise
                return (Failure(job.failures[-1]),)
        self.again.append(job)
        return None


def _get(reference: Any) -> Any:
    """The result. Raises UserError, Preempted, the task's own exception, or _Gone."""
    import ray
    from ray.exceptions import LocalRayletDiedError, OutOfMemoryError, RayError, RayTaskError

    try:
        return ray.get(reference)
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, UserError):
            raise UserError(str(cause)) from None
        if isinstance(cause, Killed | MemoryError):
            raise _Gone(first_line(cause)) from None
        if isinstance(cause, Crashed):
            raise cause from None
        if isinstance(cause, ImportError) or "failed to import" in first_line(cause or error):
            raise UserError(
                f"a Ray worker cannot load this program: {first_line(cause or error)[:300]}\n"
                "Every host needs the same Python environment (docs/preprocess.md, A Ray cluster)."
            ) from None
        raise (cause if isinstance(cause, Exception) else error) from error
    except OutOfMemoryError:
        raise _Gone("ended by Ray for want of memory") from None
    except LocalRayletDiedError:
        raise ray_has_ended("raylet") from None
    except RayError as error:
        raise _Gone(type(error).__name__) from None


def dead_parts() -> list[str]:
    """Parts of the Ray that this process has started, without which it does not work, and which are gone."""
    from ray._private import worker

    node = worker._global_node
    dead = [name for name, _ in node.dead_processes()] if node is not None else []
    return [name for name in dead if name in ("raylet", "gcs_server")]


def _check_local_ray() -> None:
    """Preempted where Ray is gone: it would wait for itself a minute, and end this process without a word of ours."""
    if dead := dead_parts():
        raise ray_has_ended(", ".join(dead))


def ray_has_ended(what: str) -> Preempted:
    """What is told then."""
    return Preempted(f"Ray has ended ({what} is gone). What is complete is kept; start the same command again.")
