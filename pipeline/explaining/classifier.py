"""A fine-tuned classifier's decision on a text or two, and which tokens it rests on. They are read as in fine-tuning:

cut to its max_length, or (finetune.long_text=windows) in windows that decide together. Attributions of a long text are
those of at most MOST_WINDOWS windows, the ones that speak most for the answer: memory and time stay bounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.base.errors import UserError
from pipeline.base.task_sections import FieldsConfig, FinetuneConfig
from pipeline.explaining.attribution import Attribution, attribute, baseline_ids
from pipeline.explaining.rows import Row, readings, row_of
from pipeline.explaining.tokens import Tokens, room_of
from pipeline.probing.scores import BATCH_TOKENS
from pipeline.tasks.batches import token_batches
from pipeline.tasks.finished import recorded, settings_of
from pipeline.tasks.pooling import Pooling, pool_chances, pool_scores
from pipeline.tasks.pretrained import (
    check_vocabulary,
    from_folder,
    open_config_and_tokenizer,
    pretrained_digest,
    quiet_transformers,
    weight_files,
)
from pipeline.tasks.text_task import PAIRED

LONGEST = 1024
"""Most tokens of a window where nothing says how many the classifier was fine-tuned on."""
UNSAID = 10**9
"""transformers gives more than this as the model_max_length of a tokenizer that has none."""
MOST_WINDOWS = 8
WHERE = "explain.classifier"


@dataclass(frozen=True)
class Classifier:
    """A folder that has been looked at, not yet loaded."""

    path: Path
    config: Any
    tokenizer: Any
    length: int
    """Tokens of a row, special ones included."""
    length_from: str | None
    """What says so; None: nothing does."""
    pooling: Pooling
    """How windows decide together."""
    stride: int | None
    """Tokens that neighbouring windows share; None: one window is read, the rest cut off."""
    fields: FieldsConfig
    """What the files that it was fine-tuned on call their fields."""
    paired: bool | None
    """Whether an example was two texts there; None: not known."""

    @property
    def labels(self) -> list[str]:
        """Names, in the order of the outputs, equal ones numbered; a regression has one."""
        names: list[str] = []
        for index in range(self.config.num_labels):
            label = name = str(self.config.id2label[index])
            number = 1
            while name in names:
                number += 1
                name = f"{label} ({number})"
            names.append(name)
        return names

    @property
    def is_regression(self) -> bool:
        """One output: a score, no label."""
        return int(self.config.num_labels) == 1

    @property
    def filler(self) -> tuple[str, int]:
        """Name and id of the baseline's token: padding, which says nothing."""
        return str(self.tokenizer.pad_token), int(self.tokenizer.pad_token_id)

    def digest(self) -> str:
        """sha256 of the weights (several files: of each)."""
        return pretrained_digest(self.path)


@dataclass(frozen=True)
class Decision:
    """What the classifier says of a text or two, and why."""

    answer: int
    """The predicted label's index (regression: 0)."""
    outputs: list[float]
    """Probabilities of the labels; of a regression the score."""
    values: list[list[float | None]]
    """What each token of each text adds; None: no explained window holds it."""
    attribution: Attribution
    windows: int
    explained_windows: int
    read: list[int]
    """Of each text how many tokens the classifier read."""


def open_classifier(path: Path) -> Classifier:
    """finetune/NAME or the model folder in it. Raises UserError."""
    quiet_transformers()
    if not path.exists():
        raise UserError(f"{WHERE}: {path} does not exist. Run pipeline/finetune.py first, or mend the path.")
    folder = path / "model" if not (path / "config.json").is_file() else path
    if not (folder / "config.json").is_file():
        raise UserError(f"{WHERE}: {path} is no fine-tuned folder: neither it nor its model/ has a config.json.")
    where = f"{WHERE}: {folder}"
    if not weight_files(folder):
        raise UserError(f"{where} has no weights.")
    config, tokenizer = open_config_and_tokenizer(folder, where)
    names = config.architectures or ["no architecture"]
    if not any(name.endswith("ForSequenceClassification") for name in names):
        raise UserError(f"{where} holds {', '.join(names)}; wanted is a sequence classifier.")
    check_vocabulary(config, tokenizer, where)
    if config.problem_type == "multi_label_classification":
        raise UserError(f"{where} gives several labels at once; a classifier with one answer is wanted.")
    if tokenizer.pad_token_id is None:
        raise UserError(f"{WHERE}: the tokenizer of {folder} has no padding token, which the baseline is made of.")
    metrics = recorded(folder.parent)
    settings = settings_of(metrics, folder.parent)
    length, length_from = _length(config, tokenizer, settings)
    stride = settings.stride if settings.long_text == "windows" else None
    fields, paired = settings.fields, metrics.get(PAIRED)
    return Classifier(folder, config, tokenizer, length, length_from, settings.pooling, stride, fields, paired)


