"""A disk that is full, read-only or gone in the middle: one message, exit code 2, and the same command goes on."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline import command
from pipeline.base.run_folder import RunFolder
from pipeline.base.sections import RayConfig
from pipeline.stages import preprocess, preprocess_build
from tests.corpora import digests, make_corpus
from tests.in_process import InProcess

pytestmark = pytest.mark.slow
MANY = 1 << 30
DEDUPLICATE = "corpus.deduplicate.documents=true"


def mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0


def unmount(path: Path) -> None:
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 20 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=20m", "tmpfs", str(path)):
        pytest.skip("needs the right to mount a tmpfs")
    yield path
    while os.path.ismount(path):
        unmount(path)


class Trouble:
    """Calls `strike` once, before the n-th task that is handed out."""

    def __init__(self, at: int, strike: Callable[[], object]) -> None:
        self.left, self.strike = at, strike

    def __call__(self, function: Callable[..., Any], given: tuple[Any, ...]) -> None:
        self.left -= 1
        if self.left == 0:
            self.strike()


class Stage:
    """The command over one corpus, with tasks in this process and, where wanted, a trouble."""

    def __init__(self, folder: Path, patched: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.trouble: Trouble | None = None
        patched.setattr(preprocess, "connected", self.connected)

    @contextmanager
    def connected(self, config: RayConfig) -> Iterator[InProcess]:
        yield InProcess(each=self.trouble)

    def run(self, run_dir: Path, trouble: Trouble | None = None) -> int:
        self.trouble = trouble
        settings = [f"corpus.paths=[{self.folder / 'corpus'}]", "corpus.task_bytes=9000", "tokenizer.vocab_size=700"]
        more = ["data.block_tokens=512", "data.shard_blocks=5", f"tracking.uri=sqlite:///{self.folder / 'mlflow.db'}"]
        return command.main("preprocess", [f"run_dir={run_dir}", *settings, *more, DEDUPLICATE])


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """With an undisturbed run in whole/run, whose tasks are counted in `tasks`."""
    with pytest.MonkeyPatch.context() as patched:
        made = Stage(tmp_path_factory.mktemp("disks"), patched)
        make_corpus(made.folder / "corpus")
        yield made


@pytest.fixture(scope="module")
def tasks(stage: Stage) -> int:
    """Tasks of an undisturbed run, which is left in whole/run."""
    count = Trouble(MANY, lambda: None)
    assert stage.run(stage.folder / "whole" / "run", count) == 0
    return MANY - count.left


@pytest.fixture
def start(stage: Stage, tasks: int, disk: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs the command over disk/run: (exit code, what it has told)."""

    def run(trouble: Trouble | None = None) -> tuple[int, str]:
        code = stage.run(disk / "run", trouble)
        told = capfd.readouterr().err
        assert "Traceback" not in told
        assert code == 0 or told.startswith("preprocess: "), "one message"
        return code, told

    return run


def whole(stage: Stage) -> dict[str, str]:
    return digests(stage.folder / "whole" / "run")


def fill(disk: Path) -> None:
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize
    (disk / "filler").write_bytes(bytes(free - 8192))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_full_then_room_is_made(stage: Stage, tasks: int, disk: Path, start: Any, share: float) -> None:
    code, told = start(Trouble(int(share * tasks), lambda: fill(disk)))
    assert code == command.EXIT_USER
    assert "no space left on the device" in told.splitlines()[-1]
    assert not RunFolder(disk / "run").manifest.exists()
    assert start()[0] == command.EXIT_USER, "nothing has changed"
    (disk / "filler").unlink()
    after = Trouble(MANY, lambda: None)
    assert start(after)[0] == 0
    assert MANY - after.left < tasks, "what was complete is taken up"
    assert digests(disk / "run") == whole(stage)


def test_read_only_then_writable(stage: Stage, tasks: int, disk: Path, start: Any) -> None:
    data = str(disk / "run" / "data")

    def strike() -> None:
        assert mount("--bind", data, data)
        assert mount("-o", "remount,bind,ro", data)

    code, told = start(Trouble(tasks // 2, strike))
    assert code == command.EXIT_USER
    assert "the file system is read-only" in told.splitlines()[-1]
    code, told = start()
    assert code == command.EXIT_USER
    assert "the file system is read-only" in told.splitlines()[-1]
    unmount(disk / "run" / "data")
    assert start()[0] == 0
    assert digests(disk / "run") == whole(stage)


@pytest.mark.parametrize("moment", [0.1, 0.5, 0.8, "train_tokenizer", "set_aside", "publish"])
def test_a_mount_that_is_lost(
    stage: Stage,
    tasks: int,
    tmp_path: Path,
    disk: Path,
    start: Any,
    moment: float | str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a pass, or just before or after something that the driver does between two."""
    copy = tmp_path / "copy"
    copy.mkdir()
    assert mount("--bind", str(disk), str(copy)), "the same file system, kept"
    try:
        with monkeypatch.context() as patched:
            if isinstance(moment, str):
                code, told = start(lose_at(moment, disk, patched))
            else:
                code, told = start(Trouble(int(moment * tasks), lambda: unmount(disk)))
        assert code == command.EXIT_USER
        assert "is gone" in told
        assert len(told.splitlines()) == 1
        assert not list(disk.rglob("*")), "nothing is written on the disk below"
        assert mount("--bind", str(copy), str(disk))
        assert start()[0] == 0
        assert digests(disk / "run") == whole(stage)
    finally:
        unmount(copy)


def lose_at(function: str, disk: Path, patched: pytest.MonkeyPatch) -> None:
    """The mount is lost after a part of the driver's work (training), or before (the others)."""
    owner: Any = preprocess_build.Build if hasattr(preprocess_build.Build, function) else preprocess_build
    real = getattr(owner, function)

    def losing(*arguments: Any) -> Any:
        if function != "train_tokenizer":
            unmount(disk)
            return real(*arguments)
        result = real(*arguments)
        unmount(disk)
        return result

    patched.setattr(owner, function, losing)
