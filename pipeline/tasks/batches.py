"""Batches of texts of like length, and their padding. Order = f(seed, epoch); WINDOW batches are sorted at once.

Price: texts of one batch are alike in length, and only batches, not texts, are shuffled within a window.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

WINDOW = 50

Job = TypeVar("Job")


def shuffled_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Every index once, in batches: shuffled, sorted by length within windows, and the batches shuffled again."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    batches = []
    for start in range(0, len(order), WINDOW * batch_size):
        window = sorted(order[start : start + WINDOW * batch_size], key=lambda index: lengths[index])
        batches += [window[first : first + batch_size] for first in range(0, len(window), batch_size)]
    return [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]


def sorted_batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Every index once, longest first: for prediction, where order does not matter."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    return [order[first : first + batch_size] for first in range(0, len(order), batch_size)]


def token_batches(jobs: Sequence[Job], length: Callable[[Job], int], most: int) -> list[list[Job]]:
    """Every job once, longest first, in batches of at most `most` tokens with their padding, or of one job."""
    batches: list[list[Job]] = []
    longest = 0
    for size, job in sorted(((length(job), job) for job in jobs), key=lambda pair: -pair[0]):
        if batches and longest * (len(batches[-1]) + 1) <= most:
            batches[-1].append(job)
        else:
            longest = size
            batches.append([job])
    return batches


def collate(rows: Sequence[Mapping[str, Sequence[int]]], pad_id: int, others: Mapping[str, int]) -> dict[str, Tensor]:
    """Rows padded on the right, each key (rows, longest) int64.

    Keys that end in "input_ids" are padded with `pad_id` and get a mask of the like name (1 token, 0 padding); other
    keys are padded with what `others` says, or 0.
    """
    batch = {}
    for key in rows[0]:
        values = [row[key] for row in rows]
        if key.endswith("input_ids"):
            batch[key], batch[key.removesuffix("input_ids") + "attention_mask"] = pad(values, pad_id)
        else:
            batch[key], _ = pad(values, others.get(key, 0))
    return batch


def pad(ids: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Ids and attention mask (1 = token, 0 = padding), both (texts, longest) int64, padded on the right."""
    width = max(len(row) for row in ids)
    padded = torch.full((len(ids), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(ids), width), dtype=torch.long)
    for place, row in enumerate(ids):
        padded[place, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[place, : len(row)] = 1
    return padded, mask
