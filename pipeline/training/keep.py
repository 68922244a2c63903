"""Which checkpoints stay: the newest, every so many steps one, and the best by a metric.

What is kept is a pure function of what is there. A kill in the middle of pruning leaves fewer marks, never a damaged
checkpoint that looks whole: the mark goes first.
"""

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from pipeline.base.errors import UserError
from pipeline.base.files import is_aside, is_remote, remove_tree
from pipeline.base.lease import check_lease
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder
from pipeline.base.storage import writing
from pipeline.training.checkpoint import (
    BEST,
    add_to_manifest,
    checkpoint_name,
    is_marked,
    list_checkpoints,
    local_checkpoints,
    move_latest,
    read_pointer,
    step_of,
)

LOWER_IS_BETTER = ("loss", "loss_over_entropy", "perplexity")
"""Last parts of names of metrics; of all others the highest value is the best."""


def to_keep(steps: Collection[int], last: int, every: int | None = None, best: int | None = None) -> set[int]:
    """Of the steps of complete checkpoints those that stay: the newest `last`, the multiples of `every`, and `best`."""
    newest = sorted(steps)[-last:]
    return {step for step in steps if step in newest or step == best or (every is not None and step % every == 0)}


def is_better(metric: str, value: float, than: float | None) -> bool:
    """Whether the value of this metric beats the best so far; an equal one does not."""
    if than is None:
        return True
    return value < than if metric.rpartition("/")[2] in LOWER_IS_BETTER else value > than


def add_evaluation(folder: RunFolder, step: int, figures: dict[str, float], best: bool) -> bool:
    """Notes what an evaluation has found after the checkpoint was saved, and points `best` at it where it is the best.

    Where that is refused, False and a warning: the checkpoint is as it was.
    """
    path = folder.checkpoints / checkpoint_name(step)
    try:
        check_lease(folder.store)
        add_to_manifest(path, {"evaluation": figures})
        if best:
            move_latest(folder, path.name, BEST)
    except UserError as error:
        get_logger().warning(f"step {step}: its evaluation is not noted with its checkpoint: {error}")
        return False
    return True


def remove_asides(folder: RunFolder) -> None:
    """Removes what killed saves left half-written."""
    for path in local_checkpoints(folder).glob(".*"):
        if is_aside(path.name) and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif is_aside(path.name) and f".{os.getpid()}-" not in path.name:  # of the pointers `latest` and `best`
            path.unlink(missing_ok=True)


def prune(folder: RunFolder, saved: int, last: int, every: int | None = None) -> None:
    """Removes complete checkpoints that need not stay (see `to_keep`), and what a killed save left half uploaded.

    saved: the step just saved, which stays. Later ones count for nothing and are left alone: the run passed them over
    as damaged. Where a store refuses, a warning: what was saved is saved.
    """
    remove_asides(folder)
    found = [path for path in list_checkpoints(folder) if path.name <= checkpoint_name(saved)]
    marked = {step_of(path.name): path for path in found if is_marked(path)}
    best = read_pointer(folder, BEST)
    kept = to_keep([step for step in marked if step is not None], last, every, step_of(best) if best else None)
    going = [path for step, path in marked.items() if step not in kept]
    if not is_remote(folder.checkpoints):
        for path in going:
            (path / "manifest.json").unlink(missing_ok=True)  # the mark first: a kill half-way leaves no whole one
            shutil.rmtree(path, ignore_errors=True)
        return
    half = [path for path in found if path not in marked.values()]
    try:
        for path in going:
            _unmark(path)
        for path in (*going, *half):
            remove_tree(path)
    except UserError as error:
        get_logger().warning(f"older checkpoints stay: {error}")


def _unmark(path: Path) -> None:
    with writing(path):
        (path / "manifest.json").unlink(missing_ok=True)
