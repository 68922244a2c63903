"""Ray: join a cluster or start one on this machine, and map a function over tasks.

Only a bounded number of tasks is under way at a time, so the driver's memory does not grow with the input, and the
results do not depend on how many workers there are. Price: starting a local Ray takes a few seconds.
"""

import json
import os
import secrets
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pipeline.base.errors import EXIT_PREEMPTED, Preempted, UserError, first_line
from pipeline.base.log import get_logger
from pipeline.base.mapping import MEMORY_ADVICE, Failure, Mapping, dead_parts, ray_has_ended
from pipeline.base.sections import RayConfig

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("model", "pipeline")
OBJECT_STORE_BYTES = 100 << 20
RETRIES = 3
WINDOW = 4
"""Tasks under way for each CPU."""
CONNECT_SECONDS = 3.0
PATIENT = {"health_check_failure_threshold": 20, "health_check_timeout_ms": 30_000}
"""Of a local Ray: a machine on which all cores work answers late, and is not dead (Ray's own: 5 times, 10 s)."""
STARTS = 2
"""Tries to start a local Ray: a part of it may be killed, or be too slow on a busy machine."""
GRACE_SECONDS = 20.0
"""A driver that maps tasks notices by itself, and ends in order, within that."""
STOP_SECONDS = 1.0
"""How often it is asked whether to stop."""

Result = TypeVar("Result")


