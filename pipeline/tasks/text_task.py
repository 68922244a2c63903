"""One text or two, one answer: what classification and regression share. Long texts are read in windows and pooled.

Each window is trained with its text's answer. Memory for activations depends on batch_size and max_length, not on how
long a text is.
"""

import functools
from abc import abstractmethod
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers.models.electra.modeling_electra import ElectraClassificationHead

from pipeline.base.errors import UserError
from pipeline.base.task_sections import FieldsConfig, FinetuneConfig
from pipeline.tasks.encoding import encode_rows
from pipeline.tasks.families.base import Batch, Encoded, Task
from pipeline.tasks.formats.fields import Names, choices, names_of, text_of
from pipeline.tasks.formats.reading import read_records
from pipeline.tasks.heads import ClsHead, as_library_head, put_cls_head
from pipeline.tasks.pretrained import HEAD_DROPOUT, Pretrained

FIRST = ("text", "sentence", "sentence1", "text1", "premise", "question1")
SECOND = ("pair", "text_pair", "sentence2", "text2", "hypothesis", "question2")
PAIRS = (("question", "sentence"), ("question", "passage"), ("query", "passage"), ("s1", "s2"))
"""Names of two texts that mean this only together."""
SCORE = ("score", "similarity", "label")
SHOWN_FIELDS = 10
PAIRED = "paired"
KINDS_OF_TEXTS = {True: "two texts", False: "one text"}
"""Of examples, in words, by whether they are paired."""


@dataclass(frozen=True)
class Example:
    """One record; `answer` is a label's name or a score."""

    line: int
    text: str
    pair: str | None
    answer: Any
    keys: tuple[str, ...]
    """Names of the record's fields."""


class SequenceTask(Task):
    """A family adds labels or scores: targets, loss, pooling, metrics."""

    auto_class = "AutoModelForSequenceClassification"
    pipeline_name = "text-classification"
    answers: ClassVar[Sequence[str]] = SCORE
    """Usual names of the answer's field."""

    @property
    def paired(self) -> bool:
        """Whether an example is two texts."""
        return self.examples[self.splits[0]][0].pair is not None

    def check(self, pretrained: Pretrained) -> None:
        """UserError for finetune.head mean with another body than ModernBERT's."""
        kind = pretrained.config.model_type
        if self.settings.head == "mean" and kind != "modernbert":
            raise UserError(
                f"finetune.head mean is ModernBERT's, and {pretrained.path} is of the kind {kind}: set it to cls or "
                "library."
            )

    def load(self, pretrained: Pretrained, seed: int, device: torch.device) -> nn.Module:
        """The library's class; with finetune.head cls, ELECTRA's head is the paper's. Raises UserError."""
        modern = pretrained.config.model_type == "modernbert"
        if self.settings.head != "library" and modern:
            pretrained.config.classifier_pooling = self.settings.head
        model = super().load(pretrained, seed, device)
        if self.settings.head == "cls":
            put_cls_head(model, seed, HEAD_DROPOUT)
        return model

    def save(self, model: nn.Module, tokenizer: Any, path: Path) -> None:
        """An ordinary folder of transformers, also of a model with the paper's head."""
        head = model.classifier
        assert isinstance(head, nn.Module)
        if isinstance(head, ClsHead):
            norm = model.get_submodule("electra.encoder.layer")[-1].output.LayerNorm  # type: ignore[index]
            library = as_library_head(head, ElectraClassificationHead(model.config), norm)
            model.classifier = library.to(head.out_proj.weight.device)
        try:
            super().save(model, tokenizer, path)
        finally:
            model.classifier = head

    def encode(self, split: str, tokenizer: Any) -> Encoded:
        """[CLS] text [SEP], or [CLS] text [SEP] pair [SEP]; of a long text one row a window, all with its target."""
        examples, settings = self.examples[split], self.settings
        pairs = [example.pair or "" for example in examples] if self.paired else None
        stride = settings.stride if settings.long_text == "windows" else None
        texts = [example.text for example in examples]
        rows, owners, cut = encode_rows(tokenizer, texts, pairs, settings.max_length, stride)
        targets = self.targets(split)
        return Encoded(rows, [targets[owner] for owner in owners], owners, len(cut))

    def outputs(self, model: nn.Module, batch: Batch) -> list[Tensor]:
        """Logits (labels,) of each row, fp32."""
        return list(model(**batch).logits.float().cpu())

    def decide(self, split: str, encoded: Encoded, outputs: Sequence[Tensor]) -> list[Tensor]:
        """Pooled over each text's windows."""
        windows: list[list[Tensor]] = [[] for _ in self.examples[split]]
        for owner, output in zip(encoded.owners, outputs, strict=True):
            windows[owner].append(output)
        return [self.pool(torch.stack(of_one)) for of_one in windows]

    def describe(self) -> list[tuple[str, str]]:
        """Which fields of the files are read."""
        keys = (example.keys for split in self.splits for example in self.examples[split])
        return [("fields", fields_read(keys, self.settings.fields, self.answers))]

    @abstractmethod
    def targets(self, split: str) -> list[Any]:
        """What `loss` compares with, one an example."""

    @abstractmethod
    def pool(self, logits: Tensor) -> Tensor:
        """One decision from the logits (windows, labels) of a text."""

    def facts(self) -> dict[str, Any]:
        """Whether an example is two texts: a model that learned from one kind answers at random on the other."""
        return {PAIRED: self.paired}

    def unlike(self, trained: Mapping[str, Any]) -> str | None:
        """One text a record, or two."""
        before = trained.get(PAIRED)
        if before in (None, self.paired):
            return None
        return f"{KINDS_OF_TEXTS[self.paired]} a record, but the model learned from {KINDS_OF_TEXTS[bool(before)]}"

    def plain(self, split: str) -> tuple[list[str], list[Any]]:
        """Texts, two joined by " || ", and targets."""
        texts = [e.text if e.pair is None else f"{e.text} || {e.pair}" for e in self.examples[split]]
        return texts, self.targets(split)


