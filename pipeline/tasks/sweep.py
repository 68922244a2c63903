"""A sweep as a list of ordinary fine-tunings: tasks x exports x numbers of examples x seeds, each with its own folder.

Every job's config says all that it depends on and none of the sweep's own keys, so that the same command finds it done.
Paths are made absolute: a worker has another working folder.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.base.config import RunConfig, load_config
from pipeline.base.errors import UserError
from pipeline.base.run_folder import RunFolder
from pipeline.base.task_sections import FinetuneConfig
from pipeline.base.tracking_sender import whole_address
from pipeline.tasks.families.base import SPLITS, Task, split_path
from pipeline.tasks.identity import check_name
from pipeline.tasks.pretrained import pretrained_path

CURVE_UPDATES = 100
"""Fewest steps of a fine-tuning on few examples, where finetune.min_updates does not say: one step on 8 examples an
epoch would teach nothing."""
SWEEP_KEYS = frozenset({"tasks", "exports", "seeds", "train_examples", "task_settings"})
"""What makes a sweep; no job has it, and no task's file."""
_OWN = SWEEP_KEYS | {"name"}
"""Keys of the sweep's own config that never reach a task."""
_LARGEST_SEED = 2**31 - 1


@dataclass(frozen=True)
class Job:
    """One fine-tuning."""

    export: str | None
    """Its name in finetune.exports."""
    examples: int | None
    """Of finetune.train_examples."""
    config: RunConfig
    """seeds, tasks and the like are at their defaults."""

    @property
    def task(self) -> str:
        """finetune.name."""
        return self.config.finetune.name

    @property
    def seed(self) -> int:
        """Of the fine-tuning, and of the subset."""
        return self.config.seed

    @property
    def group(self) -> "Group":
        """The jobs that differ by the seed alone."""
        return Group(self.export, self.task, self.examples)

    @property
    def name(self) -> str:
        """Path below run_dir/finetune."""
        return f"{self.group.name}/seed-{self.seed}"

    @property
    def target(self) -> Path:
        """Folder of the result."""
        return RunFolder(Path(self.config.run_dir)).finetune / self.name


@dataclass(frozen=True)
class Group:
    """What the seeds of one (export, task, number of examples) have in common."""

    export: str | None
    task: str
    examples: int | None

    @property
    def name(self) -> str:
        """Path below run_dir/finetune."""
        parts = [self.export, self.task, f"examples-{self.examples}" if self.examples is not None else None]
        return "/".join(part for part in parts if part is not None)


@dataclass(frozen=True)
class Sweep:
    """All of it. The order is that in which the jobs start: tasks, within them numbers of examples, exports, seeds."""

    config: RunConfig
    tasks: tuple[FinetuneConfig, ...]
    jobs: tuple[Job, ...]

    @property
    def groups(self) -> dict[Group, list[Job]]:
        """The jobs, by seed, of each group."""
        groups: dict[Group, list[Job]] = {}
        for job in self.jobs:
            groups.setdefault(job.group, []).append(job)
        return groups

    @property
    def exports(self) -> list[str | None]:
        """Names of the exports; one None where finetune.exports does not name any."""
        return list(self.config.finetune.exports) or [None]

    @property
    def nested(self) -> bool:
        """Whether there is more than seeds of one task, and so a run above those of the tasks."""
        return bool(self.config.finetune.tasks or self.config.finetune.exports)

    def counts_words(self, task: str) -> bool:
        """Whether a linear model over words is wanted too: a curve over examples says little without one."""
        chosen = next(settings.bag_of_words for settings in self.tasks if settings.name == task)
        return bool(self.config.finetune.train_examples) if chosen is None else chosen


def is_sweep(settings: FinetuneConfig) -> bool:
    """Whether `settings` ask for more than one fine-tuning on all examples."""
    return settings.seeds > 1 or bool(settings.tasks or settings.exports or settings.train_examples)


def plan_sweep(config: RunConfig) -> Sweep:
    """Reads the tasks' YAML files; nothing else is opened. Raises UserError."""
    settings = config.finetune
    if config.seed + settings.seeds - 1 > _LARGEST_SEED:
        raise UserError(f"seed {config.seed} and finetune.seeds {settings.seeds} go beyond the largest seed.")
    for name in settings.exports:
        check_name(name, "finetune.exports")
    tasks = _tasks(config)
    return Sweep(config, tasks, tuple(_jobs(config, tasks)))


