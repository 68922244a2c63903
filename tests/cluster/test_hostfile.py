"""Hostfiles: what passes means the same to the launcher; what does not names its line."""

from pathlib import Path

import pytest

from cluster.hostfile import Host, read_hostfile
from pipeline.base.errors import UserError


def write(folder: Path, text: str) -> Path:
    path = folder / "hosts"
    path.write_text(text)
    return path


def test_hosts_in_order_with_comments_and_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "# ours\n\nalpha slots=4\n  me@10.0.0.2\tslots=2  # the old one\nfd00::1 slots=1\n")
    assert read_hostfile(path) == [
        Host("alpha", 4, f"{path}:3"),
        Host("me@10.0.0.2", 2, f"{path}:4"),
        Host("fd00::1", 1, f"{path}:5"),
    ]


@pytest.mark.slow
def test_the_launcher_reads_the_same(tmp_path: Path) -> None:
    runner = pytest.importorskip("deepspeed.launcher.runner")
    path = write(tmp_path, "# ours\n\nalpha slots=4\nbeta   slots=2 # two\n")
    assert runner.fetch_hostfile(path) == {host.name: host.slots for host in read_hostfile(path)}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("beta", "cannot read 'beta'"),
        ("beta slots", "cannot read"),
        ("beta slots=", "cannot read"),
        ("beta slots=two", "cannot read"),
        ("beta slots=2x", "cannot read"),
        ("beta slots=2 slots=3", "cannot read"),
        ("beta slot=2", "cannot read"),
        ("beta slots=0", "slots=0"),
        ("beta slots=-1", "slots=-1"),
        ("alpha slots=1", "alpha stands at"),
        ("-oProxyCommand=x slots=1", "no host name"),
        ("beta,gamma slots=1", "no host name"),
        ("beta[1-4] slots=1", "no host name"),
        ("$(id) slots=1", "no host name"),
    ],
)
def test_a_mistake_names_its_line(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path, f"alpha slots=1\n\n{line}\n")
    with pytest.raises(UserError) as raised:
        read_hostfile(path)
    assert str(raised.value).startswith(f"{path}:3: ")
    assert message in str(raised.value)


@pytest.mark.parametrize("text", ["", "\n# nobody\n"])
def test_empty_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="names no host"):
        read_hostfile(write(tmp_path, text))


def test_missing_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_hostfile(tmp_path / "absent")
    with pytest.raises(UserError, match="cannot be read"):
        read_hostfile(tmp_path)
    (tmp_path / "hosts").write_bytes(b"\xff\xfe slots=1")
    with pytest.raises(UserError, match="cannot be read"):
        read_hostfile(tmp_path / "hosts")
