"""A question and its context as rows: the question whole in each, the context in windows; and answers as token places.

A context is read whole however long it is. Price: ids and offsets of all windows in memory, some 50 bytes a token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.tasks.families.base import Row

CONTEXT = "is_context"
"""Key of a row: 1 for the context's tokens, else 0. The network does not see it."""
NULL = (0, 0)
"""Places of the span that says "no answer": [CLS]."""
N_BEST = 20
"""Spans kept of a window."""


@dataclass(frozen=True)
class Window:
    """A row and where its context's tokens lie."""

    row: Row
    first: int
    """Place of the first token of the context."""
    offsets: np.ndarray
    """(tokens of the context, 2) int32: the characters of the context that each spells, end exclusive."""
    outermost: tuple[bool, bool]
    """Whether it is the context's first window, and its last."""

    def place(self, start: int, end: int, context: int) -> tuple[int, int]:
        """(first, last) place of the tokens that spell context[start:end]; NULL where the window lacks some of it.

        context: characters of the whole context; what a tokenizer drops at its ends is in the outermost windows.
        """
        if not len(self.offsets) or start < self._begin() or end > self._stop(context):
            return NULL
        first = int(np.argmax(self.offsets[:, 1] > start))
        last = len(self.offsets) - 1 - int(np.argmax(self.offsets[::-1, 0] < end))
        return (self.first + first, self.first + last) if first <= last else NULL

    def _begin(self) -> int:
        return 0 if self.outermost[0] else int(self.offsets[0, 0])

    def _stop(self, context: int) -> int:
        return context if self.outermost[1] else int(self.offsets[-1, 1])


@dataclass(frozen=True)
class Spans:
    """What a network says of a window."""

    null: float
    """Score of no answer: the sum of its start's and its end's logit, as of all spans."""
    scores: Tensor
    """(at most N_BEST,) descending."""
    places: Tensor
    """(spans, 2) int64: first and last token of each, places in the row."""


def windows(tokenizer: Any, question: str, context: str, max_length: int, stride: int) -> list[Window]:
    """[CLS] question [SEP] context [SEP], as often as the context needs; neighbours share `stride` tokens of it.

    They share half of what the question leaves room for where that is less.
    """
    asked = len(tokenizer(question, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"])
    room = max_length - tokenizer.num_special_tokens_to_add(pair=True) - asked
    encoding = tokenizer(
        question,
        context,
        split_special_tokens=True,
        return_attention_mask=False,
        return_token_type_ids="token_type_ids" in tokenizer.model_input_names,
        return_offsets_mapping=True,
        truncation="only_second",
        max_length=max_length,
        stride=min(stride, room // 2),
        return_overflowing_tokens=True,
        verbose=False,
    )
    found, count = [], len(encoding["input_ids"])
    for number in range(count):
        inside = [int(sequence == 1) for sequence in encoding.sequence_ids(number)]
        row = {key: encoding[key][number] for key in ("input_ids", "token_type_ids") if key in encoding}
        first = inside.index(1) if 1 in inside else 0
        offsets = np.array(encoding["offset_mapping"][number], dtype=np.int32)[np.array(inside, dtype=bool)]
        found.append(Window(row | {CONTEXT: inside}, first, offsets, (number == 0, number == count - 1)))
    return found


def shortened(tokenizer: Any, question: str, tokens: int) -> str:
    """The beginning of a question that is at most so many tokens; the question itself where it is."""
    options = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
    offsets = tokenizer(question, return_offsets_mapping=True, **options)["offset_mapping"]
    kept, text = len(offsets), question
    while kept > tokens or len(tokenizer(text, **options)["input_ids"]) > tokens:
        kept = min(kept - 1, tokens)
        text = question[: offsets[kept - 1][1]] if kept else ""
    return text


def best_spans(starts: Tensor, ends: Tensor, inside: Tensor, longest: int) -> list[Spans]:
    """The N_BEST spans of at most `longest` tokens within the context. Logits (rows, tokens); inside 1 or 0 alike."""
    outside = inside == 0
    nulls = (starts[:, 0] + ends[:, 0]).tolist()
    first = starts.masked_fill(outside, -torch.inf)
    last = torch.nn.functional.pad(ends.masked_fill(outside, -torch.inf), (0, longest - 1), value=-torch.inf)
    scores = (first.unsqueeze(2) + last.unfold(1, longest, 1)).flatten(1)
    best, found = scores.topk(min(N_BEST, scores.shape[1]), dim=1)
    best, found = best.cpu(), found.cpu()
    begins = found // longest
    places = torch.stack([begins, begins + found % longest], dim=2)
    kept = best.isfinite()
    return [
        Spans(null, row[keep].clone(), of_row[keep].clone())
        for null, row, of_row, keep in zip(nulls, best, places, kept, strict=True)
    ]


def pooled(of_windows: Sequence[tuple[Spans, np.ndarray, int]], context: str) -> tuple[float, float, int, int]:
    """(score of no answer, of the best span, its first character, its end) over a context's windows.

    of_windows: what the network says, the window's offsets and its first place. Space at a span's ends is not of it; a
    span of nothing else is passed over. Without any span its score is -inf and it is empty.
    """
    null, best = min(spans.null for spans, _, _ in of_windows), (float("-inf"), 0, 0)
    for spans, offsets, first in of_windows:
        for score, (begin, end) in zip(spans.scores.tolist(), spans.places.tolist(), strict=True):
            if score <= best[0]:
                break
            start, stop = int(offsets[begin - first, 0]), int(offsets[end - first, 1])
            text = context[start:stop]
            start, stop = start + len(text) - len(text.lstrip()), stop - (len(text) - len(text.rstrip()))
            if start < stop:
                best = (score, start, stop)
                break
    return null, *best
