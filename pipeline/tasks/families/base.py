"""What a family of downstream tasks owes the loop; finetune.family NAME is the file families/NAME.py.

A family reads and checks its files, turns examples into rows (several a long text), names the network, and turns what
the network gives into a loss, decisions, metrics and predictions. It knows nothing of the loop, and the loop nothing of
labels. Price: the examples of all splits are held in memory.
"""

import copy
import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pipeline.base.errors import UserError
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.pretrained import Pretrained, load_model, reload_model, save_model
from pipeline.tasks.rates import layer_powers

SPLITS = ("train", "dev", "test")

Row = dict[str, list[int]]
"""Inputs of the network for one row, not padded. Keys that end in "input_ids" are padded with the padding token and get
a mask of the like name; others are padded with 0, or as Task.pad_values says."""
Batch = dict[str, Tensor]
"""Padded rows, each (rows, longest) int64, on the network's device."""


@dataclass(frozen=True)
class Encoded:
    """A split as the network takes it."""

    rows: Sequence[Row]
    """Of every example one, or one a window, in the file's order."""
    targets: Sequence[Any]
    """What `loss` compares with, one a row."""
    owners: Sequence[int]
    """The example (its place in the split, from 0) that each row is of; ascending."""
    cut: int = 0
    """Examples of which something was cut off."""


class Task(ABC):
    """One task of a family, its files read and found good."""

    auto_class: ClassVar[str]
    """transformers' class that has the head, such as AutoModelForSequenceClassification."""
    selection: str
    """The metric by which the best epoch is chosen on dev (higher is better): finetune.select, or the family's own."""
    headline: tuple[str, ...]
    """The metrics to show a person, the most usual one first; where finetune.select is set, that one."""
    lower_is_better: ClassVar[frozenset[str]] = frozenset()
    """Those of the headline by which nothing can be chosen."""
    pipeline_name: ClassVar[str | None]
    """What transformers.pipeline, and so MLflow, calls the task; None where it has none."""
    head_module: ClassVar[str | None] = "classifier"
    """Attribute of the network that is the new head: drawn from the seed, never taken from the export."""
    pad_values: ClassVar[dict[str, int]] = {}
    """Padding of a row's keys where it is not 0."""
    quick: bool = False
    """Set by the loop while it only compares epochs: `outputs` may then be cheaper."""

    def __init__(self, settings: FinetuneConfig, examples: dict[str, list[Any]], labels: Sequence[str] = ()) -> None:
        self.settings, self.examples = settings, examples
        self.labels = list(labels)
        """In the order of the network's outputs; [] of a task that has none."""
        self.label_places = {label: place for place, label in enumerate(labels)}
        self.headline = self.shown(settings.select)
        if settings.select is not None:
            self.selection = settings.select

    @classmethod
    def selectable(cls) -> tuple[str, ...]:
        """What finetune.select may be."""
        others = (name for name in cls.headline if name != cls.selection and name not in cls.lower_is_better)
        return (cls.selection, *others)

    def headline_first(self, figures: Mapping[str, float]) -> dict[str, float]:
        """All figures, those of the headline before the rest."""
        return {name: figures[name] for name in (*self.headline, *figures) if name in figures}

    @classmethod
    def shown(cls, select: str | None) -> tuple[str, ...]:
        """The headline with finetune.select before the rest."""
        return cls.headline if select is None else (select, *(name for name in cls.headline if name != select))

    @classmethod
    @abstractmethod
    def open(cls, settings: FinetuneConfig, files: Mapping[str, Path], labels: Sequence[str] | None = None) -> "Task":
        """Reads `files` (split to path). Raises UserError that names file and line.

        labels: those of a model that is trained already, in its order; without them the file of "train" tells them.
        """

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits there are, train first."""
        return tuple(split for split in SPLITS if split in self.examples)

    @abstractmethod
    def describe(self) -> list[tuple[str, str]]:
        """(label, value) for a person: examples, labels and their counts."""

    @abstractmethod
    def head_config(self) -> dict[str, Any]:
        """What the head adds to the model's config: number and names of labels."""

    def check(self, pretrained: Pretrained) -> None:
        """UserError where the settings do not go with this export; called before anything is loaded or written."""
        return

    def load(self, pretrained: Pretrained, seed: int, device: torch.device) -> nn.Module:
        """The network to train: the folder's weights (or random ones) and a new head. Raises UserError."""
        return load_model(pretrained, self.auto_class, self.head_module, seed, device)

    def save(self, model: nn.Module, tokenizer: Any, path: Path) -> None:
        """An ordinary folder of the libraries that use such networks; the model is left as it is."""
        save_model(model, tokenizer, path, self.settings.max_length)

    def reload(self, path: Path, device: torch.device) -> tuple[nn.Module, Any]:
        """Network and tokenizer of a folder that `save` wrote. Raises UserError."""
        return reload_model(path, self.auto_class, device)

    def layer_powers(self, model: nn.Module) -> Iterator[tuple[str, int]]:
        """(parameter name, power of the layer-wise decay) of every parameter (rates.py)."""
        return layer_powers(model, str(model.base_model_prefix), self.settings.top_layer_power)

    @abstractmethod
    def encode(self, split: str, tokenizer: Any) -> Encoded:
        """Rows and targets of a split, in the file's order, by the settings' max_length, long_text and stride."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch, targets: Sequence[Any]) -> Tensor:
        """Mean loss of a batch."""

    @abstractmethod
    def outputs(self, model: nn.Module, batch: Batch) -> list[Any]:
        """What the network says of each row, on the CPU, without padding; gradients and dropout are off."""

    @abstractmethod
    def decide(self, split: str, encoded: Encoded, outputs: Sequence[Any]) -> list[Any]:
        """One decision an example, from its rows' outputs (in the order of encoded.rows)."""

    @abstractmethod
    def metrics(self, split: str, decisions: Sequence[Any]) -> dict[str, float]:
        """Metrics by the names that torchmetrics and evaluate use."""

    @abstractmethod
    def baseline(self, split: str) -> dict[str, float]:
        """The same metrics of the trivial answer, to be shown beside; {} where there is none."""

    @abstractmethod
    def predictions(self, split: str, decisions: Sequence[Any]) -> list[dict[str, Any]]:
        """A JSON object an example, in the file's order; "line" is its line in the file."""

    def facts(self) -> dict[str, Any]:
        """What else metrics.json should tell, once all is reported: signatures of metrics and the like."""
        return {}

    def unlike(self, trained: Mapping[str, Any]) -> str | None:
        """What the file has, and what the training's had, of which `trained` are the facts; None: they are alike."""
        return None

    def strata(self) -> list[Hashable] | None:
        """A class for each training example, for drawing balanced subsets; None: any subset is as good."""
        return None

    def plain(self, split: str) -> tuple[list[str], list[Any]] | None:
        """Texts (two joined by " || ") and targets (label index or score) for a bag-of-words baseline; None: none."""
        return None

    def plain_metrics(self, split: str, answers: Sequence[Any]) -> dict[str, float]:
        """The metrics of a baseline's answers, which are like the targets of `plain`."""
        raise NotImplementedError(f"{type(self).__name__} has no bag-of-words baseline")

    def with_training(self, chosen: Sequence[int]) -> "Task":
        """The same task with these of its training examples; labels stay those of all."""
        smaller = copy.copy(self)
        smaller.examples = self.examples | {"train": [self.examples["train"][index] for index in chosen]}
        return smaller


