"""Paths, folders and globs: order, names, and the errors for what cannot be read."""

import os
from pathlib import Path

import pytest

from pipeline.base.errors import UserError
from pipeline.corpus.documents import ReadReport
from pipeline.corpus.files import InputFile, find_files
from pipeline.corpus.quarantine import BadCount
from pipeline.corpus.tasks import Span, Task


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


def test_what_seems_to_be_meant_is_not_passed_over_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "b.jsonl.part").write_text('{"text": "half')
    (tmp_path / "notes.md").touch()
    with caplog.at_level("WARNING"):
        assert [file.name for file in find_files([str(tmp_path)])] == ["a.jsonl"]
    assert "b.jsonl.part" in caplog.text
    assert "notes.md" not in caplog.text
    (tmp_path / "c.jsonl.xz").touch()
    with pytest.raises(UserError, match=r"c\.jsonl\.xz: compressed in a way that is not read; \.gz, \.zst, \.bz2 are"):
        find_files([str(tmp_path)])


@pytest.mark.parametrize("entry", ["in", "in/*"])
def test_other_files_that_seem_to_hold_a_corpus_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, entry: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    meant = (
        "a.zip",
        "b.tar.gz",
        "c.tgz",
        "d.json",
        "e.JSON.gz",
        "f.ndjson",
        "g.jsonl~",
        "h.jsonl.xz.part",
        "i.txt.bak",
    )
    for name in (*meant, "z.txt", "notes.md", "README", "dataset_info.json", "code.py", ".hidden.zip", "out.d"):
        (tmp_path / "in" / name).touch()
    for known in range(len(meant)):
        caplog.clear()
        with caplog.at_level("WARNING"):
            find_files([entry])
        shown = [f"in/{name}" for name in meant[known:]]
        more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
        if entry == "in":
            assert f"by the ends of their names: {', '.join(shown[:3])}{more}" in caplog.text
        else:
            assert shown[0] in caplog.text
        (tmp_path / "in" / meant[known]).unlink()


def test_what_the_run_itself_writes_is_not_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.txt", "run/config.json", "run/data/a.jsonl.xz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    with caplog.at_level("WARNING"):
        assert [file.name for file in find_files([str(tmp_path)], tmp_path / "run")] == ["a.txt"]
    assert caplog.text == ""
    with pytest.raises(UserError, match=r"a\.jsonl\.xz: compressed in a way"):
        find_files([str(tmp_path)])


def test_damaged_archives_count_by_their_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.jsonl.gz" for number in range(4)]
    files = [InputFile(str(path), path.name, ".jsonl", ".gz", 100, "", "/") for path in paths]
    count = BadCount()
    for number, file in enumerate(files):
        lost = number == 2
        read = ReadReport(kept=0 if lost else 1000, bad=int(lost), spans=[[0, 0, 1, 1] if lost else [1000, 9, 0, 0]])
        count.add(Task((Span(file, 0, None, 100),)), read)
    with pytest.raises(UserError, match=r"of 25\.00% of the input's bytes nothing was got(.|\n)*2\.jsonl\.gz: damaged"):
        count.check(0.01, tmp_path / "quarantine.jsonl", ["x"])
    count.check(0.3, tmp_path / "quarantine.jsonl", ["x"])
