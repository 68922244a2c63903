"""A fine-tuned folder as an MLflow model, for `mlflow models serve`: texts in, labels out, over HTTP.

Only tasks that transformers has a pipeline for can be served so: transformers 5 has none for question answering,
translation, summarisation and embeddings, whose folders their own libraries load (docs/serving.md).
"""

from importlib.metadata import version
from pathlib import Path

from pipeline.base.journal import Journal
from pipeline.base.log import get_logger
from pipeline.tasks.families.base import Task

SERVED = ("text-classification", "token-classification")
"""transformers' pipelines that MLflow serves."""
_NEEDED = ("mlflow", "torch", "transformers")


def requirements() -> list[str]:
    """What a server of such a model needs installed, at the versions here. Said, not inferred: MLflow would ask pip."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in _NEEDED]


def keep_model(journal: Journal, folder: Path, task: Task) -> None:
    """Has folder/model kept with the journal's MLflow run, by finetune.log_model; says so where it cannot be served."""
    if not task.settings.log_model:
        return
    if task.pipeline_name in SERVED:
        pairs = getattr(task.examples["dev"][0], "pair", None) is not None
        journal.model(folder / "model", task.pipeline_name, requirements(), pairs=pairs)
    else:
        family = task.settings.family
        get_logger().info(f"no MLflow model: nothing serves the family {family}; {folder / 'model'} is whole.")
