"""Extractive question answering: the span of a context that answers a question, or that there is none.

Records are SQuAD's (Rajpurkar et al. 2016, 2018). A network gives each token two logits, start and end; [CLS] is the
span of "no answer" (Devlin et al. 2019, section 4.3). Promise: a context is read whole, in windows, whatever
finetune.long_text says. Price: questions of one context read it anew each.
"""

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.base.errors import UserError
from pipeline.base.files import read_json
from pipeline.base.log import get_logger
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.families.base import Batch, Encoded, Task
from pipeline.tasks.formats.fields import check_characters, choices, field_of, kind_of, text_of
from pipeline.tasks.formats.reading import read_records
from pipeline.tasks.identity import METRICS
from pipeline.tasks.pretrained import Pretrained, load_model
from pipeline.tasks.question_metrics import best_threshold, exact_and_f1
from pipeline.tasks.question_text import CONTEXT, NULL, Spans, best_spans, pooled, shortened, windows

QUESTION, CONTEXTS, ANSWERS = ("question",), ("context",), ("answers",)
IMPOSSIBLE = "is_impossible"
"""SQuAD 2's word for a question that its context does not answer."""
FORM = '{"text": [...], "answer_start": [...]}'
THRESHOLD, ANSWERLESS = "null_threshold", "answerless"
_SENTENCE = re.compile(r".*?(?:[。！？]|[.!?](?=\s|$)|$)", re.DOTALL)


@dataclass(frozen=True)
class Example:
    """One record; no answers: the context does not answer the question."""

    line: int
    key: str
    question: str
    context: str
    answers: list[str]
    starts: list[int]


@dataclass(frozen=True)
class Decision:
    """An answer, "" where there is none."""

    text: str
    span: str
    """The best span, also where no answer is given."""
    lead: float
    """By how much the score of the best span is above that of no answer."""


@dataclass(frozen=True)
class EncodedQuestions(Encoded):
    """And of each row the characters of its context's tokens, and the place of the first of them."""

    offsets: Sequence[np.ndarray] = ()
    firsts: Sequence[int] = ()


