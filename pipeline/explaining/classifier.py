"""A fine-tuned classifier's decision on a text, and which tokens it rests on. The text is read as it was fine-tuned to:

cut to its max_length, or (finetune.long_text=windows) in windows that decide together. Attributions of a long text are
those of at most MOST_WINDOWS windows, the ones that speak most for the answer: memory and time stay bounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from pipeline.base.errors import UserError
from pipeline.base.files import read_json
from pipeline.explaining.attribution import Attribution, attribute, baseline_ids
from pipeline.explaining.tokens import Tokens, Window, framed, room_of
from pipeline.probing.scores import BATCH_TOKENS
from pipeline.tasks.batches import token_batches
from pipeline.tasks.pooling import pool_chances, pool_scores
from pipeline.tasks.pretrained import (
    from_folder,
    open_config_and_tokenizer,
    pretrained_digest,
    quiet_transformers,
    weight_files,
)

LONGEST = 1024
"""Most tokens of a window, whatever the folder allows."""
MOST_WINDOWS = 8
WHERE = "explain.classifier"


@dataclass(frozen=True)
class Classifier:
    """A folder that has been looked at, not yet loaded."""

    path: Path
    config: Any
    tokenizer: Any
    pooling: Literal["mean", "max"] | None
    """How windows decide together; None: the text is cut to one window."""
    stride: int
    """Tokens that neighbouring windows share."""

    @property
    def labels(self) -> list[str]:
        """Names, in the order of the outputs; a regression has one."""
        return [str(self.config.id2label[index]) for index in range(self.config.num_labels)]

    @property
    def is_regression(self) -> bool:
        """One output: a score, no label."""
        return int(self.config.num_labels) == 1

    @property
    def length(self) -> int:
        """Tokens of a window, special ones included."""
        positions = getattr(self.config, "max_position_embeddings", None) or LONGEST
        return int(min(LONGEST, self.tokenizer.model_max_length, positions))

    @property
    def filler(self) -> tuple[str, int]:
        """Name and id of the baseline's token: padding, which says nothing."""
        return str(self.tokenizer.pad_token), int(self.tokenizer.pad_token_id)

    def digest(self) -> str:
        """sha256 of the weights (several files: of each)."""
        return pretrained_digest(self.path)


@dataclass(frozen=True)
class Decision:
    """What the classifier says of a text, and why."""

    answer: int
    """The predicted label's index (regression: 0)."""
    outputs: list[float]
    """Probabilities of the labels; of a regression the score."""
    values: list[float | None]
    """What each token adds; None: no explained window holds it."""
    attribution: Attribution
    windows: int
    explained_windows: int
    read: int
    """Tokens that the classifier read."""


def open_classifier(path: Path) -> Classifier:
    """finetune/NAME or the model folder in it. Raises UserError."""
    quiet_transformers()
    if not path.exists():
        raise UserError(f"{WHERE}: {path} does not exist. Run pipeline/finetune.py first, or mend the path.")
    folder = path / "model" if not (path / "config.json").is_file() else path
    if not (folder / "config.json").is_file():
        raise UserError(f"{WHERE}: {path} is no fine-tuned folder: neither it nor its model/ has a config.json.")
    if not weight_files(folder):
        raise UserError(f"{WHERE}: {folder} has no weights.")
    config, tokenizer = open_config_and_tokenizer(folder, f"{WHERE}: {folder}")
    names = config.architectures or ["no architecture"]
    if not any(name.endswith("ForSequenceClassification") for name in names):
        raise UserError(f"{WHERE}: {folder} holds {', '.join(names)}; wanted is a sequence classifier.")
    if config.problem_type == "multi_label_classification":
        raise UserError(f"{WHERE}: {folder} gives several labels at once; a classifier with one answer is wanted.")
    if tokenizer.pad_token_id is None:
        raise UserError(f"{WHERE}: the tokenizer of {folder} has no padding token, which the baseline is made of.")
    pooling, stride = _long_text(folder.parent / "metrics.json")
    return Classifier(folder, config, tokenizer, pooling, stride)


