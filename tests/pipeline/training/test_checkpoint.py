"""The checkpoint's folder: complete only with its manifest, damage is named, the one before is taken."""

import json
import logging
import os
import random
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from pipeline.base.config import RunConfig, dump_config
from pipeline.base.errors import Damaged, UserError
from pipeline.base.files import read_json, sha256_file, write_json
from pipeline.base.run_folder import RunFolder
from pipeline.shards.manifest import read_manifest
from pipeline.training.checkpoint import (
    BEST,
    TrainState,
    checkpoint_name,
    find_checkpoint,
    list_checkpoints,
    load_weights,
    move_latest,
    newest_whole,
    read_checkpoint_config,
    read_config_values,
    read_state,
    verify_checkpoint,
    write_manifest,
)
from pipeline.training.continued import _own_checkpoint
from pipeline.training.keep import add_evaluation, is_better, prune, to_keep
from pipeline.training.metrics_file import append_metrics, cut_metrics
from pipeline.training.origin import Origin
from pipeline.training.resume import MAY_CHANGE, check_same_data, check_unchanged
from tests.datasets import make_dataset


def write(folder: RunFolder, step: int, config: RunConfig | None = None) -> Path:
    path = folder.checkpoints / checkpoint_name(step)
    path.mkdir(parents=True)
    save_file({"a": torch.full((3,), float(step))}, path / "weights.safetensors")
    write_json(
        path / "state.json", asdict(TrainState(step=step, samples=8 * step)) | {"loss_scale": {"cur_scale": 2.0}}
    )
    (path / "config.yaml").write_text(dump_config(config or RunConfig()))
    write_manifest(path, {"step": step, "vocab_size": 5})
    move_latest(folder, path.name)
    return path


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("pipeline"), "propagate", True)
    return caplog


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_what_is_written_is_read(folder: RunFolder) -> None:
    path = write(folder, 7, RunConfig(seed=5))
    verify_checkpoint(path)
    assert load_weights(path)["a"].tolist() == [7.0] * 3
    assert read_checkpoint_config(path) == RunConfig(seed=5)
    assert read_state(path) == (TrainState(step=7, samples=56), {"cur_scale": 2.0})
    assert (folder.checkpoints / "latest").read_text().strip() == path.name
    assert find_checkpoint(folder) == find_checkpoint(folder, path.name) == path


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "manifest"])
def test_a_damaged_checkpoint_is_passed_over_by_name(
    folder: RunFolder, damage: str, warnings: pytest.LogCaptureFixture
) -> None:
    before, newest = write(folder, 4), write(folder, 8)
    file = newest / ("manifest.json" if damage == "manifest" else "weights.safetensors")
    content = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    else:
        content[-1] ^= 1
        file.write_bytes(content[:-5] if damage in ("cut", "manifest") else content)
    assert newest_whole(folder) == before
    assert str(file) in warnings.text
    with pytest.raises(UserError, match=file.name):
        find_checkpoint(folder, newest.name)


def test_half_written_ones_are_no_checkpoints(folder: RunFolder, warnings: pytest.LogCaptureFixture) -> None:
    path = write(folder, 4)
    (path / "manifest.json").unlink()
    (folder.checkpoints / ".step-00000008.1.aside").mkdir()
    assert newest_whole(folder) is None
    assert "not complete" in warnings.text
    with pytest.raises(UserError, match="no checkpoint"):
        find_checkpoint(folder)


