"""Replay: the step at which a run stopped because numbers were not finite, run again under anomaly detection.

One process, no DeepSpeed. It reads run_dir/replay/step-N/ alone, so the data need not be there.
"""

import dataclasses
from pathlib import Path

import torch

from pipeline.base.config import RunConfig
from pipeline.base.files import write_json
from pipeline.base.log import get_logger, setup_logging
from pipeline.base.run_folder import RunFolder
from pipeline.training.anomaly import bad_weights, find_fault, replay_objective
from pipeline.training.distributed import thread_count
from pipeline.training.replay_file import find_replay, load_replay


def plan(config: RunConfig) -> list[tuple[str, str]]:
    """The lines of --dry-run."""
    replay = load_replay(find_replay(Path(config.run_dir), config.replay.step))
    facts = replay.facts
    return [
        ("step", str(facts["step"])),
        ("samples", f"{facts['first_sample']} to {facts['last_sample']}"),
        ("as it was on", f"{facts['ranks']} ranks, {facts['micro_batch_size']} rows a forward, {facts['device']}"),
        ("report", str(replay.path / "report.json")),
    ]


def run(config: RunConfig) -> None:
    """Names the module and the loss term that are not finite, in the log and in the step's report.json."""
    setup_logging(RunFolder.of(config))
    torch.set_num_threads(thread_count(config.train.threads))
    replay = load_replay(find_replay(Path(config.run_dir), config.replay.step))
    objective = replay_objective(replay)
    then = str(replay.facts["device"])
    device = torch.device(then if then == "cpu" or torch.accelerator.is_available() else "cpu")
    fault = find_fault(replay, objective.to(device), device)
    lines = [f"the weights were not finite before the step: {name}" for name in bad_weights(replay)[:3]]
    lines += fault.words() if fault is not None else [_nothing(device.type, then)]
    write_json(replay.path / "report.json", {"words": lines, "fault": fault and dataclasses.asdict(fault)})
    for line in lines:
        get_logger().info(f"replay of step {replay.facts['step']}: {line}")
    get_logger().info(f"replay: done. {replay.path / 'report.json'}")


def _nothing(now: str, then: str) -> str:
    other = f" The step ran on {then}, this is {now}: other kernels, and other dropout." if now != then else ""
    return (
        f"loss and gradients of all micro-batches are finite here.{other} What is left: the sum of the gradients over "
        "the ranks, numbers of threads or kernels that round otherwise, or a fault of one machine's memory or device."
    )
