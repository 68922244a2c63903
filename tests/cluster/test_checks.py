"""What answers mean: each check passes on equal hosts, and names the difference on others."""

from typing import Any

import pytest

from cluster import checks
from cluster.checks import Finding
from cluster.hostfile import Host
from cluster.remote import explain, ssh_command

HERE: dict[str, Any] = {
    "python": "3.11.7",
    "packages": {"torch": "2.13.0", "ray": "2.60.0"},
    "commit": "0123456789abcdef",
    "files": {"model/config.py": "a", "pipeline/command.py": "b"},
    "free_bytes": 80 * 10**9,
    "interfaces": {"lo": "127.0.0.1", "eth0": "10.0.0.2"},
    "cores": 8,
    "accelerators": [],
    "torch_error": None,
}
HOST = Host("alpha", 4, "hosts:1")
ROUTE = {"interface": "eth0", "address": "10.0.0.2"}


def other(**values: Any) -> dict[str, Any]:
    return HERE | values


def test_equal_hosts_pass() -> None:
    found = [
        checks.check_python(HERE, HERE),
        checks.check_packages(HERE, HERE),
        checks.check_repository(HERE, HERE, "/code"),
        checks.check_disk(HERE, 5.0, "/run"),
        checks.check_accelerators(HOST, False, HERE, HERE),
        checks.check_clock(100.0, 100.2, 100.4),
        checks.check_network(ROUTE, "eth0", HERE, "10.0.0.1", 2),
        checks.check_port({"port": 29500}, 29500, []),
        checks.check_run_dir({}, [], "/run"),
        checks.check_data({"manifest": "d", "bytes": {"x": 1}}, {"manifest": "d", "bytes": {"x": 1}}, "/run/data"),
    ]
    assert [finding.problem for finding in found] == [""] * len(found)
    assert all(finding.value for finding in found)


@pytest.mark.parametrize(
    ("finding", "words"),
    [
        (checks.check_python(HERE, other(python="3.12.1")), "Python 3.12.1, here 3.11.7"),
        (checks.check_python(HERE, other(torch_error="ImportError: x")), "torch cannot be imported"),
        (checks.check_packages(HERE, other(packages={"torch": "2.12.0"})), "torch 2.12.0 (here 2.13.0), ray missing"),
        (checks.check_repository(HERE, other(files={}), "/code"), "/code is not there"),
        (checks.check_repository(HERE, other(files={"model/config.py": "a"}), "/code"), "pipeline/command.py"),
        (
            checks.check_repository(
                HERE, other(files={**HERE["files"], "model/config.py": "z"}, commit="fedcba"), "/c"
            ),
            "commit fedcba, here 012345678; other files: model/config.py",
        ),
        (checks.check_disk(other(free_bytes=10**9), 5.0, "/run"), "1.0 GB free for /run"),
        (checks.check_accelerators(HOST, False, other(accelerators=["A"] * 2), HERE), "slots=4, but 2 accelerators"),
        (
            checks.check_accelerators(HOST, False, other(accelerators=["A"] * 4), other(accelerators=["B"] * 4)),
            "A, the first host has B",
        ),
        (checks.check_accelerators(HOST, False, HERE, other(accelerators=["B"] * 4)), "but 0 accelerators"),
        (checks.check_clock(100.0, 100.2, 160.1), "+60 s off"),
        (checks.check_network({"error": "no route"}, None, HERE, "10.0.0.1", 2), "no route"),
        (checks.check_network(ROUTE, "ib0", HERE, "10.0.0.1", 2), "names the interface ib0; there are lo, eth0"),
        (checks.check_network({"interface": "lo", "address": "127.0.1.1"}, None, HERE, "alpha", 2), "loopback"),
        (checks.check_port({"error": "Address already in use"}, 29500, []), "port 29500 cannot be opened"),
        (checks.check_port({"port": 5}, 29500, [["10.0.0.1", 29500, "timed out"]]), "10.0.0.1:29500 (timed out)"),
        (checks.check_run_dir({"error": "the folder does not exist there"}, [], "/run"), "does not exist"),
        (checks.check_run_dir({}, ["alpha"], "/run"), "written on alpha is not seen"),
        (checks.check_data({"manifest": "d", "bytes": {}}, {"manifest": None, "bytes": {}}, "/d"), "is missing"),
        (checks.check_data({"manifest": "d", "bytes": {}}, {"manifest": "e", "bytes": {}}, "/d"), "another one"),
        (
            checks.check_data({"manifest": "d", "bytes": {"x": 1}}, {"manifest": "d", "bytes": {"x": None}}, "/d"),
            "another size: x",
        ),
    ],
)
def test_a_difference_is_named_with_what_to_do(finding: Finding, words: str) -> None:
    assert words in finding.problem
    assert finding.remedy.endswith((".", "constraints.txt.")) or "ssh" in finding.remedy


def test_one_host_alone_may_use_loopback() -> None:
    assert not checks.check_network({"interface": "lo", "address": "127.0.0.1"}, None, HERE, "localhost", 1).problem


def test_a_cpu_run_on_hosts_with_accelerators() -> None:
    assert not checks.check_accelerators(HOST, True, other(accelerators=["A"]), HERE).problem


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ssh: Could not resolve hostname beta: Name or service not known", "/etc/hosts"),
        ("ssh: connect to host beta port 22: Connection timed out", "Is the host up"),
        ("ssh: connect to host beta port 22: No route to host", "Is the host up"),
        ("ssh: connect to host beta port 22: Connection refused", "openssh-server"),
        ("root@beta: Permission denied (publickey).", "ssh-copy-id beta"),
        ("Host key verification failed.", "ssh-keyscan beta"),
        ("kex_exchange_identification: read: Connection reset by peer", "ssh -o BatchMode=yes beta true"),
    ],
)
def test_ssh_failures_are_explained(line: str, words: str) -> None:
    error = explain("beta", 255, ["a banner", line])
    assert error.check == "ssh"
    assert str(error) == line.removeprefix("ssh: ")
    assert words in error.remedy


def test_a_missing_environment_is_not_taken_for_ssh() -> None:
    assert explain("beta", 127, ["bash: /x/python: No such file or directory"]).check == "python"
    assert explain("beta", 1, ["Traceback", "SyntaxError: x"]).check == "python"


def test_no_word_of_the_command_reaches_a_shell_unquoted() -> None:
    command = ssh_command("beta", ["python", "-c", "print('a b'); $(id)"], 10.0, 2222)
    assert command[-2:] == ["beta", """python -c 'print('"'"'a b'"'"'); $(id)'"""]
    assert command[-3] == "--"
    assert "BatchMode=yes" in command
    assert command[command.index("-p") + 1] == "2222"