def test_when_all_are_damaged_nothing_starts_over_silently(folder: RunFolder) -> None:
    (write(folder, 4) / "weights.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="no checkpoint is whole"):
        newest_whole(folder)


def test_pruning_keeps_the_newest_complete_ones(folder: RunFolder) -> None:
    for step in (1, 2, 3, 4):
        write(folder, step)
    (folder.checkpoints / "step-00000004" / "manifest.json").unlink()
    (folder.checkpoints / ".step-00000009.1.aside").mkdir()
    (folder.checkpoints / ".latest.1-0123abcd.aside").touch()
    own = f".best.{os.getpid()}-0123abcd.aside"  # another thread is about to put it in place
    (folder.checkpoints / own).touch()
    prune(folder, 3, 2)
    names = {path.name for path in folder.checkpoints.iterdir()}
    assert names == {"latest", "step-00000002", "step-00000003", "step-00000004", own}


def test_pruning_does_not_count_later_ones_that_a_run_passed_over(folder: RunFolder) -> None:
    for step in (2, 4, 6, 8):
        write(folder, step)
    for step in (6, 8):
        (folder.checkpoints / checkpoint_name(step) / "weights.safetensors").write_bytes(b"")
    prune(folder, 4, 1)
    assert [path.name for path in list_checkpoints(folder)] == [checkpoint_name(step) for step in (8, 6, 4)]
    assert find_checkpoint(folder).name == checkpoint_name(4)


def test_what_is_kept() -> None:
    """Properties over drawn cases."""
    draw = random.Random(3)
    for _ in range(500):
        steps = draw.sample(range(1, 60), draw.randint(0, 20))
        last, every = draw.randint(1, 5), draw.choice([None, 1, 3, 10])
        best = draw.choice([None, *steps, 99])
        kept = to_keep(steps, last, every, best)
        assert kept <= set(steps)
        for step in steps:
            newer = sum(other > step for other in steps)
            assert (step in kept) == (newer < last or step == best or bool(every and step % every == 0))
        assert to_keep(kept, last, every, best) == kept  # pruning again removes nothing


def test_pruning_keeps_the_best_and_every_tenth(folder: RunFolder) -> None:
    for step in (5, 10, 15, 20, 25):
        write(folder, step)
    move_latest(folder, checkpoint_name(15), BEST)
    prune(folder, 25, 1, 10)
    assert [path.name for path in list_checkpoints(folder)] == [checkpoint_name(step) for step in (25, 20, 15, 10)]
    assert find_checkpoint(folder, "best").name == checkpoint_name(15)
    (folder.checkpoints / "best").write_bytes(b"../../x\xff")
    with pytest.raises(UserError, match=r"train\.keep_best"):
        find_checkpoint(folder, "best")
    prune(folder, 25, 1)
    assert [path.name for path in list_checkpoints(folder)] == [checkpoint_name(25)]


def test_an_evaluation_that_was_made_up_counts(folder: RunFolder, warnings: pytest.LogCaptureFixture) -> None:
    path = write(folder, 4)
    before = read_json(path / "manifest.json")
    assert add_evaluation(folder, 4, {"eval/loss": 2.0}, best=False)
    assert not (folder.checkpoints / BEST).exists()
    assert add_evaluation(folder, 4, {"eval/loss": 1.5}, best=True)
    after = read_json(find_checkpoint(folder, BEST) / "manifest.json")
    assert after == before | {"evaluation": {"eval/loss": 1.5}, "sha256": after["sha256"]}
    verify_checkpoint(path)
    write(folder, 8)
    write(folder, 12)
    prune(folder, 12, 1)
    assert [step.name for step in list_checkpoints(folder)] == [checkpoint_name(12), checkpoint_name(4)]
    (path / "manifest.json").write_text("{")
    assert not add_evaluation(folder, 4, {"eval/loss": 1.0}, best=True)
    assert "step 4: its evaluation is not noted with its checkpoint" in warnings.text


def test_losses_are_better_when_low_and_all_else_when_high() -> None:
    assert is_better("eval/discriminator/auc", 0.6, 0.5)
    assert not is_better("eval/discriminator/auc", 0.5, 0.5)
    assert is_better("eval/loss", 0.4, 0.5)
    assert is_better("eval/discriminator/loss_over_entropy", 0.4, 0.5)
    assert is_better("eval/loss", 9.0, None)


def test_every_changed_bit_of_a_manifest_is_noticed(folder: RunFolder) -> None:
    """Also one that leaves it readable: other data, another step."""
    path = write(folder, 4)
    file = path / "manifest.json"
    content = file.read_bytes()
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        file.write_bytes(flipped)
        try:
            verify_checkpoint(path)
        except Damaged:
            continue
        assert json.loads(flipped) == json.loads(content), flipped  # space between words, say
    file.write_bytes(b'{"files":' + b"[" * 100_000)
    with pytest.raises(Damaged, match=r"manifest\.json is damaged"):
        verify_checkpoint(path)


def test_an_older_manifest_has_no_digest_of_its_own(folder: RunFolder) -> None:
    path = write(folder, 4)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["sha256"]
    write_json(path / "manifest.json", manifest)
    verify_checkpoint(path)
    write_json(path / "manifest.json", manifest | {"sha25v": "x"})
    with pytest.raises(Damaged):
        verify_checkpoint(path)


@pytest.mark.parametrize("value", ["7", -1, True, None, [7], 1e400])
def test_a_state_of_other_types_is_refused(folder: RunFolder, value: object) -> None:
    path = write(folder, 4)
    for change in ({"step": value}, {"tokens": value}, {"loss_scale": {"cur_scale": value}}, {"loss_scale": value}):
        state = json.loads((path / "state.json").read_text()) | change
        (path / "state.json").write_text(json.dumps(state))
        with pytest.raises(UserError, match="not a checkpoint's state"):
            read_state(path)


def test_the_config_of_a_damaged_checkpoint_is_not_followed(folder: RunFolder) -> None:
    write(folder, 4, RunConfig(run_dir=str(folder.path), seed=4))
    path = write(folder, 8, RunConfig(run_dir=str(folder.path), seed=8))
    (path / "weights.safetensors").write_bytes(b"")  # nothing that a config says
    assert (_own_checkpoint(RunConfig(run_dir=str(folder.path))) or {})["seed"] == 8
    text = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(text.replace("seed: 8", "seed: 9"))
    assert (_own_checkpoint(RunConfig(run_dir=str(folder.path))) or {})["seed"] == 4


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a: [" * 5_000, b"a: b: c"])
def test_a_config_that_cannot_be_read(folder: RunFolder, content: bytes) -> None:
    path = write(folder, 4)
    (path / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.yaml cannot be read"):
        read_config_values(path)


def changed(values: dict[str, Any]) -> RunConfig:
    plain = RunConfig(run_dir="a", train={"steps": 10}).to_dict()
    for key, value in values.items():
        plain[key] = plain[key] | value if isinstance(value, dict) else value
    return RunConfig.model_validate(plain)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"model": {"hidden_size": 64}}, "model.hidden_size"),
        ({"model": {"generator": {"size": 0.5}}}, "model.generator.size"),
        ({"objective": {"mask_fraction": 0.3}}, "objective.mask_fraction"),
        ({"optimizer": {"lr": 1.0}}, "optimizer.lr"),
        ({"train": {"batch_size": 4}}, "train.batch_size"),
        ({"train": {"steps": 20}}, "train.steps"),
        ({"data": {"sequence_length": 64}}, "data.sequence_length"),
        ({"seed": 3}, "seed"),
    ],
)
def test_a_changed_config_names_the_key(folder: RunFolder, values: dict[str, Any], key: str) -> None:
    path = write(folder, 4, changed({}))
    with pytest.raises(UserError) as error:
        check_unchanged(path, changed(values), TrainState(step=4))
    assert f"  {key}: " in str(error.value)
    assert "train.micro_batch_size" in str(error.value)
    assert ("another model" in str(error.value)) == key.startswith("model.")


