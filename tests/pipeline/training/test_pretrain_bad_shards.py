"""A shard that goes bad while a run trains: named, what was learned saved, code 2; or left out on all ranks alike."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.base.config import load_config
from pipeline.base.errors import UserError
from pipeline.base.files import read_json
from pipeline.command import main
from pipeline.shards.manifest import all_shards
from pipeline.stream.bad import BadShard
from pipeline.stream.loader import Prefetcher, Rows, TokenStream
from pipeline.training import evaluate_job
from pipeline.training import origin as origin_module
from pipeline.training.checkpoint import find_checkpoint, list_checkpoints
from pipeline.training.origin import find_origin, verify_data
from pipeline.training.ranks import Ranks
from tests.datasets import make_dataset
from tests.pipeline.training.pretrain_runs import VOCABULARY, Workshop, assert_same_end, kill, losses, records, wait
from tests.web_server import web_server

pytestmark = pytest.mark.slow

BATCH, STEPS = 5, 20
SHARDS = ("data.shuffle_window=4", "data.shuffle_buffer=2", f"tokenizer.vocab_size={VOCABULARY}")


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    """With data of many small shards."""
    shop = Workshop(tmp_path)
    shutil.rmtree(tmp_path / "data")
    make_dataset(tmp_path / "data", tokens=4_000, vocab_size=VOCABULARY, block_tokens=128, shard_blocks=2)
    return shop


def shard_of_step(shop: Workshop, step: int) -> str:
    """A shard of the training that is first needed in the batch after `step`."""
    config = load_config(shop.config, [f"data.path={shop.folder / 'data'}", *SHARDS])
    stream = TokenStream(shop.folder / "data" / "data", "train", config.data, config.seed)
    shards = stream.parts[0].order.locate(np.arange(BATCH * STEPS)).shard
    first = {int(shard): place for place, shard in reversed(list(enumerate(shards)))}
    number = min((place, shard) for shard, place in first.items() if place >= step * BATCH)[1]
    return stream.parts[0].reader.entries[number].name


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)


def test_two_ranks_leave_it_out_alike_and_a_killed_run_agrees(shop: Workshop) -> None:
    """The size in the store is right, so the run meets it in the middle: at step 8 or later, by its digest."""
    name = shard_of_step(shop, 8)
    with web_server(shop.folder) as server:
        flip(shop.folder / "data" / "data" / name)
        places = (f"data.path={server.url}/data", f"data.cache={shop.folder / 'cache'}", *SHARDS)
        whole, cut, alone = (
            shop.arguments(run, *places, "data.on_bad_shard=skip", stage=1) for run in ("whole", "cut", "alone")
        )
        with shop.ranks(2, whole, cut) as processes:
            shop.wait_for_step("cut", 13)
            kill(processes)
        with shop.ranks(2, cut) as processes:
            assert wait(processes) == [0, 0]
        assert main("pretrain", alone) == 0
    assert_same_end(shop.run_folder("whole"), shop.run_folder("cut"))
    reference = losses(shop.run_folder("alone"))
    assert losses(shop.run_folder("whole")) == pytest.approx(reference, rel=1e-4)
    for run in ("whole", "cut", "alone"):
        kept = list_checkpoints(shop.run_folder(run))
        assert [read_json(path / "state.json")["bad_shards"] for path in kept] == [[name]] * len(kept)
    log = (shop.run_folder("whole").log / "rank-0.log").read_text()
    assert f"{name} is broken: 3 downloads of it were not the bytes" in log
    assert "It is left out from step" in log
    assert log.count("first step after ") == 1


def test_a_shard_missing_from_the_start(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    name = shard_of_step(shop, 3)
    (shop.folder / "data" / "data" / name).unlink()
    assert main("pretrain", shop.arguments("stops", *SHARDS)) == 2
    told = capsys.readouterr().err
    assert f"{name} is missing" in told
    assert main("pretrain", shop.arguments("goes-on", *SHARDS, "data.on_bad_shard=skip", "train.steps=8")) == 0
    state = read_json(find_checkpoint(shop.run_folder("goes-on")) / "state.json")
    assert (state["step"], state["bad_shards"]) == (8, [name])


def test_what_was_learned_is_saved_before_a_bad_shard_ends_the_run(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, calls = Prefetcher.next, []

    def next_rows(self: Prefetcher) -> Rows:
        calls.append(1)
        if len(calls) == 8:
            raise BadShard("shard x.tar cannot be read: gone.", "train/x.tar")
        return plain(self)

    monkeypatch.setattr(Prefetcher, "next", next_rows)
    assert main("pretrain", shop.arguments("saved", *SHARDS)) == 2
    assert "shard x.tar cannot be read" in capsys.readouterr().err
    assert find_checkpoint(shop.run_folder("saved")).name == "step-00000007"


def test_what_was_learned_is_saved_before_a_failed_evaluation_ends_the_run(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*given: Any) -> None:
        with next(one for one in given if isinstance(one, Ranks)).together():
            raise UserError("the validation shard is gone.")

    arguments = shop.arguments("owing", *SHARDS, "train.steps=8", "train.eval_every=7", "train.save_every=8")
    folder = shop.run_folder("owing")
    with monkeypatch.context() as patch:
        patch.setattr(evaluate_job, "evaluate_objective", fail)
        assert main("pretrain", arguments) == 2
    assert "the validation shard is gone" in capsys.readouterr().err
    state = read_json(find_checkpoint(folder) / "state.json")
    assert (state["step"], state["evaluation_owed"]) == (7, True)
    assert main("pretrain", arguments) == 0
    assert [line["step"] for line in records(folder) if any(key.startswith("eval/") for key in line)] == [7, 8]


def test_each_shard_that_is_checked_counts_as_progress(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(shop.config, [f"data.path={shop.folder / 'data'}", *SHARDS])
    origin, ranks = find_origin(config), Ranks()
    places: list[str] = []
    monkeypatch.setattr(origin_module, "MEET_SECONDS", 1e-4)
    monkeypatch.setattr(ranks.watch, "start", places.append)
    assert verify_data(origin, ranks) == []
    checked = [place.rpartition(" ")[2] for place in places if "checks" in place and "waits" not in place]
    assert checked == [entry.name for entry in all_shards(origin.manifest)]
