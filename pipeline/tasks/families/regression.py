"""A score of a text or of two, such as their likeness in meaning: one output, least squares; a cross-encoder for pairs.

Promise: the folder loads as pipeline("text-classification") and, for pairs, as sentence_transformers.CrossEncoder; both
give scores as they stand in the files, since its config names the identity where CrossEncoder would take a sigmoid. The
last layer learns (score - mean) / deviation of the training examples, as a new layer under a clipped gradient does not
get from 0 to scores of 50; what follows it gives the scores, and is folded into its weights in the folder.
"""

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.base.errors import UserError
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.families.base import Batch
from pipeline.tasks.formats.fields import choices, score_of
from pipeline.tasks.metrics import correlations
from pipeline.tasks.pooling import pool_scores
from pipeline.tasks.pretrained import Pretrained
from pipeline.tasks.subsets import score_bins
from pipeline.tasks.text_task import SCORE, SequenceTask, check_same_kind, read_examples

LABEL = "score"
"""Name of the one output in the model's config."""


class Regression(SequenceTask):
    """Scores as they stand in the files, also of the network that `load` gives."""

    center, spread = 0.0, 1.0
    """Mean and standard deviation of the training scores (1 where all are the same), once `load` has taken them."""
    selection = "spearman"
    headline = ("spearman", "pearson", "mse")
    lower_is_better = frozenset({"mse"})

    @classmethod
    def open(
        cls, settings: FinetuneConfig, files: Mapping[str, Path], labels: Sequence[str] | None = None
    ) -> "Regression":
        """UserError for a bad line, a score that is no number, an empty file, or all training scores the same."""
        names = choices(settings.fields, "label", SCORE)
        examples = {
            split: read_examples(path, settings, lambda record, place: score_of(record, names, place))
            for split, path in files.items()
        }
        check_same_kind(examples, dict(files))
        if "train" in examples and len({example.answer for example in examples["train"]}) < 2:
            raise UserError(f"{files['train']}: every score is {examples['train'][0].answer:g}; nothing to learn.")
        return cls(settings, examples)

    def describe(self) -> list[tuple[str, str]]:
        """Fields, examples of each split and the range of their scores."""
        kind = "pairs" if self.paired else "texts"
        rows = super().describe()
        for split in self.splits:
            scores = self.targets(split)
            spread = f"scores {min(scores):g} to {max(scores):g}, mean {sum(scores) / len(scores):.3g}"
            rows.append((split, f"{len(scores):,} {kind} ({spread})"))
        return rows

    def head_config(self) -> dict[str, Any]:
        """One output, read as it is."""
        names = {"num_labels": 1, "id2label": {0: LABEL}, "label2id": {LABEL: 0}, "problem_type": "regression"}
        return names | {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}

    def load(self, pretrained: Pretrained, seed: int, device: torch.device) -> nn.Module:
        """As of any text, with the training scores' mean and deviation after the last layer. Raises UserError."""
        model = super().load(pretrained, seed, device)
        scores = self.targets("train")
        center, spread = fmean(scores), pstdev(scores) or 1.0
        self.center, self.spread = center, spread
        # In fp32 also under bf16, which has 8 bits for a score of 87.
        _last_layer(model).register_forward_hook(lambda _layer, _given, out: out.float() * spread + center)
        return model

    def save(self, model: nn.Module, tokenizer: Any, path: Path) -> None:
        """An ordinary folder of transformers: what follows the last layer is in its weight and bias."""
        layer = _last_layer(model)
        trained = {name: value.clone() for name, value in layer.state_dict().items()}
        weight, bias = layer.weight.data.double(), layer.bias.data.double()
        try:
            layer.weight.data.copy_(weight * self.spread)
            layer.bias.data.copy_(bias * self.spread + self.center)
            super().save(model, tokenizer, path)
        finally:
            layer.load_state_dict(trained)

    def targets(self, split: str) -> list[float]:
        """The scores."""
        return [example.answer for example in self.examples[split]]

    def strata(self) -> list[Hashable]:
        """Quarters of the scores."""
        return score_bins(self.targets("train"))

    def loss(self, model: nn.Module, batch: Batch, targets: Sequence[float]) -> Tensor:
        """Mean squared error, in variances of the training scores."""
        scores = model(**batch).logits.float().squeeze(-1)
        return F.mse_loss(scores / self.spread, torch.tensor(targets, device=scores.device) / self.spread)

    def pool(self, logits: Tensor) -> Tensor:
        """(windows, 1) to a score (): the mean, or the largest."""
        return pool_scores(logits.double().squeeze(-1), self.settings.pooling)

    def metrics(self, split: str, decisions: Sequence[Tensor]) -> dict[str, float]:
        """pearson, spearman and mean squared error."""
        return self.plain_metrics(split, [float(score) for score in decisions])

    def plain_metrics(self, split: str, answers: Sequence[Any]) -> dict[str, float]:
        """The same of any scores."""
        targets, scores = self.targets(split), [float(answer) for answer in answers]
        mse = sum((a - b) ** 2 for a, b in zip(scores, targets, strict=True)) / len(targets)
        return correlations(scores, targets) | {"mse": mse}

    def baseline(self, split: str) -> dict[str, float]:
        """Always the mean score of the training file; {} where that is not known."""
        if "train" not in self.examples:
            return {}
        scores = self.targets("train")
        return self.plain_metrics(split, [sum(scores) / len(scores)] * len(self.examples[split]))

    def predictions(self, split: str, decisions: Sequence[Tensor]) -> list[dict[str, Any]]:
        """Line of the file, texts, right score, predicted score."""
        rows = []
        for example, score in zip(self.examples[split], decisions, strict=True):
            row = {"line": example.line, "text": example.text} | ({"pair": example.pair} if example.pair else {})
            rows.append(row | {"score": example.answer, "predicted": round(float(score), 6)})
        return rows


def _last_layer(model: nn.Module) -> nn.Linear:
    """That of the head, whichever architecture's it is."""
    return [layer for layer in model.get_submodule("classifier").modules() if isinstance(layer, nn.Linear)][-1]
