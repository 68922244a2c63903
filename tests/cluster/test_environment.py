"""The environment file: found where the launcher finds it, checked for what stops the launcher, merged and not lost."""

import sys
from pathlib import Path

import pytest

from cluster import environment
from cluster.environment import environment_files, merge, problems, propose, read_environment
from pipeline.base.errors import UserError


def test_files_in_the_launchers_order(tmp_path: Path) -> None:
    home, working = tmp_path / "home", tmp_path / "working"
    for folder in (home, working):
        folder.mkdir()
        (folder / ".deepspeed_env").write_text(f"WHERE={folder.name}\n{folder.name}=1\n")
    files = environment_files({}, home, working)
    assert files == [home / ".deepspeed_env", working / ".deepspeed_env"]
    assert read_environment(files) == {"WHERE": "working", "home": "1", "working": "1"}
    named = tmp_path / "named"
    named.write_text("A=b=c\n")
    assert environment_files({"DS_ENV_FILE": str(named)}, home, working) == [named]
    assert read_environment([named]) == {"A": "b=c"}
    assert environment_files({"DS_ENV_FILE": "absent"}, home, working) == []


@pytest.mark.slow
def test_names_are_the_launchers_own() -> None:
    runner = pytest.importorskip("deepspeed.launcher.runner")
    assert runner.DEEPSPEED_ENVIRONMENT_NAME == environment.DEFAULT_NAME
    assert [Path(path) for path in runner.DEEPSPEED_ENVIRONMENT_PATHS] == [Path.home(), Path(".")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "blank line"),
        ("# comment", "comments too"),
        ("#A=b", "comments too"),
        ("GLOO_SOCKET_IFNAME", "without NAME=VALUE"),
        ("export A=b", "no name of a variable"),
        ('A="b c"', 'with " or %'),
        ("A=%h", 'with " or %'),
    ],
)
def test_a_line_that_stops_the_launcher(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / ".deepspeed_env"
    path.write_text(f"A=b\n{line}\n")
    ((problem, _),) = problems([path], {})
    assert problem.startswith(f"{path}:2: ")
    assert message in problem


def test_what_is_not_passed_on(tmp_path: Path) -> None:
    path = tmp_path / ".deepspeed_env"
    path.write_text(f"GLOO_SOCKET_IFNAME=eth0\nPYTHONPATH={environment.REPOSITORY}:/else\n")
    assert problems([path], {"GLOO_SOCKET_IFNAME": "eth0", "HOME": "/"}) == []
    ((problem, remedy),) = problems([path], {"GLOO_SOCKET_IFNAME": "eth1"})
    assert "does not pass it on" in problem
    assert "GLOO_SOCKET_IFNAME=eth1" in remedy
    path.write_text("PYTHONPATH=/else\n")
    ((problem, _),) = problems([path], {})
    assert "PYTHONPATH" in problem


def test_proposed_lines() -> None:
    cpu = {"accelerators": [], "interface": "eth0"}
    path = f"{Path(sys.executable).parent}:$PATH"
    same = propose({"a": cpu, "b": cpu})
    assert same == {"PATH": path, "DS_ACCELERATOR": "cpu", "GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "eth0"}
    assert propose({"a": cpu, "b": {**cpu, "interface": "ens3"}}) == {"PATH": path, "DS_ACCELERATOR": "cpu"}
    gpu = {"accelerators": ["H100"], "interface": "eth0"}
    assert propose({"a": gpu, "b": gpu})["DS_ACCELERATOR"] == "cuda"
    with pytest.raises(UserError, match="b has no accelerator"):
        propose({"a": gpu, "b": cpu})


def test_merging_keeps_a_persons_lines() -> None:
    existing = "MINE=1\n# lost on the way\n\nGLOO_SOCKET_IFNAME=old\nLAST=2\n"
    merged = merge(existing, {"GLOO_SOCKET_IFNAME": "eth0", "DS_ACCELERATOR": "cpu"})
    assert merged == "MINE=1\nGLOO_SOCKET_IFNAME=eth0\nLAST=2\nDS_ACCELERATOR=cpu\n"
    assert merge(merged, {"GLOO_SOCKET_IFNAME": "eth0", "DS_ACCELERATOR": "cpu"}) == merged