def with_sizes(sweep: Sweep, tasks: dict[str, Task]) -> Sweep:
    """The same with no number of examples beyond what a task has: larger ones become all that it has, once."""
    kept: dict[str, Job] = {}
    for job in sweep.jobs:
        total = len(tasks[job.task].examples["train"])
        if job.examples is not None and job.examples > total:
            job = dataclasses.replace(job, examples=total, config=_changed(job.config, {"max_train_examples": total}))
        kept.setdefault(job.name, job)
    return dataclasses.replace(sweep, jobs=tuple(kept.values()))


def _tasks(config: RunConfig) -> tuple[FinetuneConfig, ...]:
    settings = config.finetune
    if not settings.tasks:
        found = [(f"finetune.name {settings.name}", settings)]
    else:
        found = [(path, _merged(Path(path), settings)) for path in settings.tasks]
    places: dict[str, str] = {}
    for place, task in found:
        check_name(task.name, place)
        if task.name in places:
            raise UserError(
                f"{place}: its finetune.name {task.name!r} is also that of {places[task.name]}. Rename one."
            )
        places[task.name] = place
    strangers = sorted(settings.task_settings.keys() - places.keys())
    if strangers:
        raise UserError(f"finetune.task_settings.{strangers[0]}: the sweep's tasks are {', '.join(places)}.")
    return tuple(_excepted(task, settings.task_settings.get(task.name, {})) for _, task in found)


def _merged(path: Path, sweep: FinetuneConfig) -> FinetuneConfig:
    """A task file's section, with the keys that the sweep's own config (or the command line) sets on top."""
    config = load_config(path)
    strangers = sorted(config.model_fields_set - {"finetune"})
    if strangers:
        raise UserError(f"{path}: a task's file has a finetune section only, but this sets {', '.join(strangers)}.")
    task = config.finetune
    nested = sorted(task.model_fields_set & SWEEP_KEYS)
    if nested:
        raise UserError(f"{path}: finetune.{nested[0]} belongs to the sweep's config, not to a task's file.")
    if "name" not in task.model_fields_set:
        raise UserError(f"{path}: finetune.name is not set: it names the folder of the task's results.")
    own = sweep.model_dump(include=set(sweep.model_fields_set) - _OWN)
    return FinetuneConfig.model_validate(task.model_dump(exclude_unset=True) | own)


def _excepted(task: FinetuneConfig, changes: dict[str, Any]) -> FinetuneConfig:
    if own := sorted(changes.keys() & _OWN):
        raise UserError(f"finetune.task_settings.{task.name}.{own[0]}: this key is the whole sweep's.")
    try:
        return FinetuneConfig.model_validate(task.model_dump(exclude_unset=True) | changes)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise UserError(f"finetune.task_settings.{task.name}.{key}: {problem['msg']}.") from None


def _jobs(config: RunConfig, tasks: tuple[FinetuneConfig, ...]) -> Iterator[Job]:
    settings = config.finetune
    sizes: list[int | None] = [*sorted(set(settings.train_examples))]
    exports: list[str | None] = [*settings.exports]
    for task in tasks:
        for examples in sizes or [None]:
            for export in exports or [None]:
                for seed in range(config.seed, config.seed + settings.seeds):
                    yield Job(export, examples, _job_config(config, task, export, examples, seed))


def _job_config(
    config: RunConfig, task: FinetuneConfig, export: str | None, examples: int | None, seed: int
) -> RunConfig:
    changes: dict[str, Any] = dict.fromkeys(("data_folder",))
    for split in SPLITS:
        if getattr(task, split):
            changes[split] = str(split_path(task, split).resolve())
    changes["export"] = str(pretrained_path(config.model_copy(update={"finetune": task})).resolve())
    if export is not None:
        choice = config.finetune.exports[export]
        changes |= {"export": str(Path(choice.path).resolve()), "weights": choice.weights}
    if examples is not None:
        changes["max_train_examples"] = examples
        changes["min_updates"] = task.min_updates or CURVE_UPDATES
    values = task.model_dump(exclude={*SWEEP_KEYS, "bag_of_words"}) | changes
    tracking = config.tracking.model_copy(update={"uri": whole_address(config.tracking.uri)})
    return config.model_copy(
        update={
            "run_dir": str(Path(config.run_dir).resolve()),
            "seed": seed,
            "finetune": FinetuneConfig.model_validate(values),
            "train": config.train.model_copy(update={"threads": 1}),
            "tracking": tracking,
        }
    )


def _changed(config: RunConfig, changes: dict[str, Any]) -> RunConfig:
    return config.model_copy(update={"finetune": config.finetune.model_copy(update=changes)})