def read_examples(path: Path, settings: FinetuneConfig, answer_of: Any) -> list[Example]:
    """Records of a file; answer_of(record, place) gives the label or score. UserError that names file and line.

    A second text is read where fields.pair names one, or a record has one of the usual fields.
    """
    examples: list[Example] = []
    for line, record in read_records(path, settings):
        place = f"{path}:{line}"
        text, pair = texts_of(record, settings.fields, place)
        if examples and (pair is None) != (examples[0].pair is None):
            raise UserError(f"{place}: {'one text' if pair is None else 'two texts'}, unlike the records before it.")
        examples.append(Example(line, text, pair, answer_of(record, place), keys_of(record)))
    return examples


def keys_of(record: dict[str, Any]) -> tuple[str, ...]:
    """Names of the record's fields; for records that are alike the same object, as there may be millions."""
    return _shared(tuple(record))


@functools.lru_cache(maxsize=1024)
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    return names


def texts_of(record: dict[str, Any], fields: FieldsConfig, place: str) -> tuple[str, str | None]:
    """The text of a record and the second, where `fields` names one or it has one of the usual fields. UserError."""
    first, second = text_names(record, fields)
    paired = fields.pair is not None or _found(record, second) is not None
    pair = text_of(record, second, place) if paired else None
    return text_of(record, first, place), pair


def text_names(record: Container[str], fields: FieldsConfig) -> tuple[Names, Names]:
    """Names to look for the text and for the second text of a record that has fields of these names.

    Those of PAIRS where it has both, and no usual name of another field speaks against it.
    """
    first, second = choices(fields, "text", FIRST), choices(fields, "pair", SECOND)
    for pair in PAIRS:
        free = fields.text in (None, pair[0]) and _found(record, first) in (None, *pair)
        if free and _found(record, second) in (None, pair[1]) and all(name in record for name in pair):
            return names_of("text", pair[:1]), names_of("pair", pair[1:])
    return first, second


def fields_read(records: Iterable[tuple[str, ...]], fields: FieldsConfig, answers: Sequence[str]) -> str:
    """For a person: what text, second text and answer are read from, and which other fields the records have.

    records: the names of each one's fields. answers: the usual names of the answer's.
    """
    read: dict[str, dict[str, None]] = {"text": {}, "pair": {}, "label": {}}
    ignored: dict[str, None] = {}
    for record in dict.fromkeys(records):
        sought = (*text_names(record, fields), choices(fields, "label", answers))
        found = {names.key: name for names in sought if (name := _found(record, names)) is not None}
        for key, name in found.items():
            read[key][name] = None
        ignored |= dict.fromkeys(name for name in record if name not in found.values())
    told = ", ".join(f"{key} = {' or '.join(names)}" for key, names in read.items() if names)
    more = ", …" if len(ignored) > SHOWN_FIELDS else ""
    return f"{told}; ignored: {', '.join(list(ignored)[:SHOWN_FIELDS])}{more}" if ignored else told


def _found(record: Container[str], names: Sequence[str]) -> str | None:
    """The first of the names that the record has."""
    return next((name for name in names if name in record), None)


def check_same_kind(examples: dict[str, list[Example]], files: dict[str, Path]) -> None:
    """UserError where one file has pairs and another has single texts."""
    kinds = {split: found[0].pair is not None for split, found in examples.items()}
    if len(set(kinds.values())) > 1:
        pairs, single = (next(split for split, kind in kinds.items() if kind is wanted) for wanted in (True, False))
        raise UserError(f"{files[pairs]} has two texts a record, {files[single]} one. Name them by finetune.fields.")
