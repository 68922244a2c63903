"""Two hosts on one machine: network, mount, process and UTS namespaces joined by a bridge, an sshd in each.

Nothing appears in the machine's own namespaces: the bridge lies in a namespace of its own, every host's keys and
configuration are bound over /etc/ssh inside that host only. Each namespace lives by a process that waits for the end of
its standard input, so that all of it goes away with this process, however that ends. Price: needs root, Linux,
iproute2, util-linux and the OpenSSH server.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

PREFIX = "10.77.31"
TOOLS = ("ip", "unshare", "nsenter", "mount", "ssh", "ssh-keygen", "ssh-keyscan", "pdsh")
SSHD = "/usr/sbin/sshd"

# First process of a host: its end kills every process of the host. `hostname -I` must give the bridge's address, so
# the network is up before sshd starts: the line that `read` waits for says so.
HOST_SCRIPT = """
set -e
hostname "$1"
mount --bind "$2" /etc/ssh
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd
ip link set lo up
echo ready
read line
/usr/sbin/sshd -f /etc/ssh/sshd_config -E /etc/ssh/sshd.log
echo started
exec cat > /dev/null
"""


@dataclass(frozen=True)
class NamespaceHost:
    """A host: its address on the bridge, and the process (outside PID) whose namespaces it is."""

    address: str
    pid: int
    settings: Path

    def command(self, argv: Sequence[str], cwd: Path = Path("/")) -> list[str]:
        """The same command, run on this host as its root would, in the folder."""
        enter = ["nsenter", f"--target={self.pid}", "--net", "--mount", "--uts", "--pid", "--"]
        return [*enter, "sh", "-c", 'cd "$0" && exec "$@"', str(cwd), *argv]

    def run(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end with exactly this environment; past the timeout the process is killed."""
        return subprocess.run(
            self.command(argv, cwd), env=dict(env), timeout=timeout, text=True, capture_output=True, check=False
        )


def why_not() -> str | None:
    """Why hosts cannot be made here; None where they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [name for name in TOOLS if shutil.which(name) is None] + [SSHD] * (not Path(SSHD).exists())
    if missing:
        return f"not installed: {', '.join(missing)} (apt-get install iproute2 openssh-server pdsh)"
    probe = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "ip", "link", "add"]
    made = subprocess.run([*probe, "br0", "type", "bridge"], capture_output=True, text=True, check=False)
    return (
        None if made.returncode == 0 else f"this machine lets root make no namespace or bridge: {made.stderr.strip()}"
    )


@contextmanager
def make_hosts(folder: Path, count: int = 2) -> Iterator[list[NamespaceHost]]:
    """`count` hosts at 10.77.31.1 and up that reach each other, and themselves, over ssh with one key, as root."""
    with ExitStack() as stack:
        switch = stack.enter_context(_namespace(["sh", "-c", "echo ready; exec cat > /dev/null"]))
        _in_network(switch, "ip link add br0 type bridge")
        _in_network(switch, "ip link set br0 up")
        _make_key(folder / "id")
        hosts = []
        for number in range(1, count + 1):
            address = f"{PREFIX}.{number}"
            settings = _write_settings(folder / f"host-{number}", folder / "id", address)
            script = ["sh", "-c", HOST_SCRIPT, "sh", f"host-{number}", str(settings)]
            holder = stack.enter_context(_namespace(script, "--mount", "--uts", "--pid", "--fork", "--mount-proc"))
            pid = _child(holder.pid)
            _in_network(switch, f"ip link add port{number} type veth peer name eth0 netns {pid}")
            _in_network(switch, f"ip link set port{number} master br0 up")
            hosts.append(NamespaceHost(address, pid, settings))
            for line in (f"ip address add {address}/24 dev eth0", "ip link set eth0 up"):
                subprocess.run(hosts[-1].command(line.split()), check=True)
            _tell(holder)
        known = "".join(f"{host.address} {(host.settings / 'ssh_host_ed25519_key.pub').read_text()}" for host in hosts)
        for host in hosts:
            (host.settings / "known_hosts").write_text(known)
        yield hosts


@contextmanager
def _namespace(argv: Sequence[str], *flags: str) -> Iterator[subprocess.Popen[str]]:
    """A process in a network namespace of its own (and what `flags` add), ended by closing its standard input."""
    flags = (*flags, "--kill-child") if "--fork" in flags else flags
    process = subprocess.Popen(
        ["unshare", "--net", *flags, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        _expect(process, "ready")
        yield process
    finally:
        process.stdin.close() if process.stdin else None
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _expect(process: subprocess.Popen[str], word: str) -> None:
    line = process.stdout.readline().strip() if process.stdout else ""
    if line != word:
        raise RuntimeError(f"the namespace's process said {line!r} in place of {word!r}")


def _tell(process: subprocess.Popen[str]) -> None:
    """The network is up: let sshd start, and wait until it has."""
    if process.stdin:
        process.stdin.write("go\n")
        process.stdin.flush()
    _expect(process, "started")


def _child(pid: int) -> int:
    """The process that `unshare --fork` started: the namespace's first."""
    for _ in range(100):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.05)
    raise RuntimeError(f"process {pid} has started no child")


def _in_network(process: subprocess.Popen[str], line: str) -> None:
    subprocess.run(["nsenter", f"--target={process.pid}", "--net", "--", *line.split()], check=True)


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def _write_settings(folder: Path, key: Path, address: str) -> Path:
    """What lies in a host's /etc/ssh: its host key, its server's and its client's configuration, the user's key."""
    folder.mkdir(mode=0o755)
    _make_key(folder / "ssh_host_ed25519_key")
    shutil.copy(key, folder / "id")
    shutil.copy(f"{key}.pub", folder / "authorized_keys")
    server = {
        "ListenAddress": address,
        "HostKey": "/etc/ssh/ssh_host_ed25519_key",
        "PermitRootLogin": "prohibit-password",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "AuthorizedKeysFile": "/etc/ssh/authorized_keys",
        # The folders above the key belong to pytest, not to /root/.ssh, as StrictModes would have it.
        "StrictModes": "no",
        "PidFile": "none",
    }
    client = {"IdentityFile": "/etc/ssh/id", "UserKnownHostsFile": "/etc/ssh/known_hosts", "IdentitiesOnly": "yes"}
    (folder / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in server.items()))
    (folder / "ssh_config").write_text("Host *\n" + "".join(f"  {key} {value}\n" for key, value in client.items()))
    return folder
