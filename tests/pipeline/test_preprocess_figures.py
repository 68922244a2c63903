"""Figures of data/statistics.json from made-up totals: filters of a mixture, evaluation files, the tokenizer."""

import json
from pathlib import PurePath
from types import SimpleNamespace
from typing import Any

import numpy as np

from model.config import SEP_ID
from pipeline.corpus.documents import FilterCount, ReadReport
from pipeline.stages.preprocess_results import dropped_by_reason, statistics, tokenizer_statistics
from pipeline.stages.preprocess_totals import Totals

PIECES = [f"p{number}" for number in range(10)]
CODEC: Any = SimpleNamespace(vocab_size=len(PIECES), pieces=lambda: PIECES)


def read(totals: Totals, corpus: str, name: str, documents: int, files: dict[str, dict[str, int]]) -> None:
    span = SimpleNamespace(file=SimpleNamespace(name=f"{corpus}.jsonl", path=PurePath("x") / f"{corpus}.jsonl"))
    task: Any = SimpleNamespace(corpus=corpus, spans=[span])
    examples = [[0, 3, "r: 1", f"text of {corpus}"]] if documents else []
    filters = {name: FilterCount(documents, 10, {"r": documents}, examples)}
    totals.add_read(task, ReadReport(spans=[[0, 0, documents, 0]], filters=filters, contamination=files), [0])


def test_filters_of_a_mixture_are_counted_by_corpus() -> None:
    totals = Totals(by_folder=False)
    for corpus, documents in (("web", 2), ("books", 0), ("web", 3)):
        read(totals, corpus, "length", documents, {"a": {"dropped": 0, "cut": 0}, "b": {"dropped": 1, "cut": 0}})
    totals = Totals.of(json.loads(json.dumps(totals.plain(), default=str)))
    figures = statistics(totals, CODEC, np.ones(10, np.int64), [])
    told = [(one["name"], one["corpus"], one["documents"], len(one["examples"])) for one in figures["filters"]]
    assert told == [("length", "web", 5, 2), ("length", "books", 0, 0)]
    assert dropped_by_reason(totals) == {"length": 5}
    # A file that no document matched is told too.
    assert figures["contamination"]["by_file"] == {"a": {"dropped": 0, "cut": 0}, "b": {"dropped": 3, "cut": 0}}


def test_evaluation_texts_of_all_corpora_are_told_together() -> None:
    totals = Totals(by_folder=False)
    for corpus in ("web", "books"):
        read(totals, corpus, "decontaminate", 1, {"a": {"dropped": 1, "cut": 0}})
    found = statistics(totals, CODEC, np.ones(10, np.int64), [])["contamination"]
    assert found["documents"] == 2
    assert [example["text"] for example in found["examples"]] == ["text of web", "text of books"]


def test_separators_are_no_pieces_of_words() -> None:
    frequencies = np.zeros(10, np.int64)
    frequencies[[7, 8]] = 30, 20
    frequencies[SEP_ID] = 1000
    found = tokenizer_statistics(CODEC, frequencies, words=25)
    assert (found["pieces"], found["fertility"], found["used_pieces"]) == (50, 2.0, 2)
    assert found["frequencies"] == [[7, "p7", 30], [8, "p8", 20]]
    assert found["rank_frequency"] == [[1, 30], [2, 20]]
    assert frequencies[SEP_ID] == 1000
