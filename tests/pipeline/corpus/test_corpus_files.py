"""Paths, folders and globs: order, names, and the errors for what cannot be read."""

import os
from pathlib import Path

import pytest

from pipeline.base.errors import UserError
from pipeline.corpus.files import find_files


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files of all sorts, in which the test runs."""
    for name in ("b.txt", "a.JSONL.gz", "sub/c.parquet", "sub/d.txt.zst", "sub/notes.md", ".hidden.txt", "x[1].txt"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "in" / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def paths(*entries: str) -> list[str]:
    return [file.path for file in find_files(entries)]


def test_order_and_names(corpus: Path) -> None:
    everything = ["in/a.JSONL.gz", "in/b.txt", "in/sub/c.parquet", "in/sub/d.txt.zst", "in/x[1].txt"]
    assert paths("in") == everything
    assert paths("in/**") == everything
    assert paths("in/*") == everything
    assert paths("in/*.txt", "in/sub") == ["in/b.txt", "in/x[1].txt", "in/sub/c.parquet", "in/sub/d.txt.zst"]
    assert paths("in/b.txt", "in", "./in/b.txt") == ["in/b.txt", everything[0], *everything[2:]]
    assert paths("in/x[1].txt") == ["in/x[1].txt"]
    assert [file.name for file in find_files([str(corpus / "in")])] == [path.removeprefix("in/") for path in everything]
    assert [file.name for file in find_files(["in/s*/*", "in/b.txt"])] == ["sub/c.parquet", "sub/d.txt.zst", "b.txt"]
    assert next((file.kind, file.packing) for file in find_files(["in"])) == (".jsonl", ".gz")


def test_links_to_folders_are_followed_once(corpus: Path) -> None:
    (corpus / "elsewhere").mkdir()
    (corpus / "elsewhere" / "e.txt").write_bytes(b"x")
    os.symlink(corpus / "elsewhere", corpus / "in" / "linked")
    os.symlink(corpus / "elsewhere", corpus / "in" / "linked-again")
    os.symlink(corpus / "in", corpus / "in" / "sub" / "circle")
    assert "in/linked/e.txt" in paths("in")
    assert len(paths("in")) == 6


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("nowhere.txt", "nowhere.txt does not exist"),
        ("nowhere/*.txt", "the glob nowhere/*.txt matches nothing"),
        ("in/empty", "the folder in/empty holds no file"),
        ("in/sub/notes.md", "in/sub/notes.md is not .txt, .jsonl, .parquet"),
        ("in/sub/*.md", "the glob in/sub/*.md matches 1 paths, but no file"),
        ("in/dangling.txt", "cannot read in/dangling.txt: No such file"),
        ("in/pipe.txt", "in/pipe.txt is not a regular file"),
    ],
)
def test_what_cannot_be_read_is_named(corpus: Path, entry: str, told: str) -> None:
    os.symlink("gone", corpus / "in" / "dangling.txt")
    os.mkfifo(corpus / "in" / "pipe.txt")
    with pytest.raises(UserError, match=r"corpus\.paths") as error:
        find_files(["in/b.txt", entry])
    assert told in str(error.value)


def test_unreadable_file(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("pipeline.corpus.files.os.open", refuse)
    with pytest.raises(UserError, match=r"cannot read in/b\.txt: Permission denied"):
        find_files(["in/b.txt"])


def test_the_runs_own_files_are_no_corpus_but_a_corpus_may_lie_below_run_dir(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    for name in ("mine.txt", "run/data/quarantine.jsonl", "run/corpus/a.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text\n")
    assert [file.name for file in find_files([str(tmp_path)], run_dir)] == ["mine.txt"]
    for entry in ("run/corpus", "run/corpus/*.txt", "run/corpus/a.txt"):
        assert [file.name for file in find_files([str(tmp_path / entry)], run_dir)] == ["a.txt"]
    with pytest.raises(UserError, match="no file outside run_dir"):
        find_files([str(run_dir)], run_dir)
