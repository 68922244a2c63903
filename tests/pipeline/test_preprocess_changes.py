"""What changes between and during runs is noticed and named, and nothing that is good is lost by it. Without Ray."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from pipeline.base.config import RunConfig, load_config
from pipeline.base.errors import UserError
from pipeline.base.run_folder import RunFolder
from pipeline.shards.manifest import all_shards, read_manifest, verify_shards
from pipeline.stages import preprocess
from pipeline.vocabulary.train import train_tokenizer
from tests.corpora import make_texts
from tests.in_process import InProcess


class Killed(BaseException):
    """Ends a run as a kill does: nothing catches it."""


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SentencePiece model."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    config = load_config(None, ["tokenizer.vocab_size=500"]).tokenizer
    path.write_bytes(train_tokenizer(make_texts(0, 300), config, seed=0))
    return path


class Run:
    """A run over corpus/ in this process; `each` is called before every task."""

    def __init__(self, folder: Path, tokenizer: Path) -> None:
        self.corpus, self.path = folder / "corpus", folder / "run"
        self.corpus.mkdir()
        self.tokenizer = tokenizer
        self.each: Any = None
        self.folder = RunFolder(self.path)

    def add(self, name: str, seed: int, count: int = 60) -> Path:
        path = self.corpus / name
        path.write_text("\n\n".join(make_texts(seed, count)))
        return path

    def config(self, *more: str) -> RunConfig:
        fixed = [f"run_dir={self.path}", f"corpus.paths=[{self.corpus}]", f"tokenizer.path={self.tokenizer}"]
        sizes = ["corpus.task_bytes=4096", "data.block_tokens=256", "data.shard_blocks=4"]
        return load_config(None, [*fixed, *sizes, "corpus.validation_fraction=0.1", *more])

    def start(self, *more: str, fresh: bool = False) -> None:
        preprocess.run(self.config(*more), fresh=fresh)

    def killed_after(self, tasks: int, *more: str) -> None:
        left = iter(range(tasks))

        def each(*_: object) -> None:
            if next(left, None) is None:
                raise Killed

        self.each = each
        with pytest.raises(Killed):
            self.start(*more)
        self.each = None

    @property
    def version(self) -> int:
        return read_manifest(self.folder.manifest).version

    def verify(self) -> None:
        verify_shards(self.folder.data, all_shards(read_manifest(self.folder.manifest)))


@pytest.fixture
def run(tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Two files that are not read yet."""
    made = Run(tmp_path, tokenizer)

    @contextmanager
    def connected(*_: object) -> Iterator[InProcess]:
        yield InProcess(each=made.each)

    monkeypatch.setattr(preprocess, "connected", connected)
    monkeypatch.setattr(preprocess, "start_run", MagicMock())
    made.add("a.txt", 1)
    made.add("b.txt", 2)
    return made


def test_a_file_that_changes_during_the_run_is_never_mixed_in(run: Run) -> None:
    def each(function: Any, arguments: tuple[Any, ...]) -> None:
        if arguments[2] == 1:
            path = run.corpus / "b.txt"
            path.write_text(path.read_text().swapcase())

    run.each = each
    with pytest.raises(UserError, match=r"changed while it was read:\s+b?.*b\.txt has the same size, but another"):
        run.start()
    assert not run.folder.manifest.exists()
    run.each = None
    with pytest.raises(UserError, match=r"b\.txt has the same size, but another content(.|\n)*--fresh"):
        run.start()
    run.start(fresh=True)
    run.verify()


def test_touched_files_are_accepted_in_interrupted_work(run: Run) -> None:
    run.killed_after(3)
    for path in run.corpus.iterdir():
        os.utime(path)
        path.chmod(0o600)
    run.start()
    run.verify()
    os.utime(run.corpus / "a.txt")
    run.start()
    run.add("empty.txt", 0, 0)
    run.start()
    os.utime(run.corpus / "empty.txt")
    run.start()


def test_a_file_without_documents_may_be_added(run: Run) -> None:
    run.start()
    tokens = read_manifest(run.folder.manifest).splits
    (run.corpus / "c.txt").write_text(" \n\n\n")
    run.start()
    assert run.version == 2
    assert read_manifest(run.folder.manifest).splits == tokens
    run.add("d.txt", 5)
    run.start()
    assert run.version == 3
    run.verify()


