"""Starts this process's part of a job: accelerator, threads, process group. One process needs no launcher.

The environment that DeepSpeed, torch and gloo read is completed here, before DeepSpeed's import (which takes seconds).
"""

import atexit
import fcntl
import os
import socket
import struct
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch.distributed.rendezvous import rendezvous

from pipeline.base.errors import PeersLost, UserError
from pipeline.training.launcher import ELASTIC
from pipeline.training.memory import keep_freed_memory
from pipeline.training.ranks import Ranks
from pipeline.training.watchdog import Watchdog

SIOCGIFADDR = 0x8915  # Linux: the address of an interface


def start_ranks(threads: int | None, watch: Watchdog | None = None) -> Ranks:
    """Joins the process group that the launcher's environment describes, or makes one of a single process.

    watch: one that is watching, so that the ranks notice each other's end.
    """
    _complete_environment()
    torch.set_num_threads(thread_count(threads))
    with without("mlflow"):  # the autotuner, which is not used, would import it: seconds of every rank
        import deepspeed
    import deepspeed.ops
    from deepspeed.accelerator import get_accelerator
    from deepspeed.utils import logger

    logger.setLevel("WARNING")
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")  # DeepSpeed's calls
    accelerator = get_accelerator()
    device = torch.device(accelerator.device_name())
    if device.type != "cpu":
        accelerator.set_device(int(os.environ["LOCAL_RANK"]))
        device = torch.device(accelerator.current_device_name())
    else:
        # Its first use would compile C++ for a minute or two; gloo does the same work.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        keep_freed_memory()
    if not torch.distributed.is_initialized():  # a second run in this process goes on in the group that DeepSpeed knows
        backend = accelerator.communication_backend_name()
        meet(backend)
        deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False)
        atexit.register(_leave)
    ranks = Ranks(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), device, watch)
    if watch is not None:
        with ranks.told():
            ranks.join_heartbeats()
    return ranks


@contextmanager
def without(package: str) -> Iterator[None]:
    """Where a package is not imported yet, an attempt finds none meanwhile."""
    absent = package not in sys.modules
    if absent:
        sys.modules[package] = None  # type: ignore[assignment]  # as the import system has it
    try:
        yield
    finally:
        if absent:
            del sys.modules[package]


def launched_world() -> int:
    """Number of ranks that the launcher started; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_world() -> int:
    """Ranks on this host: the deepspeed launcher says LOCAL_SIZE, torchrun LOCAL_WORLD_SIZE."""
    return int(os.environ.get("LOCAL_SIZE") or os.environ.get("LOCAL_WORLD_SIZE") or launched_world())


def thread_count(threads: int | None) -> int:
    """CPU threads of this rank: train.threads, else OMP_NUM_THREADS, else the cores divided by the host's ranks."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if threads is None and given.isdigit() and int(given) > 0:
        threads = int(given)
    return threads or max(1, len(os.sched_getaffinity(0)) // local_world())


def interface_towards(address: str) -> str | None:
    """Name of the network interface by whose IPv4 address this host reaches `address`; None where it cannot be told."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))  # of a datagram socket: chooses the route, sends nothing
            own = probe.getsockname()[0]
            return next((name for _, name in socket.if_nameindex() if _address_of(name, probe) == own), None)
    except OSError:
        return None


def _address_of(interface: str, probe: socket.socket) -> str | None:
    try:
        answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
    except OSError:
        return None  # it has no IPv4 address
    return socket.inet_ntoa(answer[20:24])


def _complete_environment() -> None:
    if not torch.accelerator.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    if "RANK" not in os.environ:
        os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
        os.environ["MASTER_PORT"] = str(free_port())
    missing = [key for key in ("WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if key not in os.environ]
    if missing:
        raise UserError(
            f"RANK is set but {', '.join(missing)} not: start many processes by the deepspeed launcher (or torchrun), "
            "and a single one without RANK in the environment."
        )
    if launched_world() > local_world() and "GLOO_SOCKET_IFNAME" not in os.environ:
        # gloo resolves this host's own name, which is often a loopback address that no other host reaches.
        interface = interface_towards(os.environ["MASTER_ADDR"])
        if interface is not None:
            os.environ["GLOO_SOCKET_IFNAME"] = interface


def meet(backend: str) -> None:
    """Makes the process group once all ranks have come to MASTER_ADDR:MASTER_PORT. Raises UserError when they do not.

    ELECTRA_RENDEZVOUS_SECONDS bounds the wait for them (300); later collectives have torch's own, longer limit.
    """
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    seconds = int(os.environ.get("ELECTRA_RENDEZVOUS_SECONDS", "300"))
    reached = False
    try:
        patience = timedelta(seconds=seconds)
        store, rank, world = next(rendezvous("env://", rank, world, timeout=patience))
        reached = True
        store = torch.distributed.PrefixStore("ranks", store)  # type: ignore[attr-defined]
        torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=world)
    except (torch.distributed.DistError, RuntimeError) as error:
        if "EADDRINUSE" in str(error):
            raise UserError(
                f"port {port} of {address}, where the ranks meet, is in use (by another run?). Start with another one: "
                f"deepspeed --master_port {int(port) + 1} ..."
            ) from error
        if ELASTIC in os.environ:  # a host has gone while the ranks were starting
            gone = PeersLost(
                f"not all {world} ranks came together at {address}:{port} within {seconds} s; the launcher starts them "
                "again on the hosts that are left."
            )
            gone.told = rank == 0
            raise gone from error
        missing = UserError(
            f"not all {world} ranks came together at {address}:{port} within {seconds} s: a host is down, unreachable "
            "or behind a firewall, or a rank has failed. On the machine that starts the job, run "
            f"`python -m cluster.preflight HOSTFILE`. ({str(error).splitlines()[0]})"
        )
        missing.shared = reached  # where rank 0 is the one that is missing, nobody else tells it
        raise missing from error


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