def test_the_docs_name_what_may_change() -> None:
    text = (Path(__file__).parents[3] / "docs" / "training.md").read_text()
    told = text.partition("**What may change on resume:**")[2].partition("but of `corpus`")[0]
    assert sorted(re.findall(r"`([a-z_.]+)`", told)) == sorted(MAY_CHANGE)


def test_what_may_change(folder: RunFolder) -> None:
    path = write(folder, 4, changed({}))
    values = {
        "run_dir": "b",
        "deepspeed": {"zero_optimization": {"stage": 3}},
        "train": {"steps": 10, "micro_batch_size": 3, "log_every": 1, "save_every": 2, "threads": 1},
        "tracking": {"run_name": "x"},
    }
    check_unchanged(path, changed(values), TrainState(step=4))


def test_what_an_older_checkpoint_does_not_know_is_as_by_default(folder: RunFolder) -> None:
    path = write(folder, 4, changed({}))
    values = yaml.safe_load((path / "config.yaml").read_text())
    del values["optimizer"]["betas"], values["data"]["segments"]
    (path / "config.yaml").write_text(yaml.safe_dump(values))
    check_unchanged(path, changed({}), TrainState(step=4))
    with pytest.raises(UserError, match=r"data\.segments: 'none' in the checkpoint, 'paper' now"):
        check_unchanged(path, changed({"data": {"segments": "paper"}}), TrainState(step=4))
    state = read_json(path / "state.json")
    del state["skipped_in_a_row"]
    write_json(path / "state.json", state)
    assert read_state(path)[0] == TrainState(step=4, samples=32)


