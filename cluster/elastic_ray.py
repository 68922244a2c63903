"""An elastic run on a Ray cluster: Ray Train, configured for ranks that say how they ended.

Ray Train (its second version) keeps a worker for each rank, on as many of the cluster's free GPUs or CPUs as there are
between the fewest and the most, starts all of them anew when one fails or its host is lost, and starts them with more
when hosts come. The ranks resume from the run's own folder, so nothing of Ray's checkpoints is used. Ours is what it
cannot know (cluster/ray_rank.py): exit code 2 is a person's to mend; failures count in a row; a signal has all save.
Price: the cluster's head and this machine must stay; a host that comes is noticed within half a minute.
"""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from cluster.agents import STOP_SECONDS, stop_signals
from pipeline.base.errors import EXIT_PREEMPTED, UserError
from pipeline.base.sections import RayConfig
from pipeline.base.signals import caught
from pipeline.base.workers import connected

SCRIPT = Path(__file__).resolve().parents[1] / "pipeline" / "pretrain.py"
RESIZE_SECONDS = 10.0
"""How often Ray Train looks for hosts that have come; its own account of the hosts is up to 20 s old."""
LOOK_SECONDS = 0.5
AT_ONCE_SECONDS = 10.0
"""How long Ray Train may take to end where nothing is waited for."""
SETTINGS = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # it has the ranks stand still until a host that drains is gone
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "5",  # for the room of a host that is dead and not known to be; Ray's: 60
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "60",  # of a worker that does not answer; Ray's own are ten minutes
}


@dataclass(frozen=True, kw_only=True)
class Elastic:
    """What the command asks for."""

    slots: int | None
    """Ranks of a host without accelerators."""
    hosts: tuple[int, int | None]
    """The fewest and the most hosts that train; None: as many as there are now."""
    restarts: int
    """Failures in a row that are answered with a restart."""
    patience: float
    """Seconds that the fewest hosts are waited for."""


@dataclass(frozen=True)
class Room:
    """What a rank asks Ray for, and the fewest and the most ranks."""

    each: Mapping[str, float]
    ranks: tuple[int, int]

    def __str__(self) -> str:
        asks = " and ".join(f"{value:g} {name}{'s' if value > 1 else ''}" for name, value in self.each.items())
        return f"{self.ranks[0]} {'rank' if self.ranks[0] == 1 else 'ranks'} ({asks} each)"


