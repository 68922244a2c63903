"""Classification of a text or of two: one label an example, by the field's usual names or those of finetune.fields."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.base.errors import UserError
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.families.base import Batch
from pipeline.tasks.formats.fields import choices, label_of
from pipeline.tasks.metrics import classification_metrics
from pipeline.tasks.pooling import pool_chances
from pipeline.tasks.text_task import SequenceTask, check_same_kind, read_examples

SHOWN_LABELS = 20


class Classification(SequenceTask):
    """Labels are found in the training file; their order is that of numbers, or of the alphabet."""

    selection = "accuracy"
    headline = ("accuracy", "f1", "matthews")
    answers = ("label",)

    @classmethod
    def open(
        cls, settings: FinetuneConfig, files: Mapping[str, Path], labels: Sequence[str] | None = None
    ) -> "Classification":
        """UserError for a bad line, an empty file, one label only, or a label new to training."""
        names = choices(settings.fields, "label", cls.answers)
        examples = {
            split: read_examples(path, settings, lambda record, place: label_of(record, names, place))
            for split, path in files.items()
        }
        check_same_kind(examples, dict(files))
        known = list(labels) if labels is not None else order_labels({e.answer for e in examples["train"]})
        if len(known) < 2:
            raise UserError(
                f"{files['train']}: every record has the label {known[0]!r}; a classifier needs two or more."
            )
        origin = str(files["train"]) if labels is None else "the model"
        for split, path in files.items():
            for example in examples[split]:
                if example.answer not in known:
                    raise UserError(
                        f"{path}:{example.line}: the label {example.answer!r} does not occur in {origin}, which has "
                        f"{_listed(known)}. Correct the label, or add examples of it to finetune.train."
                    )
        return cls(settings, examples, known)

    def describe(self) -> list[tuple[str, str]]:
        """The fields that are read, the examples of each split, and how many have which label."""
        rows = [*super().describe(), ("labels", f"{len(self.labels)}: {_listed(self.labels)}")]
        kind = "pairs" if self.paired else "texts"
        for split in self.splits:
            counts = Counter(example.answer for example in self.examples[split])
            each = ", ".join(f"{label} {counts[label]:,}" for label in self.labels[:SHOWN_LABELS])
            more = ", …" if len(self.labels) > SHOWN_LABELS else ""
            rows.append((split, f"{len(self.examples[split]):,} {kind} ({each}{more})"))
        return rows

    def head_config(self) -> dict[str, Any]:
        """Label names both ways, so that pipeline("text-classification") shows them."""
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": dict(self.label_places),
            "problem_type": "single_label_classification",
        }

    def targets(self, split: str) -> list[int]:
        """Places of the labels."""
        return [self.label_places[example.answer] for example in self.examples[split]]

    def strata(self) -> list[Hashable]:
        """The label of each training example."""
        return [example.answer for example in self.examples["train"]]

    def loss(self, model: nn.Module, batch: Batch, targets: Sequence[int]) -> Tensor:
        """Mean cross entropy in nats."""
        logits = model(**batch).logits.float()
        return F.cross_entropy(logits, torch.tensor(targets, device=logits.device))

    def pool(self, logits: Tensor) -> Tensor:
        """(windows, labels) to log-probabilities (labels,): their mean, or those of the surest window."""
        return pool_chances(logits.double().log_softmax(-1), self.settings.pooling)

    def metrics(self, split: str, decisions: Sequence[Tensor]) -> dict[str, float]:
        """accuracy, f1 (of the second label when there are two, else macro), matthews; and the loss in nats."""
        targets, chances = self.targets(split), torch.stack(list(decisions))
        figures = classification_metrics(targets, chances.argmax(-1).tolist(), len(self.labels))
        return figures | {"loss": float(F.nll_loss(chances, torch.tensor(targets)))}

    def baseline(self, split: str) -> dict[str, float]:
        """Always the most frequent label of the training file; {} where that is not known."""
        if "train" not in self.examples:
            return {}
        counts = Counter(example.answer for example in self.examples["train"])
        commonest = max(self.labels, key=lambda label: counts[label])
        return self.plain_metrics(split, [self.label_places[commonest]] * len(self.examples[split]))

    def plain_metrics(self, split: str, answers: Sequence[Any]) -> dict[str, float]:
        """accuracy, f1, matthews of label places."""
        return classification_metrics(self.targets(split), [int(a) for a in answers], len(self.labels))

    def predictions(self, split: str, decisions: Sequence[Tensor]) -> list[dict[str, Any]]:
        """Line of the file, text, right label, predicted label and the probability of each."""
        rows = []
        for example, decided in zip(self.examples[split], decisions, strict=True):
            chances = decided.exp().tolist()
            predicted = self.labels[max(range(len(chances)), key=chances.__getitem__)]
            scores = {label: round(chance, 6) for label, chance in zip(self.labels, chances, strict=True)}
            row = {"line": example.line, "text": example.text} | ({"pair": example.pair} if example.pair else {})
            rows.append(row | {"label": example.answer, "predicted": predicted, "scores": scores})
        return rows


def order_labels(labels: set[str]) -> list[str]:
    """Whole numbers by value, anything else by the alphabet: the same order whatever the order of the file."""
    try:
        return sorted(labels, key=lambda label: (int(label), label))
    except ValueError:
        return sorted(labels)


def _listed(labels: Sequence[str]) -> str:
    more = f", … ({len(labels)} in all)" if len(labels) > SHOWN_LABELS else ""
    return ", ".join(labels[:SHOWN_LABELS]) + more
