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
from tests.s3_server import S3Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with corpus/ and a finished run over it, run/."""
    folder = tmp_path_factory.mktemp("store")
    make_corpus(folder / "corpus")
    shutil.rmtree(folder / "corpus" / "g")
    preprocess.run(config_for(folder, folder / "run"))
    return folder


def put(server: S3Server, folder: Path, name: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            upload(path, place_of(f"{server.url}/{name}/{path.relative_to(folder).as_posix()}"))


def shards(folder: RunFolder) -> dict[str, str]:
    return {
        entry.name: hashlib.sha256((folder.data / entry.name).read_bytes()).hexdigest()
        for entry in all_shards(read_manifest(folder.manifest))
    }


def test_corpus_and_data_in_a_store(local: Path, tmp_path: Path, s3: S3Server) -> None:
    put(s3, local / "corpus", "corpus")
    settings = [f"corpus.paths=['{s3.url}/corpus']", f"store={s3.url}/runs/one", "data.shard_blocks=60"]
    config = config_for(local, tmp_path / "run", *settings)
    preprocess.run(config_for(local, tmp_path / "local", "data.shard_blocks=60"))
    restarts = threading.Thread(target=_away, args=(s3,))
    restarts.start()
    preprocess.run(config)
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


def _away(server: S3Server) -> None:
    """The server is killed in the middle, and is back after three seconds."""
    time.sleep(12)
    server.kill()
    time.sleep(3)
    server.start()
