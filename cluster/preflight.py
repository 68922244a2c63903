"""Checks, before `deepspeed --hostfile`, that every host of a hostfile can take part; says what to do where one cannot.

    python -m cluster.preflight hosts [--config FILE] [--run-dir FOLDER] [--port 29500] [key=value ...]

All hosts are asked side by side over ssh, in a few rounds: what each is by itself, then what they are to each other
(routes, ports, the shared folder). Exit code 0 when all is well, 2 otherwise. Price: about ten seconds, most of them
for importing torch on every host; a short-lived marker file in the run's folder.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster import checks, probe
from cluster.checks import Finding
from cluster.command import told
from cluster.environment import REPOSITORY, environment_files, problems, read_environment
from cluster.hostfile import Host, read_hostfile
from cluster.remote import HostError, Session, at_once, open_sessions
from pipeline.base.config import RunConfig, load_config
from pipeline.base.errors import UserError
from pipeline.base.run_folder import RunFolder
from pipeline.base.storage import is_remote, is_url
from pipeline.shards.manifest import all_shards, read_manifest

COLUMNS = (
    "ssh", "python", "packages", "repository", "disk", "accelerator", "clock", "network", "port", "run_dir", "data",
)  # fmt: skip
CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Settings:
    """What to check for."""

    run_dir: str
    data: str
    """Folder of manifest.json, or its URL."""
    config: str | None
    """The YAML file that every rank will read, if one is given."""
    port: int
    """The launcher's --master_port."""
    master_addr: str | None
    """The launcher's --master_addr; None: the first host's first address, as the launcher does."""
    timeout: float
    free_gb: float
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the environment file passes on."""
    store: bool = False
    """Whether checkpoints go to a store: every host may then have a run_dir of its own."""


class Preflight:
    """The rounds of questions. A host that fails to answer is left out of the rounds after."""

    def __init__(self, hosts: Sequence[Host], sessions: Sequence[Session], settings: Settings) -> None:
        self.hosts = hosts
        self.sessions = list(sessions)
        self.settings = settings
        self.findings: dict[str, dict[str, Finding]] = {host.name: {} for host in hosts}
        self.facts: dict[str, dict[str, Any]] = {}
        self.own: list[tuple[str, str]] = []
        """(Problem, remedy) of this machine."""

    def ask(self, question: str, **values: Callable[[Host], Any]) -> dict[str, dict[str, Any]]:
        """Every host's answer by its name; each value is computed for the host that is asked."""

        def one(session: Session) -> dict[str, Any] | HostError:
            given = {name: value(session.host) for name, value in values.items()}
            try:
                return session.ask(question, self.settings.timeout, **given)
            except HostError as error:
                return error

        answers = dict(zip([session.host.name for session in self.sessions], at_once(one, self.sessions), strict=True))
        for name, answer in answers.items():
            if isinstance(answer, HostError):
                self.note(name, Finding(answer.check, "", str(answer), answer.remedy))
        good = {name: answer for name, answer in answers.items() if not isinstance(answer, HostError)}
        self.sessions = [session for session in self.sessions if session.host.name in good]
        return good

    def note(self, name: str, finding: Finding) -> None:
        """Keeps a finding; of several on one check, the first problem."""
        before = self.findings[name].get(finding.check)
        if before is None or not before.problem:
            self.findings[name][finding.check] = finding

    def note_all(self, finding: Finding) -> None:
        """The same for every host that answers."""
        for session in self.sessions:
            self.note(session.host.name, finding)

    def run(self) -> None:
        """All rounds."""
        self.look_at_each()
        self.compare_clocks()
        if self.hosts[0].name in self.facts:
            self.connect()
        self.share_folder()
        self.compare_data()

    def look_at_each(self) -> None:
        """Python, packages, repository, disk, accelerators: against this machine's."""
        settings = self.settings
        packages, repository, folder = list(checks.PACKAGES), str(REPOSITORY), settings.run_dir
        here = probe.facts(repository, packages, folder, settings.config)
        self.facts = self.ask(
            "facts",
            repository=lambda host: repository,
            packages=lambda host: packages,
            run_dir=lambda host: folder,
            config=lambda host: settings.config,
        )
        cpu = settings.environment.get("DS_ACCELERATOR") == "cpu"
        first: dict[str, Any] = next(iter(self.facts.values()), {"accelerators": []})
        for host in self.hosts:
            there = self.facts.get(host.name)
            if there is not None:
                self.note(host.name, Finding("ssh", "ok"))
                self.note(host.name, checks.check_python(here, there))
                self.note(host.name, checks.check_packages(here, there))
                self.note(host.name, checks.check_repository(here, there, repository))
                self.note(host.name, checks.check_disk(there, settings.free_gb, folder))
                self.note(host.name, checks.check_accelerators(host, cpu, there, first))

    def compare_clocks(self) -> None:
        """Each host's clock against this machine's."""
        for session in list(self.sessions):
            sent = time.time()
            try:
                answer = session.ask("clock", self.settings.timeout)
            except HostError as error:
                self.note(session.host.name, Finding(error.check, "", str(error), error.remedy))
                continue
            self.note(session.host.name, checks.check_clock(sent, time.time(), answer["time"]))

    def connect(self) -> None:
        """Routes to the master, its port, and connections from every host to every other one."""
        settings, first = self.settings, self.hosts[0].name
        master = settings.master_addr or (self.facts[first]["addresses"] or [first])[0]
        routes = self.ask("route", address=lambda host: master)
        interface = settings.environment.get("GLOO_SOCKET_IFNAME") or settings.environment.get("NCCL_SOCKET_IFNAME")
        for name, route in routes.items():
            self.note(name, checks.check_network(route, interface, self.facts[name], master, len(self.hosts)))
        opened = self.ask("listen", port=lambda host: settings.port if host.name == first else 0)
        peers = {
            name: [routes[name]["address"], opened[name]["port"]]
            for name in opened
            if "error" not in routes[name] and "error" not in opened[name]
        }
        tried = self.ask("connect", peers=lambda host: [peer for name, peer in peers.items() if name != host.name])
        for name, answer in tried.items():
            self.note(name, checks.check_port(opened[name], settings.port, answer["failed"]))

    def share_folder(self) -> None:
        """A marker from this machine and from each host, seen by all."""
        if self.settings.store:
            return self.note_all(Finding("run_dir", "any"))
        folder, token = self.settings.run_dir, f".preflight-{uuid.uuid4().hex[:12]}"
        names = {host.name: f"{token}-{number}" for number, host in enumerate(self.hosts, 1)}
        own = f"{token}-0"
        with _folder(Path(folder)) as trouble:
            trouble = trouble or probe.mark(folder, own).get("error", "")
            if trouble:
                self.own.append((f"run_dir {folder}: {trouble}", "Mend the access, or set another run_dir."))
                return
            try:
                marked = self.ask("mark", folder=lambda host: folder, name=lambda host: names[host.name])
                wanted = [own, *(names[name] for name, answer in marked.items() if "error" not in answer)]
                seen = self.ask("seen", folder=lambda host: folder, names=lambda host: wanted)
            finally:
                self.ask("unmark", folder=lambda host: folder, name=lambda host: names[host.name])
                probe.unmark(folder, own)
        origin = {own: "this machine", **{marker: name for name, marker in names.items()}}
        for name, answer in seen.items():
            missing = [origin[marker] for marker in answer["missing"]]
            self.note(name, checks.check_run_dir(marked[name], missing, folder))

    def compare_data(self) -> None:
        """The manifest and the shards' sizes, against this machine's; nothing to compare before preprocessing."""
        folder = self.settings.data
        if is_url(folder):
            return self.note_all(Finding("data", "a store's"))
        if not Path(folder, "manifest.json").is_file():
            return self.note_all(Finding("data", "none yet"))
        names = [entry.name for entry in all_shards(read_manifest(Path(folder, "manifest.json")))]
        here = probe.data(folder, names)
        for name, there in self.ask("data", folder=lambda host: folder, names=lambda host: names).items():
            self.note(name, checks.check_data(here, there, folder))


