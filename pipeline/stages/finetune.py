"""Stage finetune: an exported folder and examples of a task to a fine-tuned folder, predictions and figures."""

from pathlib import Path

from pipeline.base.config import RunConfig
from pipeline.base.log import get_logger, setup_logging
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import Tracker, read_run_id, start_run
from pipeline.tasks.families.base import family_class
from pipeline.tasks.identity import input_digests, target_folder
from pipeline.tasks.job import fine_tune, finished, plan_job, prepare
from pipeline.tasks.pretrained import pretrained_path
from pipeline.tasks.results import advice, summary
from pipeline.tasks.stopping import asked_to_stop


def run(config: RunConfig) -> None:
    """Fine-tunes and reports; a task finished with the same settings and inputs is left as it is."""
    folder, settings = RunFolder(Path(config.run_dir)), config.finetune
    target = target_folder(config)
    if (done := finished(config, target)) is not None:
        setup_logging(None)
        get_logger().info(f"finetune/{settings.name} is done: {target}\n{summary(done)}")
        return
    prepared = prepare(config)  # what is wrong is said before anything is written
    setup_logging(folder)
    with asked_to_stop() as stop, _tracked(config, folder) as tracker:
        metrics = fine_tune(config, target, tracker, stop, prepared)
    get_logger().info(f"{summary(metrics)}\n{advice(target, family_class(settings.family).pipeline_name)}")


def plan(config: RunConfig) -> list[tuple[str, str]]:
    """Checks files and folder; what would be trained. Writes nothing."""
    return plan_job(config, target_folder(config))


def _tracked(config: RunConfig, folder: RunFolder) -> Tracker:
    """The MLflow run of this task: one a finetune.name, linked to the runs and digests that it comes from."""
    export = pretrained_path(config)
    origin = RunFolder(export.resolve().parent.parent)
    parents = {f"{stage}_run_id": read_run_id(origin, stage) for stage in ("preprocess", "pretrain", "export")}
    tags = {key: value for key, value in parents.items() if value}
    tags |= {f"{key.removeprefix('finetune.')}_sha256": value for key, value in input_digests(config).items()}
    tracker = start_run(config, f"finetune-{config.finetune.name}", folder, tags)
    tracker.tags({"stage": "finetune", "task": config.finetune.name})
    return tracker
