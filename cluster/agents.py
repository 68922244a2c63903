"""The hosts' agents, each at the other end of an ssh connection, from the machine that starts the job.

A connection is a lease: a line goes to the agent every few seconds, and an agent that hears nothing for LEASE_SECONDS,
or reads the end of its input, stops its ranks. So nothing is left on the hosts when this process is gone, however it
ended. A host whose connection broke is asked again until it is back: it was cut off, or has been started anew.
Price: one ssh process and one thread a host.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.hostfile import Host
from cluster.remote import SSH_FAILED, explain, ssh_command
from pipeline.base.errors import EXIT_PREEMPTED, UserError
from pipeline.base.signals import STOP_SIGNALS

LEASE_SECONDS = 30.0
BEAT_SECONDS = 5.0
AGAIN_SECONDS = 15.0
"""ssh takes 15 to 20 s to give a silent host up: with these, an agent that was cut off is gone before the next one."""
OTHERS_SECONDS = 60.0
"""After one host's ranks have ended for good: how long the others may take."""
STOP_SECONDS = 60.0
FINAL = (2, 0)
"""Exit codes of an agent that end the run: a mistake, and done."""
READY = "launch: the agent is here"
LOCAL = ("localhost", "127.0.0.1", "::1")
REPOSITORY = Path(__file__).resolve().parents[1]


class Agent:
    """One host's agent, as seen from here."""

    def __init__(self, host: Host, argv: Sequence[str], environment: Mapping[str, str], ssh_port: int | None) -> None:
        self.host = host
        self.code: int | None = None
        """Its exit code, once it has ended for good."""
        self.begun = False
        """Whether it has ever run."""
        self.connected = False
        line = ["env", "-C", str(REPOSITORY), *argv]
        self._command = line if host.name in LOCAL else ssh_command(host.name, line, 10.0, ssh_port)
        self._first = json.dumps(dict(environment)) + "\n"
        self._process: subprocess.Popen[str] | None = None
        self._tail: list[str] = []
        self._reader: threading.Thread | None = None
        self._again = 0.0
        self._beat = 0.0
        self._told_away = False

    def poll(self, stopping: bool) -> None:
        """One look: starts it when it is due, renews its lease, takes note of its end."""
        now = time.monotonic()
        if self.code is not None:
            return
        if self._process is None:
            if stopping:
                self.code = EXIT_PREEMPTED
            elif now >= self._again:
                self._start()
        elif self._process.poll() is not None:
            self._take_end(self._process.returncode, now)
        elif now >= self._beat:
            self._beat = now + BEAT_SECONDS
            self._send("alive\n")

    def stop(self) -> None:
        """Asks it to save and end."""
        self._send("stop\n")

    def close(self) -> None:
        """Cuts the connection: the agent on the host ends by itself."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _start(self) -> None:
        self._tail = []
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C is for this process: it asks the agents to stop
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        self._send(self._first)

    def _read(self, process: "subprocess.Popen[str]") -> None:
        for line in process.stdout or ():
            self._tail = [*self._tail[-9:], line.rstrip()]
            if line.startswith(READY):
                self.begun = self.connected = True
                if self._told_away:
                    self._told_away = False
                    _say(f"{self.host.name} is back.")
            elif self.connected:  # before that the lines are ssh's, and told in short
                print(f"{self.host.name}: {line}", end="", flush=True)

    def _send(self, line: str) -> None:
        try:
            if self._process is not None and self._process.stdin:
                self._process.stdin.write(line)
                self._process.stdin.flush()
        except OSError:
            return  # the connection is gone: the next look sees its end

    def _take_end(self, code: int, now: float) -> None:
        if self._reader:
            self._reader.join(5.0)
        self._process, self.connected = None, False
        if code == SSH_FAILED:
            self._again = now + AGAIN_SECONDS
            if not self._told_away:
                self._told_away = True
                why = str(explain(self.host.name, code, self._tail)).rstrip(".")
                _say(f"{self.host.name} is not there ({why}); training goes on without it until it is back.")
            return
        if not self.begun:
            last = self._tail[-1] if self._tail else f"exit code {code}"
            _say(f"{self.host.name} ({self.host.where}) cannot train: {last}. python -m cluster.preflight says more.")
        self.code = code


def hold_lease() -> dict[str, str]:
    """On the host: the environment, from standard input; from then on a silent or closed input stops this process."""
    with open(0, "rb", buffering=0, closefd=False) as lines:
        first = lines.readline()
    print(READY, flush=True)
    threading.Thread(target=_watch_lease, daemon=True).start()
    return dict(json.loads(first)) if first else {}


def _watch_lease() -> None:
    while select.select([0], [], [], LEASE_SECONDS)[0]:
        content = os.read(0, 4096)
        if not content:
            nowhere = os.open(os.devnull, os.O_WRONLY)  # the other end of the output is gone, too
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
        if not content or b"stop" in content:
            break
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os._exit(EXIT_PREEMPTED)  # it waits for a network that is gone, where no signal reaches it


def follow(agents: Sequence[Agent], patience: float) -> int:
    """Keeps the agents until the run has ended or a signal asks to stop; the job's exit code.

    Where no host is connected for `patience` seconds it is given up. A second signal ends it at once.
    """
    told: list[int] = []
    for number in stop_signals():
        signal.signal(number, lambda number, frame: told.append(number))
    seen, asked = time.monotonic(), None
    try:
        while any(agent.code is None for agent in agents) and len(told) < 2:
            now = time.monotonic()
            for agent in agents:
                agent.poll(stopping=bool(told))
            seen = now if any(agent.connected for agent in agents) else seen
            if asked is None and (told or any(agent.code in FINAL for agent in agents)):
                asked = now + (0 if told else OTHERS_SECONDS)
            if asked is not None and now >= asked:
                for agent in agents:
                    agent.stop()
                asked = now + STOP_SECONDS
            if now - seen > patience:
                return _given_up(agents, patience)
            time.sleep(0.2)
    finally:
        for agent in agents:
            agent.close()
    return combined([agent.code for agent in agents], stopped=bool(told))


def stop_signals() -> list[signal.Signals]:
    """What asks a run to stop: the terminal's end too, unless this process was started to outlive it (nohup)."""
    outlives = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [*STOP_SIGNALS, *([] if outlives else [signal.SIGHUP])]


def combined(codes: Sequence[int | None], stopped: bool) -> int:
    """The job's exit code from the agents': a mistake, else done, else preempted or stopped from here, else failed."""
    otherwise = EXIT_PREEMPTED if stopped else 1
    return next((code for code in (*FINAL, EXIT_PREEMPTED) if code in codes), otherwise)


def _given_up(agents: Sequence[Agent], patience: float) -> int:
    if not any(agent.begun for agent in agents):
        raise UserError(f"no host could be reached within {patience:.0f} s. Run python -m cluster.preflight HOSTFILE.")
    _say(f"no host was there for {patience:.0f} s; the same command goes on from the last checkpoint.")
    return EXIT_PREEMPTED


def _say(sentence: str) -> None:
    print(f"launch: {sentence}", file=sys.stderr, flush=True)
