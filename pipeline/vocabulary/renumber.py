"""Gives a Hugging Face tokenizer.json our special ids: padding, unknown, classifier, separator, mask become 0 to 4.

Its vocabulary is permuted and nothing else: the five move to the front and the other pieces keep their order (unused
ones too), so text becomes the same pieces as before. Every id in the file follows: the model's, the added tokens', the
post-processor's. A tokenizer without a mask token gets one; one that does not frame a text gets a template that does.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenizers import Tokenizer

from pipeline.base.errors import UserError
from pipeline.vocabulary.train import SPECIAL_PIECES

Json = dict[str, Any]

ROLES = ("padding", "unknown", "classifier", "separator", "mask")
"""In the order of our ids."""

USUAL_NAMES = (
    ("[PAD]", "<pad>", "<|pad|>", "<|padding|>", "<PAD>"),
    ("[UNK]", "<unk>", "<|unk|>", "<UNK>"),
    ("[CLS]", "<cls>", "<s>", "<bos>", "<|cls|>"),
    ("[SEP]", "<sep>", "</s>", "<eos>", "<|sep|>"),
    ("[MASK]", "<mask>", "<|mask|>", "<MASK>"),
)
"""What tokenizers call the tokens of the five roles."""

CONFIG_KEYS = (("pad_token",), ("unk_token",), ("cls_token", "bos_token"), ("sep_token", "eos_token"), ("mask_token",))
"""Where tokenizer_config.json and special_tokens_map.json name them."""

MODELS = ("WordPiece", "BPE", "Unigram", "WordLevel")


@dataclass(frozen=True)
class Renumbered:
    """A tokenizer.json with our special ids."""

    model: bytes
    """The file."""
    order: list[int]
    """For each id here, the id that the piece had; -1 for a piece that is new."""
    notes: list[str] = field(default_factory=list)
    """What was added, to be told."""


def renumber(content: bytes, beside: Sequence[Mapping[str, Any]], origin: str) -> Renumbered:
    """The file with its special tokens as ids 0 to 4; its very bytes where it has them so already.

    beside: contents of tokenizer_config.json and special_tokens_map.json, as far as there are any. origin: the path,
    for messages. Raises UserError for what is no tokenizer.json, or one that lacks a special token.
    """
    values, before = _read(content, origin)
    vocabulary = before.get_vocab(with_added_tokens=True)
    _check_ids(values, vocabulary, before, origin)
    rows = max(vocabulary.values()) + 1
    names = special_names(vocabulary, beside, _unknown_name(values))
    notes = []
    if names[4] is None:
        names[4] = SPECIAL_PIECES[4]
        vocabulary = vocabulary | {SPECIAL_PIECES[4]: rows}
        notes.append(f"it has no mask token: {SPECIAL_PIECES[4]} is added to its {rows:,} pieces")
    special = [vocabulary[name] for name in _all_there(names, origin)]
    if len(set(special)) < len(special):
        raise UserError(f"{origin}: one token has two of the roles {', '.join(ROLES)}: {' '.join(map(str, names))}.")
    chosen = set(special)
    order = special + [old for old in range(max(rows, max(special) + 1)) if old not in chosen]
    values = _permuted(values, vocabulary, order)
    after = _parsed(values, origin)
    if after.encode("").ids[:: max(1, len(after.encode("").ids) - 1)] != [2, 3]:
        values["post_processor"] = _framing(values.get("post_processor"), names)
        notes.append("it does not put classifier and separator around a text: a template that does is added")
        after = _parsed(values, origin)
    places = {old: new for new, old in enumerate(order)}
    if after.get_vocab(with_added_tokens=True) != {piece: places[old] for piece, old in vocabulary.items()}:
        raise UserError(f"{origin}: its ids cannot be put in another order: ids of its added tokens have gaps.")
    order = [old if old < rows else -1 for old in order]
    if values == json.loads(content):
        return Renumbered(content, order)
    return Renumbered(json.dumps(values, ensure_ascii=False, indent=1).encode(), order, notes)


def special_names(
    vocabulary: Mapping[str, int], beside: Sequence[Mapping[str, Any]], unknown: str | None = None
) -> list[str | None]:
    """Names of the tokens of ROLES: those named in the files beside, then the usual ones; None where there is none."""
    found: list[str | None] = []
    for keys, usual in zip(CONFIG_KEYS, USUAL_NAMES, strict=True):
        named = [_content(values.get(key)) for key in keys for values in beside]
        own = [unknown] if keys == ("unk_token",) else []
        found.append(next((name for name in [*named, *own, *usual] if name is not None and name in vocabulary), None))
    return found


def _content(value: Any) -> str | None:
    value = value.get("content") if isinstance(value, Mapping) else value
    return value if isinstance(value, str) else None


def _read(content: bytes, origin: str) -> tuple[Json, Tokenizer]:
    try:
        values = json.loads(content)
    except ValueError:
        raise UserError(f"{origin}: not a tokenizer.json: it is not valid JSON.") from None
    model = values.get("model") if isinstance(values, dict) else None
    if not isinstance(model, dict) or not model.get("vocab"):
        raise UserError(f"{origin}: not a Hugging Face tokenizer.json: it has no model with a vocab.")
    model.setdefault("type", "WordPiece" if "max_input_chars_per_word" in model else "BPE")
    if model["type"] not in MODELS:
        raise UserError(f"{origin}: a tokenizer of type {model['type']!r}; known are {', '.join(MODELS)}.")
    return values, _parsed(values, origin)


def _parsed(values: Json, origin: str) -> Tokenizer:
    try:
        return Tokenizer.from_str(json.dumps(values))
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"{origin}: not a Hugging Face tokenizer.json, or a damaged one: {error}") from None


def _check_ids(values: Json, vocabulary: Mapping[str, int], tokenizer: Tokenizer, origin: str) -> None:
    """UserError where two pieces have one id, or an added token another id than the vocabulary gives it."""
    if len(set(vocabulary.values())) < len(vocabulary):
        raise UserError(f"{origin}: two pieces of its vocabulary have the same id.")
    for token in values.get("added_tokens") or []:
        has = tokenizer.token_to_id(token["content"])
        if has != token["id"]:
            raise UserError(
                f"{origin}: added_tokens gives {token['content']!r} the id {token['id']}, but in the vocabulary it "
                f"has {has}: the file's parts are not of one tokenizer."
            )


def _unknown_name(values: Json) -> str | None:
    model = values["model"]
    if model["type"] == "Unigram":
        return None if model.get("unk_id") is None else str(model["vocab"][model["unk_id"]][0])
    return _content(model.get("unk_token"))


def _all_there(names: Sequence[str | None], origin: str) -> list[str]:
    missing = [role for role, name in zip(ROLES, names, strict=True) if name is None]
    if missing:
        looked = "; ".join(
            f"{role}: {' '.join(usual)}" for role, usual in zip(ROLES, USUAL_NAMES, strict=True) if role in missing
        )
        raise UserError(
            f"{origin}: the tokenizer has no token for {' and '.join(missing)} (looked for, beside what "
            f"tokenizer_config.json and special_tokens_map.json name: {looked}). Add it (add_special_tokens of the "
            "tokenizers library), or take another tokenizer."
        )
    return [name for name in names if name is not None]


def _permuted(values: Json, vocabulary: Mapping[str, int], order: Sequence[int]) -> Json:
    """The file's content with every id in its new place."""
    values = copy.deepcopy(values)
    places = {old: new for new, old in enumerate(order)}
    names = {old: piece for piece, old in vocabulary.items()}
    model = values["model"]
    if model["type"] == "Unigram":
        scores = [score for _, score in model["vocab"]]
        known = len(scores)
        length = known + sum(old >= known for old in order[: len(ROLES)])
        model["vocab"] = [
            list(model["vocab"][old]) if old < known else [names[old], min(scores)] for old in order[:length]
        ]
        model["unk_id"] = None if model.get("unk_id") is None else places[model["unk_id"]]
    else:
        entries = {piece: places[old] for piece, old in model["vocab"].items()}
        entries |= {names[old]: new for new, old in enumerate(order[: len(ROLES)])}
        model["vocab"] = dict(sorted(entries.items(), key=lambda entry: entry[1]))
    if model.get("dropout"):
        model["dropout"] = None  # data are the same every time
    added = {token["content"]: token | {"id": places[token["id"]]} for token in values.get("added_tokens") or []}
    for old in order[: len(ROLES)]:
        added[names[old]] = _ADDED | {"content": names[old]} | added.get(names[old], {}) | {"special": True}
        added[names[old]]["id"] = places[old]
    values["added_tokens"] = sorted(added.values(), key=lambda token: token["id"])
    values["truncation"] = values["padding"] = None  # a batch's matter, not the tokenizer's
    _move_ids(values.get("post_processor"), places)
    return values


