"""One fine-tuning, from an opened task to its folder; what the stage does once, and a sweep many times over.

Repeatable: a finished one is left as it is, a killed one goes on, one of other settings is refused. Nothing here speaks
to MLflow: points go to a journal. Configs are settled ones (recipe.py).
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.base.config import RunConfig
from pipeline.base.files import complete_folder, lock_folder, read_json, told_plainly, write_json
from pipeline.base.journal import Journal
from pipeline.base.log import get_logger
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.families.base import Encoded, Row, Task, open_task
from pipeline.tasks.identity import METRICS, already_done, comparable, input_digests
from pipeline.tasks.loop import Course, FineTuning
from pipeline.tasks.pretrained import Pretrained, open_pretrained, pretrained_path
from pipeline.tasks.recipe import told
from pipeline.tasks.results import named, write_results
from pipeline.tasks.subsets import limited
from pipeline.tasks.work_folder import WorkFolder
from pipeline.training.distributed import thread_count


def never() -> bool:
    """Nobody asks to stop."""
    return False


@dataclass(frozen=True)
class Cost:
    """Of one fine-tuning: updates, passes over the rows, tokens, and FLOPs (6 a parameter and token)."""

    updates: int
    passes: int
    tokens: int
    flops: float


@dataclass(frozen=True)
class Prepared:
    """All inputs, read and checked: nothing is written before that."""

    task: Task
    pretrained: Pretrained
    encoded: dict[str, Encoded]
    model: nn.Module

    def tell(self) -> None:
        """What will be trained, and what is cut or read in windows."""
        longest = self.task.settings.max_length
        device = next(self.model.parameters()).device.type
        rows = [*self.task.describe(), _recipe(self.task)]
        _show(rows, f"fine-tuning {self.pretrained.describe(longest)} on {device}")
        for split, part in self.encoded.items():
            examples = len(self.task.examples[split])
            if part.cut:
                get_logger().info(
                    f"{split}: {part.cut:,} texts ({part.cut / examples:.1%}) are longer than finetune.max_length "
                    f"{longest} tokens and were cut"
                )
            if len(part.rows) > examples:
                get_logger().info(
                    f"{split}: {examples:,} texts are read in {len(part.rows):,} windows of {longest} tokens"
                )


def prepare(config: RunConfig) -> Prepared:
    """Reads the files, encodes them, loads the network. Raises UserError; writes nothing."""
    task, pretrained = open_inputs(config)
    encoded = encode_splits(task, pretrained)
    return Prepared(task, pretrained, encoded, task.load(pretrained, config.seed, prepare_device(config)))


def fine_tune(
    config: RunConfig,
    target: Path,
    journal: Journal,
    stop: Callable[[], bool] = never,
    prepared: Prepared | None = None,
) -> dict[str, Any]:
    """Trains and writes target/{model, predictions-*.jsonl, metrics.json}; returns the content of metrics.json.

    Raises UserError, and Preempted once stop() has asked for it and the state is kept.
    """
    if (done := finished(config, target)) is not None:
        return done
    inputs = prepared or prepare(config)
    work = WorkFolder(target, {"settings": comparable(config), "inputs": input_digests(config)})
    with told_plainly(target), lock_folder(work.path):
        _remove_leftovers(target)
        inputs.tell()
        tuning = FineTuning(inputs.model, inputs.task, inputs.encoded, inputs.pretrained.tokenizer.pad_token_id)
        with complete_folder(target) as aside:
            outcome = tuning.train(
                config.seed, lambda step, figures: journal.metrics(step, named(config.finetune, figures)), work, stop
            )
            metrics = write_results(aside, tuning, inputs.pretrained, outcome, stop)
            metrics |= {**work.key, "device": tuning.device.type}
            write_json(aside / METRICS, metrics)
        work.remove()
    journal.metrics(outcome.updates, {k: v for k, v in metrics.items() if k.startswith("finetune/")})
    journal.artifact(target / METRICS)
    return metrics


def finished(config: RunConfig, target: Path) -> dict[str, Any] | None:
    """The content of metrics.json where all is done. UserError where it was done with other settings or inputs."""
    if not already_done(config, target):
        return None
    WorkFolder(target, {}).remove()  # of one that was killed at its very end
    return dict(read_json(target / METRICS))


def plan_job(config: RunConfig, target: Path) -> list[tuple[str, str]]:
    """Checks files and folder; what would be trained. Writes nothing."""
    if already_done(config, target):
        return [("result", f"{target} (finished: nothing to do)")]
    settings = config.finetune
    task, pretrained = open_inputs(config)
    encoded = encode_splits(task, pretrained)
    price = training_cost(encoded["train"].rows, settings, pretrained)
    cut = ", ".join(f"{split} {part.cut:,}" for split, part in encoded.items())
    windows = ", ".join(f"{split} {len(part.rows):,}" for split, part in encoded.items())
    return [
        ("result", f"{target} (to be made)"),
        ("from", pretrained.describe(settings.max_length)),
        *task.describe(),
        _recipe(task),
        (f"rows of {settings.max_length} tokens", windows),
        ("cut", f"{cut} examples"),
        ("batches", f"{price.updates:,} of {settings.batch_size} rows"),
        ("tokens", f"{price.tokens:,} in {price.passes} passes"),
        ("FLOPs", f"{price.flops:.2e}, by 6 a parameter and token"),
    ]


def training_cost(rows: Sequence[Row], settings: FinetuneConfig, pretrained: Pretrained) -> Cost:
    """Of training on these rows; scoring dev and test comes on top."""
    course = Course.of(len(rows), settings)
    tokens = course.passes * sum(len(ids) for row in rows for key, ids in row.items() if key.endswith("input_ids"))
    return Cost(course.updates, course.passes, tokens, 6.0 * pretrained.parameters * tokens)


def open_inputs(config: RunConfig) -> tuple[Task, Pretrained]:
    """The task with at most finetune.max_train_examples, and the export; both checked. Raises UserError."""
    task = limited(open_task(config.finetune), config.finetune, config.seed)
    return task, open_pretrained(pretrained_path(config), task, config.finetune)


def encode_splits(task: Task, pretrained: Pretrained) -> dict[str, Encoded]:
    """All splits as rows. Raises UserError."""
    return {split: task.encode(split, pretrained.tokenizer) for split in task.splits}


def prepare_device(config: RunConfig) -> torch.device:
    """CUDA where there is one, else the CPU with train.threads threads."""
    torch.set_num_threads(thread_count(config.train.threads))
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what repeatable matrix products ask for
        return torch.device("cuda")
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # transformers asks DeepSpeed when it saves, which warns otherwise
    return torch.device("cpu")


def _remove_leftovers(target: Path) -> None:
    """What killed runs of this task left beside it; the lock is held."""
    for kind in ("aside", "old"):
        for path in target.parent.glob(f".{target.name}.*.{kind}"):
            shutil.rmtree(path, ignore_errors=True)


def _recipe(task: Task) -> tuple[str, str]:
    """What is not seen in the config alone, a row for a person."""
    return "recipe", f"{told(task.settings)}; the best epoch by {task.selection} on dev"


def _show(rows: list[tuple[str, str]], title: str) -> None:
    """A small table in the log."""
    width = max(len(label) for label, _ in rows)
    get_logger().info("\n".join([title, *(f"  {label:<{width}}  {value}" for label, value in rows)]))
