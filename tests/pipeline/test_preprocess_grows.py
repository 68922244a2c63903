"""A finished data set takes up new files alone, under a new revision; what has changed is named, never mixed in.

It grows on a local Ray; the runs around that have their tasks done in this process.
"""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.base.errors import UserError
from pipeline.base.run_folder import RunFolder
from pipeline.shards.manifest import manifest_path, read_manifest, verify_shards
from pipeline.stages import preprocess
from tests.corpora import config_for, digests, make_corpus, make_texts
from tests.in_process import here

FIRST = ("a.txt", "b.jsonl", "c.jsonl.gz")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with corpus/ (its first files), later/ (the others), all/ and a finished run over the first, run/."""
    folder = tmp_path_factory.mktemp("grows")
    make_corpus(folder / "all")
    (folder / "corpus").mkdir()
    for name in FIRST:
        shutil.copy2(folder / "all" / name, folder / "corpus" / name)
    with here():
        preprocess.run(config_for(folder, folder / "run"))
    return folder


def passes(run: RunFolder) -> list[tuple[str, int]]:
    lines = (run.log / "tasks.jsonl").read_text().splitlines()
    return [(entry["pass"].partition("-")[0], entry["task"]) for entry in map(json.loads, lines)]


@pytest.mark.slow
def test_new_files_alone_are_read_and_the_shards_are_those_of_one_run(shared: Path) -> None:
    run = RunFolder(shared / "run")
    before = read_manifest(run.manifest)
    old_bytes = {path: path.read_bytes() for path in run.data.rglob("*.tar")}
    done = passes(run)
    for name in ("d.txt.zst", "f.parquet", "g"):
        place = shared / "corpus" / name
        source = shared / "all" / name
        shutil.copytree(source, place) if source.is_dir() else shutil.copy2(source, place)
    preprocess.run(config_for(shared, run.path))
    after = read_manifest(run.manifest)
    assert (before.version, after.version) == (1, 2)
    assert len(passes(run)) > len(done)
    assert {task for kind, task in passes(run)[len(done) :] if kind == "read"} == set()  # the tokenizer is there

    once = RunFolder(shared / "once")
    with here():
        preprocess.run(config_for(shared, once.path, f"tokenizer.path={run.tokenizer}"))
    whole = read_manifest(once.manifest)
    for split in ("train", "validation"):
        grown = [(entry.sha256, entry.tokens, entry.documents) for entry in after.splits[split].shards]
        assert grown == [(entry.sha256, entry.tokens, entry.documents) for entry in whole.splits[split].shards]
        verify_shards(run.data, after.splits[split].shards)
        verify_shards(run.data, before.splits[split].shards)  # the older manifest stays valid
    assert all(path.read_bytes() == data for path, data in old_bytes.items())
    assert read_manifest(manifest_path(run.data, 1)) == before
    assert manifest_path(run.data, 2).read_bytes() == run.manifest.read_bytes()
    assert run.quarantine.read_bytes() == once.quarantine.read_bytes()
    theirs = json.loads(once.statistics.read_text())
    ours = json.loads(run.statistics.read_text())
    for name in ("files", "documents", "tokens", "dropped_by_reason", "characters", "text_bytes"):
        assert ours[name] == theirs[name]
    assert ours["splits"]["train"] == theirs["splits"]["train"]
    assert not (run.data / ".work").exists()


@pytest.mark.slow
@here()
def test_changes_are_named_and_fresh_begins_anew(shared: Path) -> None:
    run = RunFolder(shared / "changed")
    corpus = shared / "changing"
    shutil.copytree(shared / "all", corpus)
    config = config_for(shared, run.path, f"corpus.paths=[{corpus}]")
    preprocess.run(config)
    first = digests(run.path)
    content = (corpus / "a.txt").read_bytes()
    (corpus / "a.txt").write_bytes(content.replace(b"a", b"b", 1))
    with pytest.raises(UserError, match=r"a\.txt has the same size, but another content"):
        preprocess.run(config)
    (corpus / "a.txt").write_bytes(content)  # as it was, at another time
    preprocess.run(config)
    (corpus / "b.jsonl").unlink()
    with pytest.raises(UserError, match=r"b\.jsonl is gone"):
        preprocess.run(config)
    assert digests(run.path) == first
    preprocess.run(config, fresh=True)
    assert read_manifest(run.manifest).version == 1
    assert digests(run.path) != first


@pytest.mark.slow
@here()
def test_interrupted_work_is_not_taken_up_by_another_config_or_corpus(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(shared / "interrupted")
    (shared / "small").mkdir()
    text = shared / "small" / "a.txt"
    text.write_text("\n\n".join(make_texts(3, 300)))

    def failing(*_: object) -> None:
        raise UserError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.stages.preprocess_build.train_tokenizer", failing)
        with pytest.raises(UserError, match="the disk is full"):
            preprocess.run(config_for(shared, run.path, f"corpus.paths=[{shared / 'small'}]"))
    assert (run.data / ".work" / "job.json").exists()
    with pytest.raises(UserError, match=r"corpus\.validation_fraction: was 0\.1, is 0\.2"):
        preprocess.run(
            config_for(shared, run.path, f"corpus.paths=[{shared / 'small'}]", "corpus.validation_fraction=0.2")
        )
    text.write_text(text.read_text() + "\n\nmore")
    with pytest.raises(UserError, match=r"a\.txt had [\d,]+ bytes, has [\d,]+"):
        preprocess.run(config_for(shared, run.path, f"corpus.paths=[{shared / 'small'}]"))
    preprocess.run(config_for(shared, run.path, f"corpus.paths=[{shared / 'small'}]"), fresh=True)
    assert run.manifest.exists()
