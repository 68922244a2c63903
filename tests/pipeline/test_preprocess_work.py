"""The scratch folder: marks are read in order, and it is never written to where it is gone or another run's."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from pipeline.base.config import load_config
from pipeline.base.errors import UserError
from pipeline.base.files import write_json
from pipeline.stages.preprocess_work import Pass
from tests.corpora import make_texts
from tests.in_process import InProcess, build


@pytest.mark.parametrize("remote", [False, True])
def test_reports_in_order(tmp_path: Path, remote: bool) -> None:
    home: Any = UPath(f"memory://{tmp_path.name}/work") if remote else tmp_path
    made = Pass(home, "read", "ours")
    for number in range(300):
        write_json(made.mark(number), {"report": {"number": number}, "files": {}})
    assert [report["number"] for report in made.reports(range(299, -1, -1))] == list(range(299, -1, -1))
    assert list(made.reports(())) == []
    some = made.reports(range(300))
    assert next(some) == {"number": 0}
    some.close()
    made.mark(5).unlink()
    with pytest.raises(UserError, match=r"000005\.json"):
        list(made.reports(range(300)))


@pytest.mark.parametrize(("job", "told"), [(None, "is gone"), ({"id": "theirs"}, "is another run's now")])
def test_a_task_that_outlives_its_run_writes_nothing(tmp_path: Path, job: dict[str, str] | None, told: str) -> None:
    home = tmp_path / ".work"
    if job is not None:
        home.mkdir()
        (home / "job.json").write_text(json.dumps(job))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=told), Pass(home, "read", "ours").making(3):
        pytest.fail("it has begun")
    with pytest.raises(UserError, match=told):
        Pass(home, "shards", "ours").finish(3, {})
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_that_is_begun_anew_while_a_task_is_at_work(tmp_path: Path) -> None:
    write_json(tmp_path / "job.json", {"id": "ours"})
    made = Pass(tmp_path, "read", "ours")
    with pytest.raises(UserError, match="is another run's now"), made.making(3) as (folder, _):
        (folder / "bad").touch()
        write_json(tmp_path / "job.json", {"id": "theirs"})
    assert not made.finished()
    assert {path.name for path in tmp_path.rglob("*")} == {"job.json", "read"}


@pytest.mark.parametrize("lost", ["read/000001", "tokens-*/000001/train.ids", "tokens-*/000001"])
def test_files_of_finished_tasks_that_somebody_removes(tmp_path: Path, lost: str) -> None:
    """As a scratch file system does with what it takes for old."""
    lines = [json.dumps({"text": text}) for text in make_texts(5, 60)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    settings = [f"run_dir={tmp_path / 'run'}", f"corpus.paths=[{tmp_path / 'a.jsonl'}]", "corpus.task_bytes=6000"]
    more = ["tokenizer.vocab_size=400", "data.block_tokens=256", "corpus.deduplicate.documents=true"]
    config = load_config(None, [*settings, *more])
    with pytest.raises(UserError, match=r"is missing: somebody has removed files|No such file"):
        build(config, InProcess(each=remover(tmp_path / "run" / "data" / ".work", lost)))
    assert not (tmp_path / "run" / "data" / "manifest.json").exists()


def remover(work: Path, lost: str) -> Callable[..., None]:
    """Removes it before the first task of the pass after that which made it."""
    follows = "tokenize_task" if lost.startswith("read") else "shard_task"

    def each(function: Callable[..., Any], given: tuple[Any, ...]) -> None:
        for path in work.glob(lost) if function.__name__ == follows else ():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return each
