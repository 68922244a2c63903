"""Texts to token ids by a folder's own tokenizer. What a text says is data: a literal [MASK] in it is ordinary text."""

from collections.abc import Sequence
from typing import Any

CHUNK = 1000


def encode_texts(tokenizer: Any, texts: Sequence[str], max_length: int) -> tuple[list[list[int]], int]:
    """Ids of each text, the tokenizer's special ones around it, at most max_length; and how many texts were cut."""
    encoded: list[list[int]] = []
    cut = 0
    for start in range(0, len(texts), CHUNK):
        chunk = list(texts[start : start + CHUNK])
        whole = _ids(tokenizer, chunk, truncation=False)
        short = _ids(tokenizer, chunk, truncation=True, max_length=max_length)
        cut += sum(len(before) > len(after) for before, after in zip(whole, short, strict=True))
        encoded += short
    return encoded, cut


def _ids(tokenizer: Any, texts: list[str], **options: Any) -> list[list[int]]:
    encoding = tokenizer(
        texts,
        split_special_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
        **options,
    )
    return encoding["input_ids"]
