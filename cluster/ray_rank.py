"""What runs in the workers of Ray Train, and the run's account that they report to.

A worker starts its rank of pretraining as a process of its own: exit codes tell how a rank ended, and the worker stays
free to answer Ray. The rank is bound to the worker's life (the kernel sends it SIGTERM when the worker is gone, however
it went), and ends with one message or a saved state. The account is an actor on the machine that starts the run: every
second each worker hands over what its rank has printed and hears whether to stop. A worker that does not reach the
account for LEASE_SECONDS stops its rank. Imported in Ray's processes, and by a driver that is connected.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.train import BackendConfig, get_context
from ray.train.backend import Backend
from ray.train.collective import broadcast_from_rank_zero
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback

from cluster.ray_claims import forget_claim, hosts_account, note_claim
from pipeline.base.errors import EXIT_PREEMPTED, EXIT_USER
from pipeline.training.launcher import ELASTIC

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPT = "pipeline/pretrain.py"
DONE, FAILED = 0, 1
POLL_SECONDS = 1.0
LEASE_SECONDS = 30.0
STOP_SECONDS = 60.0
"""How long a rank that is told to stop may take; it has train.stop_seconds (25) itself."""
SETTLED_SECONDS = 600.0
"""Ranks that ran for so long had started well: failures before are forgotten."""
WAITS_SECONDS = 30.0
"""After so long without ranks it is told that they are waited for."""
MOST_LINES = 2000
"""Of a rank's output, or of all ranks', that wait to be printed; the oldest go."""
# Set in the child before it becomes the rank, where a Python that has threads may not be forked into Python code.
BOUND = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGTERM); "  # PR_SET_PDEATHSIG
    f"os.getppid() == int(sys.argv[1]) or os._exit({EXIT_PREEMPTED}); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
)

_stop, _idle = threading.Event(), threading.Event()
"""Of this worker: its rank is to save and end; it has none."""
_idle.set()


class Account:
    """How the run stands: who trains, what has been printed, whether to stop, how it has ended."""

    def __init__(self, restarts: int, room: str) -> None:
        self._restarts, self._room = restarts, room
        self._code: int | None = None
        self._begun, self._stops = False, 0
        self._attempt, self._hosts, self._since = "", dict[int, str](), 0.0
        self._ends: dict[int, int] = {}
        self._failures = 0
        self._heard, self._waits = time.monotonic(), False
        self._lines: deque[str] = deque(maxlen=MOST_LINES)
        self._said: deque[str] = deque(maxlen=MOST_LINES)

    def begin(self, attempt: str, rank: int, world: int, host: str) -> bool:
        """Whether the rank is to start."""
        if attempt != self._attempt:
            if self._attempt and not self._ends:  # no worker was left to say how its rank ended
                self._count(-signal.SIGKILL)
            self._attempt, self._hosts, self._ends, self._since = attempt, {}, {}, time.monotonic()
        self._heard = time.monotonic()
        self._hosts[rank] = host
        if len(self._hosts) == world and self.goes_on():
            self._begun = True
            self._said.append(f"{world} {'rank' if world == 1 else 'ranks'} on {shown_hosts(self._hosts)}")
        return self.goes_on()

    def poll(self, rank: int, lines: Sequence[str]) -> int:
        """Takes what a rank has printed; how many signals it is to have had."""
        self._heard = time.monotonic()
        self._lines.extend(f"{self._hosts.get(rank, '')}: {line}" for line in lines)
        return max(self._stops, int(self._code not in (None, DONE)))

    def ended(self, attempt: str, rank: int, code: int, lines: Sequence[str], asked: bool) -> bool:
        """Takes a rank's exit code; whether all ranks are to start again. asked: Ray Train had it stop, to resize."""
        self.poll(rank, lines)
        first = attempt == self._attempt and not self._ends
        if attempt == self._attempt:
            self._ends[rank] = code
        if code == EXIT_USER or (code == DONE and self._code is None):
            self._code = code
        elif first and not asked and self.goes_on():
            self._count(code)
        return self.goes_on()

    def stop(self) -> None:
        """All ranks are to save and end; the second time, to end at once."""
        self._stops += 1

    def goes_on(self) -> bool:
        """Whether the run has neither ended nor is to stop."""
        return self._code is None and not self._stops

    def news(self) -> tuple[list[str], list[str], float]:
        """(Lines of the ranks, our own sentences, seconds since a worker was heard) since the last call."""
        silent = time.monotonic() - self._heard
        if silent > WAITS_SECONDS and not self._waits and self.goes_on():
            self._said.append(f"waiting until the Ray cluster has room for {self._room}.")
        self._waits = silent > WAITS_SECONDS
        lines, said = list(self._lines), list(self._said)
        self._lines.clear()
        self._said.clear()
        return lines, said, silent

    def code(self) -> int | None:
        """The run's exit code, once it has ended."""
        return self._code

    def begun(self) -> bool:
        """Whether all ranks have ever come together."""
        return self._begun

    def _count(self, code: int) -> None:
        if time.monotonic() - self._since > SETTLED_SECONDS:
            self._failures = 0
        self._failures += 1
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if self._failures > self._restarts:
            self._code = EXIT_PREEMPTED if code == EXIT_PREEMPTED else FAILED
            self._said.append(f"the ranks failed {self._failures} times in a row, at last with {how}.")
        else:
            self._said.append(f"a rank ended with {how}: they start again with the hosts that are there.")


