"""What a sweep leaves beside its jobs' folders: each group's median and best, the comparison, the learning curves.

Made anew from the jobs' metrics.json each time, so a table always says what lies on disk; of jobs that have failed
there is nothing in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.files import read_json
from pipeline.base.run_folder import RunFolder
from pipeline.tasks.comparison import Compared, write_comparison
from pipeline.tasks.families.base import Task
from pipeline.tasks.identity import METRICS
from pipeline.tasks.learning_curve import BAG_OF_WORDS, TRIVIAL_ANSWER, Curve, write_curve
from pipeline.tasks.page import Table
from pipeline.tasks.spread import TRIVIAL, Results, Spread, summarised, write_group
from pipeline.tasks.sweep import Group, Job, Sweep

ALONE = "result"
"""Heading of the one column where finetune.exports names no exports."""


def counted_path(folder: Path, job: Job, *, whole: bool) -> Path:
    """Where the bag-of-words model's figures for the same examples as the job's lie; whole: all of the file's."""
    parts = [f"examples-{job.examples}" if job.examples is not None else None, None if whole else f"seed-{job.seed}"]
    name = "-".join(part for part in parts if part is not None) or "all"
    return folder / job.task / "bag-of-words" / f"{name}.json"


def counted_jobs(sweep: Sweep, tasks: dict[str, Task], folder: Path) -> dict[Path, Job]:
    """The jobs whose examples a bag-of-words model shall learn from, by the file of its figures."""
    found: dict[Path, Job] = {}
    for job in sweep.jobs:
        most = job.config.finetune.max_train_examples
        whole = most is None or most >= len(tasks[job.task].examples["train"])
        if sweep.counts_words(job.task) and tasks[job.task].plain("dev") is not None:
            found.setdefault(counted_path(folder, job, whole=whole), job)
    return found


@dataclass(frozen=True)
class Report:
    """Reads what there is and writes what follows from it."""

    sweep: Sweep
    tasks: dict[str, Task]
    folder: Path
    """run_dir/finetune."""

    @classmethod
    def of(cls, sweep: Sweep, tasks: dict[str, Task]) -> "Report":
        """Of the sweep in its run's folder."""
        return cls(sweep, tasks, RunFolder(Path(sweep.config.run_dir)).finetune)

    def results(self, group: Group) -> Results | None:
        """The seeds of a group that are finished."""
        jobs = [job for job in self.sweep.groups[group] if (job.target / METRICS).is_file()]
        if not jobs:
            return None
        return Results({job.seed: read_json(job.target / METRICS) for job in jobs}, self.tasks[group.task].selection)

    def counted(self, group: Group) -> Results | None:
        """The bag-of-words model's turn at the same examples."""
        task = self.tasks[group.task]
        files = counted_jobs(self._alone(group), self.tasks, self.folder)
        found = {job.seed: read_json(path)["figures"] for path, job in files.items() if path.is_file()}
        found = {seed: figures for seed, figures in found.items() if figures}
        if not found:
            return None
        split = task.splits[-1]
        rows = {seed: _named(group.task, split, figures) for seed, figures in found.items()}
        return Results(rows, task.selection)

    def write_group(self, group: Group) -> dict[str, Any] | None:
        """The group's metrics.json and best model; None where a seed is missing."""
        results = self.results(group)
        if results is None or len(results.by_seed) < len(self.sweep.groups[group]):
            return None
        summary = summarised(results, _medians(self.counted(group)))
        write_group(self.folder / group.name, summary, with_model=group.examples is None)
        return summary

    def write_comparison(self) -> tuple[Table, list[Path]]:
        """comparison.{md,html,json} of all that is there."""
        compared: dict[tuple[str, int | None], dict[str, Results]] = {}
        baselines: dict[tuple[str, int | None], dict[str, float]] = {}
        for group in self.sweep.groups:
            key = (group.task, group.examples)
            found = compared.setdefault(key, {})
            if (results := self.results(group)) is not None:
                found[group.export or ALONE] = results
            baselines.setdefault(key, _medians(self.counted(group)))
        rows = [
            Compared(task, examples, *self._shown(task), found, baselines[task, examples])
            for (task, examples), found in compared.items()
        ]
        return write_comparison(self.folder, rows, [export or ALONE for export in self.sweep.exports])

    def write_curves(self) -> list[Path]:
        """NAME/learning-curve.{md,html,json} of each task, where finetune.train_examples asks for them."""
        if not self.sweep.config.finetune.train_examples:
            return []
        return [path for task in self.tasks for path in write_curve(self.folder / task, self._curve(task))]

    def _curve(self, name: str) -> Curve:
        task = self.tasks[name]
        metric, split = task.headline[0], task.splits[-1]
        series: dict[str, dict[int, Spread]] = {export or ALONE: {} for export in self.sweep.exports}
        for group in self.sweep.groups:
            if group.task == name and group.examples is not None:
                results, counted = self.results(group), self.counted(group)
                lines = ((group.export or ALONE, results, metric), (BAG_OF_WORDS, counted, metric))
                for label, found, figure in (*lines, (TRIVIAL_ANSWER, results, f"{TRIVIAL}{metric}")):
                    if found is not None and (value := found.spreads().get(f"{split}/{figure}")) is not None:
                        series.setdefault(label, {})[group.examples] = value
        return Curve(name, metric, split, series)

    def _shown(self, task: str) -> tuple[Sequence[str], str]:
        """Metrics and split that are reported."""
        return self.tasks[task].headline, self.tasks[task].splits[-1]

    def _alone(self, group: Group) -> Sweep:
        return Sweep(self.sweep.config, self.sweep.tasks, tuple(self.sweep.groups[group]))


def _named(task: str, split: str, figures: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Figures by split as a fine-tuning's metrics.json has them."""
    flat = {f"finetune/{task}/{part}/{name}": value for part, found in figures.items() for name, value in found.items()}
    return flat | {"name": task, "reported_split": split}


def _medians(results: Results | None) -> dict[str, float]:
    return {name: value.median for name, value in results.spreads().items()} if results is not None else {}