def find_room(hosts: Sequence[Mapping[str, float]], wanted: Elastic) -> Room:
    """From the hosts' resources, by Ray's names: a rank for each GPU, or, where no host has any, `slots` for each host.

    A host is counted as the smallest that can train is.
    """
    gpus = [int(host["GPU"]) for host in hosts if host.get("GPU", 0) >= 1]
    cpus = [int(host["CPU"]) for host in hosts if host.get("CPU", 0) >= 1]
    if gpus and wanted.slots is not None:
        raise UserError("--slots is for clusters without GPUs: a rank has a GPU here. Leave it out.")
    if not gpus and not cpus:
        raise UserError("no host of the Ray cluster has a CPU or a GPU to train on: see `ray status`.")
    if gpus:
        each, ranks, host = {"GPU": 1.0, "CPU": 1.0}, sum(gpus), min(gpus)
    else:
        host = 1 if wanted.slots is None else wanted.slots
        if not 1 <= host <= min(cpus):
            raise UserError(f"--slots {host}: a host of the Ray cluster has CPUs for {min(cpus)} only.")
        each = {"CPU": float(min(cpus) // host)}
        ranks = sum(int(count // each["CPU"]) for count in cpus)
    fewest, most = wanted.hosts
    return Room(each, (fewest * host, max(fewest * host, ranks if most is None else most * host)))


def run_ray(wanted: Elastic, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """The run from here until it has ended: 0, 2, 75, or 1 when the ranks fail for good.

    arguments: of pretrain.py. environment: variables for the ranks.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in SETTINGS.items()})
    with connected(RayConfig(address="auto"), gpus=True), tempfile.TemporaryDirectory(prefix="electra-ray-") as kept:
        import ray

        hosts = [node for node in ray.nodes() if node["Alive"]]
        room = find_room([host["Resources"] for host in hosts], wanted)
        _check_code(hosts)
        _take_back_claims()
        account = _open_account(wanted.restarts, f"{room}, for up to {wanted.patience:.0f} s")
        settings = {"account": account, "arguments": list(arguments), "environment": dict(environment)}
        try:
            return _follow(_trainer(settings, room, kept), account, room, wanted.patience)
        except ray.exceptions.RayActorError:  # the account's: it is on this machine, as Ray is no longer
            _say("Ray has ended on this machine, or its head has; the same command goes on once Ray is there again.")
            return EXIT_PREEMPTED


def _check_code(hosts: Sequence[Mapping[str, Any]]) -> None:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    script = str(SCRIPT)
    there = ray.remote(num_cpus=0)(lambda: os.path.isfile(script))
    pins = [NodeAffinitySchedulingStrategy(host["NodeID"], soft=True) for host in hosts]
    found = ray.get([there.options(scheduling_strategy=pin).remote() for pin in pins])
    without = [host["NodeManagerHostname"] for host, has in zip(hosts, found, strict=True) if not has]
    if without:
        raise UserError(
            f"{' and '.join(without)} of the Ray cluster has no {script}: all hosts need the repository there."
        )


def _take_back_claims() -> None:
    from cluster.ray_claims import take_back

    if take_back():
        _say("a killed run's claim on the cluster's hosts is taken back.")


def _open_account(restarts: int, room: str) -> Any:
    """On this machine, which must stay."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from cluster.ray_rank import Account

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0)(Account).options(scheduling_strategy=here).remote(restarts, room)


def _trainer(settings: Mapping[str, Any], room: Room, kept: str) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer  # the one for torch has a process group

    from cluster.ray_rank import Changes, Ranks, train

    return DataParallelTrainer(
        train,
        train_loop_config=dict(settings),
        backend_config=Ranks(),
        scaling_config=ScalingConfig(
            num_workers=room.ranks,
            use_gpu="GPU" in room.each,
            resources_per_worker=dict(room.each),
            elastic_resize_monitor_interval_s=RESIZE_SECONDS,
        ),
        # The account ends a run that fails too often: Ray Train would count over weeks, and lost hosts too.
        run_config=RunConfig(
            name="pretrain",
            storage_path=kept,
            failure_config=FailureConfig(max_failures=-1),
            callbacks=[Changes(settings["account"])],
        ),
    )


def _follow(trainer: Any, account: Any, room: Room, patience: float) -> int:
    """Prints what the ranks say until Ray Train has ended, by itself or asked to; the exit code."""
    import ray

    told: list[int] = []
    failed: list[BaseException] = []

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:
            failed.append(error)

    def hear(number: int, frame: FrameType | None) -> None:
        told.append(number)

    training = threading.Thread(target=fit, name="ray-train", daemon=True)  # it may wait for a cluster that is gone
    deadline, asked, given_up = float("inf"), 0, False
    with caught(stop_signals(), hear):
        training.start()
        while training.is_alive() and time.monotonic() < deadline:
            training.join(LOOK_SECONDS)
            given_up = given_up or (_print_news(account) > patience and not told)
            wanted = min(2, len(told)) or int(given_up)
            if asked < wanted:
                asked += 1
                account.stop.remote()
                deadline = time.monotonic() + (STOP_SECONDS if told and wanted == 1 else AT_ONCE_SECONDS)
    _print_news(account)
    code: int | None = ray.get(account.code.remote())
    if code is None and given_up:
        return _given_up(ray.get(account.begun.remote()), room, patience)
    if code is None and told:
        _say("stopped; the same command goes on.")
        return EXIT_PREEMPTED
    if code is None:
        raise failed[0] if failed else RuntimeError("Ray Train has ended without the ranks' exit code")
    return code


def _print_news(account: Any) -> float:
    """Seconds since a worker was heard."""
    import ray

    lines, said, silent = ray.get(account.news.remote())
    for line in lines:
        print(line, flush=True)
    for sentence in said:
        _say(sentence)
    return float(silent)


def _given_up(begun: bool, room: Room, patience: float) -> int:
    if not begun:
        raise UserError(f"the Ray cluster had no room for {room} within {patience:.0f} s: see `ray status`.")
    _say(f"the Ray cluster had no room for {room} for {patience:.0f} s; the same command goes on.")
    return EXIT_PREEMPTED


def _say(sentence: str) -> None:
    print(f"launch: {sentence}", file=sys.stderr, flush=True)
