"""Two hosts on one machine: network, mount, process and UTS namespaces joined by a bridge, an sshd in each if wanted.

Nothing appears in the machine's own namespaces: the bridge lies in a namespace of its own, every host's keys and
configuration are bound over /etc/ssh inside that host only. Each namespace lives by a process that waits for the end of
its standard input, so that all of it goes away with this process, however that ends. Price: needs root, Linux,
iproute2, util-linux and, for ssh, the OpenSSH server.
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
SWITCH = f"{PREFIX}.254"
"""The switch's own address: a place on the network that stays when hosts are cut off."""
TOOLS = ("ip", "unshare", "nsenter", "mount")
SSH_TOOLS = ("ssh", "ssh-keygen", "ssh-keyscan", "pdsh")
SSHD = "/usr/sbin/sshd"

# First process of a host: its end kills every process of the host. `hostname -I` must give the bridge's address, so
# the network is up before sshd starts: the line that `read` waits for says so.
HOST_SCRIPT = """
set -e
hostname "$1"
mount -t tmpfs tmpfs /run
ip link set lo up
echo ready
read line
if [ -n "$2" ]; then
    mount --bind "$2" /etc/ssh
    mkdir -p /run/sshd
    /usr/sbin/sshd -f /etc/ssh/sshd_config -E /etc/ssh/sshd.log
fi
echo started
exec cat > /dev/null
"""


@dataclass(frozen=True)
class NamespaceHost:
    """A host: its address on the bridge, the process (outside PID) whose namespaces it is, its plug in the switch."""

    address: str
    pid: int
    switch: subprocess.Popen[str]
    plug: str

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

    def cut(self) -> None:
        """Pulls the plug: nothing goes in or out, and nobody is told."""
        in_network(self.switch, f"ip link set {self.plug} down")

    def mend(self) -> None:
        """Puts the plug back."""
        in_network(self.switch, f"ip link set {self.plug} up")


def why_not(ssh: bool = True) -> str | None:
    """Why hosts cannot be made here; None where they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [name for name in TOOLS + SSH_TOOLS * ssh if shutil.which(name) is None]
    missing += [SSHD] * (ssh and not Path(SSHD).exists())
    if missing:
        return f"not installed: {', '.join(missing)} (apt-get install iproute2 openssh-server pdsh)"
    probe = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "ip", "link", "add"]
    made = subprocess.run([*probe, "br0", "type", "bridge"], capture_output=True, text=True, check=False)
    return (
        None if made.returncode == 0 else f"this machine lets root make no namespace or bridge: {made.stderr.strip()}"
    )


@contextmanager
def make_hosts(folder: Path, count: int = 2, ssh: bool = True) -> Iterator[list[NamespaceHost]]:
    """`count` hosts at 10.77.31.1 and up that reach each other; with ssh also over it, with one key, as root."""
    with ExitStack() as stack:
        switch = stack.enter_context(_namespace(["sh", "-c", "echo ready; exec cat > /dev/null"]))
        for line in (
            "ip link set lo up",
            "ip link add br0 type bridge",
            f"ip address add {SWITCH}/24 dev br0",
            "ip link set br0 up",
        ):
            in_network(switch, line)
        settings = [folder / f"host-{number}" for number in range(1, count + 1)]
        if ssh:
            _write_all_settings(settings, folder / "id")
        hosts = []
        for number, own in enumerate(settings, 1):
            address, plug = f"{PREFIX}.{number}", f"port{number}"
            script = ["sh", "-c", HOST_SCRIPT, "sh", f"host-{number}", str(own) if ssh else ""]
            holder = stack.enter_context(_namespace(script, "--mount", "--uts", "--pid", "--fork", "--mount-proc"))
            pid = child_of(holder.pid)
            in_network(switch, f"ip link add {plug} type veth peer name eth0 netns {pid}")
            in_network(switch, f"ip link set {plug} master br0 up")
            hosts.append(NamespaceHost(address, pid, switch, plug))
            for line in (f"ip address add {address}/24 dev eth0", "ip link set eth0 up"):
                subprocess.run(hosts[-1].command(line.split()), check=True)
            _tell(holder)
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


def child_of(pid: int) -> int:
    """The process that `unshare --fork` or `nsenter --pid` started: inside the namespaces, where it itself is not."""
    for _ in range(100):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.05)
    raise RuntimeError(f"process {pid} has started no child")


def network_command(process: subprocess.Popen[str], argv: Sequence[str]) -> list[str]:
    """The same command, run in the network of the process."""
    return ["nsenter", f"--target={process.pid}", "--net", "--", *argv]


def in_network(process: subprocess.Popen[str], line: str) -> None:
    """Runs a line in the network of the process."""
    subprocess.run(network_command(process, line.split()), check=True)


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def _write_all_settings(folders: Sequence[Path], key: Path) -> None:
    _make_key(key)
    known = ""
    for number, folder in enumerate(folders, 1):
        address = f"{PREFIX}.{number}"
        _write_settings(folder, key, address)
        known += f"{address} {(folder / 'ssh_host_ed25519_key.pub').read_text()}"
    for folder in folders:
        (folder / "known_hosts").write_text(known)


def _write_settings(folder: Path, key: Path, address: str) -> None:
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
