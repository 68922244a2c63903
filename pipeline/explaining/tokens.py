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


@dataclass(frozen=True)
class Window:
    """Tokens first … last-1 of a text; what is said of the first_kept … last_kept-1 is taken from this window."""

    first: int
    last: int
    first_kept: int
    last_kept: int


def tokenize(tokenizer: Any, text: str, place: str) -> Tokens:
    """Raises UserError where the tokenizer is no fast one, or leaves nothing of the text."""
    if not tokenizer.is_fast:
        raise UserError(
            f"{tokenizer.name_or_path}: a fast tokenizer is needed (it tells where tokens lie in the text)."
        )
    encoding = tokenizer(
        text,
        split_special_tokens=True,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        truncation=False,
        verbose=False,
    )
    ids, flags = encoding["input_ids"], encoding["special_tokens_mask"]
    own = [index for index, flag in enumerate(flags) if not flag]
    if not own:
        raise UserError(f"{place}: the tokenizer of {tokenizer.name_or_path} leaves no token of this text.")
    first, last = own[0], own[-1] + 1
    pieces = tokenizer.convert_ids_to_tokens(ids[first:last])
    spans = _by_character(text, pieces, [(int(a), int(b)) for a, b in encoding["offset_mapping"][first:last]])
    shown = [shown_piece(tokenizer, *pair) for pair in zip(ids[first:last], pieces, strict=True)]
    return Tokens(ids[first:last], pieces, shown, [_trimmed(text, span) for span in spans], ids[:first], ids[last:])


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


def room_of(tokens: Tokens, length: int) -> int:
    """How many of a text's own tokens a window of `length` holds. Raises UserError where it holds none."""
    room = length - len(tokens.before) - len(tokens.after)
    if room < 1:
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
