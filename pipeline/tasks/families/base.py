"""What a family of downstream tasks owes the loop; finetune.family NAME is the file families/NAME.py.

A family reads and checks its files, encodes them, names the head (a class of transformers), and turns logits into
a loss, metrics and predictions. It knows nothing of the loop, and the loop nothing of labels.
"""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from pipeline.base.errors import UserError
from pipeline.base.sections import FinetuneConfig

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Encoded:
    """A split as the model takes it."""

    ids: Sequence[Sequence[int]]
    """Token ids of each example, special ones included, not padded."""
    targets: Tensor
    """(examples, ...) what the loss compares the logits with."""
    cut: int
    """Examples that were longer than finetune.max_length and were truncated."""


class Task(ABC):
    """One task of a family, its files read and found good."""

    auto_class: ClassVar[str]
    """transformers' class that has the head, such as AutoModelForSequenceClassification."""
    selection: ClassVar[str]
    """The metric by which the best epoch is chosen on dev (higher is better)."""

    @classmethod
    @abstractmethod
    def open(cls, settings: FinetuneConfig) -> "Task":
        """Reads finetune.train, .dev and, where given, .test. Raises UserError that names file and line."""

    @property
    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Names of the splits there are, train first."""

    @abstractmethod
    def describe(self) -> list[tuple[str, str]]:
        """(label, value) for a person: examples, labels and their counts."""

    @abstractmethod
    def head_config(self) -> dict[str, Any]:
        """What the head adds to the model's config: number and names of labels."""

    @abstractmethod
    def encode(self, split: str, tokenizer: Any, max_length: int) -> Encoded:
        """Token ids and targets of a split, in the file's order."""

    @abstractmethod
    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of a batch."""

    @abstractmethod
    def metrics(self, split: str, logits: Tensor) -> dict[str, float]:
        """Metrics by the names that torchmetrics and evaluate use; logits in the file's order, on the CPU."""

    @abstractmethod
    def baseline(self, split: str) -> dict[str, float]:
        """The same metrics of the trivial answer, to be shown beside."""

    @abstractmethod
    def predictions(self, split: str, logits: Tensor) -> list[dict[str, Any]]:
        """A JSON object an example, in the file's order."""


def family_names() -> list[str]:
    """Names of all families: the files beside this one."""
    return sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name != "base")


def open_task(settings: FinetuneConfig) -> Task:
    """The task that `settings` describes, of the one class that pipeline/tasks/families/FAMILY.py defines."""
    if settings.family not in family_names():
        raise UserError(f"finetune.family {settings.family!r} is not known: one of {', '.join(family_names())}.")
    module = importlib.import_module(f"pipeline.tasks.families.{settings.family}")
    classes = (value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Task))
    (family,) = (found for found in classes if found.__module__ == module.__name__)
    return family.open(settings)


def require_file(settings: FinetuneConfig, split: str) -> Path:
    """Path of finetune.SPLIT; UserError when the key is not set."""
    path = getattr(settings, split)
    if not path:
        raise UserError(f"finetune.{split} is not set: give it a JSON-lines file (docs/finetune.md).")
    return Path(path)
