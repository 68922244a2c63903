"""`python -m cluster.launch`: what it starts, what its exit codes mean, where its rendezvous listens, what stops it."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cluster import launch
from cluster.agents import Agent, combined
from cluster.environment import REPOSITORY
from cluster.hostfile import Host
from cluster.rendezvous import Node, Place, open_store, own_address, parse_place
from pipeline.base.errors import UserError
from tests.ports import free_port

ALPHA, BETA = Host("alpha", 8, "hosts:1"), Host("beta", 8, "hosts:2")
HERE, ELSEWHERE = Host("me@127.0.0.1", 8, "hosts:1"), Host("nowhere.invalid", 8, "hosts:1")


@pytest.mark.parametrize(
    ("argv", "own", "given"),
    [
        (["hosts"], ["hosts"], []),
        (["hosts", "--", "--config", "a.yaml", "x=1"], ["hosts"], ["--config", "a.yaml", "x=1"]),
        (["hosts", "pipeline/pretrain.py", "x=1"], ["hosts"], ["x=1"]),
        (["hosts", "--", "pipeline/pretrain.py", "x=1"], ["hosts"], ["x=1"]),
        (["hosts", "--engine", "torch", "--", "x=--", "--"], ["hosts", "--engine", "torch"], ["x=--", "--"]),
    ],
)
def test_the_arguments_are_told_apart(argv: list[str], own: list[str], given: list[str]) -> None:
    assert launch.split_arguments(argv) == (own, given)


def test_the_engine_is_picked_by_the_hosts() -> None:
    assert launch.pick_engine("auto", [HERE]) == "deepspeed"
    assert launch.pick_engine("auto", [ELSEWHERE]) == "torch"
    assert launch.pick_engine("auto", [ALPHA, BETA]) == "torch"
    assert launch.pick_engine("deepspeed", [ALPHA, BETA]) == "deepspeed"


@pytest.mark.parametrize(
    ("hosts", "options"),
    [([HERE], ["--no_ssh_check", "--master_addr=127.0.0.1"]), ([ELSEWHERE], ["--force_multi"]), ([ALPHA, BETA], [])],
)
def test_deepspeed_starts_ranks_where_the_hostfile_says(hosts: list[Host], options: list[str]) -> None:
    """By itself it starts the ranks of a single host on this machine, after it has asked that host by ssh."""
    assert launch.place_options(hosts) == options


def test_deepspeed_gives_up_a_silent_host(tmp_path: Path) -> None:
    """What the user has set for pdsh's ssh stays."""
    given = {"PDSH_SSH_ARGS_APPEND": "-o Compression=yes", "HOME": "/root"}
    command, environment = launch.deepspeed_command(tmp_path / "hosts", ["--ssh_port", "2222"], ["x=1"], given)
    assert command[1:] == ["--hostfile", str(tmp_path / "hosts"), "--ssh_port", "2222", "pipeline/pretrain.py", "x=1"]
    options = environment.pop("PDSH_SSH_ARGS_APPEND").split()
    assert options[:2] == ["-o", "Compression=yes"]
    assert {"ServerAliveInterval=5", "ServerAliveCountMax=3"} <= set(options)
    assert environment == {"HOME": "/root"}