class QuestionAnswering(Task):
    """Where no record of any file is without an answer, an answer is always given."""

    auto_class = "AutoModelForQuestionAnswering"
    selection = "f1"
    headline = ("exact_match", "f1")
    pipeline_name = None  # transformers 5 has no such pipeline any more

    def __init__(self, settings: FinetuneConfig, examples: dict[str, list[Example]]) -> None:
        super().__init__(settings, examples)
        self.answerless = any(not e.answers for of_split in examples.values() for e in of_split)
        self.threshold = 0.0

    @classmethod
    def open(
        cls, settings: FinetuneConfig, files: Mapping[str, Path], labels: Sequence[str] | None = None
    ) -> "QuestionAnswering":
        """UserError for a bad record, an answer that is not where it is said to be, an empty file."""
        return cls(settings, {split: _read(path, settings) for split, path in files.items()})

    def describe(self) -> list[tuple[str, str]]:
        """Questions of each split, their contexts, how many have no answer."""
        rows = []
        for split in self.splits:
            examples = self.examples[split]
            contexts, bare = len({id(e.context) for e in examples}), sum(not e.answers for e in examples)
            blank = sum(not e.question.strip() for e in examples)
            more = f"; {blank:,} questions are blank" if blank else ""
            rows.append(
                (split, f"{len(examples):,} questions of {contexts:,} contexts, {bare:,} without an answer{more}")
            )
        return rows

    def head_config(self) -> dict[str, Any]:
        """Two logits a token."""
        return {"num_labels": 2}

    def load(self, pretrained: Pretrained, seed: int, device: torch.device) -> nn.Module:
        """The library's class; its new layer is called otherwise in ModernBERT. Raises UserError."""
        head = "classifier" if pretrained.config.model_type == "modernbert" else "qa_outputs"
        return load_model(pretrained, self.auto_class, head, seed, device)

    def reload(self, path: Path, device: torch.device) -> tuple[nn.Module, Any]:
        """And the threshold of no answer, from the metrics.json beside the folder where there is one."""
        facts = read_json(path.parent / METRICS) if (path.parent / METRICS).is_file() else {}
        self.threshold = float(facts.get(THRESHOLD, 0.0))
        self.answerless = bool(facts.get(ANSWERLESS, self.answerless))
        return super().reload(path, device)

    def encode(self, split: str, tokenizer: Any) -> EncodedQuestions:
        """Rows of question and context; targets are the places of the first answer's ends, (0, 0) where it is not."""
        settings, rows, targets, owners, offsets, firsts = self.settings, [], [], [], [], []
        cut = beyond = 0
        for number, example in enumerate(self.examples[split]):
            question = shortened(tokenizer, example.question, settings.max_length // 2)
            cut += question != example.question
            longest = 0
            for window in windows(tokenizer, question, example.context, settings.max_length, settings.stride):
                target = NULL
                if example.answers:
                    start, end = _inner(example.answers[0], example.starts[0])
                    target = window.place(start, end, len(example.context))
                longest = max(longest, target[1] - target[0] + 1)
                rows.append(window.row)
                targets.append(target)
                owners.append(number)
                offsets.append(window.offsets)
                firsts.append(window.first)
            beyond += longest > settings.max_answer_tokens
        if cut:
            get_logger().info(f"{split}: {cut:,} questions are cut to half of finetune.max_length")
        if beyond:
            get_logger().info(f"{split}: {beyond:,} answers are longer than finetune.max_answer_tokens: out of reach")
        return EncodedQuestions(rows, targets, owners, cut, offsets, firsts)

    def strata(self) -> list[Hashable]:
        """Whether the context answers the question."""
        return [bool(example.answers) for example in self.examples["train"]]

    def loss(self, model: nn.Module, batch: Batch, targets: Sequence[tuple[int, int]]) -> Tensor:
        """Mean of the cross entropies in nats of start and end, over all tokens of a row."""
        wanted = torch.tensor(targets, device=batch["input_ids"].device)
        starts, ends = _logits(model, batch)
        padding = batch["attention_mask"] == 0
        both = (
            F.cross_entropy(logits.masked_fill(padding, -torch.inf), wanted[:, side])
            for side, logits in enumerate((starts, ends))
        )
        return sum(both, start=torch.zeros((), device=wanted.device)) / 2

    def outputs(self, model: nn.Module, batch: Batch) -> list[Spans]:
        """The best spans of each row, and the score of no answer."""
        return best_spans(*_logits(model, batch), batch[CONTEXT], self.settings.max_answer_tokens)

    def decide(self, split: str, encoded: Encoded, outputs: Sequence[Spans]) -> list[Decision]:
        """The best span over all windows, or "". On dev, beside train, the threshold of no answer is set first."""
        assert isinstance(encoded, EncodedQuestions)
        of_example: list[list[tuple[Spans, np.ndarray, int]]] = [[] for _ in self.examples[split]]
        for owner, spans, offsets, first in zip(encoded.owners, outputs, encoded.offsets, encoded.firsts, strict=True):
            of_example[owner].append((spans, offsets, first))
        decisions = []
        for example, found in zip(self.examples[split], of_example, strict=True):
            null, score, start, end = pooled(found, example.context)
            span = example.context[start:end]
            decisions.append(Decision(span, span, score - null))
        if not self.answerless:
            return decisions
        if split == "dev" and "train" in self.examples:
            self.threshold = self._tuned(decisions)
        return [d if -d.lead <= self.threshold else Decision("", d.span, d.lead) for d in decisions]

    def metrics(self, split: str, decisions: Sequence[Decision]) -> dict[str, float]:
        """exact_match and f1, 0 to 100 as SQuAD gives them; and those of questions with and without an answer."""
        return self._figures(split, [decision.text for decision in decisions])

    def baseline(self, split: str) -> dict[str, float]:
        """The context's first sentence; no answer where most training questions have none."""
        train = self.examples.get("train", [])
        if sum(not example.answers for example in train) * 2 > len(train):
            return self._figures(split, [""] * len(self.examples[split]))
        return self._figures(split, [_first_sentence(example.context) for example in self.examples[split]])

    def predictions(self, split: str, decisions: Sequence[Decision]) -> list[dict[str, Any]]:
        """Line of the file, id, question, right answers, the given one, its score's lead over that of no answer."""
        return [
            {
                "line": e.line,
                "id": e.key,
                "question": e.question,
                "answers": e.answers,
                "predicted": d.text,
                "score": round(d.lead, 4) if d.span else None,
            }
            for e, d in zip(self.examples[split], decisions, strict=True)
        ]

    def facts(self) -> dict[str, Any]:
        """The threshold: no answer is given where its score is above the best span's by more than that."""
        return {THRESHOLD: self.threshold, ANSWERLESS: self.answerless}

    def _tuned(self, decisions: Sequence[Decision]) -> float:
        examples = self.examples["dev"]
        if all(example.answers for example in examples):
            return 0.0
        pairs = zip(examples, decisions, strict=True)
        gains = [exact_and_f1(e.answers, d.span)[1] - exact_and_f1(e.answers, "")[1] for e, d in pairs]
        reached = [(-d.lead, gain) for d, gain in zip(decisions, gains, strict=True) if d.span]
        return best_threshold(*map(list, zip(*reached, strict=True))) if reached else 0.0

    def _figures(self, split: str, answers: Sequence[str]) -> dict[str, float]:
        examples = self.examples[split]
        scores = np.array([exact_and_f1(e.answers, given) for e, given in zip(examples, answers, strict=True)])
        answered = np.array([bool(e.answers) for e in examples])
        parts = {"": np.ones_like(answered)}
        if not answered.all():
            parts |= {"has_answer_": answered, "no_answer_": ~answered}
        return {
            f"{prefix}{name}": float(scores[part, column].mean() * 100)
            for prefix, part in parts.items()
            if part.any()
            for column, name in enumerate(("exact_match", "f1"))
        }


def _logits(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Of starts and ends, each (rows, tokens), fp32."""
    found = model(**{name: values for name, values in batch.items() if name != CONTEXT})
    return found.start_logits.float(), found.end_logits.float()


def _inner(answer: str, start: int) -> tuple[int, int]:
    """Characters of an answer without the space at its ends."""
    return start + len(answer) - len(answer.lstrip()), start + len(answer.rstrip())


def _first_sentence(context: str) -> str:
    found = _SENTENCE.match(context.strip())
    return found.group() if found else ""


def _read(path: Path, settings: FinetuneConfig) -> list[Example]:
    fields = settings.fields
    contexts: dict[str, str] = {}
    examples = []
    for line, record in read_records(path, settings):
        place = f"{path}:{line}"
        # CMRC 2018 has a blank question, and leaving it out would make figures incomparable.
        question = text_of(record, choices(fields, "question", QUESTION), place, blank=True)
        context = text_of(record, choices(fields, "context", CONTEXTS), place)
        context = contexts.setdefault(context, context)
        answers, starts = _answers(record, choices(fields, "answers", ANSWERS), place)
        if answers and record.get(IMPOSSIBLE) is True:
            raise UserError(
                f"{place}: {IMPOSSIBLE!r} is true, but there are answers. Take them out, or set it to false."
            )
        for answer, start in zip(answers, starts, strict=True):
            _check(answer, start, context, place)
        key = record.get("id")
        examples.append(Example(line, str(line if key is None else key), question, context, answers, starts))
    return examples


def _answers(record: dict[str, Any], names: Sequence[str], place: str) -> tuple[list[str], list[int]]:
    """Texts and where they begin; in a CSV or TSV file they are spelt as JSON. UserError."""
    field = field_of(record, names, place)
    value = record[field]
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise UserError(f"{place}: {field!r} is a string that is not JSON of the form {FORM}.") from None
    if not isinstance(value, dict):
        raise UserError(f"{place}: {field!r} is {kind_of(value)}, not {FORM}; both lists are empty for no answer.")
    texts, starts = value.get("text"), value.get("answer_start")
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        raise UserError(f"{place}: {field!r} is not {FORM} with two lists of one length; empty ones say: no answer.")
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(text, str) or not text.strip():
            raise UserError(
                f"{place}: {field!r} has a text that is {'blank' if isinstance(text, str) else kind_of(text)}."
            )
        if isinstance(start, bool) or not isinstance(start, int):
            raise UserError(f"{place}: {field!r} has an answer_start that is {kind_of(start)}, not a whole number.")
        check_characters(text, field, place)
    return texts, starts


def _check(answer: str, start: int, context: str, place: str) -> None:
    if not 0 <= start < len(context):
        raise UserError(
            f"{place}: the answer {_short(answer)} begins at character {start}, outside its context of "
            f"{len(context)} characters. Offsets count characters, from 0."
        )
    there = context[start : start + len(answer)]
    if there != answer:
        elsewhere = context.find(answer)
        hint = f"it is at {elsewhere}" if elsewhere >= 0 else "it is nowhere in the context"
        raise UserError(
            f"{place}: the answer {_short(answer)} is not at its answer_start {start}, where {_short(there)} is; "
            f"{hint}. Offsets count characters, from 0."
        )


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:59]}…")
