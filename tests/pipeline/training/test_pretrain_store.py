"""Pretraining beside a store: shards from it, checkpoints to it, killed, on another machine; as a local run does it."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.base.config import load_config
from pipeline.base.files import read_json, write_json
from pipeline.base.run_folder import RunFolder
from pipeline.base.storage import place_of, upload
from pipeline.command import main
from pipeline.training import save
from pipeline.training.checkpoint import find_checkpoint, is_marked, list_checkpoints, load_weights
from tests.datasets import make_dataset
from tests.pipeline.release.checkpoints import VOCABULARY, make_tokenizer
from tests.pipeline.training.pretrain_runs import Workshop, assert_same_end, kill, losses, wait
from tests.s3_server import S3Server

pytestmark = pytest.mark.slow

SHARDS = ("data.shuffle_window=4", "data.shuffle_buffer=2", "data.cache_bytes=100000")
"""Small windows, and room for nine of the eighteen shards, of 10,240 bytes each."""


class StoreShop(Workshop):
    """A workshop whose data lie in a store as well."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder)
        shutil.rmtree(folder / "data")
        sizes = {"tokens": 4_000, "vocab_size": VOCABULARY, "block_tokens": 128, "shard_blocks": 2}
        make_dataset(folder / "data", **sizes, tokenizer=make_tokenizer())
        write_json(folder / "data" / "data" / "statistics.json", {"documents": 98_765, "characters": 5, "tokens": 4})
        self.url = url
        for file in (folder / "data").rglob("*"):
            if file.is_file():
                upload(file, place_of(f"{url}/data-set/{file.relative_to(folder / 'data')}"))

    def arguments(self, name: str, *settings: str, stage: int = 1) -> list[str]:
        """The command line of run `name` with local data."""
        return super().arguments(name, f"tokenizer.vocab_size={VOCABULARY}", *SHARDS, *settings, stage=stage)

    def stored(self, name: str, machine: str, *settings: str) -> list[str]:
        """The command line of run `name` beside its store, on a machine with a cache of its own."""
        places = (f"data.path={self.url}/data-set", f"store={self.url}/runs/{name}")
        own = f"data.cache={self.folder / machine}"
        return self.arguments(f"{machine}-{name}", *places, own, *settings)

    def folder_of(self, arguments: list[str]) -> RunFolder:
        """Of the run with this command line."""
        return RunFolder.of(load_config(self.config, arguments[2:]))


def test_a_run_beside_a_store(
    s3: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ranks that share a cache, from s3 alone, as a local run; killed, then on one rank of another machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    shop = StoreShop(tmp_path, s3.url)
    local, whole = shop.arguments("local"), shop.stored("whole", "here")
    cut, moved = shop.stored("cut", "here"), shop.stored("cut", "there")
    with shop.ranks(2, local, whole) as processes:
        assert wait(processes) == [0, 0]
    assert_same_end(shop.folder_of(local), shop.folder_of(whole))
    names = [path.name for path in list_checkpoints(shop.folder_of(whole))]
    assert names == ["step-00000020", "step-00000015"]
    assert (shop.folder_of(whole).checkpoints / "latest").read_text() == "step-00000020\n"
    copies = sum(path.stat().st_size for path in (tmp_path / "here").rglob("*.tar"))
    assert 0 < copies <= 100_000

    with shop.ranks(2, cut) as processes:
        shop.wait_for_step("here-cut", 7)
        while not any(is_marked(path) for path in list_checkpoints(shop.folder_of(cut))):
            time.sleep(0.05)  # uploaded while the steps go on
        kill(processes)
    found = [path.name for path in list_checkpoints(shop.folder_of(moved)) if is_marked(path)]
    assert found[0] in ("step-00000005", "step-00000010", "step-00000015")

    assert main("pretrain", [*moved, "--dry-run"]) == 0
    assert "at step" in capsys.readouterr().out
    assert not (tmp_path / "there-cut").exists()
    assert main("pretrain", moved) == 0
    first = int(found[0].removeprefix("step-"))
    reference = losses(shop.folder_of(local))
    assert losses(shop.folder_of(moved)) == pytest.approx({s: reference[s] for s in range(first + 1, 21)}, rel=1e-4)
    one, other = find_checkpoint(shop.folder_of(local)), find_checkpoint(shop.folder_of(moved))
    for name, tensor in load_weights(one).items():
        torch.testing.assert_close(load_weights(other)[name], tensor, rtol=1e-3, atol=1e-4)

    assert main("export", moved) == 0
    assert read_json(tmp_path / "there-cut" / "export" / "export.json")["checkpoint"] == "step-00000020"
    assert "98,765" in (tmp_path / "there-cut" / "export" / "discriminator" / "README.md").read_text()
    assert main("evaluate", moved) == 0
    assert read_json(tmp_path / "there-cut" / "evaluation.json")["checkpoint"] == "step-00000020"
    later = shop.arguments("later", f"init.checkpoint={s3.url}/runs/cut", "train.steps=2")
    assert main("pretrain", [*later, f"data.cache={tmp_path / 'there'}"]) == 0
    report = read_json(tmp_path / "later" / "init.json")["sources"]["checkpoint"]
    assert report["from"] == f"{s3.url}/runs/cut (step-00000020)"


def test_two_machines_and_one_store(
    s3: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is refused; a run whose lease another one has taken over stops, and saves nothing more."""
    shop = StoreShop(tmp_path, s3.url)
    arguments = shop.stored("one", "here")
    folder = shop.folder_of(arguments)
    assert folder.store is not None
    place = folder.store / "lease.json"
    theirs = b'{"host": "node-7", "process": 4711, "since": "2026-01-01 00:00:00 UTC"}'
    place.write_bytes(theirs)
    assert main("pretrain", arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"pretrain: the store {folder.store} is written by process 4711 on node-7 since 2026-01-01")
    assert not folder.metrics.exists()
    place.unlink()

    plain = save.put

    def put(aside: Path, path: Path, uploaded: Callable[[], None]) -> None:
        if path.name != "step-00000005":
            place.write_bytes(theirs)
        plain(aside, path, uploaded)

    monkeypatch.setattr(save, "put", put)
    assert main("pretrain", arguments) == 2
    assert f"pretrain: this run no longer holds the store {folder.store}: it is written by" in capsys.readouterr().err
    assert [path.name for path in list_checkpoints(folder) if is_marked(path)] == ["step-00000005"]
    assert (folder.checkpoints / "latest").read_text() == "step-00000005\n"
    assert place.read_bytes() == theirs
