"""A task that fails again and again is set aside with its range, counted, and too much of it ends the stage."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.config import RunConfig, load_config
from pipeline.base.errors import UserError
from pipeline.base.mapping import Failure
from pipeline.base.run_folder import RunFolder
from pipeline.vocabulary.train import train_tokenizer
from tests.corpora import make_texts
from tests.in_process import InProcess, build

REASON = "Crashed: the process broke down: SIGSEGV"
TASK = 6000
LINES = [json.dumps({"text": text}) for text in make_texts(5, 100)]
DEDUPLICATE = "corpus.deduplicate.documents=true"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with corpus/ of two files, a bad record at the end of each, and a tokenizer."""
    folder = tmp_path_factory.mktemp("gives-up")
    (folder / "corpus").mkdir()
    (folder / "corpus" / "a.jsonl").write_text("\n".join([*LINES[:70], "{"]))
    (folder / "corpus" / "b.jsonl").write_text("\n".join([*LINES[70:], "{"]))
    config = load_config(None, ["tokenizer.vocab_size=400"]).tokenizer
    (folder / "given.model").write_bytes(train_tokenizer(make_texts(1, 200), config, 0))
    return folder


def config_of(shared: Path, run_dir: Path, *more: str) -> RunConfig:
    sizes = [f"corpus.task_bytes={TASK}", "data.block_tokens=256", "corpus.validation_fraction=0.1"]
    names = [f"run_dir={run_dir}", f"corpus.paths=[{shared / 'corpus'}]", f"tokenizer.path={shared / 'given.model'}"]
    return load_config(None, [*names, *sizes, "corpus.max_bad_fraction=0.2", *more])


def failing(name: str, *numbers: int) -> Callable[..., Any]:
    """For InProcess: the function of that name fails for these tasks."""

    def each(function: Callable[..., Any], given: tuple[Any, ...]) -> Failure | None:
        return Failure(REASON) if function.__name__ == name and given[2] in numbers else None

    return each


def quarantined(run_dir: Path) -> list[tuple[str, int | None, str]]:
    lines = RunFolder(run_dir).quarantine.read_text().splitlines()
    return [(Path(one["file"]).name, one["line"], one["reason"]) for one in map(json.loads, lines)]


@pytest.mark.parametrize(
    ("function", "more"),
    [("tokenize_task", []), ("read_task", [DEDUPLICATE]), ("tokenize_task", [DEDUPLICATE])],
    ids=["one-pass", "reading", "tokenising"],
)
def test_one_range_is_set_aside(tmp_path: Path, shared: Path, function: str, more: list[str]) -> None:
    whole = build(config_of(shared, tmp_path / "whole", *more))
    manifest = build(config_of(shared, tmp_path / "run", *more), InProcess(each=failing(function, 1)))
    assert len(quarantined(tmp_path / "whole")) == 2
    range_line, *others = quarantined(tmp_path / "run")
    assert range_line == ("a.jsonl", None, f"task failed: {REASON}, bytes {TASK:,} to {2 * TASK:,}")
    known = 71 if len(more) and function == "tokenize_task" else None  # lines behind it were read before
    assert [one[:2] for one in others] == [("a.jsonl", known), ("b.jsonl", 31)]
    assert manifest.corpus.quarantined == 3
    text = (shared / "corpus" / "a.jsonl").read_text()
    begun = [at for at in range(len(text)) if at == 0 or text[at - 1] == "\n"]
    lost = sum(TASK <= at < 2 * TASK for at in begun)
    assert manifest.corpus.documents == whole.corpus.documents - lost == len(LINES) - lost
    figures = json.loads(RunFolder(tmp_path / "run").statistics.read_text())
    assert figures["dropped_by_reason"] == {"broken JSON": 2, "task failed": 1}
    for total in ("documents", "characters", "dropped"):
        assert sum(one[total] for one in figures["inputs"]) == figures[total], total


@pytest.mark.parametrize(
    ("function", "more"),
    [("tokenize_task", []), ("read_task", [DEDUPLICATE]), ("tokenize_task", [DEDUPLICATE])],
    ids=["one-pass", "reading", "tokenising"],
)
def test_too_much_stops_and_is_tried_again(tmp_path: Path, shared: Path, function: str, more: list[str]) -> None:
    config = config_of(shared, tmp_path / "run", *more)
    tasks = -(-(shared / "corpus" / "a.jsonl").stat().st_size // TASK)
    with pytest.raises(UserError) as told:
        build(config, InProcess(each=failing(function, *range(tasks))))
    share = (shared / "corpus" / "a.jsonl").stat().st_size / sum(
        path.stat().st_size for path in (shared / "corpus").iterdir()
    )
    assert f"of {share:.2%} of the input's bytes nothing was got" in str(told.value)
    assert "corpus.max_bad_fraction 0.2" in str(told.value)
    assert REASON in str(told.value)
    assert len(quarantined(tmp_path / "run")) >= tasks + 1
    assert not RunFolder(tmp_path / "run").manifest.exists()
    again: list[int] = []

    def each(function: Callable[..., Any], given: tuple[Any, ...]) -> None:
        if function.__name__ == told_name and len(given) > 2:
            again.append(given[2])

    told_name = function
    whole = build(config_of(shared, tmp_path / "whole", *more))
    manifest = build(config, InProcess(each=each))
    assert sorted(again)[:tasks] == list(range(tasks))
    if function == "read_task" or not more:
        assert len(again) == tasks, "what went well is not done again"
    assert manifest.model_copy(update={"config": {}}) == whole.model_copy(update={"config": {}})
    assert len(quarantined(tmp_path / "run")) == 2


def test_all_tasks_fail(tmp_path: Path, shared: Path) -> None:
    config = config_of(shared, tmp_path / "run", "corpus.max_bad_fraction=1")
    with pytest.raises(UserError, match=r"no valid document(.|\n)*ranges were set aside(.|\n)*task failed"):
        build(config, InProcess(each=failing("tokenize_task", *range(100))))
    config = config_of(shared, tmp_path / "other")
    with pytest.raises(UserError, match=r"of 100.00% of the input's bytes nothing was got"):
        build(config, InProcess(each=failing("tokenize_task", *range(100))))