class Ranks(BackendConfig):
    """How Ray Train sets its workers up: without a process group, with all of the host's GPUs of this run visible."""

    @property
    def backend_cls(self) -> type[Backend]:
        """What Ray Train calls."""
        return SharedGpus


class SharedGpus(Backend):
    """A rank takes the GPU of its local number, as under other launchers."""

    share_cuda_visible_devices = True


class Changes(WorkerGroupCallback, ControllerCallback):
    """What Ray Train's controller does when the hosts change, beside what it does itself."""

    def __init__(self, account: Any) -> None:
        self.account = account
        self.waits, self.over, self.run = True, False, ""
        """Whether there are no workers; whether the controller has been told to end; Ray Train's name of the run."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """It claims hosts."""
        self.run = train_run_context.run_id
        note_claim(self.run)

    async def before_controller_shutdown(self) -> None:
        """It takes its claim back."""
        forget_claim(self.run)

    def before_controller_abort(self) -> None:
        """It takes its claim back."""
        forget_claim(self.run)

    def after_worker_group_start(self, worker_group: Any) -> None:
        """They have come."""
        self.waits = False

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """While it waits for hosts it would ask for them without a pause, and for ever. Raises when the run is over.

        Its end takes its claim on hosts back, which Ray would keep for three minutes.
        """
        if self.waits and not self.over and not current_state.is_terminal():
            time.sleep(POLL_SECONDS / 2)
            self.over = not ray.get(self.account.goes_on.remote())
            if self.over:
                raise RuntimeError("the run is over")

    def before_worker_group_shutdown(self, worker_group: Any) -> None:
        """Its workers are ended: their ranks save first. A worker that is gone answers with an error, or not at all."""
        self.waits = True
        ending = [worker.execute_async(stop_rank) for worker in worker_group.get_workers()]
        ray.wait(ending, num_returns=len(ending), timeout=STOP_SECONDS)

    def before_controller_execute_failure_decision(self, failure_decision: Any) -> None:
        """Ray's account of the hosts, by which it picks the number of workers, may be 20 s old: it is renewed."""
        with suppress(RayError, TypeError, ValueError):  # it is not there, or another Ray's: then it takes longer
            ray.get(hosts_account().get_reserved_resources.remote("", recompute=True), timeout=POLL_SECONDS)


def stop_rank() -> None:
    """In a worker: its rank saves and ends, before this returns."""
    _stop.set()
    _idle.wait(STOP_SECONDS)