class Workers:
    """A connection to Ray. `where` says to which, in words; `cpus` and `gpus` are how many it has for tasks."""

    def __init__(self, where: str, cpus: int, gpus: int = 0) -> None:
        self.where, self.cpus, self.gpus = where, cpus, gpus

    def map_unordered(
        self,
        function: Callable[..., Result],
        arguments: Iterable[tuple[Any, ...]],
        *,
        plain: bool = False,
        give_up: bool = False,
    ) -> Iterator[tuple[int, Result | Failure]]:
        """(place in `arguments`, function(*one)) as they end; what a dead worker had is done again (`mapping`).

        function: a module-level one with small results. plain: arguments and results are JSON values. give_up: a task
        that fails three times gives a Failure, else its error is raised. A UserError in a worker comes through.
        """
        return Mapping(function, WINDOW * self.cpus, plain=plain, give_up=give_up).run(arguments)

    def map_ordered(self, function: Callable[..., Result], arguments: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
        """Results in the order of `arguments`; those that end early wait in memory for the ones before them."""
        early: dict[int, Any] = {}
        following = 0
        for place, result in self.map_unordered(function, arguments):
            early[place] = result
            while following in early:
                yield early.pop(following)
                following += 1

    def map_each(
        self, jobs: Iterable[tuple[Callable[..., Result], tuple[Any, ...]]], stop: Callable[[], bool]
    ) -> Iterator[tuple[int, Result | Exception]]:
        """(place of the job, its result) as they end; an exception is the result of a job that had one.

        Of a crashed worker the job is repeated. A job has one CPU and, where the connection has any, one GPU. Raises
        Preempted once stop() says so; what is under way is ended.
        """
        import ray

        options = {"max_retries": RETRIES, "num_cpus": 1, "num_gpus": 1 if self.gpus else 0}
        remotes: dict[Callable[..., Result], Any] = {}
        waiting = deque(enumerate(jobs))
        under_way: dict[Any, int] = {}
        try:
            while waiting or under_way:
                while waiting and len(under_way) < WINDOW * self.cpus:
                    place, (function, arguments) = waiting.popleft()
                    remote = remotes.setdefault(function, ray.remote(**options)(function))
                    under_way[remote.remote(*arguments)] = place
                ended, _ = ray.wait(list(under_way), num_returns=1, timeout=STOP_SECONDS)
                if stop():
                    raise Preempted("stopped; the same command goes on from what is complete.")
                for reference in ended:
                    yield under_way.pop(reference), _outcome(reference)
        finally:
            for reference in under_way:
                ray.cancel(reference, force=True)


def _outcome(reference: Any) -> Any:
    from ray.exceptions import RayError

    try:
        return _get(reference)
    except (UserError, RayError) as error:
        return error


def _get(reference: Any) -> Any:
    import ray
    from ray.exceptions import OutOfMemoryError, RayTaskError, WorkerCrashedError

    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(str(error.cause)) from None
        raise
    except (OutOfMemoryError, WorkerCrashedError) as error:
        raise UserError(
            "Ray workers died over one task again and again, for want of memory perhaps: "
            f"{first_line(error)}\n{MEMORY_ADVICE}"
        ) from error


@contextmanager
def connected(config: RayConfig, *, gpus: bool = False) -> Iterator[Workers]:
    """Ray by ray.address: "auto" joins the cluster of RAY_ADDRESS or of `ray start` here, else starts a local one.

    "local" always starts its own; anything else is an address. `gpus`: the tasks use them, where there are any.
    UserError where there is no connection.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_task_events_report_interval_ms", "0")  # else Ray's head keeps 4 kB a task
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        raise RuntimeError("this process is connected to Ray already")
    address, folder = cluster_address(config.address), Path.cwd()
    try:
        with chdir(ROOT):  # Ray puts the driver's folder on its workers' path, before all others
            if address is None:
                _start_local(config.num_cpus, None if gpus else 0)
            else:
                _join(address, folder)
        with _watched(address):
            cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
            where = f"the Ray cluster at {address}" if address else "a local Ray"
            get_logger().info(f"workers: {where}, {cpus} CPUs on {len(ray.nodes())} host(s)")
            yield Workers(where, cpus, int(ray.cluster_resources().get("GPU", 0)) if gpus else 0)
    finally:
        ray.shutdown()


@contextmanager
def _watched(address: str | None) -> Iterator[None]:
    """Ends this process where Ray is gone while the driver is busy, or waits for it, as Ray would without a word.

    address: of a cluster; None for the Ray that this process has started.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(STOP_SECONDS):
            if _lost(address) and not over.wait(GRACE_SECONDS) and (lost := _lost(address)):
                print(ray_has_ended(lost), file=sys.stderr, flush=True)
                os._exit(EXIT_PREEMPTED)

    thread = threading.Thread(target=watch, name="ray-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _lost(address: str | None) -> str:
    """Which part of Ray is gone, "" where all is there."""
    if address is None:
        return ", ".join(dead_parts())
    try:
        _check_answers(address)
        return ""
    except (OSError, ValueError):
        return f"the cluster's head at {address}"


def _start_local(num_cpus: int | None, num_gpus: int | None) -> None:
    import ray

    # Without a token Ray leaves one in the home folder, and every later `ray start` there asks its hosts for it.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    options = {
        "address": "local",
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "log_to_driver": False,
        "logging_level": "error",
        "_system_config": PATIENT,
    }
    for left in reversed(range(STARTS)):
        try:
            ray.init(**options)
            return
        except Exception as error:
            ray.shutdown()
            if not left:
                raise UserError(
                    f"cannot start a local Ray: {first_line(error)}\n"
                    "Make room in /tmp and /dev/shm, or set ray.address to a cluster's address."
                ) from error
            get_logger().warning(f"a local Ray did not start ({first_line(error)}); it is tried again")


def _join(address: str, folder: Path) -> None:
    import ray

    try:
        _check_answers(address)
        os.environ["RAY_ADDRESS"] = address
        # "auto" takes that, and the cluster's token, where this machine has one.
        ray.init(address="auto", runtime_env=_code_to_send(folder), log_to_driver=False, logging_level="error")
        _unpack_everywhere()
    except Exception as error:
        raise UserError(
            f"cannot connect to the Ray cluster at {address}: {first_line(error)}\n"
            "Start one (ray start --head), mend ray.address or RAY_ADDRESS, or set ray.address=local. "
            "A cluster that wants a token needs RAY_AUTH_MODE=token and the token here too."
        ) from error


def _unpack_everywhere() -> None:
    """Has every host unpack the code before any task imports it, this host last.

    A second raylet of one host deletes and writes again what the first has unpacked, a job's working folder included:
    files that this process keeps there by relative paths must be made afterwards.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    hosts = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    probe = ray.remote(num_cpus=0)(lambda: None)  # by value: it imports nothing of ours
    for some in ([host for host in hosts if host != here], [here]):
        pins = [NodeAffinitySchedulingStrategy(host, soft=True) for host in some]
        ray.get([probe.options(scheduling_strategy=pin).remote() for pin in pins])


def _code_to_send(folder: Path) -> dict[str, Any]:
    """Our packages go along to the cluster's hosts, unless the job's own working folder is the repository."""
    job = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")).get("runtime_env") or {}
    if job.get("working_dir") and folder == ROOT:
        return {}
    return {"py_modules": [str(ROOT / package) for package in PACKAGES]}


def cluster_address(wanted: str) -> str | None:
    """What to give ray.init to join a cluster by ray.address, None where there is none: a local Ray's turn."""
    if wanted == "auto" and os.environ.get("RAY_ADDRESS") not in (None, "", "auto"):
        wanted = os.environ["RAY_ADDRESS"]
    if wanted != "auto":
        return None if wanted == "local" else wanted
    noted = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"
    address = noted.read_text().strip() if noted.is_file() else ""
    try:
        _check_answers(address)
    except (OSError, ValueError):  # no cluster, or the note of one that is gone
        return None
    return address


def _check_answers(address: str) -> None:
    """Raises OSError or ValueError where nothing listens at host:port: Ray itself would wait for it without end."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("not HOST:PORT")
    socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


def in_ray_job() -> bool:
    """Whether this process is the entry point of `ray job submit`."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
