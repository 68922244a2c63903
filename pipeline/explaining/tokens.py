"""Texts to tokens that know their place in the text, and windows over long ones. A literal [MASK] in a text is text.

Windows are of at most WINDOW tokens, since the price of attention grows with their square; a token is judged in the
window in whose middle it lies, so that it sees what is before and behind it.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.base.errors import UserError

WINDOW = 512
"""Most tokens of a window, special ones included."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")

Span = tuple[int, int]


@dataclass(frozen=True)
class Tokens:
    """A text's own tokens, and the special ones that the tokenizer puts around them."""

    ids: list[int]
    pieces: list[str]
    """As the tokenizer names them."""
    shown: list[str]
    """The same for people."""
    spans: list[Span]
    """Characters of the text, first and past the last, without the blanks around."""
    before: list[int]
    """Special tokens before the text, such as [CLS]."""
    after: list[int]
    """Special tokens after it, such as [SEP]."""
    kind: int | None = None
    """Token type of all of these, where two texts are read together by a tokenizer that has types."""


@dataclass(frozen=True)
class Window:
    """Tokens first … last-1 of a text; what is said of the first_kept … last_kept-1 is taken from this window."""

    first: int
    last: int
    first_kept: int
    last_kept: int


def tokenize(tokenizer: Any, text: str, place: str) -> Tokens:
    """A text by itself. Raises UserError where the tokenizer is no fast one, or leaves nothing of the text."""
    return tokenize_together(tokenizer, [text], place)[0]


def tokenize_together(tokenizer: Any, texts: Sequence[str], place: str) -> list[Tokens]:
    """One text, or two as the tokenizer makes one sequence of them: what stands between two is after the first.

    Raises UserError as `tokenize` does.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"{tokenizer.name_or_path}: a fast tokenizer is needed (it tells where tokens lie in the text)."
        )
    has_types = len(texts) > 1 and "token_type_ids" in tokenizer.model_input_names
    encoding = tokenizer(
        *texts,
        split_special_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=has_types,
        truncation=False,
        verbose=False,
    )
    ids, offsets, sides = encoding["input_ids"], encoding["offset_mapping"], encoding.sequence_ids(0)
    for number in range(len(texts)):
        if number not in sides:
            which = ("first", "second")[number] if len(texts) > 1 else "this"
            raise UserError(f"{place}: the tokenizer of {tokenizer.name_or_path} leaves no token of {which} text.")
    result, start = [], 0
    for number, text in enumerate(texts):
        first = sides.index(number)
        last = first + sides.count(number)
        end = len(ids) if number == len(texts) - 1 else sides.index(number + 1)
        pieces = tokenizer.convert_ids_to_tokens(ids[first:last])
        spans = _by_character(text, pieces, [(int(a), int(b)) for a, b in offsets[first:last]])
        shown = [shown_piece(tokenizer, *pair) for pair in zip(ids[first:last], pieces, strict=True)]
        spans = [_trimmed(text, span) for span in spans]
        kind = int(encoding["token_type_ids"][first]) if has_types else None
        result.append(Tokens(ids[first:last], pieces, shown, spans, ids[start:first], ids[last:end], kind))
        start = end
    return result


def window_length(tokenizer: Any, config: Any) -> int:
    """Tokens of a window, special ones included: what the tokenizer and the positions allow, at most WINDOW."""
    positions = getattr(config, "max_position_embeddings", None) or WINDOW
    return int(min(WINDOW, tokenizer.model_max_length, positions))


def windows(count: int, room: int) -> list[Window]:
    """Windows of at most `room` of `count` tokens that overlap by half; each token is kept in one of them."""
    if count <= room:
        return [Window(0, count, 0, count)]
    step = max(room // 2, 1)
    firsts = [*range(0, count - room, step), count - room]
    middles = [(a + room + b) // 2 for a, b in itertools.pairwise(firsts)]
    kept = list(zip([0, *middles], [*middles, count], strict=True))
    return [Window(first, first + room, *keep) for first, keep in zip(firsts, kept, strict=True)]


def room_of(texts: Sequence[Tokens], length: int) -> int:
    """How many own tokens of texts that are read together a window of `length` holds. UserError for too few."""
    room = length - sum(len(text.before) + len(text.after) for text in texts)
    if room < len(texts):
        raise UserError(f"windows of {length} tokens hold no token of a text: model_max_length is too small.")
    return room


def framed(tokens: Tokens, window: Window) -> list[int]:
    """Ids of a window, the special ones around it."""
    return [*tokens.before, *tokens.ids[window.first : window.last], *tokens.after]


def shown_piece(tokenizer: Any, index: int, piece: str) -> str:
    """A piece for people: ␣ where a new word begins, and characters for the bytes of byte-level vocabularies."""
    if piece.startswith("▁") or _BYTE.fullmatch(piece) or piece.startswith("##") or index in tokenizer.all_special_ids:
        return piece.replace("▁", "␣")
    decoded: str = tokenizer.decode([index], clean_up_tokenization_spaces=False)
    return decoded.replace(" ", "␣") if decoded.strip() and "\ufffd" not in decoded else piece


def _by_character(text: str, pieces: Sequence[str], spans: list[Span]) -> list[Span]:
    """Spans in which a run of byte pieces, all with the span of the whole run, has that of its own character each."""
    result = list(spans)
    place = 0
    while place < len(pieces):
        end = place + 1
        while end < len(pieces) and spans[end] == spans[place]:
            end += 1
        found = [_BYTE.fullmatch(piece) for piece in pieces[place:end]]
        start, past = spans[place]
        data = bytes(int(match[1], 16) for match in found if match)
        if len(data) == len(found) and data == text[start:past].encode():
            owners = [start + i for i, character in enumerate(text[start:past]) for _ in character.encode()]
            result[place:end] = [(owner, owner + 1) for owner in owners]
        place = end
    return result


def _trimmed(text: str, span: Span) -> Span:
    """Without blanks at both ends, unless there is nothing else."""
    part = text[slice(*span)]
    if not part.strip():
        return span
    start = span[0] + len(part) - len(part.lstrip())
    return start, start + len(part.strip())
