"""What a classifier reads of one text or of two that go together: the rows of tasks/encoding.py, token by token.

Promise: the ids and token types of `encode_rows`, and of each place the text and the token that stand there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.explaining.tokens import Span, Tokens
from pipeline.tasks.encoding import way_of

Reading = tuple[Span, ...]
"""Of each text the tokens that a row has of it: the first, and past the last."""


@dataclass(frozen=True)
class Row:
    """Inputs of the network for one row, not padded."""

    ids: list[int]
    special: list[bool]
    """Whether it is a token around the texts."""
    types: list[int] | None
    """Token types, where the tokenizer has them and there are two texts."""


def readings(lengths: Sequence[int], room: int, stride: int | None) -> list[Reading]:
    """What rows with room for `room` own tokens have of one text, or of two, of so many tokens.

    stride: tokens that neighbouring windows share: of two texts windows of the longer, each with the other; None: what
    has no room is cut off.
    """
    if len(lengths) == 1:
        return [(span,) for span in _windows(lengths[0], room, stride)]
    first, second = lengths
    way = way_of(first, second, room, stride)
    if way == "longest_first":
        shorter = min(first, second, room // 2)
        kept = (shorter, room - shorter) if first <= second else (room - shorter, shorter)
        return [((0, kept[0]), (0, kept[1]))]
    if way == "only_first":
        return [(span, (0, second)) for span in _windows(first, room - second, stride)]
    return [((0, first), span) for span in _windows(second, room - first, stride)]


def row_of(texts: Sequence[Tokens], reading: Reading) -> Row:
    """The row with the special tokens around it."""
    ids: list[int] = []
    special: list[bool] = []
    types: list[int] = []
    for text, (first, last) in zip(texts, reading, strict=True):
        own = text.ids[first:last]
        ids += [*text.before, *own, *text.after]
        special += [True] * len(text.before) + [False] * len(own) + [True] * len(text.after)
        types += [text.kind or 0] * (len(ids) - len(types))
    return Row(ids, special, None if texts[0].kind is None else types)


def _windows(count: int, room: int, stride: int | None) -> list[Span]:
    """The first `room` of `count` tokens, or windows that share `stride`."""
    if count <= room or stride is None:
        return [(0, min(count, room))]
    step = room - stride
    return [(first, min(first + room, count)) for first in range(0, count - room + step, step)]