def load_classifier(classifier: Classifier, device: torch.device) -> Any:
    """The network in fp32 on the device, dropout off, no gradients of its own. Raises UserError."""
    where = f"{WHERE}: {classifier.path}"
    model, report = from_folder(classifier.path, "AutoModelForSequenceClassification", where)
    missing = sorted(map(str, report["missing_keys"]))
    if missing:
        raise UserError(f"{where} lacks {len(missing)} tensors, {missing[0]} first: fine-tune again.")
    return model.eval().requires_grad_(False).to(device)


def decide(classifier: Classifier, model: Any, texts: Sequence[Tokens], steps: int) -> Decision:
    """The decision on a text or two, and its attributions with `steps` points (more where the gap is wide)."""
    read = readings([len(text.ids) for text in texts], room_of(texts, classifier.length), classifier.stride)
    rows = [row_of(texts, reading) for reading in read]
    outputs, answer, chosen = pool(classifier, _logits(classifier, model, rows))
    parts = [_attribute(classifier, model, rows[index], answer, steps) for index in chosen]
    share = 1 / len(chosen)  # F is the mean over the explained windows
    values: list[list[float | None]] = [[None] * len(text.ids) for text in texts]
    for index, part in zip(chosen, parts, strict=True):
        own = (value for value, flag in zip(part.values, rows[index].special, strict=True) if not flag)
        for of_text, (first, last) in zip(values, read[index], strict=True):
            for place in range(first, last):
                of_text[place] = (of_text[place] or 0.0) + next(own) * share
    whole = Attribution(
        [value * share for part in parts for value in part.values],
        sum(part.at_text for part in parts) * share,
        sum(part.at_baseline for part in parts) * share,
        max(part.steps for part in parts),
    )
    ends = [max(span[1] for span in spans) for spans in zip(*read, strict=True)]
    return Decision(answer, outputs, values, whole, len(read), len(chosen), ends)


def pool(classifier: Classifier, logits: Tensor) -> tuple[list[float], int, list[int]]:
    """Outputs of the whole text, the answer, and the windows to explain, from logits (windows, labels)."""
    if classifier.is_regression:
        said = logits[:, 0]
        outputs, answer = [float(pool_scores(said, classifier.pooling))], 0
    else:
        chances = logits.log_softmax(-1)
        pooled = pool_chances(chances, classifier.pooling)
        outputs, answer = pooled.exp().tolist(), int(pooled.argmax())
        said = chances[:, answer]
    most = 1 if classifier.pooling == "max" else MOST_WINDOWS
    return outputs, answer, sorted(said.argsort(descending=True, stable=True)[:most].tolist())


def _attribute(classifier: Classifier, model: Any, row: Row, answer: int, steps: int) -> Attribution:
    baseline = baseline_ids(row.ids, row.special, classifier.filler[1])
    return attribute(model, row.ids, baseline, answer, steps, row.types)


def _logits(classifier: Classifier, model: Any, rows: Sequence[Row]) -> Tensor:
    """(rows, labels) in float64, on the CPU. Rows of one length share a batch: nothing is padded."""
    device = next(model.parameters()).device
    result = torch.zeros(len(rows), classifier.config.num_labels, dtype=torch.float64)
    for length in sorted({len(row.ids) for row in rows}):
        alike = [index for index, row in enumerate(rows) if len(row.ids) == length]
        for batch in token_batches(alike, lambda index: len(rows[index].ids), BATCH_TOKENS):
            ids = torch.tensor([rows[index].ids for index in batch], device=device)
            types = [rows[index].types for index in batch]
            more = {} if types[0] is None else {"token_type_ids": torch.tensor(types, device=device)}
            with torch.no_grad():
                result[batch] = model(input_ids=ids, attention_mask=torch.ones_like(ids), **more).logits.double().cpu()
    return result


def _length(config: Any, tokenizer: Any, settings: FinetuneConfig) -> tuple[int, str | None]:
    """Tokens of a row, and what says so: the fine-tuning, or what `save_model` and others leave with the tokenizer."""
    if "max_length" in settings.model_fields_set:
        return settings.max_length, "finetune.max_length in its metrics.json"
    positions = int(getattr(config, "max_position_embeddings", None) or LONGEST)
    if tokenizer.model_max_length < UNSAID:
        return min(int(tokenizer.model_max_length), positions), "model_max_length of its tokenizer"
    return min(LONGEST, positions), None