@pytest.mark.parametrize(
    ("ends", "code", "lost"),
    [
        ({"10.0.0.1": 75, "10.0.0.2": 255}, 75, "10.0.0.2 is lost. "),
        ({"10.0.0.1": 2, "10.0.0.2": 255}, 255, "10.0.0.2 is lost. "),
        ({"10.0.0.1": 2, "10.0.0.2": 2}, 2, ""),
    ],
)
def test_a_host_that_deepspeed_lost_is_named(
    ends: dict[str, int],
    code: int,
    lost: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From what pdsh 2.34 writes; its own exit code is the largest."""
    said = "".join(f"pdsh@head: {name}: ssh exited with exit code {end}\\n" for name, end in ends.items())
    line = ["sh", "-c", f"printf '{said}' >&2; exit {max(ends.values())}"]
    monkeypatch.setattr(launch, "deepspeed_command", lambda *_: (line, dict(os.environ)))
    monkeypatch.setattr(sys, "argv", ["launch.py", "hosts", "--engine", "deepspeed", "--", "run_dir=/a b"])
    (tmp_path / "hosts").write_text("10.0.0.1 slots=1\n10.0.0.2 slots=1\n")
    assert launch.main([str(tmp_path / "hosts"), "--engine", "deepspeed"]) == code
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("launch: ")]
    assert len(told) == bool(lost)
    if lost:
        assert told[0].startswith(f"launch: {lost}")
        assert told[0].endswith("then: python -m cluster.launch hosts --engine deepspeed -- 'run_dir=/a b'")


def test_the_hosts_get_what_the_launcher_of_deepspeed_gives_them(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("NCCL_DEBUG=INFO\nPATH=/shared/bin:$PATH\n")
    given = {"MLFLOW_TRACKING_TOKEN": "secret", "NCCL_DEBUG": "WARN", "HOME": "/root", "SHELL": "/bin/sh"}
    assert launch.for_hosts(given, [tmp_path / "env"]) == {
        "MLFLOW_TRACKING_TOKEN": "secret",
        "NCCL_DEBUG": "INFO",
        "PATH": "/shared/bin:$PATH",
    }


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("10.0.0.1", Place("10.0.0.1", 29400)),
        ("head:123", Place("head", 123)),
        ("[fd00::1]:123", Place("fd00::1", 123)),
        ("[fd00::1]", Place("fd00::1", 29400)),
    ],
)
def test_places(text: str, place: Place) -> None:
    assert parse_place(text, "--store") == place
    assert parse_place(str(place), "--store") == place


@pytest.mark.parametrize("text", ["", ":123", "head:", "head:0", "head:x", "head:70000"])
def test_no_places(text: str) -> None:
    with pytest.raises(UserError, match="--store"):
        parse_place(text, "--store")


@pytest.mark.parametrize("text", ["0:2", "3:2", "x", ":2", "-1:2"])
def test_no_numbers_of_hosts(text: str) -> None:
    with pytest.raises(UserError, match="--hosts"):
        launch.parse_hosts(text)


RANK = """
trap 'echo x >> {0}/heard; [ $(wc -l < {0}/heard) -gt 1 ] && exit 75; sleep 0.3' TERM
echo caf\\303\\251 \\377 >&2
touch {0}/begun
while ! [ -e {0}/heard ]; do sleep 0.05; done
while [ {1} -gt $(wc -l < {0}/heard) ]; do sleep 0.05; done
touch {0}/saved
"""


@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGHUP], [signal.SIGINT, signal.SIGTERM]])
def test_a_stop_reaches_the_ranks_of_this_machine(
    numbers: list[signal.Signals], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a launcher that dies of the signal, as deepspeed's does: they save, and are waited for."""
    (tmp_path / "rank").write_text(RANK.format(tmp_path, len(numbers)))
    (tmp_path / "hosts").write_text("localhost slots=1\n")
    line = ["sh", "-c", f"sh {tmp_path / 'rank'} & wait"]
    monkeypatch.setattr(launch, "deepspeed_command", lambda *_: (line, dict(os.environ)))

    def ask() -> None:
        for number, seen in zip(numbers, ("begun", "heard"), strict=False):
            while not (tmp_path / seen).exists():
                time.sleep(0.02)
            os.kill(os.getpid(), number)

    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}  # under nohup one is ignored
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        assert launch.main([str(tmp_path / "hosts")]) == 75
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    asking.join()
    assert (tmp_path / "heard").read_text() == "x\n" * len(numbers)
    assert (tmp_path / "saved").exists() == (len(numbers) == 1)


def test_a_launcher_that_a_signal_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hosts").write_text("localhost slots=1\n")
    monkeypatch.setattr(launch, "deepspeed_command", lambda *_: (["sh", "-c", "kill -9 $$"], dict(os.environ)))
    assert launch.main([str(tmp_path / "hosts")]) == 137


@pytest.mark.parametrize("codes", [[-15, 1], [None, 255], [143]])
def test_a_stopped_job_is_preempted(codes: list[int | None]) -> None:
    assert combined(codes, stopped=True) == 75
    assert combined([*codes, 0], stopped=True) == 0
    assert combined([*codes, 2, 0], stopped=True) == 2


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([0, 0], 0),
        ([2, 75], 2),
        ([0, 1], 0),
        ([75, 0], 0),
        ([75, 75], 75),
        ([75, 1], 75),
        ([1, 255], 1),
        ([75, None], 75),
    ],
)
def test_the_exit_code_of_the_job(codes: list[int | None], code: int) -> None:
    assert combined(codes, stopped=False) == code


