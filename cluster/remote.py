"""Questions to the hosts over ssh, all hosts at once: `cluster/probe.py` is sent along and answers line by line.

Every command is an argument vector, quoted once for the remote shell; ssh runs in batch mode, so that a missing key is
an answer and not a prompt. Price: one ssh connection and one Python process a host, for as long as the session is open.
"""

import json
import queue
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from cluster import probe
from cluster.hostfile import Host
from pipeline.base.errors import UserError

SOURCE = Path(probe.__file__)
START = (
    "import sys; source = sys.stdin.buffer.read(int(sys.stdin.buffer.readline())); "
    "exec(compile(source, 'probe.py', 'exec'), {'__name__': '__main__'})"
)
SSH_FAILED, NOT_EXECUTABLE, NOT_FOUND = 255, 126, 127
FAN_OUT = 64

# What ssh says, and what to do. The first that is found in its output counts.
SSH_REMEDIES = (
    ("Could not resolve", "Correct the name in the hostfile, or add it to DNS or /etc/hosts."),
    ("Host key verification failed", "Compare its fingerprint, then: ssh-keyscan {name} >> ~/.ssh/known_hosts"),
    ("Permission denied", "Give it your key: ssh-copy-id {name} (no password or passphrase may be asked for)."),
    ("Connection refused", "No ssh server listens there: apt-get install openssh-server and start it; see --ssh-port."),
    ("No route to host", "Is the host up, the address right, both on one network? Mend it or take the line out."),
    ("timed out", "Is the host up, the address right, the firewall open? Mend it or take the line out."),
    ("unreachable", "Is the network up, the address right? Mend it or take the line out."),
)

Result = TypeVar("Result")


class HostError(Exception):
    """A host that could not be asked: `check` is ssh or python; the message says why, `remedy` what to do."""

    def __init__(self, check: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.check = check
        self.remedy = remedy


def ssh_command(host: str, argv: Sequence[str], timeout: float, port: int | None = None) -> list[str]:
    """ssh to the host, running argv there; nothing in it is seen by a shell as more than a word."""
    options = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={max(1, round(timeout))}", "-o", "ServerAliveInterval=5"]
    if port is not None:
        options += ["-p", str(port)]
    return ["ssh", "-x", *options, "--", host, shlex.join(argv)]


class Session:
    """A probe at work on one host."""

    def __init__(self, host: Host, timeout: float, port: int | None) -> None:
        self.host = host
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._process = subprocess.Popen(
            ssh_command(host.name, [sys.executable, "-c", START], timeout, port),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        threading.Thread(target=self._read, daemon=True).start()
        source = SOURCE.read_bytes()
        self._send(f"{len(source)}\n".encode() + source)

    def ask(self, question: str, timeout: float, **values: Any) -> dict[str, Any]:
        """The answer to one of the probe's questions; HostError when there is none within `timeout` seconds."""
        self._send(json.dumps({"ask": question, **values}).encode() + b"\n")
        end = time.monotonic() + timeout
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                remedy = "Log in and see what keeps it busy, or give --timeout more seconds."
                raise HostError("ssh", f"no answer within {timeout:.0f} s", remedy) from None
            if line is None:
                raise self._why()
            if line.startswith(probe.ANSWER.encode()):
                return json.loads(line.removeprefix(probe.ANSWER.encode()))

    def close(self) -> None:
        """Ends the probe: its input ends, then ssh is killed if it must be."""
        try:
            if self._process.stdin:
                self._process.stdin.close()
            self._process.wait(2)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _send(self, content: bytes) -> None:
        try:
            if self._process.stdin:
                self._process.stdin.write(content)
                self._process.stdin.flush()
        except OSError:
            return  # ssh is gone: the reader sees the end of its output, and `ask` says why

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put(None)

    def _why(self) -> HostError:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return explain(self.host.name, code, lines)


def explain(name: str, code: int, lines: list[str]) -> HostError:
    """Why ssh ended, from its exit code and the lines on its standard error."""
    last = lines[-1].strip() if lines else f"exit code {code}"
    if code == SSH_FAILED:
        for words, remedy in SSH_REMEDIES:
            said = [line.strip() for line in lines if words in line]
            if said:
                return HostError("ssh", said[-1].removeprefix("ssh: "), remedy.format(name=name))
        return HostError("ssh", last, f"Try it by hand: ssh -o BatchMode=yes {name} true")
    if code in (NOT_EXECUTABLE, NOT_FOUND):
        remedy = "Make the environment at the same path there (make setup), or share the folder."
        return HostError("python", f"{sys.executable} does not run there", remedy)
    return HostError("python", f"the probe ended: {last}", f"Try it by hand: ssh {name} {sys.executable} --version")


@contextmanager
def open_sessions(hosts: Sequence[Host], timeout: float, port: int | None = None) -> Iterator[list[Session]]:
    """A session for each host, opened side by side; all are closed in the end."""
    if shutil.which("ssh") is None:
        raise UserError("ssh is not installed here: apt-get install openssh-client.")
    with ExitStack() as stack:
        sessions = [Session(host, timeout, port) for host in hosts]
        stack.callback(at_once, Session.close, sessions)
        yield sessions


def at_once(function: Callable[..., Result], *columns: Sequence[Any]) -> list[Result]:
    """The function on every row of the columns, in threads; results in order."""
    with ThreadPoolExecutor(max_workers=FAN_OUT) as pool:
        return list(pool.map(function, *columns))
