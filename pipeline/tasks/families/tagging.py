"""Tagging of words in IOB2, such as named entities and chunks: {"tokens": [...], "tags": [...]} a record.

Metrics are seqeval's, which counts whole entities (Ramshaw and Marcus 1995; conlleval's reading of a prediction).
Promise: what pipeline("token-classification") sees is what was trained: running text, tagged by pieces.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import ne
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from seqeval.metrics import accuracy_score, f1_score, precision_score, recall_score
from torch import Tensor, nn

from pipeline.base.errors import UserError
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.encoding import check_stride
from pipeline.tasks.families.base import Batch, Encoded, Row, Task
from pipeline.tasks.formats.conll import LINES
from pipeline.tasks.formats.fields import choices, strings_of
from pipeline.tasks.formats.reading import format_of, read_records
from pipeline.tasks.tagging_text import Window, deciding, windows

TOKENS, TAGS = ("tokens", "words"), ("tags", "ner_tags", "labels")
OUTSIDE = "O"
IGNORED = -100
"""Target that cross entropy leaves out."""


@dataclass(frozen=True)
class Example:
    """One record."""

    line: int
    tokens: list[str]
    tags: list[str]
    token_lines: list[int] | None = None
    """The line of each token, in a CoNLL file."""
    stray: int = 0
    """Tags that the file has as I- and that are beginnings."""

    def where(self, path: Path, token: int) -> str:
        """For messages: file and line of a token (from 0), and the tag that it has there."""
        line = self.token_lines[token] if self.token_lines else self.line
        return f"{path}:{line}: the tag {self.tags[token]!r} of token {token + 1}"


@dataclass(frozen=True)
class EncodedTags(Encoded):
    """And which (row, piece) decides on each word of each example; None where nothing does."""

    places: Sequence[list[tuple[int, int] | None]] = ()


class Tagging(Task):
    """Labels are O and, of each kind in the training file, B- and I-."""

    auto_class = "AutoModelForTokenClassification"
    selection = "f1"
    headline = ("f1", "precision", "recall")
    pipeline_name = "token-classification"

    @classmethod
    def open(
        cls, settings: FinetuneConfig, files: Mapping[str, Path], labels: Sequence[str] | None = None
    ) -> "Tagging":
        """UserError for a bad record, tags that do not line up with tokens, a tag that is new to training."""
        examples = {split: _read(path, settings) for split, path in files.items()}
        if labels is None:
            kinds = {tag[2:] for example in examples["train"] for tag in example.tags if tag != OUTSIDE}
            labels = [OUTSIDE, *(f"{prefix}-{kind}" for kind in sorted(kinds) for prefix in "BI")]
            if len(labels) < 2:
                raise UserError(f"{files['train']}: every tag is O; there is nothing to learn.")
        for split, path in files.items():
            for example in examples[split]:
                new = next((place for place, tag in enumerate(example.tags) if tag not in labels), None)
                if new is not None:
                    raise UserError(
                        f"{example.where(path, new)} does not occur in {files.get('train', 'the model')}, "
                        f"which has {', '.join(labels)}. Correct it, or add examples of it to finetune.train."
                    )
        return cls(settings, {split: list(map(_begun, found)) for split, found in examples.items()}, labels)

    def describe(self) -> list[tuple[str, str]]:
        """Examples of each split, their words, and how many entities of which kind."""
        rows = [("tags", f"{len(self.labels)}: {', '.join(self.labels[:40])}{' …' if len(self.labels) > 40 else ''}")]
        for split in self.splits:
            counts = Counter(t[2:] for e in self.examples[split] for t in e.tags if t.startswith("B-"))
            words = sum(len(example.tokens) for example in self.examples[split])
            each = ", ".join(f"{kind} {count:,}" for kind, count in sorted(counts.items())[:20])
            stray = sum(example.stray for example in self.examples[split])
            more = f"; {stray:,} I- tags that continue nothing, read as beginnings" if stray else ""
            rows.append((split, f"{len(self.examples[split]):,} texts, {words:,} words ({each}){more}"))
        return rows

    def head_config(self) -> dict[str, Any]:
        """Tags both ways, so that pipeline("token-classification") shows them."""
        names = dict(enumerate(self.labels))
        return {"num_labels": len(self.labels), "id2label": names, "label2id": dict(self.label_places)}

    def encode(self, split: str, tokenizer: Any) -> EncodedTags:
        """Rows of running text; targets are the place of each piece's tag, -100 for special tokens."""
        settings = self.settings
        rows: list[Row] = []
        targets: list[list[int]] = []
        owners: list[int] = []
        places: list[list[tuple[int, int] | None]] = []
        whole = settings.long_text == "windows"
        if whole:
            room = settings.max_length - tokenizer.num_special_tokens_to_add(pair=False)
            check_stride(settings.stride, room, settings.max_length)
        cut = 0
        for number, example in enumerate(self.examples[split]):
            found = windows(tokenizer, example.tokens, settings.max_length, settings.stride if whole else 0)
            kept = found if whole else found[:1]
            cut += len(kept) < len(found)
            offset = len(rows)
            decided = deciding(kept, len(example.tokens))
            places.append([None if place is None else (offset + place[0], place[1]) for place in decided])
            for window in kept:
                rows.append(window.row)
                targets.append(self._targets(window, example))
                owners.append(number)
        return EncodedTags(rows, targets, owners, cut, places)

    def strata(self) -> list[Hashable]:
        """The kind of each sentence's entities that fewest sentences have; O where there is none."""
        held = [{tag[2:] for tag in example.tags if tag != OUTSIDE} for example in self.examples["train"]]
        counts = Counter(kind for kinds in held for kind in kinds)
        return [min(kinds, key=lambda kind: (counts[kind], kind), default=OUTSIDE) for kinds in held]

    def loss(self, model: nn.Module, batch: Batch, targets: Sequence[list[int]]) -> Tensor:
        """Mean cross entropy in nats over the pieces of words and between them."""
        logits = model(**batch).logits.float()
        wanted = torch.full(logits.shape[:2], IGNORED, dtype=torch.long)
        for place, row in enumerate(targets):
            wanted[place, : len(row)] = torch.tensor(row)
        wanted = wanted.to(logits.device)
        total = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum")
        return total / (wanted != IGNORED).sum().clamp(min=1)

    def outputs(self, model: nn.Module, batch: Batch) -> list[list[int]]:
        """The likeliest tag's place for each piece."""
        best = model(**batch).logits.argmax(-1).cpu()
        lengths = batch["attention_mask"].sum(1).tolist()
        return [row[:length].tolist() for row, length in zip(best, lengths, strict=True)]

    def decide(self, split: str, encoded: Encoded, outputs: Sequence[list[int]]) -> list[list[str]]:
        """A tag for each word. Words that begin in one piece share its entity; a word that was cut off is O."""
        assert isinstance(encoded, EncodedTags)
        decisions = []
        for example, places in zip(self.examples[split], encoded.places, strict=True):
            tags = [OUTSIDE] * len(example.tokens)
            before: tuple[int, int] | None = None
            for word, place in enumerate(places):
                if place is not None:
                    tag = self.labels[outputs[place[0]][place[1]]]
                    tags[word] = f"I-{tag[2:]}" if place == before and tag != OUTSIDE else tag
                before = place
            decisions.append(tags)
        return decisions

    def metrics(self, split: str, decisions: Sequence[list[str]]) -> dict[str, float]:
        """precision, recall and f1 of entities, accuracy of tags."""
        gold = [example.tags for example in self.examples[split]]
        found = [list(tags) for tags in decisions]
        figures = {
            "f1": f1_score(gold, found, zero_division=0),
            "precision": precision_score(gold, found, zero_division=0),
            "recall": recall_score(gold, found, zero_division=0),
            "accuracy": accuracy_score(gold, found),
        }
        return {name: float(value) for name, value in figures.items()}

    def baseline(self, split: str) -> dict[str, float]:
        """Each word's most frequent tag in the training file, O for words that it does not have."""
        if "train" not in self.examples:
            return {}
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for example in self.examples["train"]:
            for token, tag in zip(example.tokens, example.tags, strict=True):
                counts[token][tag] += 1
        usual = {token: max(sorted(tags), key=tags.__getitem__) for token, tags in counts.items()}
        return self.metrics(split, [[usual.get(t, OUTSIDE) for t in e.tokens] for e in self.examples[split]])

    def predictions(self, split: str, decisions: Sequence[list[str]]) -> list[dict[str, Any]]:
        """Line of the file, tokens, right tags, predicted tags."""
        return [
            {"line": e.line, "tokens": e.tokens, "tags": e.tags, "predicted": list(tags)}
            for e, tags in zip(self.examples[split], decisions, strict=True)
        ]

    def _targets(self, window: Window, example: Example) -> list[int]:
        """Pieces that no decision is read from are trained too: whoever groups pieces into entities reads them all."""
        targets = []
        for begun, rest, after in zip(window.begins, window.rests, window.spaces, strict=True):
            tag = None
            if begun:
                tag = example.tags[begun[0]]
            elif rest is not None:
                tag = _inside(example.tags[rest])
            elif after is not None:
                tag = example.tags[after] if example.tags[after].startswith("I-") else OUTSIDE
            # Also left out: I- of a kind that a folder from elsewhere has as B- only; no other tag of it would do.
            targets.append(IGNORED if tag is None else self.label_places.get(tag, IGNORED))
        return targets


