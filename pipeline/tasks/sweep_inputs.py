"""All files and folders of a sweep opened and checked before any work, each once; and what its jobs will cost."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.base.config import RunConfig
from pipeline.base.run_folder import RunFolder
from pipeline.tasks.families.base import Encoded, Task, open_task
from pipeline.tasks.job import Cost, finished, training_cost
from pipeline.tasks.pretrained import Pretrained, open_pretrained, pretrained_path
from pipeline.tasks.recipe import settled, told
from pipeline.tasks.spread import refuse_single
from pipeline.tasks.subsets import stratified_order
from pipeline.tasks.sweep import Job, Sweep, plan_sweep, with_sizes


@dataclass(frozen=True)
class Inputs:
    """The sweep, and its tasks with all their examples."""

    sweep: Sweep
    tasks: dict[str, Task]
    pretrained: dict[tuple[str | None, str], Pretrained]
    """By export and task."""
    done: frozenset[str]
    """Names of the jobs that are finished."""
    encoded: dict[tuple[str, Path], Encoded] = field(default_factory=dict)
    """Training rows by task and export's path, as far as they have been asked for."""


def open_sweep(config: RunConfig) -> Inputs:
    """Reads every task and looks at every export. Raises UserError, also for results made with other settings."""
    planned = plan_sweep(config)
    ready = tuple(dataclasses.replace(job, config=settled(job.config)) for job in planned.jobs)
    sweep = dataclasses.replace(planned, jobs=ready)
    first = {job.task: job for job in reversed(sweep.jobs)}
    tasks = {settings.name: open_task(first[settings.name].config.finetune) for settings in sweep.tasks}
    sized = with_sizes(sweep, tasks)
    pretrained = {}
    for group, jobs in sized.groups.items():
        key = (group.export, group.task)
        if key not in pretrained:
            job = jobs[0].config
            pretrained[key] = open_pretrained(pretrained_path(job), tasks[group.task], job.finetune)
    finetune = RunFolder(Path(config.run_dir)).finetune
    for group in sized.groups:
        refuse_single(finetune / group.name)
    done = frozenset(job.name for job in sized.jobs if finished(job.config, job.target) is not None)
    return Inputs(sized, tasks, pretrained, done)


def recipes(sweep: Sweep) -> list[tuple[str, str]]:
    """Learning rates, and the exports and tasks that have them, a row for each."""
    found: dict[str, dict[str, None]] = {}
    for job in sweep.jobs:
        place = f"{job.export}/{job.task}" if job.export is not None else job.task
        found.setdefault(told(job.config.finetune), {})[place] = None
    return [(rates, ", ".join(places)) for rates, places in found.items()]


def cost(inputs: Inputs, job: Job) -> Cost:
    """What a job's training costs."""
    task, pretrained = inputs.tasks[job.task], inputs.pretrained[job.export, job.task]
    key = (job.task, pretrained.path)
    if key not in inputs.encoded:
        inputs.encoded[key] = task.encode("train", pretrained.tokenizer)
    encoded, settings = inputs.encoded[key], job.config.finetune
    total = len(task.examples["train"])
    chosen = set(stratified_order(task.strata(), total, job.seed)[: settings.max_train_examples or total])
    rows = [row for row, owner in zip(encoded.rows, encoded.owners, strict=True) if owner in chosen]
    return training_cost(rows, settings, pretrained)
