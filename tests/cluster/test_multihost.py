"""Two hosts for real: `deepspeed --hostfile hosts pipeline/pretrain.py` over ssh gives the losses of two local ranks.

The hosts are namespaces of this machine (tests/cluster/namespaces.py): another address, another process table, an sshd
each; the folders are the same, as docs/cluster.md asks for.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.environment import REPOSITORY
from pipeline.base.run_folder import RunFolder
from tests.cluster.namespaces import NamespaceHost, make_hosts, why_not
from tests.datasets import make_dataset
from tests.pipeline.training.pretrain_runs import forked, losses

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent
NOBODY = "10.77.31.9"
STEPS = 10
SETTINGS = [
    "seed=3",
    "tokenizer.vocab_size=300",
    "data.sequence_length=32",
    "model.body=electra",
    "model.hidden_size=32",
    "model.layers=2",
    "model.heads=2",
    "model.ffn_size=64",
    "model.embedding_size=16",
    "model.generator.size=0.5",
    "model.dropout=0",
    "model.attention_dropout=0",
    "optimizer.lr=0.002",
    "schedule.warmup_steps=2",
    f"train.steps={STEPS}",
    "train.batch_size=9",  # not a multiple of the ranks
    "train.micro_batch_size=4",
    "train.precision=fp32",
    "train.log_every=1",
    "train.eval_every=1000",
    "train.save_every=1000",
    "train.threads=1",
]


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[NamespaceHost]]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with make_hosts(tmp_path_factory.mktemp("hosts")) as made:
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by all hosts: the data, a hostfile's and an environment file's place, the runs."""
    path = tmp_path_factory.mktemp("shared")
    make_dataset(path / "data", tokens=20_000, vocab_size=300, tokenizer=b"")
    return path


@pytest.fixture(scope="module")
def environment(folder: Path) -> dict[str, str]:
    """A login shell's, nothing of this process's own: what the ranks need must come by the environment file."""
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/root"), "DS_ENV_FILE": str(folder / "env")}


@pytest.fixture(scope="module")
def hostfile(hosts: list[NamespaceHost], folder: Path) -> Path:
    path = folder / "hosts"
    path.write_text("".join(f"{host.address} slots=1\n" for host in hosts))
    return path


def settings(folder: Path, name: str, stage: int) -> list[str]:
    own = [f"run_dir={folder / name}", f"data.path={folder / 'data'}", f"tracking.uri=sqlite:///{folder}/mlflow.db"]
    return [*SETTINGS, *own, f"deepspeed.zero_optimization.stage={stage}"]


def local_losses(folder: Path, name: str, stage: int, *own: str) -> dict[int, float]:
    """{step: loss} of the first steps of two ranks on this machine."""
    run = [*settings(folder, name, stage), *own]
    with forked(2, "tests.pipeline.training.rank_server", "pretrain", run):
        return first_steps(folder / name)


def first_steps(run: Path) -> dict[int, float]:
    """{step: loss} of as many as are compared, once they are there."""
    until = time.monotonic() + 200
    while len(found := losses(RunFolder(run), cut_off=True)) < STEPS:
        assert time.monotonic() < until
        time.sleep(0.2)
    return {step: found[step] for step in range(1, STEPS + 1)}


def test_the_environment_file(
    hosts: list[NamespaceHost], hostfile: Path, environment: dict[str, str], folder: Path
) -> None:
    command = [sys.executable, "-m", "cluster.environment", str(hostfile), "--write"]
    done = hosts[0].run(command, environment, REPOSITORY, 60)
    assert done.returncode == 0, done.stderr
    assert (folder / "env").read_text().splitlines() == [
        f"PATH={BIN}:$PATH",
        "DS_ACCELERATOR=cpu",
        "GLOO_SOCKET_IFNAME=eth0",
        "NCCL_SOCKET_IFNAME=eth0",
    ]


