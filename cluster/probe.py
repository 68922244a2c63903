"""What a host says about itself, asked over ssh: one JSON line in, one JSON line out, until the input ends.

The source is sent along and run by the host's Python, because the repository may be absent or another one there: so the
standard library only (torch is imported if it is there, to see the accelerators), and nothing is written except a
marker file in the run's folder, which is taken away again.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import Any

ANSWER = "PROBE "  # a login script on the host may print lines of its own before ours
FOLDERS = ("model", "pipeline", "cluster", "configs")
SUFFIXES = (".py", ".yaml")
SIOCGIFADDR = 0x8915
WAIT = 6.0  # seconds for a connection, and for a file to be seen through a network file system's cache

_listeners: list[socket.socket] = []


def facts(repository: str, packages: list[str], run_dir: str, config: str | None = None) -> dict[str, Any]:
    """Python, packages, repository (and the config file), addresses, disk and accelerators of this host."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
        "commit": _commit(repository),
        "files": _digests(repository) | _digest(config),
        "addresses": _addresses(),
        "interfaces": _interfaces(),
        "free_bytes": _free_bytes(run_dir),
        "cores": len(os.sched_getaffinity(0)),
        **_accelerators(),
    }


def clock() -> dict[str, Any]:
    """Seconds since 1970, as this host believes."""
    return {"time": time.time()}


def route(address: str) -> dict[str, Any]:
    """The interface, and its own address, by which this host reaches `address`; nothing is sent."""
    try:
        target = socket.getaddrinfo(address, 9, socket.AF_INET, socket.SOCK_DGRAM)[0][4]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(target)
            source = probe.getsockname()[0]
    except OSError as error:
        return {"error": f"no route to {address}: {error}"}
    names = [name for name, own in _interfaces().items() if own == source]
    return {"interface": names[0] if names else None, "address": source}


def listen(port: int) -> dict[str, Any]:
    """Listens on the port (0: any free one) until the probe ends, taking every connection."""
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind(("", port))
        server.listen(1024)
    except OSError as error:
        server.close()
        return {"error": os.strerror(error.errno or 0)}
    _listeners.append(server)
    threading.Thread(target=_take, args=(server,), daemon=True).start()
    return {"port": server.getsockname()[1]}


def connect(peers: list[list[Any]]) -> dict[str, Any]:
    """Tries every (host, port), side by side; those that failed, with the reason."""
    failed: list[list[Any]] = []

    def attempt(host: str, port: int) -> None:
        try:
            socket.create_connection((host, port), timeout=WAIT).close()
        except OSError as error:
            failed.append([host, port, error.strerror or str(error)])

    threads = [threading.Thread(target=attempt, args=(host, port)) for host, port in peers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"failed": sorted(failed)}


def mark(folder: str, name: str) -> dict[str, Any]:
    """Writes an empty marker file, to be seen from the other hosts."""
    if not os.path.isdir(folder):
        return {"error": "the folder does not exist there"}
    try:
        with open(os.path.join(folder, name), "x"):
            return {}
    except OSError as error:
        return {"error": f"it cannot be written there ({error.strerror})"}


def seen(folder: str, names: list[str]) -> dict[str, Any]:
    """Which markers are not there, having waited as long as a network file system may hide a new file."""
    end = time.monotonic() + WAIT
    while True:
        # Listing the folder, unlike asking for a name, makes NFS look at the server again.
        there = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        missing = [name for name in names if name not in there]
        if not missing or time.monotonic() > end:
            return {"missing": missing}
        time.sleep(0.3)


def unmark(folder: str, name: str) -> dict[str, Any]:
    """Takes the marker away again."""
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(folder, name))
    return {}


def data(folder: str, names: list[str]) -> dict[str, Any]:
    """The manifest's digest and the shards' sizes in bytes (None: not there)."""
    manifest = os.path.join(folder, "manifest.json")
    return {
        "manifest": _sha256(manifest) if os.path.isfile(manifest) else None,
        "bytes": {name: _size(os.path.join(folder, name)) for name in names},
    }


def _take(server: socket.socket) -> None:
    while True:
        connection = server.accept()[0]
        # Whoever closes first keeps the port in TIME_WAIT: that must not be the master's.
        connection.settimeout(WAIT)
        with connection, contextlib.suppress(OSError):
            connection.recv(1)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit(repository: str) -> str | None:
    try:
        line = ["git", "-c", "safe.directory=*", "-C", repository, "rev-parse", "HEAD"]
        return subprocess.run(line, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _digests(repository: str) -> dict[str, str]:
    """Digest of every file that a run reads, by its path in the repository."""
    found = {}
    for folder in FOLDERS:
        for parent, _, files in os.walk(os.path.join(repository, folder)):
            for name in files:
                if name.endswith(SUFFIXES):
                    path = os.path.join(parent, name)
                    found[os.path.relpath(path, repository)] = _sha256(path)
    return found


def _digest(config: str | None) -> dict[str, str]:
    return {config: _sha256(config)} if config and os.path.isfile(config) else {}


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(path: str) -> int | None:
    try:
        return os.path.getsize(path)
    except OSError:
        return None


def _addresses() -> list[str]:
    """As `hostname -I` prints them: the deepspeed launcher takes the first for the master's address."""
    try:
        return subprocess.run(["hostname", "-I"], capture_output=True, text=True, timeout=20, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []


def _interfaces() -> dict[str, str]:
    """First IPv4 address of every interface that has one."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                found[name] = socket.inet_ntoa(answer[20:24])
    return found


def _free_bytes(path: str) -> int:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free


def _accelerators() -> dict[str, Any]:
    """Names of the CUDA devices; a torch that cannot be imported is told, not raised."""
    try:
        import torch
    except Exception as error:
        return {"accelerators": [], "torch_error": f"{type(error).__name__}: {error}"}
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {"accelerators": [torch.cuda.get_device_name(index) for index in range(count)], "torch_error": None}


QUESTIONS = {
    function.__name__: function for function in (facts, clock, route, listen, connect, mark, seen, unmark, data)
}


def serve() -> None:
    """Answers until the input ends. What libraries print goes to stderr, away from the answers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        question = json.loads(line)
        answer = QUESTIONS[question.pop("ask")](**question)
        answers.write(ANSWER + json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
