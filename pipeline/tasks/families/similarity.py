"""An embedding model from scored pairs: {"sentence1", "sentence2", "score"}; close in meaning is close in angle.

Promise: a folder that sentence_transformers.SentenceTransformer loads: mean of the token vectors (Reimers and Gurevych
2019), whitened, trained by CoSENT, which asks only for the order of the scores, so any range of them will do.
Price: a text is embedded alone, so a cross-encoder (family regression) scores a pair better, and searches slower.
"""

import tempfile
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CoSENTLoss
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from torch import Tensor, nn

from pipeline.base.errors import UserError, first_line
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.encoding import encode_texts
from pipeline.tasks.families.base import Batch, Encoded, Task, refuse_windows
from pipeline.tasks.formats.fields import choices, score_of, text_of
from pipeline.tasks.formats.reading import read_records
from pipeline.tasks.metrics import correlations
from pipeline.tasks.pretrained import Pretrained, load_model, open_tokenizer, quiet_transformers, save_model
from pipeline.tasks.rates import layer_powers
from pipeline.tasks.similarity_metrics import overlap, retrieval_metrics
from pipeline.tasks.similarity_whitening import whitening
from pipeline.tasks.subsets import score_bins
from pipeline.tasks.text_task import SCORE, fields_read, keys_of, text_names

BODY = "0.model"
"""The transformer's place in a SentenceTransformer."""
RANGE = "score_range"
"""Name, in the model's config, of the least and the greatest score of its training file."""
PAIR = "pair_"
"""Before the name of what belongs to the second text."""
SEARCHED = ("mrr_10", "recall_10")
"""Figures of a search."""
RELEVANT = 0.8
"""Share of the range of scores from which on a pair is one that a search should find."""
_KERNEL = {"attn_implementation": "eager", "dtype": torch.float32}


@dataclass(frozen=True)
class Example:
    """One record."""

    line: int
    first: str
    second: str
    score: float
    keys: tuple[str, ...]
    """Names of the record's fields."""


class Answer(NamedTuple):
    """Cosine of a pair, and both embeddings, (dimensions,) float32."""

    cosine: float
    first: Tensor
    second: Tensor


