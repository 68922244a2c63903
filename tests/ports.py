"""Free ports of loopback for servers and ranks that tests start."""

import contextlib
import secrets
import socket

HOST = "127.0.0.1"


def free_port() -> int:
    """A port that nothing listens on, outside those that the system or Ray itself hands out in the meantime."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port


def free_ports(count: int) -> list[int]:
    """That many of them."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)