def load_classifier(classifier: Classifier, device: torch.device) -> Any:
    """The network in fp32 on the device, dropout off, no gradients of its own. Raises UserError."""
    where = f"{WHERE}: {classifier.path}"
    model, report = from_folder(classifier.path, "AutoModelForSequenceClassification", where)
    missing = sorted(map(str, report["missing_keys"]))
    if missing:
        raise UserError(f"{where} lacks {len(missing)} tensors, {missing[0]} first: fine-tune again.")
    return model.eval().requires_grad_(False).to(device)


def decide(classifier: Classifier, model: Any, tokens: Tokens, steps: int) -> Decision:
    """The decision on one text, and its attributions with `steps` points (more where the gap is wide)."""
    read = windows_read(classifier, len(tokens.ids), room_of(tokens, classifier.length))
    logits = _logits(classifier, model, [framed(tokens, window) for window in read])
    outputs, answer, chosen = pool(classifier, logits)
    parts = [_attribute(classifier, model, tokens, read[index], answer, steps) for index in chosen]
    share = 1 / len(chosen)  # F is the mean over the explained windows
    values: list[float | None] = [None] * len(tokens.ids)
    for index, part in zip(chosen, parts, strict=True):
        for place, value in enumerate(part.values[len(tokens.before) :][: read[index].last - read[index].first]):
            values[read[index].first + place] = (values[read[index].first + place] or 0.0) + value * share
    whole = Attribution(
        [value * share for part in parts for value in part.values],
        sum(part.at_text for part in parts) * share,
        sum(part.at_baseline for part in parts) * share,
        max(part.steps for part in parts),
    )
    return Decision(answer, outputs, values, whole, len(read), len(chosen), max(window.last for window in read))


def windows_read(classifier: Classifier, count: int, room: int) -> list[Window]:
    """What of `count` tokens the classifier reads: the first `room`, or windows that share `stride` tokens."""
    if count <= room or classifier.pooling is None:
        return [Window(0, min(count, room), 0, min(count, room))]
    step = max(room - classifier.stride, 1)
    firsts = range(0, count - room + step, step)
    return [Window(first, min(first + room, count), first, min(first + room, count)) for first in firsts]


def pool(classifier: Classifier, logits: Tensor) -> tuple[list[float], int, list[int]]:
    """Outputs of the whole text, the answer, and the windows to explain, from logits (windows, labels)."""
    pooling = classifier.pooling or "mean"
    if classifier.is_regression:
        said = logits[:, 0]
        outputs, answer = [float(pool_scores(said, pooling))], 0
    else:
        chances = logits.log_softmax(-1)
        pooled = pool_chances(chances, pooling)
        outputs, answer = pooled.exp().tolist(), int(pooled.argmax())
        said = chances[:, answer]
    most = 1 if pooling == "max" else MOST_WINDOWS
    return outputs, answer, sorted(said.argsort(descending=True, stable=True)[:most].tolist())


def _attribute(
    classifier: Classifier, model: Any, tokens: Tokens, window: Window, answer: int, steps: int
) -> Attribution:
    ids = framed(tokens, window)
    special = [True] * len(tokens.before) + [False] * (window.last - window.first) + [True] * len(tokens.after)
    return attribute(model, ids, baseline_ids(ids, special, classifier.filler[1]), answer, steps)


def _logits(classifier: Classifier, model: Any, rows: Sequence[list[int]]) -> Tensor:
    """(rows, labels) in float64, on the CPU. Rows of one length share a batch: nothing is padded."""
    device = next(model.parameters()).device
    result = torch.zeros(len(rows), classifier.config.num_labels, dtype=torch.float64)
    for length in sorted({len(row) for row in rows}):
        alike = [index for index, row in enumerate(rows) if len(row) == length]
        for batch in token_batches(alike, lambda index: len(rows[index]), BATCH_TOKENS):
            ids = torch.tensor([rows[index] for index in batch], device=device)
            with torch.no_grad():
                result[batch] = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.double().cpu()
    return result


def _long_text(metrics: Path) -> tuple[Literal["mean", "max"] | None, int]:
    """Pooling and stride that the fine-tuning was done with; (None, 0) where it cut, or is not known."""
    made = read_json(metrics) if metrics.is_file() else {}
    settings = made.get("settings") if isinstance(made, dict) else None
    settings = settings if isinstance(settings, dict) else {}
    if settings.get("finetune.long_text") != "windows":
        return None, 0
    return ("max" if settings.get("finetune.pooling") == "max" else "mean"), int(settings.get("finetune.stride", 0))