@contextmanager
def _folder(path: Path) -> Iterator[str]:
    """Makes the folder for as long as it is needed, where it is not there. Yields why it could not be made, or ""."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        yield f"it cannot be made ({error.strerror})"
        return
    try:
        yield ""
    finally:
        for folder in missing:  # the deepest first
            with suppress(OSError):
                folder.rmdir()


def check_launcher(files: Sequence[Path]) -> list[tuple[str, str]]:
    """(Problem, remedy) of the launching machine itself: pdsh, and the environment file."""
    found = problems(files, os.environ)
    if shutil.which("pdsh") is None:
        found.append(("pdsh is not installed", "apt-get install pdsh, on the machine that starts deepspeed."))
    else:
        modules = subprocess.run(["pdsh", "-V"], capture_output=True, text=True, check=False).stdout
        if "ssh" not in modules.partition("rcmd modules:")[2].splitlines()[0]:
            found.append(("pdsh has no ssh module", "Install one that has (Debian: apt-get install pdsh)."))
    return found


def table(hosts: Sequence[Host], findings: Mapping[str, Mapping[str, Finding]]) -> str:
    """A row for each host, a column for each check: a value, FAIL, or - where it could not be checked."""
    rows = [["host", *COLUMNS]]
    for host in hosts:
        cells = [findings[host.name].get(check) for check in COLUMNS]
        rows.append([host.name, *("-" if cell is None else "FAIL" if cell.problem else cell.value for cell in cells)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def report(hosts: Sequence[Host], findings: Mapping[str, Mapping[str, Finding]], own: list[tuple[str, str]]) -> None:
    """Prints the table; UserError with every problem and its remedy, if there are any."""
    print(table(hosts, findings), flush=True)
    lines = [f"this machine: {problem}\n    {remedy}" for problem, remedy in own]
    for host in hosts:
        for finding in findings[host.name].values():
            if finding.problem:
                where = f"{host.name} ({host.where}): {finding.check}"
                lines.append(f"{where}: {finding.problem}\n    {finding.remedy}")
    if lines:
        count = f"{len(lines)} problem{'s' * (len(lines) > 1)}"
        raise UserError("\n  ".join([f"{count}; nothing was started.", *lines]))
    ranks = sum(host.slots for host in hosts)
    print(f"preflight: all well: {len(hosts)} hosts, {ranks} ranks")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cluster.preflight", description=__doc__.splitlines()[0])
    parser.add_argument("hostfile", type=Path)
    parser.add_argument("settings", nargs="*", metavar="key=value", help="as given to pretrain.py")
    parser.add_argument("--config", type=Path, help="the run's YAML file, as given to pretrain.py")
    parser.add_argument("--run-dir", help="the run's folder, in place of the config's")
    parser.add_argument("--port", type=int, default=29500, help="the launcher's --master_port (29500)")
    parser.add_argument("--master-addr", help="the launcher's --master_addr (the first host's first address)")
    parser.add_argument("--ssh-port", type=int, help="the launcher's --ssh_port")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds that a host may take to answer (60)")
    parser.add_argument("--free-gb", type=float, default=5.0, help="disk space wanted below run_dir (5)")
    return parser


def _data_folder(config: RunConfig) -> str:
    data = RunFolder.with_data(config).data
    return str(data) if is_remote(data) else os.path.abspath(data)


def run(arguments: argparse.Namespace) -> int:
    """Reads the inputs, asks the hosts, reports."""
    hosts = read_hostfile(arguments.hostfile)
    given = [*arguments.settings, *([f"run_dir={json.dumps(arguments.run_dir)}"] if arguments.run_dir else [])]
    config = load_config(arguments.config, given)
    files = environment_files(os.environ, Path.home(), Path.cwd())
    settings = Settings(
        run_dir=os.path.abspath(config.run_dir),
        data=_data_folder(config),
        config=os.path.abspath(arguments.config) if arguments.config else None,
        port=arguments.port,
        master_addr=arguments.master_addr,
        timeout=arguments.timeout,
        free_gb=arguments.free_gb,
        environment=read_environment(files),
        store=config.store is not None,
    )
    with open_sessions(hosts, CONNECT_SECONDS, arguments.ssh_port) as sessions:
        preflight = Preflight(hosts, sessions, settings)
        preflight.run()
    report(hosts, preflight.findings, [*check_launcher(files), *preflight.own])
    return 0


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = _parser().parse_intermixed_args(argv)
    return told("preflight", lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
