"""A loss or gradient that is not finite: the step changes nothing but the counts, on all ranks, at every ZeRO stage."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from model import heads
from model.objectives.base import Batch
from model.objectives.electra import Electra
from pipeline.base.config import load_config
from pipeline.command import main
from pipeline.stream.loader import TokenStream
from pipeline.training.checkpoint import find_checkpoint, load_weights, read_state
from tests.pipeline.training.pretrain_runs import CONFIG, Workshop, forked, records, wait

pytestmark = pytest.mark.slow
LAST_SOUND = 30
"""Samples before this one are sound: six batches of five."""


def test_a_step_that_is_not_finite_on_one_rank_changes_nothing_on_any(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    with forked(2, "tests.pipeline.training.nonfinite_worker", "main", str(tmp_path)) as ranks:
        assert wait(ranks) == [0, 0]
    by_rank = [json.loads((tmp_path / f"found-{rank}.json").read_text()) for rank in range(2)]
    for rank, found in enumerate(by_rank):
        assert len(found) == 8
        for name, trial in found.items():
            assert trial["kept"], name
            assert trial["goes on"], name
            assert (trial["skipped"], trial["skipped after"]) == (1, 0), name
            assert (trial["loss"] == "nan") == name.startswith("loss"), name
            assert ("nan" in trial["own"]) == (rank == 1 and name.startswith("loss")), name
            assert trial["findings"] == [], name
            for figure in ("gradient", "update"):
                said, was = trial[figure]
                assert said == pytest.approx(was, rel=1e-3), (name, figure)
            assert trial["figures"] == by_rank[0][name]["figures"], name
            whole = found[f"{name[:-1]}0"]["figures"]
            assert trial["figures"] == pytest.approx(whole, rel=1e-2), name
            assert "train/gradient/embeddings" in whole
            assert "train/update_ratio/generator" in whole


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The discriminator's head gives infinities for any batch with a sample from LAST_SOUND on."""
    play, forward = Electra._play, heads.DetectionHead.forward
    now = {"bad": False}

    def noticed(self: Electra, batch: Batch) -> Any:
        now["bad"] = self.training and bool((batch.sample >= LAST_SOUND).any())
        return play(self, batch)

    def head(self: heads.DetectionHead, hidden: Tensor) -> Tensor:
        return forward(self, hidden) / (0.0 if now["bad"] else 1.0)

    monkeypatch.setattr(Electra, "_play", noticed)
    monkeypatch.setattr(heads.DetectionHead, "forward", head)


def test_past_the_limit_it_stops_and_keeps_the_batch_and_a_replay_names_the_module(
    tmp_path: Path, poisoned: None, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = Workshop(tmp_path)
    settings = ("train.max_skipped=1", "model.dropout=0.1", "schedule.warmup_steps=0")
    assert main("pretrain", shop.arguments("run", *settings, stage=1)) == 2
    captured = capsys.readouterr()
    assert "train.max_skipped 1" in captured.err
    assert "pipeline/replay.py" in captured.err
    assert "Traceback" not in captured.err
    folder = shop.run_folder("run")

    lines = [line for line in records(folder) if "train/lr" in line]
    assert [line["train/skipped_steps"] for line in lines] == [0, 0, 0, 0, 0, 0, 1]  # the 8th step ends the run
    assert [line["train/lr"] for line in lines] == pytest.approx([1e-2 * (1 - u / 20) for u in (0, 1, 2, 3, 4, 5, 6)])
    skipped = [json.loads(line) for line in (folder.path / "skipped.jsonl").read_text().splitlines()]
    assert [(line["step"], line["first_sample"], line["last_sample"]) for line in skipped] == [(7, 30, 34), (8, 35, 39)]
    stream = TokenStream(tmp_path / "data" / "data", "train", load_config(shop.config).data, 0)
    shard, block, _, row = skipped[0]["keys"]["31"].split(" ")
    number = [entry.name for entry in stream.parts[0].reader.entries].index(shard)
    within = int(block.rpartition("-")[2]) - int(stream.parts[0].reader.first_block[number])
    start = int(row) * stream.content
    ids = stream.parts[0].reader.block(number, within).ids[start : start + stream.content]
    assert stream.rows(np.array([31])).ids[0, 1:-1].tolist() == ids.tolist()
    assert skipped[0]["keys"]["31"] in captured.out

    path = folder.path / "replay" / "step-00000008"
    assert {file.name for file in path.iterdir()} == {
        *("batch.safetensors", "weights.safetensors", "replay.json", "config.yaml")
    }
    batch = load_file(path / "batch.safetensors")
    assert batch["sample"].tolist() == list(range(35, 40))
    assert torch.equal(batch["ids"], torch.from_numpy(stream.rows(batch["sample"].numpy()).ids))
    newest = find_checkpoint(folder)
    weights = load_file(path / "weights.safetensors")
    for name, tensor in load_weights(newest).items():
        assert torch.equal(tensor, weights[name]), name
    state, _ = read_state(newest)
    assert (state.step, state.skipped_steps, state.skipped_in_a_row, state.updates) == (8, 2, 0, 6)

    assert main("replay", [f"run_dir={folder.path}"]) == 0
    told = capsys.readouterr().out
    assert "first module with an output that is not finite: discriminator.head (its input was finite)" in told
    assert "loss terms that are not finite: discriminator\n" in told
    assert "samples 35 to 36" in told
    assert main("replay", [f"run_dir={folder.path}", "replay.step=3"]) == 2