class Similarity(Task):
    """Scores lie in the range that the training file has."""

    auto_class = "AutoModel"
    head_module = None
    selection = "spearman"
    headline = ("spearman", "pearson", *SEARCHED)
    pipeline_name = None

    def __init__(self, settings: FinetuneConfig, examples: dict[str, list[Example]]) -> None:
        super().__init__(settings, examples)
        scores = [example.score for example in examples[self.splits[0]]]
        self.low, self.high = min(scores), max(scores)

    @classmethod
    def open(
        cls, settings: FinetuneConfig, files: Mapping[str, Path], labels: Sequence[str] | None = None
    ) -> "Similarity":
        """UserError for windows, a record without text or score, an empty file, or all training scores the same."""
        refuse_windows(settings)
        task = cls(settings, {split: _read(path, settings) for split, path in files.items()})
        if "train" in files and task.low == task.high:
            raise UserError(f"{files['train']}: every score is {task.low:g}; a similarity is learned from several.")
        return task

    def describe(self) -> list[tuple[str, str]]:
        """The fields that are read, the range of the scores, and the pairs of each split."""
        keys = (example.keys for split in self.splits for example in self.examples[split])
        rows = [
            ("fields", fields_read(keys, self.settings.fields, SCORE)),
            ("scores", f"{self.low:g} to {self.high:g}, {self.relevant:g} and more count as found when searched"),
        ]
        return rows + [(split, f"{len(self.examples[split]):,} pairs") for split in self.splits]

    @property
    def relevant(self) -> float:
        """Least score of a pair whose second text a search with the first should find."""
        return self.low + RELEVANT * (self.high - self.low)

    def head_config(self) -> dict[str, Any]:
        """There is no head; the range of the scores, so that another file is judged by the same."""
        return {RANGE: [self.low, self.high]}

    def check(self, pretrained: Pretrained) -> None:
        """UserError where finetune.select is a figure of search, and dev has no pair to be found."""
        dev = self.examples.get("dev", [])
        if self.selection in SEARCHED and not any(example.score >= self.relevant for example in dev):
            raise UserError(
                f"finetune.select {self.selection}: no pair of finetune.dev has a score of {self.relevant:g} or more, "
                "so nothing can be searched for. Choose by spearman."
            )

    def load(self, pretrained: Pretrained, seed: int, device: torch.device) -> nn.Module:
        """sentence-transformers' own modules around the folder's network: mean of the tokens, then whitened."""
        body = load_model(pretrained, self.auto_class, None, seed, torch.device("cpu"))
        with tempfile.TemporaryDirectory() as folder:  # its Transformer opens folders only
            save_model(body, pretrained.tokenizer, Path(folder), self.settings.max_length)
            transformer = Transformer(folder, max_seq_length=self.settings.max_length, model_kwargs=_KERNEL)
        modules = [transformer, Pooling(transformer.get_embedding_dimension(), "mean")]
        texts = [text for example in self.examples["train"] for text in (example.first, example.second)]
        modules.append(whitening(SentenceTransformer(modules=modules, device="cpu"), texts))
        return SentenceTransformer(modules=modules, device=str(device))

    def save(self, model: nn.Module, tokenizer: Any, path: Path) -> None:
        """A folder of sentence-transformers; its root is also transformers' own."""
        assert isinstance(model, SentenceTransformer)
        model.save(str(path), create_model_card=False)

    def reload(self, path: Path, device: torch.device) -> tuple[nn.Module, Any]:
        """Model and tokenizer; takes over the range of its scores. UserError for a folder of another kind."""
        quiet_transformers()
        if not (path / "modules.json").is_file():
            raise UserError(f"{path} is no folder of sentence-transformers (it has no modules.json).")
        tokenizer = open_tokenizer(path)
        try:
            model = SentenceTransformer(str(path), device=str(device), local_files_only=True, model_kwargs=_KERNEL)
        except Exception as error:
            raise UserError(f"{path} cannot be loaded by sentence-transformers: {first_line(error)}") from error
        self.low, self.high = getattr(model.config, RANGE, (self.low, self.high))
        return model.eval(), tokenizer

    def layer_powers(self, model: nn.Module) -> Iterator[tuple[str, int]]:
        """As for a classifier, the whitening layer in the head's place."""
        return layer_powers(model, BODY, self.settings.top_layer_power)

    def encode(self, split: str, tokenizer: Any) -> Encoded:
        """Both texts, each a row of its own; targets are scores from 0 to 1 over the training file's range."""
        examples = self.examples[split]
        longest = self.settings.max_length
        first, cut_first = encode_texts(tokenizer, [example.first for example in examples], longest)
        second, cut_second = encode_texts(tokenizer, [example.second for example in examples], longest)
        rows = [{"input_ids": a, f"{PAIR}input_ids": b} for a, b in zip(first, second, strict=True)]
        return Encoded(rows, self._scaled(split), range(len(rows)), len({*cut_first, *cut_second}))

    def strata(self) -> list[Hashable]:
        """Quarters of the scores."""
        return score_bins([example.score for example in self.examples["train"]])

    def loss(self, model: nn.Module, batch: Batch, targets: Sequence[float]) -> Tensor:
        """CoSENT (Su 2022) over the pairs of a batch, as sentence-transformers has it."""
        loss = CoSENTLoss(model)  # type: ignore[arg-type]
        value: Tensor = loss(_sides(batch), torch.tensor(targets, device=batch["input_ids"].device))
        return value

    def outputs(self, model: nn.Module, batch: Batch) -> list[Answer]:
        """Cosine and embeddings of each pair."""
        first, second = (model(side)["sentence_embedding"].float().cpu() for side in _sides(batch))
        cosines = torch.nn.functional.cosine_similarity(first, second)
        return [Answer(float(cosine), a, b) for cosine, a, b in zip(cosines, first, second, strict=True)]

    def decide(self, split: str, encoded: Encoded, outputs: Sequence[Answer]) -> list[Answer]:
        """One row a pair."""
        return list(outputs)

    def metrics(self, split: str, decisions: Sequence[Answer]) -> dict[str, float]:
        """pearson and spearman of the cosine; mrr_10 and recall_10 of a search, where any pair is close enough."""
        examples = self.examples[split]
        figures = correlations([answer.cosine for answer in decisions], [example.score for example in examples])
        pairs = [(e.first, e.second, e.score >= self.relevant) for e in examples]
        first, second = (
            torch.stack(list(vectors)) for vectors in zip(*(answer[1:] for answer in decisions), strict=True)
        )
        return figures | retrieval_metrics(pairs, first, second)

    def baseline(self, split: str) -> dict[str, float]:
        """Share of words in common, as a cosine."""
        texts = [(example.first, example.second) for example in self.examples[split]]
        return correlations(overlap(texts), [example.score for example in self.examples[split]])

    def predictions(self, split: str, decisions: Sequence[Answer]) -> list[dict[str, Any]]:
        """Line, texts, right score, cosine."""
        return [
            {
                "line": example.line,
                "sentence1": example.first,
                "sentence2": example.second,
                "score": example.score,
                "cosine": round(answer.cosine, 6),
            }
            for example, answer in zip(self.examples[split], decisions, strict=True)
        ]

    def plain(self, split: str) -> tuple[list[str], list[Any]]:
        """Pairs joined, and their scores."""
        examples = self.examples[split]
        return [f"{e.first} || {e.second}" for e in examples], [example.score for example in examples]

    def plain_metrics(self, split: str, answers: Sequence[Any]) -> dict[str, float]:
        """pearson and spearman."""
        return correlations([float(answer) for answer in answers], [e.score for e in self.examples[split]])

    def _scaled(self, split: str) -> list[float]:
        span = (self.high - self.low) or 1.0
        return [(example.score - self.low) / span for example in self.examples[split]]


def _sides(batch: Batch) -> list[dict[str, Tensor]]:
    """What the network takes of the first texts, and of the second."""
    first = {key: value for key, value in batch.items() if not key.startswith(PAIR)}
    return [first, {key.removeprefix(PAIR): value for key, value in batch.items() if key.startswith(PAIR)}]


def _read(path: Path, settings: FinetuneConfig) -> list[Example]:
    fields = settings.fields
    examples = []
    for line, record in read_records(path, settings):
        place = f"{path}:{line}"
        score = score_of(record, choices(fields, "label", SCORE), place)
        first, second = (text_of(record, names, place) for names in text_names(record, fields))
        examples.append(Example(line, first, second, score, keys_of(record)))
    return examples