def test_more_steps_once_they_are_reached(folder: RunFolder) -> None:
    path = write(folder, 10, changed({}))
    check_unchanged(path, changed({"train": {"steps": 20}}), TrainState(step=10))


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    """A data set of two revisions, at the newest."""
    make_dataset(tmp_path / "data", tokens=2_000)
    data = RunFolder(tmp_path / "data")
    for number in (1, 2):
        content = json.loads(data.manifest.read_text()) | {"config": {"seed": number}}
        write_json(data.data / "manifests" / f"{number:06d}.json", content)
    shutil.copyfile(data.data / "manifests" / "000002.json", data.manifest)
    return Origin(data, read_manifest(data.manifest), sha256_file(data.manifest), None)


def test_other_data_or_another_tokenizer(folder: RunFolder, origin: Origin) -> None:
    digests = origin.digests()
    check_same_data(folder.path, {**digests, "step": 1}, origin)
    with pytest.raises(UserError, match="other tokenizer"):
        check_same_data(folder.path, {**digests, "tokenizer_sha256": "x"}, origin)
    with pytest.raises(UserError, match=r"other data(.|\n)*Put the data back \(data\.path\)"):
        check_same_data(folder.path, {**digests, "data_manifest_sha256": "x"}, origin)


def test_an_older_revision_of_the_data_is_named(folder: RunFolder, origin: Origin) -> None:
    older = sha256_file(origin.folder.data / "manifests" / "000001.json")
    with pytest.raises(UserError, match=r"other data(.|\n)*revision 1 of .*: set data\.revision=1 to go on"):
        check_same_data(folder.path, {**origin.digests(), "data_manifest_sha256": older}, origin)


WIKI = {"paths": ["a"], "weight": 3.0}


@pytest.mark.parametrize(
    ("corpus", "keys"),
    [
        ({"corpora": {"wiki": WIKI | {"weight": 2.0}, "news": {"paths": ["b"]}}}, ["corpus.corpora.wiki.weight"]),
        ({"corpora": {"wiki": WIKI, "web": {"paths": ["b"]}}}, ["corpus.corpora.news.weight: 1.0", "web.weight: not"]),
        ({"corpora": {"wiki": {"paths": ["a"]}, "news": {"paths": ["b"]}}, "temperature": 2}, ["corpus.temperature"]),
        ({}, ["corpus.corpora.wiki.weight: 3.0 in the checkpoint, not set now"]),
    ],
)
def test_a_mixture_stays_as_it_was(folder: RunFolder, corpus: dict[str, Any], keys: list[str]) -> None:
    path = write(folder, 4, changed({"corpus": {"corpora": {"wiki": WIKI, "news": {"paths": ["b"]}}}}))
    with pytest.raises(UserError) as error:
        check_unchanged(path, changed({"corpus": corpus}), TrainState(step=4))
    for key in keys:
        assert key in str(error.value)
    elsewhere = {"wiki": WIKI | {"paths": ["c"], "text_field": "body"}, "news": {"paths": ["d"]}}
    check_unchanged(path, changed({"corpus": {"corpora": elsewhere}}), TrainState(step=4))


def test_metrics_after_the_resumed_step_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    cut_metrics(path, 3)
    for step in (1, 2, 3, 3, 4):
        append_metrics(path, step, {"x": 1.0 / 3.0})
    with open(path, "a") as file:
        file.write('{"step": 2, "ti')
    lines = path.read_text().splitlines()
    cut_metrics(path, 3)
    assert path.read_text().splitlines() == lines[:4]
