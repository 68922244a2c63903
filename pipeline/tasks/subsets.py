"""Fewer training examples: a subset drawn by the seed and balanced by class, the same for every export.

Subsets of one seed are nested: those of 8 examples are among those of 32. Price: examples x classes operations.
"""

import random
from bisect import bisect_right
from collections.abc import Hashable, Sequence
from statistics import quantiles

from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.families.base import Task

BINS = 4
"""Of scores, each with about as many training examples."""


def score_bins(scores: Sequence[float]) -> list[Hashable]:
    """The quarter of all scores that each is in, as its class; the same score is always in the same one."""
    edges = quantiles(scores, n=BINS, method="inclusive")
    return [bisect_right(edges, score) for score in scores]


def limited(task: Task, settings: FinetuneConfig, seed: int) -> Task:
    """The task with at most finetune.max_train_examples training examples, in the file's order."""
    total = len(task.examples["train"])
    wanted = settings.max_train_examples
    if wanted is None or wanted >= total:
        return task
    return task.with_training(sorted(stratified_order(task.strata(), total, seed)[:wanted]))


def stratified_order(strata: Sequence[Hashable] | None, total: int, seed: int) -> list[int]:
    """All places 0 .. total - 1, such that every beginning of the list is balanced by class.

    First one example of each class, the commonest class first; after that always one of the class that is furthest
    below its share of the whole. Within a class the order is random. Without strata all of it is.
    """
    shuffled = list(range(total))
    random.Random(seed).shuffle(shuffled)
    if strata is None:
        return shuffled
    waiting: dict[Hashable, list[int]] = {}
    for place in reversed(shuffled):
        waiting.setdefault(strata[place], []).append(place)
    classes = sorted(waiting, key=lambda name: (-len(waiting[name]), str(name)))
    shares = {name: len(waiting[name]) / total for name in classes}
    order = [waiting[name].pop() for name in classes]
    taken = dict.fromkeys(classes, 1)
    while len(order) < total:
        left = [name for name in classes if waiting[name]]
        chosen = max(left, key=lambda name: shares[name] * (len(order) + 1) - taken[name])
        order.append(waiting[chosen].pop())
        taken[chosen] += 1
    return order
