"""Files are whole or absent; refusals of the operating system are the user's message."""

import errno
import multiprocessing
import multiprocessing.synchronize
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.environment import REPOSITORY
from pipeline.base.errors import UserError
from pipeline.base.files import (
    ABANDONED_SECONDS,
    complete_file,
    complete_folder,
    lock_folder,
    read_json,
    sha256_file,
    sweep_asides,
    told_plainly,
    write_atomic,
    write_json,
)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_atomic(path, "one")
    with pytest.raises(RuntimeError), complete_file(path) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert path.read_text() == "one"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with complete_folder(path) as aside:
        (aside / "a").write_text("1")
    with pytest.raises(RuntimeError), complete_folder(path) as aside:
        (aside / "b").write_text("2")
        raise RuntimeError
    assert [entry.name for entry in path.iterdir()] == ["a"]
    with complete_folder(path) as aside:
        (aside / "c").write_text("3")
    assert [entry.name for entry in path.iterdir()] == ["c"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "no space left"), (errno.EROFS, "read-only"), (errno.EACCES, "permission denied")],
)
def test_refusals_are_told_plainly(code: int, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words), told_plainly(tmp_path):
        raise OSError(code, "refused")


def test_refusals_told_by_libraries_in_rust_are_told_plainly(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no space left"), told_plainly(tmp_path):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ours"), told_plainly(tmp_path):
        raise RuntimeError("ours")
    with pytest.raises(OSError, match="broken"), told_plainly(tmp_path):
        raise OSError(errno.EBADF, "broken")


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    with pytest.raises(UserError, match="does not exist"):
        read_json(path)
    write_json(path, {"ä": [1, 2]})
    assert read_json(path) == {"ä": [1, 2]}
    path.write_text('{"half": ')
    with pytest.raises(UserError, match="not valid JSON"):
        read_json(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path)


def test_a_file_in_the_way_is_told_plainly(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    for place in (path, path / "deeper"):
        with pytest.raises(UserError, match="a file is where a folder should be"), lock_folder(place):
            pass
    with pytest.raises(UserError, match="a folder is where a file should be"):
        write_atomic(tmp_path, "x")
    assert path.read_text() == "mine"


def test_digest_is_the_published_one(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def hold(path: Path, held: multiprocessing.synchronize.Event) -> None:
    with lock_folder(path):
        held.set()
        signal.pause()


def test_a_folder_in_use_is_refused_and_freed_by_death(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held = context.Event()
    other = context.Process(target=hold, args=(tmp_path, held))
    other.start()
    try:
        assert held.wait(30)
        with pytest.raises(UserError, match=f"in use by process {other.pid} on "), lock_folder(tmp_path):
            pass
    finally:
        os.kill(other.pid or 0, signal.SIGKILL)
        other.join()
    with lock_folder(tmp_path):
        pass


def stop_slowly(path: Path, held: multiprocessing.synchronize.Event) -> None:
    with lock_folder(path) as lock:
        lock.stopping()
        held.set()
        time.sleep(0.5)


def test_a_holder_that_is_stopping_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context = multiprocessing.get_context("fork")
    held = context.Event()
    other = context.Process(target=stop_slowly, args=(tmp_path, held))
    other.start()
    assert held.wait(30)
    with lock_folder(tmp_path):
        other.join()
        assert (tmp_path / ".lock").read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"
    assert f"in use by process {other.pid} on " in capsys.readouterr().err


def test_the_text_of_a_stale_lock_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("process 1 on another.host, which is stopping\n")
    with lock_folder(tmp_path):
        pass


def test_a_lost_mount_is_told_but_a_missing_input_is_not_called_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the folder is gone"), told_plainly(tmp_path / "run" / "file"):
        (tmp_path / "run" / "file").write_text("never written")
    with pytest.raises(FileNotFoundError), told_plainly(tmp_path / "run" / "file"):
        Path("/nowhere/input").read_bytes()
    with pytest.raises(UserError, match="stale handle"), told_plainly(tmp_path / "file"):
        raise OSError(errno.ESTALE, "Stale file handle")


KILLED = """
import os, sys
from pathlib import Path
from pipeline.base.files import complete_file, complete_folder
place = Path(sys.argv[1])
with complete_file(place / "config.yaml") as file, complete_folder(place / "export") as folder:
    file.write_text("half")
    (folder / "weights").write_text("half")
    os.kill(os.getpid(), 9)
"""


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_who_takes_a_folder_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=REPOSITORY, check=False, timeout=60)
    assert [name.split(".")[1] for name in names(tmp_path)] == ["config", "export"]
    with complete_file(tmp_path / "mine.json") as mine:  # a process that lives, as a stage that runs beside
        mine.write_text("{}")
        with lock_folder(tmp_path):
            assert names(tmp_path) == sorted([".lock", mine.name])
    assert names(tmp_path) == [".lock", "mine.json"]


def test_what_cannot_be_asked_for_is_removed_after_a_day(tmp_path: Path) -> None:
    """Another machine's, or of before this one's last start; a day without a change, by the newest file inside."""
    for name in (".a.1-0123abcd-0123abcd.aside", ".b.1-0123abcd.aside", ".c.1-0123abcd-0123abcd.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").touch()
    for name in (".env", ".d.aside", "e.1-0123abcd.aside"):  # not named by us
        (tmp_path / name).touch()
    before = names(tmp_path)
    past = time.time() - ABANDONED_SECONDS - 60
    for entry in tmp_path.iterdir():
        os.utime(entry, (past, past))
    sweep_asides(tmp_path)
    assert names(tmp_path) == before  # the files in the folders are new
    for entry in tmp_path.glob("*/x"):
        os.utime(entry, (past, past))
        os.utime(entry.parent, (past, past))
    sweep_asides(tmp_path)
    assert names(tmp_path) == [".c.1-0123abcd-0123abcd.old", ".d.aside", ".env", "e.1-0123abcd.aside"]
    (tmp_path / "c").mkdir()  # until then it was the only whole one
    sweep_asides(tmp_path)
    assert names(tmp_path) == [".d.aside", ".env", "c", "e.1-0123abcd.aside"]
