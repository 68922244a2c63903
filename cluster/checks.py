"""What the hosts' answers mean: pure functions from answers to findings, each problem with its remedy.

The reference is the launching machine: its Python, its packages, its files, its clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.hostfile import Host

PACKAGES = (
    "torch", "deepspeed", "ray", "mlflow", "transformers", "webdataset",
    "sentencepiece", "safetensors", "numpy", "pydantic", "tokenizers", "pyarrow",
)  # fmt: skip
MOST_SECONDS_APART = 5.0
GIGABYTE = 10**9


@dataclass(frozen=True)
class Finding:
    """A cell of the table: a short value, and the problem with its remedy if there is one."""

    check: str
    value: str
    problem: str = ""
    remedy: str = ""


def check_python(here: Mapping[str, Any], there: Mapping[str, Any]) -> Finding:
    """The same Python, and a torch that can be imported."""
    if there["python"] != here["python"]:
        problem = f"Python {there['python']}, here {here['python']}"
        return Finding("python", "", problem, "Make the environment anew there from the same Python.")
    if there["torch_error"]:
        remedy = "Make the environment anew there: make setup."
        return Finding("python", "", f"torch cannot be imported: {there['torch_error']}", remedy)
    return Finding("python", there["python"])


def check_packages(here: Mapping[str, Any], there: Mapping[str, Any]) -> Finding:
    """The same version of every package that a run uses."""
    other = [
        f"{name} {there['packages'].get(name) or 'missing'} (here {version or 'missing'})"
        for name, version in here["packages"].items()
        if there["packages"].get(name) != version
    ]
    if other:
        remedy = "Install the same versions: make setup, from the same constraints.txt."
        return Finding("packages", "", _few(other), remedy)
    return Finding("packages", "same")


def check_repository(here: Mapping[str, Any], there: Mapping[str, Any], repository: str) -> Finding:
    """The same files at the same path; the commit is named, the files decide."""
    if not any(name.endswith(".py") for name in there["files"]):
        remedy = f"Put the repository at {repository} on every host, or share that folder."
        return Finding("repository", "", f"{repository} is not there", remedy)
    names = sorted(set(here["files"]) | set(there["files"]))
    other = [name for name in names if here["files"].get(name) != there["files"].get(name)]
    if other:
        commits = f"commit {_short(there)}, here {_short(here)}; " if _short(there) != _short(here) else ""
        remedy = f"Bring both to one state: git pull on each, or rsync {repository}."
        return Finding("repository", "", f"{commits}other files: {_few(other)}", remedy)
    return Finding("repository", _short(there))


def check_disk(there: Mapping[str, Any], needed_gb: float, run_dir: str) -> Finding:
    """Room for checkpoints below run_dir."""
    free = there["free_bytes"] / GIGABYTE
    if free < needed_gb:
        problem = f"{free:.1f} GB free for {run_dir}, {needed_gb:g} wanted"
        return Finding("disk", "", problem, "Make room, set another run_dir, or lower --free-gb.")
    return Finding("disk", f"{free:.0f} GB")


def check_accelerators(host: Host, here_cpu: bool, there: Mapping[str, Any], first: Mapping[str, Any]) -> Finding:
    """As many accelerators as slots, of the first host's kind; on CPUs (DS_ACCELERATOR=cpu, or none) any number."""
    names = there["accelerators"]
    if here_cpu or (not names and not first["accelerators"]):
        return Finding("accelerator", f"{there['cores']} cores")
    if len(names) < host.slots:
        problem = f"slots={host.slots}, but {len(names)} accelerators are seen there"
        remedy = "Lower slots, mend the driver (nvidia-smi), or write DS_ACCELERATOR=cpu into the environment file."
        return Finding("accelerator", "", problem, remedy)
    if set(names) != set(first["accelerators"]):
        problem = f"{names[0]}, the first host has {', '.join(first['accelerators']) or 'none'}"
        return Finding("accelerator", "", problem, "Use hosts of one kind: the slowest sets the pace.")
    return Finding("accelerator", f"{len(names)} x {names[0]}")


def check_clock(sent: float, received: float, there: float) -> Finding:
    """The clock, less this machine's: known to half of the time that the answer took."""
    offset = there - (sent + received) / 2
    if abs(offset) - (received - sent) / 2 > MOST_SECONDS_APART:
        problem = f"its clock is {offset:+.0f} s off from this machine's"
        return Finding("clock", "", problem, "Keep time on every host: apt-get install chrony.")
    return Finding("clock", f"{offset:+.2f} s")


def check_network(
    route: Mapping[str, Any], interface: str | None, there: Mapping[str, Any], master: str, hosts: int
) -> Finding:
    """A route to the master that is no loopback; the interface that the environment file names, if any, exists."""
    if "error" in route:
        return Finding("network", "", route["error"], "Put the hosts on one network, or give --master-addr.")
    if interface is not None and interface not in there["interfaces"]:
        problem = f"the environment file names the interface {interface}; there are {', '.join(there['interfaces'])}"
        remedy = "Take GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME out: the ranks choose by the route."
        return Finding("network", "", problem, remedy)
    if hosts > 1 and route["address"].startswith("127."):
        problem = f"it reaches the master {master} by a loopback address"
        remedy = "Take the host's own name off 127.0.1.1 in /etc/hosts, or give --master-addr."
        return Finding("network", "", problem, remedy)
    return Finding("network", f"{route['interface'] or ''} {route['address']}".strip())


def check_port(opened: Mapping[str, Any], port: int, failed: Sequence[Sequence[Any]]) -> Finding:
    """The master's port could be opened, where it was asked for; every port of the other hosts was reached."""
    if "error" in opened:
        problem = f"port {port} cannot be opened there: {opened['error']}"
        remedy = f"Stop what listens (ss -ltnp 'sport = :{port}'), or give --port here and --master_port to deepspeed."
        return Finding("port", "", problem, remedy)
    if failed:
        found = _few([f"{host}:{number} ({reason})" for host, number, reason in failed])
        remedy = "Open all TCP ports between the hosts: the ranks connect on ports that the system chooses."
        return Finding("port", "", f"cannot reach {found}", remedy)
    return Finding("port", "ok")


def check_run_dir(marked: Mapping[str, Any], missing: Sequence[str], run_dir: str) -> Finding:
    """Every host writes there and sees what the others wrote."""
    remedy = f"Share {run_dir} between the hosts (NFS or the like) at the same path, writable."
    if "error" in marked:
        return Finding("run_dir", "", f"{run_dir}: {marked['error']}", remedy)
    if missing:
        problem = f"{run_dir} there is another folder: a file written on {_few(list(missing))} is not seen"
        return Finding("run_dir", "", problem, remedy)
    return Finding("run_dir", "shared")


def check_data(here: Mapping[str, Any], there: Mapping[str, Any], folder: str) -> Finding:
    """The same manifest, and every shard of the size that it says."""
    remedy = f"Share or copy {folder}: every host must have the same data."
    if there["manifest"] != here["manifest"]:
        problem = "is missing" if there["manifest"] is None else "is another one"
        return Finding("data", "", f"{folder}/manifest.json {problem} there", remedy)
    other = [name for name, size in here["bytes"].items() if there["bytes"].get(name) != size]
    if other:
        return Finding("data", "", f"missing there or of another size: {_few(other)}", remedy)
    return Finding("data", f"{len(here['bytes'])} shards")


def _short(facts: Mapping[str, Any]) -> str:
    return (facts["commit"] or "same files")[:9]


def _few(items: list[str], most: int = 3) -> str:
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + rest