def test_no_word_reaches_a_shell_unquoted() -> None:
    """The remote shell's splitting into words gives the words back; a secret is in none of them."""
    hostile = ["run_dir=/a b", "x=$(touch /tmp/x)", "y=`id`", 'z="q"', "w=a;b|c&d", "v=*", "u='"]
    node = Node(store=Place("10.0.0.1", 1), slots=2, hosts=(1, 2), restarts=3, patience=60.0)
    agent = Agent(ALPHA, launch.node_command(node, hostile), {"MLFLOW_TRACKING_TOKEN": "secret"}, None)
    assert agent._command[:2] == ["ssh", "-x"]
    assert agent._command[-3:-1] == ["--", "alpha"]
    words = shlex.split(agent._command[-1])
    assert words[:3] == ["env", "-C", str(REPOSITORY)]
    assert words[-len(hostile) :] == hostile
    assert "secret" not in " ".join(agent._command)


def listening(process: int) -> set[str]:
    """Local addresses that the process listens on, from the kernel's tables."""
    own = {os.readlink(link) for link in Path(f"/proc/{process}/fd").iterdir()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{process}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
                found.add(fields[1].partition(":")[0])
    return found


def test_the_rendezvous_listens_on_the_named_address_only() -> None:
    place = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "cluster.launch", "--serve", "--store", place]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"launch: the rendezvous is open at {place}\n"
        assert listening(process.pid) == {"0100007F"}  # 127.0.0.1, in the kernel's hexadecimal
        with pytest.raises(UserError, match=f"cannot listen on {place}: Address already in use. Give --store"):
            open_store(parse_place(place, "--store"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 75
    finally:
        process.kill()
        process.wait()


def test_a_host_without_a_rendezvous_is_told() -> None:
    place = f"127.0.0.1:{free_port()}"
    found = subprocess.run(
        [sys.executable, "-m", "cluster.launch", "--node", "--store", place, "--patience", "0", "--", "x=1"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 2
    assert found.stderr.startswith(f"launch: no rendezvous answers at {place} (Connection refused). Start it there:")


LEASED = """
import json, os, signal, sys, time
from cluster import agents
agents.LEASE_SECONDS, agents.STOP_SECONDS = 1.0, 0.5
print(json.dumps(agents.hold_lease()), flush=True)
if sys.argv[1] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("kind", "code"), [("silence", -signal.SIGTERM), ("stop", -signal.SIGTERM), ("end", -signal.SIGTERM), ("deaf", 75)]
)
def test_an_agent_lives_by_its_lease(kind: str, code: int) -> None:
    """Silence, a word, or the end of its input stop it; where no signal reaches it, it ends all the same."""
    process = subprocess.Popen(
        [sys.executable, "-c", LEASED, kind], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps({"A": "$HOME"}) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "launch: the agent is here\n"
        assert json.loads(process.stdout.readline()) == {"A": "$HOME"}
        for _ in range(3):  # longer than the lease, renewed
            time.sleep(0.4)
            process.stdin.write("alive\n")
            process.stdin.flush()
        assert process.poll() is None
        if kind == "stop":
            process.stdin.write("stop\n")
            process.stdin.flush()
        if kind == "end":
            process.stdin.close()
        assert process.wait(30) == code
    finally:
        process.kill()
        process.wait()


def test_own_address() -> None:
    assert own_address("127.0.0.1") == "127.0.0.1"
    with pytest.raises(UserError, match=r"no way to nowhere\.invalid"):
        own_address("nowhere.invalid")


@pytest.mark.slow
def test_a_mistake_is_one_message_and_2(tmp_path: Path) -> None:
    """By an agent on this machine, at the other end of a pipe in place of ssh: not restarted, not repeated by ranks."""
    (tmp_path / "hosts").write_text("localhost slots=1\n")
    command = [sys.executable, "-m", "cluster.launch", str(tmp_path / "hosts"), "--engine", "torch"]
    store = ["--store", f"127.0.0.1:{free_port()}"]
    done = subprocess.run(
        [*command, *store, "--", "train.stpes=3", f"run_dir={tmp_path / 'run'}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == ""
    message = "pretrain: command line: unknown key train.stpes; did you mean train.steps?"
    assert done.stdout.splitlines() == [f"localhost: {message}"]