def train(settings: Mapping[str, Any]) -> None:
    """In a worker, the training function: the rank from its start to its end. Raises where all are to start again.

    settings: account, arguments (of pretrain.py), environment (variables for the rank).
    """
    _idle.clear()
    try:
        _train(settings["account"], settings["arguments"], settings["environment"])
    finally:
        _idle.set()


def rank_environment(
    base: Mapping[str, str], given: Mapping[str, str], place: Mapping[str, object], meeting: tuple[str, str, int]
) -> dict[str, str]:
    """The rank's variables: the worker's, what is handed on, and what a launcher says.

    place: RANK and the like. meeting: (attempt, address, port).
    """
    own = dict(base)
    own.pop("PYTHONPATH", None)  # Ray's, for the worker
    if own.get("CUDA_VISIBLE_DEVICES"):
        own.pop("OMP_NUM_THREADS", None)  # Ray sets it to the one CPU that it counts for a GPU's rank
    own["PATH"] = f"{Path(sys.executable).parent}:{own.get('PATH', os.defpath)}"
    own.setdefault("ELECTRA_RENDEZVOUS_SECONDS", "120")
    for name, value in given.items():
        own[name] = os.path.expandvars(value)
    told = {name: str(value) for name, value in place.items()}
    return own | told | {"MASTER_ADDR": meeting[1], "MASTER_PORT": str(meeting[2]), ELASTIC: meeting[0]}


def shown_hosts(hosts: Mapping[int, str]) -> str:
    """`alpha (8), beta (8)`: how many ranks each has, in the order of the ranks."""
    names = [hosts[rank] for rank in sorted(hosts)]
    return ", ".join(f"{name} ({names.count(name)})" for name in dict.fromkeys(names))


def _train(account: Any, arguments: Sequence[str], given: Mapping[str, str]) -> None:
    context = get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    meeting = broadcast_from_rank_zero(_meeting() if rank == 0 else None)
    if not ray.get(account.begin.remote(meeting[0], rank, world, socket.gethostname())) or _stop.is_set():
        return
    place = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": context.get_local_rank()}
    place["LOCAL_WORLD_SIZE"] = context.get_local_world_size()
    lines: deque[str] = deque(maxlen=MOST_LINES)
    with _started(arguments, rank_environment(os.environ, given, place, meeting)) as process:
        reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
        reader.start()
        _follow(process, lambda: ray.get(account.poll.remote(rank, _taken(lines)), timeout=LEASE_SECONDS))
        reader.join(5.0)
        code = process.returncode
    report = account.ended.remote(meeting[0], rank, code, _taken(lines), _stop.is_set())
    if ray.get(report, timeout=LEASE_SECONDS):
        raise RuntimeError(f"rank {rank} ended with {code}")


def _meeting() -> tuple[str, str, int]:
    """(A name for this start of all ranks, this host's address, a port that nobody listens on now)."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return uuid.uuid4().hex, ray.util.get_node_ip_address(), probe.getsockname()[1]


def _started(arguments: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    rank = ["-u", str(REPOSITORY / SCRIPT), *arguments]
    return subprocess.Popen(
        [sys.executable, "-c", BOUND, str(os.getpid()), *rank],
        env=environment,
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def _follow(process: "subprocess.Popen[str]", asks: Callable[[], int]) -> None:
    """Until the rank has ended. asks: how many signals it is to have had; it is not waited for without end."""
    had, since = 0, 0.0
    while process.poll() is None:
        if had:
            time.sleep(POLL_SECONDS / 4)
        else:
            _stop.wait(POLL_SECONDS)
        try:
            due = max(asks(), int(_stop.is_set()))
        except RayError:  # the account is gone, or out of reach
            due = max(had, 1)
        if due > had:
            had, since = due, since or time.monotonic()
            process.send_signal(signal.SIGTERM)
        elif had and time.monotonic() - since > STOP_SECONDS:
            process.kill()


def _read(process: "subprocess.Popen[str]", lines: "deque[str]") -> None:
    for line in process.stdout or ():
        lines.append(line.rstrip("\n"))


def _taken(lines: "deque[str]") -> list[str]:
    return [lines.popleft() for _ in range(len(lines))]