def _inside(tag: str) -> str:
    """The tag of what goes on."""
    return tag if tag == OUTSIDE else f"I-{tag[2:]}"


def _read(path: Path, settings: FinetuneConfig) -> list[Example]:
    conll = format_of(path, settings) == "conll"  # there the two keys are numbers of columns
    tokens = TOKENS if conll else choices(settings.fields, "tokens", TOKENS)
    tags = TAGS if conll else choices(settings.fields, "tags", TAGS)
    examples = []
    for line, record in read_records(path, settings):
        place = f"{path}:{line}"
        lines = record[LINES] if conll else None
        example = Example(line, strings_of(record, tokens, place), strings_of(record, tags, place), lines)
        _check(example, path)
        examples.append(example)
    return examples


def _begun(example: Example) -> Example:
    """With B- for every I- after O or another kind: IOB1, or an annotator's slip; seqeval lets an entity begin there.

    So what is learned, counted and compared tag by tag is what seqeval scores.
    """
    pairs = zip([OUTSIDE, *example.tags], example.tags, strict=False)
    tags = [f"B{tag[1:]}" if tag.startswith("I-") and before[2:] != tag[2:] else tag for before, tag in pairs]
    return replace(example, tags=tags, stray=sum(map(ne, tags, example.tags)))


def _check(example: Example, path: Path) -> None:
    place = f"{path}:{example.line}"
    if len(example.tokens) != len(example.tags):
        raise UserError(f"{place}: {len(example.tokens)} tokens but {len(example.tags)} tags; each token has one.")
    if not any(token.strip() for token in example.tokens):
        raise UserError(f"{place}: no token has a visible character.")
    for token, tag in enumerate(example.tags):
        if tag != OUTSIDE and not (tag[:2] in ("B-", "I-") and tag[2:]):
            raise UserError(f"{example.where(path, token)} is not IOB2: O, B-KIND or I-KIND.")