def family_names() -> list[str]:
    """Names of all families: the files beside this one."""
    return sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name != "base")


def family_class(name: str) -> type[Task]:
    """The one class that pipeline/tasks/families/NAME.py defines. Raises UserError for an unknown name."""
    if name not in family_names():
        raise UserError(f"finetune.family {name!r} is not known: one of {', '.join(family_names())}.")
    module = importlib.import_module(f"pipeline.tasks.families.{name}")
    classes = (value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Task))
    (family,) = (found for found in classes if found.__module__ == module.__name__)
    return family


def open_task(settings: FinetuneConfig) -> Task:
    """The task that `settings` describes, its files read. Raises UserError."""
    family = family_class(settings.family)
    if settings.select is not None and settings.select not in family.selectable():
        raise UserError(
            f"finetune.select {settings.select!r} is nothing by which {settings.family} can choose on dev: it may be "
            f"{', '.join(family.selectable())}."
        )
    files = {split: split_path(settings, split) for split in ("train", "dev")}
    if settings.test:
        files["test"] = split_path(settings, "test")
    return family.open(settings, files)


def refuse_windows(settings: FinetuneConfig) -> None:
    """UserError for finetune.long_text windows; of families that do not know them."""
    if settings.long_text == "windows":
        raise UserError(
            f"finetune.long_text windows: the family {settings.family} reads the beginning of a text only. Set it to "
            "cut, or raise finetune.max_length."
        )


def split_path(settings: FinetuneConfig, split: str) -> Path:
    """Path of finetune.SPLIT, below finetune.data_folder where it is relative; UserError when the key is not set."""
    path = getattr(settings, split)
    if not path:
        raise UserError(f"finetune.{split} is not set: give it a file (docs/finetune.md says of which kinds).")
    return Path(settings.data_folder or "") / path
