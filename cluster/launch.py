"""Starts pretraining on several hosts by an existing engine, which it picks and configures.

    python -m cluster.launch [HOSTFILE] [options] -- [arguments of pipeline/pretrain.py]

torch: torch's elastic agent on every host (cluster/elastic_torch.py); a host that is lost is done without, one that
    returns takes part again. The choice where there are several hosts.
deepspeed: the deepspeed launcher; a lost host ends the run, and the ranks say how to go on. The choice where the only
    host is this machine.
ray: Ray Train on the hosts of a Ray cluster (cluster/elastic_ray.py); hosts may go and come as with torch. The choice
    where no hostfile is given and a cluster is there: that of RAY_ADDRESS, or of `ray start` on this machine.

Where something else starts a process on each host (Slurm, systemd), the same from there:

    python -m cluster.launch --serve --store ADDRESS                                    on a machine that stays
    python -m cluster.launch --node --store ADDRESS --hosts 1:2 --slots 8 -- [...]      on every host

Exit codes: 0 done, 2 a mistake to mend, 75 stopped, preempted or lost (the same command goes on), 1 the ranks failed
too often. With deepspeed other codes are its own or a rank's; 128+N where signal N ended the launcher.
"""

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from cluster import agents
from cluster.command import told
from cluster.environment import environment_files, read_environment
from cluster.hostfile import Host, read_hostfile
from cluster.remote import SSH_FAILED
from cluster.rendezvous import DEFAULT_PORT, Node, is_here, open_store, own_address, parse_place, serve
from pipeline.base.errors import EXIT_PREEMPTED, UserError
from pipeline.base.signals import caught
from pipeline.base.workers import cluster_address

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPT = "pipeline/pretrain.py"
PASSED_ON = ("MLFLOW", "NCCL", "PYTHON", "UCX")
"""Beginnings of the variables that go to the hosts, as the deepspeed launcher has it; the environment file's too."""
KEEP_ALIVE = "-o ServerAliveInterval=5 -o ServerAliveCountMax=3"

HOST_ENDED = re.compile(r"pdsh@\S+: (\S+): ssh exited with exit code (\d+)")
"""What pdsh says of each host that did not end with 0."""


