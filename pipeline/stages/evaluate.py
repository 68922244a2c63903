"""Stage evaluate: a checkpoint on the validation split, pairs of texts, or a fine-tuned model on a file."""

from types import ModuleType

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.stages import evaluate_checkpoint, evaluate_pairs, evaluate_task


def run(config: RunConfig) -> None:
    """Evaluates what evaluate.* names, prints a table, writes the figures. Raises UserError."""
    _chosen(config).run(config)


def plan(config: RunConfig) -> list[tuple[str, str]]:
    """Checks the inputs; what would be evaluated."""
    planned: list[tuple[str, str]] = _chosen(config).plan(config)
    return planned


def _chosen(config: RunConfig) -> ModuleType:
    settings = config.evaluate
    pairs = bool(settings.minimal_pairs or settings.probes)
    if pairs and (settings.model or settings.data):
        raise UserError(
            "evaluate.model and evaluate.data are about a fine-tuned model, evaluate.minimal_pairs and evaluate.probes "
            "about an export: give one kind a command."
        )
    if settings.model or settings.data:
        return evaluate_task
    return evaluate_pairs if pairs else evaluate_checkpoint
