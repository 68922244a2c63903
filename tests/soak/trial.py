"""One run under kills: the command, its processes, and what a death may not leave behind."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.base.run_folder import RunFolder
from tests.pipeline.training.pretrain_runs import ROOT, Workshop, losses
from tests.ports import free_port
from tests.soak.plan import Kill

MARK = "ELECTRA_SOAK"
"""In the environment of every process that a run starts, by which they are found again."""
END_SECONDS = 90.0
"""Within that time after a kill every process of the start has to be gone."""
CLOSING_SECONDS = 5.0
"""A process that ends loses its environment, by which it is found, before the kernel closes its sockets."""
START_SECONDS = 300.0
TRAINS = "parameters; 2 ranks on"
"""What a start says once all is read."""
SETTINGS = ("model.dropout=0.1", "model.attention_dropout=0.1", "train.eval_every=1000", "train.save_every=4")
CACHES = re.compile(r"torchinductor_.*|\.?cache.*|tmp\w+-numba.*")
"""What libraries keep in TMPDIR on purpose."""


def arguments(shop: Workshop, name: str, stage: int, steps: int) -> list[str]:
    """The command line of a run."""
    precision = "bf16" if stage % 2 else "fp32"
    return shop.arguments(name, *SETTINGS, f"train.steps={steps}", f"train.precision={precision}", stage=stage)


class Trial:
    """A run of one folder, started as often as it takes."""

    def __init__(self, shop: Workshop, name: str, stage: int, steps: int) -> None:
        self.shop, self.name = shop, name
        self.mark = f"{os.getpid()}-{name}"  # another soak may run on this machine
        self.folder: RunFolder = shop.run_folder(name)
        self.log = shop.folder / f"{name}.log"
        self.temporary = shop.folder / f"{name}.tmp"
        self.temporary.mkdir()
        self.port = free_port()
        self.arguments = arguments(shop, name, stage, steps)
        self.shared = set(os.listdir("/dev/shm"))
        self.told = self.starts = 0
        self.launcher: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """The command, as a person would start it."""
        command = [str(Path(sys.executable).with_name("deepspeed")), "--num_gpus", "2", "--master_port", str(self.port)]
        self.starts += 1
        own = {
            MARK: f"{self.mark}.{self.starts}",
            "TMPDIR": str(self.temporary),
            "DS_ACCELERATOR": "cpu",
            "OMP_NUM_THREADS": "1",
        }
        environment = os.environ | own | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        self.told = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.launcher = subprocess.Popen(
                [*command, "pipeline/pretrain.py", *self.arguments], env=environment, cwd=ROOT, stdout=log, stderr=log
            )

    def said(self) -> str:
        """What the newest start has said."""
        return self.log.read_bytes()[self.told :].decode(errors="replace")

    def step(self) -> int:
        """The newest step that is logged."""
        return max(losses(self.folder, cut_off=True), default=0)

    def wait_for(self, kill: Kill) -> str | None:
        """Until the kill's moment; None, or what went wrong."""
        until = time.monotonic() + START_SECONDS
        while len(self.ranks()) < 2 if kill.moment == "start" else not self.reached(kill.step):
            if self.launcher is None or self.launcher.poll() is not None or time.monotonic() > until:
                return "it ended, or did not reach the step"
            time.sleep(0.01)
        while kill.moment == "save" and not self.saving():
            if self.launcher is None or self.launcher.poll() is not None or time.monotonic() > until:
                return "it ended, or saved nothing"
            time.sleep(0.0005)
        time.sleep(kill.delay)
        return None

    def reached(self, step: int) -> bool:
        """Whether this start trains, and the run has logged the step."""
        return self.step() >= step and TRAINS in self.said()

    def saving(self) -> bool:
        """Whether a checkpoint is being written."""
        with suppress(OSError):
            return any(name.startswith(".step-") for name in os.listdir(self.folder.checkpoints))
        return False

    def processes(self, *, newest: bool = False) -> list[int]:
        """All processes of this run on this machine, or those of the newest start."""
        found, mark = [], re.compile(f"{MARK}={self.mark}\\.{self.starts if newest else '[0-9]+'}".encode())
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError, IndexError):
                alive = (entry / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
                if alive and any(map(mark.fullmatch, (entry / "environ").read_bytes().split(b"\0"))):
                    found.append(int(entry.name))
        return found

    def ranks(self) -> list[int]:
        """The processes of the ranks, in their order."""
        return [process for _, process in sorted(self._by_rank())]

    def _by_rank(self) -> list[tuple[int, int]]:
        found = []
        for process in self.processes(newest=True):
            with suppress(OSError):
                environment = Path(f"/proc/{process}/environ").read_bytes()
                command = Path(f"/proc/{process}/cmdline").read_bytes()
                rank = re.search(rb"(?:^|\0)RANK=(\d+)\0", environment)
                if rank and b"pretrain.py" in command:
                    found.append((int(rank[1]), process))
        return found

    def launchers(self) -> list[int]:
        """The `deepspeed` command and the process that it starts on this host."""
        ranks = self.ranks()
        return [process for process in sorted(self.processes(newest=True)) if process not in ranks][:2]

    def strike(self, kill: Kill) -> list[int]:
        """SIGKILL; returns whom it struck."""
        ranks = self.ranks()
        if kill.kind == "launcher":
            struck = self.launchers()[kill.victim :][:1]
        else:
            struck = ranks if kill.kind == "all" else ranks[kill.victim : kill.victim + 1]
        for process in struck:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        return struck

    def wait_for_end(self, seconds: float = END_SECONDS) -> int | None:
        """Until the command and all that it started are gone. Its exit code; None where it did not end."""
        if self.launcher is None:
            return None
        until = time.monotonic() + seconds
        with suppress(subprocess.TimeoutExpired):
            self.launcher.wait(seconds)
        while self.processes() and time.monotonic() < until:
            time.sleep(0.05)
        return self.launcher.poll()

    def left(self) -> dict[str, list[Any]]:
        """What is still there and should not be: processes, the port, shared memory, temporary files."""
        until = time.monotonic() + CLOSING_SECONDS
        while (found := self._left()) and time.monotonic() < until:
            time.sleep(0.1)
        return found

    def _left(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {
            "processes": self.processes(),
            "ports": [self.port] if self._listened() else [],
            "shared_memory": sorted(name for name in set(os.listdir("/dev/shm")) - self.shared if _unused(name)),
            "temporary": sorted(name for name in os.listdir(self.temporary) if not CACHES.fullmatch(name)),
        }
        return {kind: things for kind, things in found.items() if things}

    def end(self) -> None:
        """Ends what is left of it."""
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if self.launcher is not None:
            self.launcher.wait()

    def _listened(self) -> bool:
        """Whether anything listens on the port where the ranks meet."""
        sockets = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        return any(
            line.split()[1].endswith(f":{self.port:04X}") and line.split()[3] == "0A"
            for line in sockets.splitlines()
            if ":" in line
        )


def _unused(name: str) -> bool:
    """Whether no process at all has this piece of shared memory open: one of another program is in use."""
    path = f"/dev/shm/{name}"
    with suppress(FileNotFoundError):
        inode = f" {os.stat(path).st_ino} "  # a semaphore's name in /proc is that before it was put in place
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if any(inode in line and "/dev/shm/" in line for line in (entry / "maps").open()):
                    return False
                if any(os.readlink(opened) == path for opened in (entry / "fd").iterdir()):
                    return False
        return os.path.exists(path)
    return False