def test_an_input_that_is_away_is_named_and_costs_no_work(run: Run) -> None:
    more = run.corpus.parent / "more"
    paths = f"corpus.paths=[{run.corpus}, {more}]"
    more.mkdir()
    (more / "m.txt").write_text("\n\n".join(make_texts(9, 20)))
    run.start(paths)
    (more / "n.txt").write_text("\n\n".join(make_texts(10, 60)))
    run.killed_after(2, paths)
    marks = sorted((run.folder.data / ".work").rglob("done/*.json"))
    assert marks
    more.rename(more.with_name("away"))
    with pytest.raises(UserError, match="more does not exist"):
        run.start(paths)
    assert sorted((run.folder.data / ".work").rglob("done/*.json")) == marks
    more.with_name("away").rename(more)
    run.start(paths)
    assert run.version == 2
    more.rename(more.with_name("away"))
    with pytest.raises(UserError, match="more does not exist"):
        run.start(paths)
    run.corpus.rename(run.corpus.with_name("gone"))
    run.start(paths)  # a host without the corpus has nothing to compare


def test_marks_of_other_sizes_and_of_lost_shards_are_not_trusted(run: Run) -> None:
    count = 0

    def each(function: Any, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        count += function.__name__ == "shard_task"
        if count == 3:
            raise Killed

    for sizes in ("data.block_tokens=256", "data.block_tokens=128"):
        count, run.each = 0, each
        with pytest.raises(Killed):
            run.start(sizes)
    run.each = None
    run.start("data.block_tokens=256")
    run.verify()
    count, run.each = 0, each
    run.add("c.txt", 4, 300)
    with pytest.raises(Killed):
        run.start()
    named = {entry.name for entry in all_shards(read_manifest(run.folder.manifest))}
    for path in (run.folder.data / "train").glob("*.tar"):
        if f"train/{path.name}" not in named:
            path.unlink()
    run.each = None
    run.start()
    run.verify()


def test_a_damaged_shard_does_not_come_back_as_a_sound_one(run: Run) -> None:
    run.start()
    last = run.folder.data / read_manifest(run.folder.manifest).splits["train"].shards[-1].name
    data = bytearray(last.read_bytes())
    data[700] ^= 1
    last.write_bytes(bytes(data))
    run.add("c.txt", 4)
    with pytest.raises(UserError, match=f"{last.name} is broken"):
        run.start()


def test_what_another_process_has_finished_is_not_written_over(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.start()
    run.add("c.txt", 3)
    real = preprocess.read_inputs

    def late(*arguments: Any) -> Any:
        monkeypatch.setattr(preprocess, "read_inputs", real)
        run.start()  # the other process
        return real(*arguments)

    monkeypatch.setattr(preprocess, "read_inputs", late)
    with pytest.raises(UserError, match="another process has just finished"):
        run.start()
    assert run.version == 2


def test_a_version_that_is_given_up_leaves_the_one_before(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (run.corpus / "b.txt").write_bytes((run.corpus / "b.txt").read_bytes() + b"\n\n\xff\n")
    run.start("corpus.max_bad_fraction=0.1")
    before = {path: path.read_bytes() for path in run.folder.data.rglob("*") if path.is_file()}
    added = run.corpus / "c.txt"
    added.write_bytes("\n\n".join(make_texts(4, 60)).encode() + b"\n\n\xff\n")
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.stages.preprocess_publish.write_manifest", MagicMock(side_effect=Killed))
        with pytest.raises(Killed):
            run.start("corpus.max_bad_fraction=0.1")
    assert run.version == 1
    added.unlink()
    run.start("corpus.max_bad_fraction=0.1")
    assert before == {path: path.read_bytes() for path in run.folder.data.rglob("*") if path.is_file()}


def test_fresh_takes_nothing_away_before_it_can_begin(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.start()
    with monkeypatch.context() as patch:
        patch.setattr(preprocess, "connected", MagicMock(side_effect=UserError("cannot connect to the Ray cluster")))
        with pytest.raises(UserError, match="cannot connect"):
            run.start(fresh=True)
    run.verify()
    with pytest.raises(UserError, match=r"--fresh .* data\.path"):
        run.start(f"data.path={run.path}", fresh=True)


def test_a_name_that_is_not_utf_8_is_told_at_once(run: Run) -> None:
    with open(os.fsencode(run.corpus) + b"/bad\xff.txt", "w") as file:
        file.write("a text")
    with pytest.raises(UserError, match="is not UTF-8"):
        run.start()


def test_the_plan_tells_filters_and_copies(run: Run) -> None:
    told = dict(preprocess.plan(run.config("corpus.clean={length: {min_words: 3}}", "corpus.deduplicate.near=true")))
    assert told["filters"] == "length"
    assert told["copies dropped"] == "near, from similarity 0.4"
    assert not run.path.exists()
