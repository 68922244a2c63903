"""Texts to token ids by a folder's own tokenizer. What a text says is data: a literal [MASK] in it is ordinary text.

A text longer than the network reads is cut, or becomes several rows that overlap. Price: ids of all rows in memory.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.base.errors import UserError
from pipeline.tasks.families.base import Row

CHUNK = 1000
CHUNK_CHARACTERS = 2_000_000
"""A chunk of texts is tokenised at once; the tokenizer takes a few hundred bytes a token meanwhile."""


def encode_texts(tokenizer: Any, texts: Sequence[str], max_length: int) -> tuple[list[list[int]], list[int]]:
    """Ids of each text, the tokenizer's special ones around it, at most max_length; and the texts (from 0) cut."""
    rows, _, cut = encode_rows(tokenizer, texts, None, max_length, None)
    return [row["input_ids"] for row in rows], cut


def encode_rows(
    tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int, stride: int | None
) -> tuple[list[Row], list[int], list[int]]:
    """(rows, owners, cut): inputs of each row, the text (from 0) that it is of, and the texts that were cut.

    pairs: second texts, with token types where the tokenizer has them. stride: tokens that neighbouring windows of a
    long text share (of a pair: windows of its longer text, each with the other; where both are too long for that, they
    are cut); None: the beginning is read, the rest cut off. Raises UserError for a stride that a row has no room for.
    """
    room = max_length - tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    if stride is not None:
        check_stride(stride, room, max_length)
    rows: list[Row] = []
    owners: list[int] = []
    cut: list[int] = []
    for places in _chunks(texts, pairs):
        first = [texts[place] for place in places]
        second = None if pairs is None else [pairs[place] for place in places]
        found, cut_here = _chunk(tokenizer, first, second, room, stride)
        cut += itertools.compress(places, cut_here)
        for place, of_one in zip(places, found, strict=True):
            rows += of_one
            owners += [place] * len(of_one)
    return rows, owners, cut


def check_stride(stride: int, room: int, max_length: int) -> None:
    """UserError where windows that have room for so many tokens of a text would not get on in it."""
    if stride >= room:
        raise UserError(
            f"finetune.stride {stride} leaves no room for new tokens in windows of finetune.max_length {max_length}. "
            f"Set it below {room}."
        )


def _chunks(texts: Sequence[str], pairs: Sequence[str] | None) -> Iterator[list[int]]:
    """Places of texts that are tokenised at once."""
    chunk: list[int] = []
    characters = 0
    for place, text in enumerate(texts):
        characters += len(text) + (len(pairs[place]) if pairs is not None else 0)
        chunk.append(place)
        if len(chunk) == CHUNK or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _chunk(
    tokenizer: Any, first: list[str], second: list[str] | None, room: int, stride: int | None
) -> tuple[list[list[Row]], list[bool]]:
    """Rows of each text, and whether it was cut."""
    if second is None:
        found = _windows(tokenizer, first, None, stride or 0, {"truncation": "only_first"}, room)
        if stride is None:
            return [rows[:1] for rows in found], [len(rows) > 1 for rows in found]
        return found, [False] * len(found)
    lengths = [_lengths(tokenizer, first), _lengths(tokenizer, second)]
    ways = [way_of(a, b, room, stride) for a, b in zip(*lengths, strict=True)]
    rows: list[list[Row]] = [[] for _ in first]
    for way in sorted(set(ways)):
        places = [place for place, its in enumerate(ways) if its == way]
        a, b = [first[place] for place in places], [second[place] for place in places]
        for place, of_one in zip(
            places, _windows(tokenizer, a, b, stride or 0, {"truncation": way}, room), strict=True
        ):
            rows[place] = of_one
    return rows, [way == "longest_first" for way in ways]


def way_of(first: int, second: int, room: int, stride: int | None) -> str:
    """How a pair of so many tokens is read: whole and in windows of the longer text, or cut."""
    if first + second <= room:
        return "only_second"
    if stride is None or min(first, second) + stride >= room:
        return "longest_first"
    return "only_first" if first > second else "only_second"


def _lengths(tokenizer: Any, texts: list[str]) -> list[int]:
    return [len(ids) for ids in _call(tokenizer, texts, None, add_special_tokens=False)["input_ids"]]


def _windows(
    tokenizer: Any, first: list[str], second: list[str] | None, stride: int, options: dict[str, Any], room: int
) -> list[list[Row]]:
    """All of each text in rows, or one row a pair that is cut on both sides."""
    if options["truncation"] != "longest_first":
        options = options | {"stride": stride, "return_overflowing_tokens": True}
    longest = room + tokenizer.num_special_tokens_to_add(pair=second is not None)
    found = _call(tokenizer, first, second, max_length=longest, **options)
    rows: list[list[Row]] = [[] for _ in first]
    keys = [key for key in ("input_ids", "token_type_ids") if key in found]
    for index, place in enumerate(found.get("overflow_to_sample_mapping", range(len(first)))):
        rows[place].append({key: found[key][index] for key in keys})
    return rows


def _call(tokenizer: Any, first: list[str], second: list[str] | None, **options: Any) -> Any:
    types = second is not None and "token_type_ids" in tokenizer.model_input_names
    return tokenizer(
        first,
        second,
        split_special_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=types,
        verbose=False,
        **options,
    )
