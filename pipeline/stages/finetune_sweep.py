"""Stage finetune where there are several: tasks, exports, numbers of examples and seeds, fanned out as Ray tasks.

Each fine-tuning is complete or absent, so the same command goes on from what there is. One that fails is told at the
end, beside the tables of the others. MLflow: seeds under their task, tasks under the sweep, linked to the export's run.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.base.config import RunConfig, flatten
from pipeline.base.errors import UserError
from pipeline.base.files import lock_folder
from pipeline.base.journal import Journal
from pipeline.base.log import get_logger, setup_logging
from pipeline.base.progress import Progress
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import status_of
from pipeline.base.tracking_relay import Relay
from pipeline.base.tracking_sender import journal_path
from pipeline.base.workers import connected
from pipeline.release.refresh import refresh_cards
from pipeline.tasks.identity import METRICS
from pipeline.tasks.job import prepare_device
from pipeline.tasks.origin import origin_tags
from pipeline.tasks.serving import keep_model
from pipeline.tasks.stopping import asked_to_stop
from pipeline.tasks.sweep import Group, Job
from pipeline.tasks.sweep_inputs import Inputs, cost, open_sweep, recipes
from pipeline.tasks.sweep_report import Report, counted_jobs
from pipeline.tasks.sweep_work import Failure, count_words, fine_tune_one

SWEEP = "finetune-sweep"
"""Its stage, as MLflow and tracking.json know it."""
SHOWN = 10
"""Of the failed ones, with what is wrong."""


def run(config: RunConfig) -> None:
    """Fine-tunes all that is not done yet, and writes the tables. UserError at the end where some have failed."""
    inputs = open_sweep(config)
    folder = RunFolder(Path(config.run_dir))
    setup_logging(folder)
    prepare_device(config)  # for what this process itself loads: the models that MLflow keeps
    report = Report.of(inputs.sweep, inputs.tasks)
    with lock_folder(folder.finetune), Relay(config, folder) as relay:
        course = _Course(inputs, report, folder, relay)
        try:
            course.open_runs()
            course.work()
            course.close_runs()
            table, files = report.write_comparison()
            files += report.write_curves()
            course.finish(files)
        except BaseException as error:
            course.abandon(status_of(type(error)))
            raise
    refresh_cards(folder)
    get_logger().info(f"{table.markdown()}\nwritten: {', '.join(str(path) for path in files)}")
    if course.failed:
        raise _told(course.failed, len(inputs.sweep.jobs))


def plan(config: RunConfig) -> list[tuple[str, str]]:
    """Opens every file and folder; the jobs, with steps and FLOPs. Writes nothing."""
    inputs = open_sweep(config)
    rows, left, flops = [], 0, 0.0
    for name, task in inputs.tasks.items():
        rows += [(f"{name}: {label}", value) for label, value in task.describe()]
    rows += recipes(inputs.sweep)
    for job in inputs.sweep.jobs:
        price = cost(inputs, job)
        what = f"{price.updates:,} steps, {price.tokens:,} tokens, {price.flops:.2e} FLOPs"
        done = job.name in inputs.done
        rows.append((job.name, "finished: nothing to do" if done else what))
        left += not done
        flops += 0 if done else price.flops
    rows.append(("to be made", f"{left:,} of {len(inputs.sweep.jobs):,} fine-tunings, {flops:.2e} FLOPs"))
    if counted := counted_jobs(inputs.sweep, inputs.tasks, RunFolder(Path(config.run_dir)).finetune):
        rows.append(("bag of words", f"{len(counted):,} models"))
    return rows


@dataclass
class _Course:
    """One run of the sweep."""

    inputs: Inputs
    report: Report
    folder: RunFolder
    relay: Relay
    failed: dict[str, Failure] = field(default_factory=dict)
    journals: dict[Group | None, Journal] = field(default_factory=dict)
    """Of the sweep (None) and of the groups without a number of examples, which hold those with one."""

    def open_runs(self) -> None:
        """Journals of the sweep and of its tasks, and the order in which MLflow shall nest all runs."""
        sweep = self.inputs.sweep
        if sweep.nested:
            self.relay.add(SWEEP)
            journal = self.journals[None] = self.relay.journal(SWEEP)
            journal.status("RUNNING")
            journal.params(flatten({"finetune": sweep.config.finetune.model_dump(mode="json")}))
            journal.tags({"stage": SWEEP, "run_dir": str(self.folder.path.resolve())})
        for job in sweep.jobs:
            above = _above(job.group)
            if above not in self.journals:
                self.relay.add(_stage(above), SWEEP if sweep.nested else None)
                self._open_task(above, job)
            self.relay.add(f"finetune-{job.name}", _stage(above))

    def _open_task(self, group: Group, job: Job) -> None:
        journal = self.journals[group] = self.relay.journal(_stage(group))
        journal.status("RUNNING")
        settings = job.config.finetune.model_dump(mode="json", exclude={"max_train_examples", "min_updates"})
        journal.params(flatten({"finetune": settings}))
        tags = origin_tags(job.config) | {"stage": "finetune", "task": job.task, "weights": settings["weights"]}
        journal.tags(tags | ({"export": group.export} if group.export is not None else {}))

    def work(self) -> None:
        """All that is not done yet, on Ray; what fails is noted. Raises Preempted when a signal asks to stop."""
        sweep, done = self.inputs.sweep, self.inputs.done
        waiting = [job for job in sweep.jobs if job.name not in done]
        work: list[tuple[str, Callable[..., Failure | None], tuple[Any, ...]]] = []
        for job in waiting:
            journal = journal_path(self.folder, f"finetune-{job.name}").resolve()
            work.append((job.name, fine_tune_one, (job.config.to_dict(), str(job.target), str(journal))))
        for path, job in counted_jobs(sweep, self.inputs.tasks, self.folder.finetune).items():
            if waiting or not path.is_file():
                name = f"bag of words for {job.task}, {path.stem}"
                work.append((name, count_words, (job.config.to_dict(), str(path.resolve()))))
        rates = "".join(f"\n  {rates}: {places}" for rates, places in recipes(sweep))
        get_logger().info(f"{len(sweep.jobs):,} fine-tunings, {len(done):,} of them done already{rates}")
        if not work:
            return
        calls = [(function, given) for _, function, given in work]
        with (
            connected(sweep.config.ray, gpus=True) as workers,
            asked_to_stop() as stop,  # after Ray's start, which installs a handler that aborts
            Progress(len(work), "jobs", "sweep") as progress,
        ):
            for place, outcome in workers.map_each(calls, stop):
                name = work[place][0]
                if isinstance(outcome, Exception):
                    outcome = Failure(str(outcome), defect=not isinstance(outcome, UserError))
                if outcome is not None:
                    self.failed[name] = outcome
                    get_logger().warning(f"{name} failed: {outcome.message.strip().splitlines()[-1]}")
                progress.advance(1, done=name)

    def close_runs(self) -> None:
        """Each group's median and best, and the end of its run."""
        for group in self.inputs.sweep.groups:
            summary = self.report.write_group(group)
            above, journal = _above(group), self.journals[_above(group)]
            if summary is not None:
                figures = {key: value for key, value in summary.items() if key.startswith("finetune/")}
                journal.metrics(group.examples or 0, figures)
                journal.artifact(self.report.folder / group.name / METRICS)
                if group == above and self._is_new(group):
                    keep_model(journal, self.report.folder / group.name, self.inputs.tasks[group.task])
        for owner, journal in self.journals.items():
            if owner is not None:
                bad = any(job.name in self.failed for job in self.inputs.sweep.jobs if _above(job.group) == owner)
                journal.status("FAILED" if bad else "FINISHED")

    def finish(self, files: list[Path]) -> None:
        """Tables into MLflow: the sweep's run, or the one task's."""
        top = self.journals.get(None) or next(iter(self.journals.values()))
        for path in files:
            top.artifact(path)
        if None in self.journals:
            top.status("FAILED" if self.failed else "FINISHED")

    def abandon(self, status: str) -> None:
        """Marks the runs that are under way, those of seeds too, whose workers are gone."""
        for journal in self.journals.values():
            journal.status(status)
        for job in self.inputs.sweep.jobs:
            begun = journal_path(self.folder, f"finetune-{job.name}").exists()
            if begun and not (job.target / METRICS).is_file() and job.name not in self.failed:
                self.relay.journal(f"finetune-{job.name}").status(status)

    def _is_new(self, group: Group) -> bool:
        """Whether a model of this group has not been given to MLflow yet, or a seed of it is new."""
        jobs = self.inputs.sweep.groups[group]
        path = journal_path(self.folder, _stage(group))
        return any(job.name not in self.inputs.done for job in jobs) or '"kind": "model"' not in path.read_text()


def _above(group: Group) -> Group:
    """The group whose run holds the runs of this one's seeds."""
    return Group(group.export, group.task, None)


def _stage(group: Group) -> str:
    return f"finetune-{group.name}"


def _told(failed: dict[str, Failure], total: int) -> Exception:
    """One message for all; a defect of this program is no UserError."""
    lines = [f"{name}: {failure.message.strip()}" for name, failure in list(failed.items())[:SHOWN]]
    if len(failed) > SHOWN:
        lines.append(f"... and {len(failed) - SHOWN} more")
    message = (
        f"{len(failed)} of the sweep's jobs ({total} fine-tunings) failed; what the others reached is kept and in the "
        "tables. Mend these and start the same command again:\n  " + "\n  ".join(lines)
    )
    defect = any(failure.defect for failure in failed.values())
    return RuntimeError(message) if defect else UserError(message)
