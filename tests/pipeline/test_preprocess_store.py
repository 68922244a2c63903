"""Corpus and data set in an S3 store: the same bytes as on a disk, also when the server is away for a while."""

import hashlib
import shutil
import threading
import time
from pathlib import Path

import pytest

from pipeline.base.run_folder import RunFolder
from pipeline.base.storage import place_of, upload
from pipeline.shards.manifest import all_shards, read_manifest
from pipeline.stages import preprocess
from tests.corpora import config_for, make_corpus
from tests.in_process import here
from tests.s3_server import S3Server

pytestmark = pytest.mark.slow


def put(server: S3Server, folder: Path, name: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            upload(path, place_of(f"{server.url}/{name}/{path.relative_to(folder).as_posix()}"))


def shards(folder: RunFolder) -> dict[str, str]:
    return {
        entry.name: hashlib.sha256((folder.data / entry.name).read_bytes()).hexdigest()
        for entry in all_shards(read_manifest(folder.manifest))
    }


def test_corpus_and_data_in_a_store(tmp_path: Path, s3: S3Server) -> None:
    make_corpus(tmp_path / "corpus")
    shutil.rmtree(tmp_path / "corpus" / "g")
    put(s3, tmp_path / "corpus", "corpus")
    settings = [f"corpus.paths=['{s3.url}/corpus']", f"store={s3.url}/runs/one", "data.shard_blocks=60"]
    config = config_for(tmp_path, tmp_path / "run", *settings)
    with here():
        preprocess.run(config_for(tmp_path, tmp_path / "local", "data.shard_blocks=60"))
    was_away, ended = threading.Event(), threading.Event()
    log = tmp_path / "run" / "log" / "tasks.jsonl"
    restarts = threading.Thread(target=_away, args=(s3, log, was_away, ended))
    restarts.start()
    try:
        preprocess.run(config)
        assert was_away.is_set(), "the stage has ended before"
    finally:
        ended.set()
        restarts.join()
    folder = RunFolder.of(config)
    ours = read_manifest(folder.manifest)
    theirs = read_manifest(RunFolder(tmp_path / "local").manifest)
    assert ours.splits == theirs.splits
    assert ours.tokenizer == theirs.tokenizer
    assert shards(folder) == {entry.name: entry.sha256 for entry in all_shards(theirs)}
    assert not (folder.data / ".work").exists()
    assert not (tmp_path / "run" / "data").exists()
    preprocess.run(config)  # nothing to do


def _away(server: S3Server, log: Path, was_away: threading.Event, ended: threading.Event) -> None:
    """The server is killed once ten tasks are done, and is back after three seconds."""
    while not ended.is_set():
        time.sleep(0.02)
        if log.exists() and log.read_bytes().count(b"\n") >= 10:
            server.kill()
            was_away.set()
            time.sleep(3)
            server.start()
            break
