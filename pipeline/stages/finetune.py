"""Stage finetune: an exported folder and labelled texts to a fine-tuned folder, predictions and figures."""

import os
import shutil
from pathlib import Path

import torch

from pipeline.base.config import RunConfig
from pipeline.base.files import complete_folder, lock_folder, read_json, write_json
from pipeline.base.log import get_logger, setup_logging
from pipeline.base.run_folder import RunFolder
from pipeline.base.task_sections import FinetuneConfig
from pipeline.base.tracking import Tracker, read_run_id, start_run
from pipeline.tasks.families.base import Encoded, Task, open_task
from pipeline.tasks.identity import METRICS, already_done, comparable, input_digests, target_folder
from pipeline.tasks.loop import FineTuning
from pipeline.tasks.pretrained import Pretrained, load_model, open_pretrained, pretrained_path
from pipeline.tasks.results import advice, named, summary, write_results
from pipeline.training.distributed import thread_count


def run(config: RunConfig) -> None:
    """Fine-tunes and reports; a task finished with the same settings and inputs is left as it is."""
    folder, settings = RunFolder(Path(config.run_dir)), config.finetune
    target = target_folder(config)
    if already_done(config, target):
        setup_logging(None)
        get_logger().info(f"finetune/{settings.name} is done: {target}\n{summary(read_json(target / METRICS))}")
        return
    task = open_task(settings)
    pretrained = open_pretrained(pretrained_path(config), task, settings)
    device = _prepare_device(config)
    model = load_model(pretrained, task, config.seed, device)
    setup_logging(folder)
    with lock_folder(folder.finetune), _tracked(config, folder) as tracker:
        _remove_leftovers(target)
        _show(task.describe(), f"fine-tuning {pretrained.describe(settings.max_length)} on {device.type}")
        encoded = _encode(task, pretrained, settings)
        tuning = FineTuning(model, task, encoded, settings, pretrained.tokenizer.pad_token_id)
        with complete_folder(target) as aside:
            outcome = tuning.train(config.seed, lambda step, figures: tracker.metrics(step, named(settings, figures)))
            metrics = write_results(aside, tuning, pretrained, outcome)
            metrics |= {"settings": comparable(config), "inputs": input_digests(config), "device": device.type}
            write_json(aside / METRICS, metrics)
        tracker.metrics(outcome.updates, {k: v for k, v in metrics.items() if k.startswith("finetune/")})
        tracker.artifact(target / METRICS)
    get_logger().info(f"{summary(metrics)}\n{advice(target)}")


def plan(config: RunConfig) -> list[tuple[str, str]]:
    """Checks files and folder; what would be trained. Writes nothing."""
    settings, target = config.finetune, target_folder(config)
    task = open_task(settings)
    pretrained = open_pretrained(pretrained_path(config), task, settings)
    encoded = _encode(task, pretrained, settings)
    tokens = sum(map(len, encoded["train"].ids))
    batches = settings.epochs * -(-len(encoded["train"].ids) // settings.batch_size)
    cut = ", ".join(f"{split} {part.cut:,}" for split, part in encoded.items())
    done = already_done(config, target)
    return [
        ("result", f"{target} ({'finished: nothing to do' if done else 'to be made'})"),
        ("from", pretrained.describe(settings.max_length)),
        *task.describe(),
        (f"cut to {settings.max_length} tokens", f"{cut} texts"),
        ("batches", f"{batches:,} of {settings.batch_size} texts"),
        ("tokens", f"{tokens * settings.epochs:,} in {settings.epochs} epochs"),
        ("FLOPs", f"{6 * pretrained.parameters * tokens * settings.epochs:.2e}, by 6 a parameter and token"),
    ]


def _prepare_device(config: RunConfig) -> torch.device:
    """CUDA where there is one, else the CPU with train.threads threads."""
    torch.set_num_threads(thread_count(config.train.threads))
    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what repeatable matrix products ask for
        return torch.device("cuda")
    os.environ.setdefault("DS_ACCELERATOR", "cpu")  # transformers asks DeepSpeed when it saves, which warns otherwise
    return torch.device("cpu")


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


def _encode(task: Task, pretrained: Pretrained, settings: FinetuneConfig) -> dict[str, Encoded]:
    """All splits as token ids; tells how many texts were cut."""
    encoded = {split: task.encode(split, pretrained.tokenizer, settings.max_length) for split in task.splits}
    for split, part in encoded.items():
        if part.cut:
            share = part.cut / len(part.ids)
            get_logger().info(
                f"{split}: {part.cut:,} texts ({share:.1%}) are longer than finetune.max_length {settings.max_length} "
                "tokens and were cut"
            )
    return encoded


def _remove_leftovers(target: Path) -> None:
    """What killed runs of this task left beside it; the lock is held."""
    for kind in ("aside", "old"):
        for path in target.parent.glob(f".{target.name}.*.{kind}"):
            shutil.rmtree(path, ignore_errors=True)


def _show(rows: list[tuple[str, str]], title: str) -> None:
    """A small table in the log."""
    width = max(len(label) for label, _ in rows)
    get_logger().info("\n".join([title, *(f"  {label:<{width}}  {value}" for label, value in rows)]))
