"""Stage finetune: an exported folder and examples of a task to a fine-tuned folder, predictions and figures."""

from pathlib import Path

from pipeline.base.config import RunConfig
from pipeline.base.log import get_logger, setup_logging
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import Tracker, start_run
from pipeline.release.refresh import refresh_cards
from pipeline.stages import finetune_sweep
from pipeline.tasks.bag_of_words import add_bag_of_words
from pipeline.tasks.families.base import family_class
from pipeline.tasks.identity import target_folder
from pipeline.tasks.job import fine_tune, finished, plan_job, prepare
from pipeline.tasks.origin import origin_tags
from pipeline.tasks.recipe import settled
from pipeline.tasks.results import advice, summary
from pipeline.tasks.serving import keep_model
from pipeline.tasks.stopping import asked_to_stop
from pipeline.tasks.sweep import is_sweep


def run(config: RunConfig) -> None:
    """Fine-tunes and reports; a task finished with the same settings and inputs is left as it is."""
    if is_sweep(config.finetune):
        finetune_sweep.run(config)
        return
    config = settled(config)
    folder, settings = RunFolder(Path(config.run_dir)), config.finetune
    target = target_folder(config)
    if (done := finished(config, target)) is not None:
        setup_logging(None)
        done = add_bag_of_words(config, target, done)
        refresh_cards(folder)
        get_logger().info(f"finetune/{settings.name} is done: {target}\n{summary(done)}")
        return
    prepared = prepare(config)  # what is wrong is said before anything is written
    setup_logging(folder)
    with asked_to_stop() as stop, _tracked(config, folder) as tracker:
        metrics = add_bag_of_words(config, target, fine_tune(config, target, tracker, stop, prepared))
        tracker.metrics(metrics["updates"], {k: v for k, v in metrics.items() if "/bag_of_words_" in k})
        keep_model(tracker, target, prepared.task)
    refresh_cards(folder)
    get_logger().info(f"{summary(metrics)}\n{advice(target, family_class(settings.family).pipeline_name)}")


def plan(config: RunConfig) -> list[tuple[str, str]]:
    """Checks files and folder; what would be trained. Writes nothing."""
    if is_sweep(config.finetune):
        return finetune_sweep.plan(config)
    return plan_job(settled(config), target_folder(config))


def _tracked(config: RunConfig, folder: RunFolder) -> Tracker:
    """The MLflow run of this task: one a finetune.name, linked to the runs and digests that it comes from."""
    tracker = start_run(config, f"finetune-{config.finetune.name}", folder, origin_tags(config))
    tracker.tags({"stage": "finetune", "task": config.finetune.name})
    return tracker