def test_preflight_passes(
    hosts: list[NamespaceHost], hostfile: Path, environment: dict[str, str], folder: Path
) -> None:
    command = [sys.executable, "-m", "cluster.preflight", str(hostfile), *settings(folder, "new", 1)]
    done = hosts[0].run(command, environment, REPOSITORY, 60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all well: 2 hosts, 2 ranks" in done.stdout
    assert all("eth0" in line for line in done.stdout.splitlines()[1:3])
    assert not (folder / "new").exists()


def test_preflight_names_what_is_broken(
    hosts: list[NamespaceHost], hostfile: Path, environment: dict[str, str], folder: Path
) -> None:
    """A third host that is not there; on the second one, run_dir is a folder of its own and data is missing."""
    (folder / "apart").mkdir(exist_ok=True)
    apart = ["mount", "-t", "tmpfs", "tmpfs", str(folder / "apart")]
    assert hosts[1].run(apart, environment, REPOSITORY, 10).returncode == 0
    broken = folder / "broken"
    broken.write_text(f"{hostfile.read_text()}{NOBODY} slots=1\n")
    command = [sys.executable, "-m", "cluster.preflight", str(broken), f"run_dir={folder / 'apart'}"]
    done = hosts[0].run(command, environment, REPOSITORY, 60)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("preflight: 3 problems; nothing was started.")
    assert f"{NOBODY} ({broken}:3): ssh: connect to host {NOBODY} port 22: No route to host" in done.stderr
    assert f"{hosts[1].address} ({broken}:2): run_dir" in done.stderr
    assert done.stdout.splitlines()[3].split()[:2] == [NOBODY, "FAIL"]


def test_two_hosts_train_as_two_local_ranks(
    hosts: list[NamespaceHost], hostfile: Path, environment: dict[str, str], folder: Path
) -> None:
    """At ZeRO 1 with the environment file that --write wrote."""
    command = [str(BIN / "deepspeed"), "--hostfile", str(hostfile), "pipeline/pretrain.py"]
    done = hosts[0].run([*command, *settings(folder, "over-ssh", 1)], environment, REPOSITORY, 200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "export GLOO_SOCKET_IFNAME=eth0" in done.stdout
    assert f"Using IP address of {hosts[0].address}" in done.stdout
    found = losses(RunFolder(folder / "over-ssh"))
    assert list(found) == list(range(1, STEPS + 1))
    assert found == pytest.approx(local_losses(folder, "local", 1), rel=1e-5)
    assert (folder / "over-ssh" / "checkpoints" / "latest").exists()


def test_a_mistake_on_the_hosts_is_one_message_and_2(
    hosts: list[NamespaceHost], hostfile: Path, environment: dict[str, str], folder: Path
) -> None:
    command = [str(BIN / "deepspeed"), "--hostfile", str(hostfile), "pipeline/pretrain.py", "train.stpes=3"]
    done = hosts[0].run([*command, f"run_dir={folder / 'mistake'}"], environment, REPOSITORY, 100)
    assert done.returncode == 2
    assert done.stderr.count("did you mean train.steps") == 1
    assert "Traceback" not in done.stderr
    assert not (folder / "mistake").exists()


def test_they_train_alike_without_an_environment_file_and_a_lost_host_ends_the_others_with_what_to_do(
    hosts: list[NamespaceHost], hostfile: Path, environment: dict[str, str], folder: Path
) -> None:
    """By the launcher alone, with an ssh that gives silent hosts up: it is told who is gone, and how to go on."""
    run, long = folder / "lost", ("train.steps=1000000", "train.save_every=5", "train.peer_timeout=8")
    training = [*settings(folder, "lost", 2), "tracking.uri=http://127.0.0.1:9", *long]
    command = [str(BIN / "deepspeed"), "--hostfile", str(hostfile), "pipeline/pretrain.py", *training]
    given = environment | {
        "DS_ENV_FILE": str(folder / "absent"),
        "PDSH_SSH_ARGS_APPEND": "-o ServerAliveInterval=2 -o ServerAliveCountMax=2",
    }
    with (
        (folder / "lost.out").open("w+") as output,
        subprocess.Popen(hosts[0].command(command, REPOSITORY), env=given, stdout=output, stderr=output) as launcher,
    ):
        try:
            until = time.monotonic() + 200
            while not (run / "checkpoints" / "latest").exists():
                assert launcher.poll() is None
                assert time.monotonic() < until
                time.sleep(0.2)
            found = first_steps(run)
            hosts[1].cut()
            code = launcher.wait(100)
            output.seek(0)
            said = output.read()
        finally:
            launcher.kill()
            hosts[1].mend()
    assert found == pytest.approx(local_losses(folder, "local-long", 2, *long), rel=1e-5)
    assert f"Using IP address of {hosts[0].address}" in said
    assert "export GLOO_SOCKET_IFNAME" not in said
    assert code == 255  # ssh's; `python -m cluster.launch` makes it 75
    (told,) = [line for line in said.splitlines() if "is gone since" in line or "silent for" in line]
    assert f"host host-2 ({hosts[1].address}, rank 1)" in told
    again = shlex.join(["deepspeed", "--hostfile", "HOSTFILE", "pipeline/pretrain.py", *training])
    assert told.endswith(f"Take host-2 out of the hostfile unless it is back; start again: {again}")
    assert "Traceback" not in said
    left = ["pgrep", "-f", "pipeline/pretrain.py"]
    until = time.monotonic() + 60
    while any(host.run(left, environment, REPOSITORY, 10).returncode == 0 for host in hosts):
        assert time.monotonic() < until, "ranks are left"
        time.sleep(0.5)
