"""Texts to token ids by a folder's own tokenizer. What a text says is data: a literal [MASK] in it is ordinary text.

A text longer than the network reads is cut, or becomes several rows that overlap. Price: ids of all rows in memory.
"""

from collections.abc import Sequence
from typing import Any

from pipeline.base.errors import UserError

CHUNK = 1000

Row = dict[str, list[int]]


def encode_texts(tokenizer: Any, texts: Sequence[str], max_length: int) -> tuple[list[list[int]], int]:
    """Ids of each text, the tokenizer's special ones around it, at most max_length; and how many texts were cut."""
    rows, _, cut = encode_rows(tokenizer, texts, None, max_length, None)
    return [row["input_ids"] for row in rows], cut


def encode_rows(
    tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int, stride: int | None
) -> tuple[list[Row], list[int], int]:
    """(rows, owners, cut): inputs of each row, the text (from 0) that it is of, and how many texts were cut.

    pairs: second texts, with token types where the tokenizer has them. stride: tokens that neighbouring windows of a
    long text (of a pair: of the second text) share; None: the beginning is read, the rest cut off. Raises UserError for
    a stride that a row has no room for.
    """
    room = max_length - tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    if stride is not None and stride >= room:
        raise UserError(
            f"finetune.stride {stride} leaves no room for new tokens in windows of finetune.max_length {max_length}. "
            f"Set it below {room}."
        )
    rows: list[Row] = []
    owners: list[int] = []
    cut = 0
    for start in range(0, len(texts), CHUNK):
        first = list(texts[start : start + CHUNK])
        second = None if pairs is None else list(pairs[start : start + CHUNK])
        if second is not None and (stride is None or not _fits(tokenizer, first, room - stride - 1)):
            found = _shortened(tokenizer, first, second, max_length)
            places = list(range(len(first)))
            cut += found.pop("cut")
        else:
            found = _windows(tokenizer, first, second, max_length, stride or 0)
            places = found.pop("overflow_to_sample_mapping")
            if stride is None:
                cut += len({place for place, before in zip(places[1:], places, strict=False) if place == before})
        columns = {key: value for key, value in found.items() if key in ("input_ids", "token_type_ids")}
        for index, place in enumerate(places):
            if stride is None and index and places[index - 1] == place:
                continue
            rows.append({key: value[index] for key, value in columns.items()})
            owners.append(start + place)
    return rows, owners, cut


def _fits(tokenizer: Any, texts: list[str], room: int) -> bool:
    """Whether every first text leaves room for a part of the second."""
    return all(len(ids) < room for ids in _call(tokenizer, texts, None, add_special_tokens=False)["input_ids"])


def _shortened(tokenizer: Any, first: list[str], second: list[str], max_length: int) -> dict[str, Any]:
    """Pairs cut at the end of the longer text."""
    whole = _call(tokenizer, first, second)["input_ids"]
    found = _call(tokenizer, first, second, truncation="longest_first", max_length=max_length)
    cut = sum(len(before) > len(after) for before, after in zip(whole, found["input_ids"], strict=True))
    return dict(found) | {"cut": cut}


def _windows(
    tokenizer: Any, first: list[str], second: list[str] | None, max_length: int, stride: int
) -> dict[str, Any]:
    """All of each text, in rows of at most max_length tokens."""
    side = "only_first" if second is None else "only_second"
    options = {"truncation": side, "max_length": max_length, "stride": stride, "return_overflowing_tokens": True}
    return dict(_call(tokenizer, first, second, **options))


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