_ADDED = {"id": 0, "content": "", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
_ADDED |= {"special": True}


def _move_ids(processor: Json | None, places: Mapping[int, int]) -> None:
    """In place: the ids that a post-processor puts around texts."""
    for part in (processor or {}).get("processors", []):
        _move_ids(part, places)
    if processor is None:
        return
    for side in ("cls", "sep"):
        if isinstance(processor.get(side), list):
            processor[side][1] = places[processor[side][1]]
    for token in processor.get("special_tokens", {}).values() if processor["type"] == "TemplateProcessing" else ():
        token["ids"] = [places[old] for old in token["ids"]]


def _framing(processor: Json | None, names: Sequence[str | None]) -> Json:
    """[CLS] A [SEP], or [CLS] A [SEP] B [SEP] with token types 0 and 1, after what the processor does already."""
    begin, end = names[2], names[3]
    frame = {
        "type": "TemplateProcessing",
        "single": [_special(begin, 0), _sequence("A", 0), _special(end, 0)],
        "pair": [_special(begin, 0), _sequence("A", 0), _special(end, 0), _sequence("B", 1), _special(end, 1)],
        "special_tokens": {
            str(name): {"id": name, "ids": [number], "tokens": [name]} for name, number in ((begin, 2), (end, 3))
        },
    }
    if processor is None or processor["type"] != "ByteLevel":  # that one only trims offsets; others frame differently
        return frame
    return {"type": "Sequence", "processors": [processor, frame]}


def _special(name: str | None, kind: int) -> Json:
    return {"SpecialToken": {"id": name, "type_id": kind}}


def _sequence(name: str, kind: int) -> Json:
    return {"Sequence": {"id": name, "type_id": kind}}
