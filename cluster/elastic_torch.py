"""One host's part of an elastic run: torch's elastic agent, configured for ranks that say how they ended.

The agent (torch.distributed.elastic) starts this host's ranks, starts them anew when one fails, and stops and starts
them when hosts come or go. Ours is what it cannot know: exit code 2 is a person's to mend, where no restart helps;
failures count in a row, not over weeks; a host that was cut off tries again, and does not close the run to the others.
Price: a change of the hosts costs a start of all ranks, from the newest checkpoint, and a host that is cut off is given
up after SILENT_SECONDS. The agents compare their hosts' clocks: these may differ by less than that.
"""

import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import torch.distributed as dist
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousParameters
from torch.distributed.elastic.rendezvous.api import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousTimeoutError,
)
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from cluster.rendezvous import READ_SECONDS, STOPPING, Node, note_end, noted_end, own_address
from pipeline.base.errors import EXIT_PREEMPTED, UserError

SCRIPT = Path(__file__).resolve().parents[1] / "pipeline" / "pretrain.py"
DONE, FAILED, MISTAKE = 0, 1, 2
BEAT_SECONDS, BEATS = 5, 3
SILENT_SECONDS = BEAT_SECONDS * BEATS
LAST_CALL_SECONDS = 3
"""After the fewest hosts have come: how long others are waited for before the ranks start."""
OTHERS_SECONDS = 30
"""After this host's ranks are done: how long its agent waits for the other hosts'."""
SETTLED_SECONDS = 600.0
"""Ranks that ran for so long had started well: failures before are forgotten."""
RETRY_SECONDS = 2.0


class Agent(LocalElasticAgent):
    """torch's agent, told when a restart is no use."""

    started = 0.0

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, int]:
        self.started = time.monotonic()
        pids: dict[int, int] = super()._start_workers(worker_group)
        return pids

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result = super()._monitor_workers(worker_group)
        if result.state is WorkerState.FAILED:
            codes = exit_codes(result)
            if time.monotonic() - self.started > SETTLED_SECONDS:
                self._remaining_restarts = worker_group.spec.max_restarts
            if MISTAKE in codes:
                self._remaining_restarts = 0
            if self._remaining_restarts > 0:
                _say(f"the ranks here ended with {_told(codes)}: they start again with the hosts that are there.")
        return result


def run_node(node: Node, arguments: Sequence[str]) -> int:
    """This host's agent, until the run has ended or it is told to stop: 0, 2, 75, or 1 when the ranks fail for good."""
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # else a host that returns may meet at an old address
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = ",".join(STOPPING)
    os.environ.setdefault("ELECTRA_RENDEZVOUS_SECONDS", "120")
    for name in STOPPING:
        signal.signal(getattr(signal, name), _raise_signal)
    for name in logging.root.manager.loggerDict:
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what happens is said here, in a sentence
    met = False
    with tempfile.TemporaryDirectory(prefix="electra-node-") as logs:
        try:
            while _reaches_store(node, met):
                met = True
                try:
                    return _run_agent(node, arguments, logs)
                except RendezvousClosedError:
                    return noted_end(node.store)
                except RendezvousTimeoutError:
                    _say(f"{node.hosts[0]} hosts did not come within {node.patience:.0f} s; the same command goes on.")
                    return EXIT_PREEMPTED
                except (RendezvousConnectionError, dist.DistError):
                    _say(f"the rendezvous at {node.store} is out of reach: the ranks here have ended; trying again.")
            return EXIT_PREEMPTED
        except SignalException as error:
            _say(f"stopped by {signal.Signals(error.sigval).name}; the same command goes on.")
            return EXIT_PREEMPTED


def exit_codes(result: RunResult) -> set[int]:
    """The exit codes of the ranks that failed; -N where signal N ended one."""
    return {failure.exitcode for failure in result.failures.values()}


def _run_agent(node: Node, arguments: Sequence[str], logs: str) -> int:
    handler = _meeting(node)
    spec = WorkerSpec(
        role="pretrain",
        local_world_size=node.slots,
        rdzv_handler=handler,
        entrypoint=sys.executable,
        # The agent fills in ${local_rank}: a dollar of a value is written twice.
        args=("-u", str(SCRIPT), *(argument.replace("$", "$$") for argument in arguments)),
        max_restarts=node.restarts,
        monitor_interval=0.5,
    )
    result = Agent(spec, DefaultLogsSpecs(logs), exit_barrier_timeout=OTHERS_SECONDS).run()
    if result is None:  # the run has ended while this host was one too many
        return noted_end(node.store)
    codes = exit_codes(result)
    if codes and MISTAKE not in codes:
        _say(f"the ranks here failed {node.restarts + 1} times in a row, at last with {_told(codes)}.")
        return EXIT_PREEMPTED if codes == {EXIT_PREEMPTED} else FAILED
    code = MISTAKE if codes else DONE
    note_end(node.store, code)
    handler.shutdown()  # closes the run: a host that comes now reads how it ended
    return code


def _meeting(node: Node) -> RendezvousHandler:
    return get_rendezvous_handler(
        RendezvousParameters(
            backend="c10d",
            endpoint=str(node.store),
            run_id="pretrain",
            min_nodes=node.hosts[0],
            max_nodes=node.hosts[1],
            local_addr=own_address(node.store.address),
            is_host="0",
            read_timeout=READ_SECONDS,
            join_timeout=round(node.patience),
            last_call_timeout=LAST_CALL_SECONDS,
            keep_alive_interval=BEAT_SECONDS,
            keep_alive_max_attempt=BEATS,
        )
    )


def _reaches_store(node: Node, met: bool) -> bool:
    """Whether the store answers within the patience; a UserError where it has never been met."""
    end = time.monotonic() + node.patience
    while True:
        try:
            socket.create_connection((node.store.address, node.store.port), timeout=RETRY_SECONDS).close()
            return True
        except OSError as error:
            why = error.strerror or str(error)
        if time.monotonic() > end:
            if not met:
                raise UserError(
                    f"no rendezvous answers at {node.store} ({why}). Start it there: "
                    f"python -m cluster.launch --serve --store {node.store}"
                )
            _say(f"no rendezvous answers at {node.store} for {node.patience:.0f} s ({why}); the same command goes on.")
            return False
        time.sleep(RETRY_SECONDS)


def _told(codes: set[int]) -> str:
    names = [signal.Signals(-code).name if code < 0 else f"exit code {code}" for code in sorted(codes)]
    return " and ".join(names)


def _raise_signal(number: int, frame: FrameType | None) -> None:
    raise SignalException(f"signal {number}", signal.Signals(number))


def _say(sentence: str) -> None:
    print(f"launch: {sentence}", file=sys.stderr, flush=True)
