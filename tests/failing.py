"""Tasks that go wrong, for tests of what is done about it: importable by Ray workers and processes of their own."""

import os
import signal
import time
from pathlib import Path

from pipeline.base.errors import UserError


def attempt(folder: str, number: int) -> int:
    """Which attempt at the task this is, from 1; kept in a file, as processes come and go."""
    with (Path(folder) / f"{number}.attempts").open("ab") as file:
        file.write(b".")
    return (Path(folder) / f"{number}.attempts").stat().st_size


def attempts(folder: Path) -> dict[int, int]:
    """Attempts at each task."""
    return {int(path.stem): path.stat().st_size for path in folder.glob("*.attempts")}


def troubled(folder: str, number: int, trouble: str, bad: int, times: int) -> int:
    """Twice the number; the first `times` attempts at task `bad` end in the trouble."""
    if attempt(folder, number) <= times and number == bad:
        if trouble == "raise":
            raise ValueError(f"record {number} is odd\nand more")
        if trouble == "user":
            raise UserError("line 5 of it")
        if trouble == "memory":
            raise MemoryError
        if trouble == "exit":
            os._exit(7)
        os.kill(os.getpid(), getattr(signal, trouble))
        time.sleep(60)
    return 2 * number


def orphaned(folder: str, number: int) -> int:
    """The first attempt is killed; the second, in a process of its own, kills its worker and would go on alone."""
    which = attempt(folder, number)
    if which == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if which == 2:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(2)
        (Path(folder) / "went-on").touch()
    return which


def noisy(number: int) -> dict[str, int]:
    """Prints, as libraries do."""
    print("no result")
    os.write(1, b"nor this\n")
    return {"twice": 2 * number}


def waits(path: str) -> None:
    """Says who it is, and waits."""
    Path(path).write_text(str(os.getpid()))
    time.sleep(120)
