"""The environment file of the deepspeed launcher: what every rank on every host gets to see.

The launcher (0.19.8, launcher/runner.py) passes on PYTHON*, MLFLOW*, UCX*, MV2* and, with CUDA, NCCL* variables of its
own environment, and every `NAME=VALUE` line of `.deepspeed_env` in the home folder and then in the working folder, the
later one winning; DS_ENV_FILE names another file. It exports the values in double quotes, so $PATH is the host's own.
Nothing else is passed on, and a blank line or a comment stops it with a traceback: `problems` finds those beforehand.

    python -m cluster.environment hosts            prints the lines that these hosts need
    python -m cluster.environment hosts --write    puts them into the file, other lines of it kept
"""

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from cluster.command import told
from cluster.hostfile import read_hostfile
from cluster.remote import HostError, Session, at_once, open_sessions
from pipeline.base.errors import UserError
from pipeline.base.files import write_atomic

DEFAULT_NAME = ".deepspeed_env"
REPOSITORY = Path(__file__).resolve().parents[1]
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Set in the launching shell alone, these would hold on no rank.
EASILY_FORGOTTEN = ("DS_ACCELERATOR", "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "OMP_NUM_THREADS")


def environment_files(environment: Mapping[str, str], home: Path, working: Path) -> list[Path]:
    """The files that the launcher would read, in its order; later ones win."""
    name = environment.get("DS_ENV_FILE", DEFAULT_NAME)
    candidates = [home / name, working / name]  # an absolute name replaces the folder, twice
    return list(dict.fromkeys(path for path in candidates if path.is_file()))


def target_file(environment: Mapping[str, str], working: Path) -> Path:
    """The file that --write writes to."""
    return working / environment.get("DS_ENV_FILE", DEFAULT_NAME)


def read_environment(paths: Sequence[Path]) -> dict[str, str]:
    """Names and values as the ranks get them; lines that the launcher could not read are left out."""
    values = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            name, equals, value = line.partition("=")
            if equals:
                values[name.strip()] = value.strip()
    return values


def problems(paths: Sequence[Path], environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """(What is wrong, what to do) for every line that the launcher or pdsh would stumble over."""
    found = []
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            trouble = _trouble(line)
            if trouble:
                found.append((f"{path}:{number}: {trouble}", "Write NAME=VALUE lines only."))
    passed = read_environment(paths)
    path_list = passed.get("PYTHONPATH")
    if path_list is not None and str(REPOSITORY) not in path_list.split(":"):
        remedy = f"Add {REPOSITORY} to it, or take the line out."
        found.append(("PYTHONPATH in the environment file replaces the launcher's own", remedy))
    for name in EASILY_FORGOTTEN:
        if name in environment and passed.get(name) != environment[name]:
            remedy = f"Add the line {name}={environment[name]}, or unset it here."
            found.append((f"{name} is set here, but the launcher does not pass it on", remedy))
    return found


def propose(answers: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The variables that the hosts need, from each host's `interface` and `accelerators`.

    One file serves all hosts, so an interface is named only where its name is the same on all of them.
    """
    values = {"PATH": f"{Path(sys.executable).parent}:$PATH"}
    counts = {bool(answer["accelerators"]) for answer in answers.values()}
    if len(counts) > 1:
        with_none = [name for name, answer in answers.items() if not answer["accelerators"]]
        raise UserError(f"{', '.join(with_none)} has no accelerator, other hosts have. Use hosts of one kind.")
    values["DS_ACCELERATOR"] = "cuda" if counts == {True} else "cpu"
    interfaces = {answer["interface"] for answer in answers.values()}
    if len(interfaces) == 1 and None not in interfaces:
        values["GLOO_SOCKET_IFNAME"] = values["NCCL_SOCKET_IFNAME"] = interfaces.pop()
    return values


def merge(existing: str, values: Mapping[str, str]) -> str:
    """The file's new text: readable lines kept in place, proposed names replaced, the rest added at the end."""
    left = dict(values)
    lines = []
    for line in existing.splitlines():
        name = line.partition("=")[0].strip()
        if _trouble(line) is None and name not in left:
            lines.append(line)
        elif name in left:
            lines.append(f"{name}={left.pop(name)}")
    return "\n".join([*lines, *(f"{name}={value}" for name, value in left.items())]) + "\n"


def _trouble(line: str) -> str | None:
    name, equals, value = line.partition("=")
    if not line.strip():
        return "a blank line stops the launcher"
    if line.lstrip().startswith("#") or not equals:
        return "a line without NAME=VALUE stops the launcher (comments too)"
    if not VARIABLE.fullmatch(name.strip()):
        return f"{name.strip()!r} is no name of a variable"
    if '"' in value or "%" in value:
        return 'the launcher and pdsh cannot pass on a value with " or %'
    return None


def ask_hosts(sessions: Sequence[Session], timeout: float) -> dict[str, dict[str, Any]]:
    """Each host's accelerators, and the interface by which it reaches the first; UserError when one does not answer."""

    def ask(session: Session, question: str, **values: Any) -> dict[str, Any]:
        try:
            return session.ask(question, timeout, **values)
        except HostError as error:
            raise UserError(f"{session.host.name} ({session.host.where}): {error}. {error.remedy}") from None

    answers = at_once(partial(ask, question="facts", repository=str(REPOSITORY), packages=[], run_dir="/"), sessions)
    address = (answers[0]["addresses"] or [sessions[0].host.name])[0]
    routes = at_once(partial(ask, question="route", address=address), sessions)
    return {
        session.host.name: {**answer, "interface": found.get("interface")}
        for session, answer, found in zip(sessions, answers, routes, strict=True)
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cluster.environment", description=__doc__.splitlines()[0])
    parser.add_argument("hostfile", type=Path)
    parser.add_argument("--write", action="store_true", help="write the file in place of printing it")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds that a host may take to answer (60)")
    parser.add_argument("--ssh-port", type=int, help="as the launcher's --ssh_port")
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Asks the hosts and prints or writes the lines."""
    hosts = read_hostfile(arguments.hostfile)
    with open_sessions(hosts, 10.0, arguments.ssh_port) as sessions:
        values = propose(ask_hosts(sessions, arguments.timeout))
    if not arguments.write:
        print("\n".join(f"{name}={value}" for name, value in values.items()))
        return 0
    path = target_file(os.environ, Path.cwd())
    existing = path.read_text(encoding="utf-8") if path.is_file() else ""
    write_atomic(path, merge(existing, values))
    print(f"{path}: {', '.join(values)}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    return told("environment", lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