def split_arguments(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our own arguments, and pretrain.py's: after `--` or after the script's name."""
    for index, argument in enumerate(argv):
        if argument == "--" or argument.endswith(SCRIPT):
            rest = list(argv[index + 1 :])
            return list(argv[:index]), rest[1:] if rest and rest[0].endswith(SCRIPT) else rest
    return list(argv), []


def pick_engine(asked: str, hosts: Sequence[Host]) -> str:
    """The engine: the one that is asked for, else by the number of hosts and where they are."""
    return asked if asked != "auto" else "deepspeed" if only_here(hosts) else "torch"


def check_ray(options: argparse.Namespace) -> None:
    """Raises UserError where the engine ray, which takes no hostfile, is asked for or left over, and cannot be used."""
    if options.hostfile is not None:
        raise UserError(f"--engine ray trains on the hosts of the Ray cluster: leave {options.hostfile} out.")
    if options.engine not in ("auto", "ray"):
        raise UserError(f"no hostfile is given: python -m cluster.launch HOSTFILE --engine {options.engine} -- [...]")
    address = cluster_address("auto")
    if address is not None and "://" in address:
        raise UserError(f"RAY_ADDRESS={address}: start from a host of the cluster, and give its head as HOST:PORT.")
    if address is None:
        how = "Start one (ray start --head; on the other hosts ray start --address=HEAD:6379), or set RAY_ADDRESS"
        if options.engine == "ray":
            raise UserError(f"no Ray cluster is there. {how}=HEAD:6379.")
        raise UserError(
            "no hostfile is given, and no Ray cluster is there. Write python -m cluster.launch HOSTFILE -- "
            f"[arguments of pretrain.py]. For the engine ray: {how}=HEAD:6379."
        )


def only_here(hosts: Sequence[Host]) -> bool:
    """Whether this machine is the only host."""
    return len(hosts) == 1 and is_here(_address(hosts[0]))


def place_options(hosts: Sequence[Host]) -> list[str]:
    """The launcher starts the ranks of a single host where it runs itself, and asks that host by ssh all the same."""
    if only_here(hosts):
        return ["--no_ssh_check", "--master_addr=127.0.0.1"]  # there may be no sshd
    return ["--force_multi"] if len(hosts) == 1 else []


def deepspeed_command(
    hostfile: Path, options: Sequence[str], arguments: Sequence[str], environment: Mapping[str, str]
) -> tuple[list[str], dict[str, str]]:
    """The launcher's command line and environment: its ssh gives up a host that has fallen silent."""
    program = str(Path(sys.executable).parent / "deepspeed")
    ssh = " ".join(filter(None, [environment.get("PDSH_SSH_ARGS_APPEND"), KEEP_ALIVE]))
    command = [program, "--hostfile", str(hostfile), *options, SCRIPT, *arguments]
    return command, {**environment, "PDSH_SSH_ARGS_APPEND": ssh}


def launch_deepspeed(hosts: Sequence[Host], options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Runs the launcher. Where hosts are lost it names them and the command to go on; the exit code is the ranks'."""
    port = [] if options.ssh_port is None else ["--ssh_port", str(options.ssh_port)]
    command, environment = deepspeed_command(
        options.hostfile.resolve(), [*port, *place_options(hosts)], arguments, os.environ
    )
    # On this machine the launcher hands no signal on to its ranks: its session gets it. To other hosts it does.
    tell = os.killpg if only_here(hosts) else os.kill
    ends: dict[str, int] = {}
    told: list[int] = []
    with subprocess.Popen(
        command,
        env=environment,
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:

        def hand_on(number: int, frame: FrameType | None) -> None:
            told.append(number)
            with suppress(ProcessLookupError):
                tell(process.pid, signal.SIGTERM)

        with caught(agents.stop_signals(), hand_on):
            for line in process.stderr or ():  # to the end of the last rank, which has it open
                print(line, end="", file=sys.stderr, flush=True)
                if end := HOST_ENDED.fullmatch(line.strip()):
                    ends[end[1]] = int(end[2])
            process.wait()
    code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    if told:
        return agents.combined([code, *ends.values()], stopped=True)
    lost = [name for name, ended in ends.items() if ended == SSH_FAILED]
    if not lost:
        return code
    again = shlex.join(["python", "-m", "cluster.launch", *sys.argv[1:]])
    which = f"{' and '.join(lost)} {'is' if len(lost) == 1 else 'are'}"
    print(
        f"launch: {which} lost. Comment it out in {options.hostfile} unless it is back, then: {again}", file=sys.stderr
    )
    return EXIT_PREEMPTED if EXIT_PREEMPTED in ends.values() else code


def for_hosts(environment: Mapping[str, str], files: Sequence[Path]) -> dict[str, str]:
    """The variables that the hosts get: PASSED_ON of this environment, then the environment files'."""
    own = {name: value for name, value in environment.items() if name.startswith(PASSED_ON)}
    return own | read_environment(files)


def node_command(node: Node, arguments: Sequence[str]) -> list[str]:
    """What is started on a host, in the repository's folder."""
    options = [f"--store={node.store}", f"--hosts={node.hosts[0]}:{node.hosts[1]}", f"--slots={node.slots}"]
    options += [f"--max-restarts={node.restarts}", f"--patience={node.patience:g}"]
    return [sys.executable, "-u", "-m", "cluster.launch", "--node", "--leased", *options, "--", *arguments]


def parse_hosts(text: str) -> tuple[int, int]:
    """`MIN:MAX`, or one number for both."""
    least, _, most = text.partition(":")
    numbers = [int(part) if part.isdigit() else 0 for part in (least, most or least)]
    if not 1 <= numbers[0] <= numbers[1]:
        raise UserError(f"--hosts {text}: write MIN:MAX, the fewest and the most hosts that train, as in 1:4.")
    return numbers[0], numbers[1]


def launch_torch(hosts: Sequence[Host], options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Opens the store here, starts an agent on every host, and stays until the run has ended."""
    store = parse_place(options.store or _address_for(hosts), "--store")
    least = parse_hosts(options.hosts or "1")[0]
    if least > len(hosts):
        raise UserError(f"--hosts asks for {least}, {options.hostfile} has {len(hosts)}.")
    kept = open_store(store)
    own = [host.name for host in hosts if is_here(_address(host))]
    if own and len(hosts) > 1:
        print(
            f"launch: the rendezvous is on {own[0]}, one of the hosts: the run ends when that one is lost. Start it "
            "from another machine to survive the loss of any.",
            file=sys.stderr,
        )
    environment = for_hosts(os.environ, environment_files(os.environ, Path.home(), Path.cwd()))
    limits = (least, len(hosts))
    started = []
    for host in hosts:
        node = Node(
            store=store, slots=host.slots, hosts=limits, restarts=options.max_restarts, patience=options.patience
        )
        started.append(agents.Agent(host, node_command(node, arguments), environment, options.ssh_port))
    try:
        return agents.follow(started, options.patience)
    finally:
        del kept  # the store closes with its last reference


def launch_ray(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Ray Train on the cluster's hosts, until the run has ended."""
    check_ray(options)
    from cluster.elastic_ray import Elastic, run_ray

    least, most = parse_hosts(options.hosts or "1")
    wanted = Elastic(
        slots=options.slots,
        hosts=(least, most if options.hosts and ":" in options.hosts else None),
        restarts=options.max_restarts,
        patience=options.patience,
    )
    return run_ray(wanted, arguments, for_hosts(os.environ, environment_files(os.environ, Path.home(), Path.cwd())))


def launch_node(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """This host's agent."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a store that is gone is told in a sentence, not in frames
    from cluster.elastic_torch import run_node

    if options.store is None:
        raise UserError("--node needs --store ADDRESS: where `python -m cluster.launch --serve` runs.")
    if options.leased:
        for name, value in agents.hold_lease().items():
            os.environ[name] = os.path.expandvars(value)
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    os.chdir(REPOSITORY)
    node = Node(
        store=parse_place(options.store, "--store"),
        slots=options.slots or _accelerators(),
        hosts=parse_hosts(options.hosts or "1"),
        restarts=options.max_restarts,
        patience=options.patience,
    )
    return run_node(node, arguments)


def _accelerators() -> int:
    import torch

    return max(1, torch.accelerator.device_count())


def _address_for(hosts: Sequence[Host]) -> str:
    """This machine's address on the way to the first host that is another machine."""
    names = [_address(host) for host in hosts]
    return own_address(next((name for name in names if not is_here(name)), names[0]))


def _address(host: Host) -> str:
    return host.name.rpartition("@")[2]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cluster.launch",
        description=__doc__.splitlines()[0],
        epilog=f"Arguments after -- (or after {SCRIPT}) are pretrain.py's. docs/cluster.md says more.",
        allow_abbrev=False,
    )
    parser.add_argument("hostfile", type=Path, nargs="?", help="lines `NAME slots=N`")
    parser.add_argument("--engine", choices=("auto", "torch", "deepspeed", "ray"), default="auto")
    parser.add_argument("--serve", action="store_true", help="be the rendezvous of a run, until it has ended")
    parser.add_argument("--node", action="store_true", help="be this host's agent")
    parser.add_argument("--store", metavar="ADDRESS[:PORT]", help=f"where the hosts meet (port {DEFAULT_PORT})")
    parser.add_argument(
        "--hosts", metavar="MIN:MAX", help="the fewest hosts that train (1); with --node and ray the most"
    )
    parser.add_argument(
        "--slots", type=int, help="ranks of a host: --node (its accelerators, or 1), ray without GPUs (1)"
    )
    parser.add_argument("--max-restarts", type=int, default=10, help="starts after failures in a row (10)")
    parser.add_argument("--patience", type=float, default=600.0, help="seconds to wait for hosts or the store (600)")
    parser.add_argument("--ssh-port", type=int, help="as the launcher's --ssh_port")
    parser.add_argument("--leased", action="store_true", help=argparse.SUPPRESS)
    return parser


def run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Does what the options ask for; returns the exit code."""
    if options.serve:
        return serve(parse_place(options.store or "", "--store"))
    if options.node:
        return launch_node(options, arguments)
    if options.hostfile is None or options.engine == "ray":
        return launch_ray(options, arguments)
    hosts = read_hostfile(options.hostfile)
    if pick_engine(options.engine, hosts) == "torch":
        return launch_torch(hosts, options, arguments)
    return launch_deepspeed(hosts, options, arguments)


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    own, arguments = split_arguments(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(own)
    return told("launch", lambda: run(options, arguments))


if __name__ == "__main__":
    sys.exit(main())
