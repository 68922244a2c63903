"""Text classification: {"text" or "sentence", "label"} a line, one label a text, a linear layer over [CLS]."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.base.errors import UserError
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.encoding import encode_texts
from pipeline.tasks.families.base import SPLITS, Encoded, Task, require_file
from pipeline.tasks.formats.fields import label_of, text_of
from pipeline.tasks.formats.reading import read_records
from pipeline.tasks.metrics import classification_metrics

TEXT_FIELDS = ("text", "sentence")
SHOWN_LABELS = 20


@dataclass(frozen=True)
class Example:
    """One line of a file."""

    line: int
    text: str
    label: str


class Classification(Task):
    """Labels are found in the training file; their order is that of numbers, or of the alphabet."""

    auto_class = "AutoModelForSequenceClassification"
    selection = "accuracy"

    def __init__(self, examples: dict[str, list[Example]], labels: list[str]) -> None:
        self.examples, self.labels = examples, labels
        self._index = {label: index for index, label in enumerate(labels)}

    @classmethod
    def open(cls, settings: FinetuneConfig) -> "Classification":
        """Reads the files; UserError for a bad line, an empty file, one label only, or a label new to training."""
        paths = {split: require_file(settings, split) for split in ("train", "dev")}
        if settings.test:
            paths["test"] = Path(settings.test)
        examples = {split: _read(path, settings) for split, path in paths.items()}
        labels = order_labels({example.label for example in examples["train"]})
        if len(labels) < 2:
            raise UserError(
                f"{paths['train']}: every record has the label {labels[0]!r}; a classifier needs two or more."
            )
        for split, path in paths.items():
            for example in examples[split]:
                if example.label not in labels:
                    raise UserError(
                        f"{path}:{example.line}: the label {example.label!r} does not occur in {paths['train']}, which "
                        f"has {_listed(labels)}. Correct the label, or add examples of it to finetune.train."
                    )
        return cls(examples, labels)

    @property
    def splits(self) -> tuple[str, ...]:
        """train, dev and, where there is one, test."""
        return tuple(split for split in SPLITS if split in self.examples)

    def describe(self) -> list[tuple[str, str]]:
        """Examples of each split, and how many have which label."""
        rows = [("labels", f"{len(self.labels)}: {_listed(self.labels)}")]
        for split in self.splits:
            counts = Counter(example.label for example in self.examples[split])
            each = ", ".join(f"{label} {counts[label]:,}" for label in self.labels[:SHOWN_LABELS])
            more = ", …" if len(self.labels) > SHOWN_LABELS else ""
            rows.append((split, f"{len(self.examples[split]):,} texts ({each}{more})"))
        return rows

    def head_config(self) -> dict[str, Any]:
        """Label names both ways, so that pipeline("text-classification") shows them."""
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": dict(self._index),
            "problem_type": "single_label_classification",
        }

    def encode(self, split: str, tokenizer: Any, max_length: int) -> Encoded:
        """Ids [CLS] text [SEP]; targets (texts,) int64."""
        ids, cut = encode_texts(tokenizer, [example.text for example in self.examples[split]], max_length)
        return Encoded(ids, self._targets(split), cut)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean cross entropy in nats; logits (batch, labels), targets (batch,)."""
        return F.cross_entropy(logits.float(), targets)

    def metrics(self, split: str, logits: Tensor) -> dict[str, float]:
        """accuracy, f1 (of the second label when there are two, else macro), matthews; and the loss in nats."""
        targets = self._targets(split)
        figures = classification_metrics(targets.tolist(), logits.argmax(-1).tolist(), len(self.labels))
        return figures | {"loss": float(F.cross_entropy(logits.double(), targets))}

    def baseline(self, split: str) -> dict[str, float]:
        """Always the most frequent label of the training file."""
        counts = Counter(example.label for example in self.examples["train"])
        commonest = max(self.labels, key=lambda label: counts[label])
        targets = self._targets(split).tolist()
        return classification_metrics(targets, [self._index[commonest]] * len(targets), len(self.labels))

    def predictions(self, split: str, logits: Tensor) -> list[dict[str, Any]]:
        """Line of the file, text, right label, predicted label and the probability of each."""
        rows = []
        for example, chances in zip(self.examples[split], logits.double().softmax(-1).tolist(), strict=True):
            predicted = self.labels[max(range(len(chances)), key=chances.__getitem__)]
            scores = {label: round(chance, 6) for label, chance in zip(self.labels, chances, strict=True)}
            row = {"line": example.line, "text": example.text, "label": example.label, "predicted": predicted}
            rows.append(row | {"scores": scores})
        return rows

    def _targets(self, split: str) -> Tensor:
        return torch.tensor([self._index[example.label] for example in self.examples[split]], dtype=torch.long)


def order_labels(labels: set[str]) -> list[str]:
    """Whole numbers by value, anything else by the alphabet: the same order whatever the order of the file."""
    try:
        return sorted(labels, key=lambda label: (int(label), label))
    except ValueError:
        return sorted(labels)


def _read(path: Path, settings: FinetuneConfig) -> list[Example]:
    examples = []
    for number, record in read_records(path, settings):
        place = f"{path}:{number}"
        examples.append(Example(number, text_of(record, TEXT_FIELDS, place), label_of(record, place)))
    if not examples:
        raise UserError(f"{path} holds no record.")
    return examples


def _listed(labels: Sequence[str]) -> str:
    more = f", … ({len(labels)} in all)" if len(labels) > SHOWN_LABELS else ""
    return ", ".join(labels[:SHOWN_LABELS]) + more
