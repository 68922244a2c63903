"""The stage as a whole: any number of ranks, any ZeRO stage, stopped and killed. Reference: one rank at stage 0.

tests/soak has two ranks killed at all moments, bit by bit.
"""

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.config import load_config
from pipeline.base.errors import EXIT_USER
from pipeline.base.files import read_json
from pipeline.base.run_folder import RunFolder
from pipeline.command import EXIT_PREEMPTED, main
from pipeline.planning import fitting
from pipeline.training import evaluation
from pipeline.training.checkpoint import find_checkpoint, list_checkpoints, read_manifest
from tests.pipeline.training.pretrain_runs import Workshop, assert_same_end, kill, losses, records, wait

pytestmark = pytest.mark.slow

STEPS = 12
SIZES = ("train.batch_size=64", "train.micro_batch_size=7", f"train.steps={STEPS}", "train.eval_every=4")
SETTINGS = (*SIZES, "optimizer.lr=3.0e-3")
"""With a rate of 1e-2 the gradients' norms grow a difference of rounding a hundredfold within a step."""
DROPOUT = ("model.dropout=0.1", "model.attention_dropout=0.1", "model.body=modernbert", "model.embedding_size=null")
MODERN = (*DROPOUT, "model.generator={layers: 1}", "model.layers=2", "train.precision=bf16", "train.steps=30")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def reference(shop: Workshop) -> dict[int, float]:
    """train/loss on one rank at stage 0, in one micro-batch."""
    assert main("pretrain", shop.arguments("one", *SETTINGS, "train.micro_batch_size=null")) == 0
    found = losses(shop.run_folder("one"))
    assert list(found) == list(range(1, STEPS + 1))
    assert found[STEPS] < 0.9 * found[1]
    return found


def assert_close(found: dict[int, float], reference: dict[int, float]) -> None:
    assert found == pytest.approx(reference, rel=1e-5)


def test_the_micro_batch_is_found_at_the_start_and_kept(
    shop: Workshop, reference: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "free_memory", lambda: 0)
    arguments = shop.arguments("auto", *SETTINGS, "train.micro_batch_size=auto")
    assert main("pretrain", arguments) == EXIT_USER
    monkeypatch.setattr(fitting, "largest_fit", lambda fits, most: 30)
    assert main("pretrain", arguments) == 0
    folder = shop.run_folder("auto")
    assert_close(losses(folder), reference)
    monkeypatch.undo()
    assert main("pretrain", [*arguments, f"train.steps={STEPS + 1}"]) == 0
    assert read_json(folder.micro_batch)["largest"] == 30
    assert load_config(folder.config).train.micro_batch_size == 22  # 64 rows in three parts


def test_three_ranks_then_two_then_one_train_as_one_does(shop: Workshop, reference: dict[int, float]) -> None:
    """64 rows are 22, 21 and 21: in micro-batches of 7 two ranks have an empty one. Dropout 0, fp32, all stages."""
    stages = [shop.arguments(f"three-{stage}", *SETTINGS, stage=stage) for stage in range(4)]
    stages.append(shop.arguments("three-auto", *SETTINGS, "train.micro_batch_size=auto", stage=2))
    fewer = [shop.arguments("fewer", *SETTINGS, stage=stage) for stage in (3, 1, 0)]
    with shop.ranks(3, *stages, fewer[0]) as processes:
        shop.wait_for_step("fewer", 3)
        processes[1].send_signal(signal.SIGUSR1)
        assert wait(processes) == [EXIT_PREEMPTED] * 3
    stopped_at = max(losses(shop.run_folder("fewer")))
    assert list_checkpoints(shop.run_folder("fewer"))[0].name == f"step-{stopped_at:08d}"
    assert 3 <= stopped_at < STEPS - 1
    with shop.ranks(2, fewer[1]) as processes:
        shop.wait_for_step("fewer", stopped_at + 1)
        kill(processes)
    assert main("pretrain", fewer[2]) == 0
    assert load_config(shop.run_folder("three-auto").config).train.micro_batch_size == 22
    for name in ("fewer", "three-auto", *(f"three-{stage}" for stage in range(4))):
        folder = shop.run_folder(name)
        assert_close(losses(folder), reference)
        norms = [losses(shop.run_folder(run), name="train/grad_norm") for run in ("one", name)]
        assert_close(norms[1], norms[0])
        assert [line["step"] for line in records(folder) if "eval/discriminator/auc" in line] == [4, 8, 12]


def test_one_rank_killed_goes_on_bit_equal(shop: Workshop) -> None:
    assert main("pretrain", shop.arguments("whole-1", *MODERN, stage=1)) == 0
    cut = shop.arguments("cut-1", *MODERN, stage=1)
    with shop.ranks(1, cut) as processes:
        shop.wait_for_step("cut-1", random.randint(1, 20))
        kill(processes)
    assert main("pretrain", cut) == 0
    assert_same_end(shop.run_folder("whole-1"), shop.run_folder("cut-1"))


def test_a_stop_inside_an_evaluation_gives_it_up_and_the_next_start_makes_it_up(
    shop: Workshop, reference: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = 0

    def add(*arguments: Any) -> Any:
        nonlocal parts
        parts += 1
        if parts in (5, 35):  # in the middle of the first and of the last of three evaluations
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)  # for the thread that hears it
        return step_add(*arguments)

    step_add = evaluation.add
    monkeypatch.setattr(evaluation, "add", add)
    arguments = shop.arguments("given-up", *SETTINGS, "train.micro_batch_size=2", "train.eval_sequences=21")
    arguments.append("train.keep_best=eval/discriminator/auc")
    for step in (4, 12):
        assert main("pretrain", arguments) == EXIT_PREEMPTED
        newest = list_checkpoints(shop.run_folder("given-up"))[0]
        assert newest.name == f"step-{step:08d}"
        assert json.loads((newest / "state.json").read_text())["evaluation_owed"]
        assert_best_is_kept(shop.run_folder("given-up"))
    for _ in range(2):
        assert main("pretrain", arguments) == 0
        assert_close(losses(shop.run_folder("given-up")), reference)
        assert_best_is_kept(shop.run_folder("given-up"))
        evaluated = [line for line in records(shop.run_folder("given-up")) if "eval/discriminator/auc" in line]
        expected = [line for line in records(shop.run_folder("one")) if "eval/discriminator/auc" in line]
        assert [line["step"] for line in evaluated] == [4, 8, 12]
        for mine, theirs in zip(evaluated, expected, strict=True):
            assert mine == pytest.approx(theirs | {"time": mine["time"]}, rel=1e-5)


def assert_best_is_kept(folder: RunFolder) -> None:
    """`best` names the checkpoint with the best figure so far, whose manifest has it; also of one that was made up."""
    found = losses(folder, name="eval/discriminator/auc")
    pointer = folder.checkpoints / "best"
    assert pointer.is_file() == bool(found)
    if found:
        best = max(found, key=lambda step: found[step])
        assert pointer.read_text() == f"step-{best:08d}\n"
        manifest = read_manifest(find_checkpoint(folder, "best"))
        assert manifest["evaluation"]["eval/discriminator/auc"] == found[best]


def test_one_mlflow_run_a_run_folder(shop: Workshop, reference: dict[int, float]) -> None:
    """Resumed runs go on in theirs, and name the digests of what they were trained on."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{shop.folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("electra")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    runs = [run for run in runs if "earlier_run_id" not in run.data.tags]  # of a run killed before its first checkpoint
    by_folder = {Path(run.data.tags["run_dir"]).name: run for run in runs}
    assert len(by_folder) == len(runs)
    run = by_folder["one"]
    assert run.info.status == "FINISHED"
    assert len(run.data.tags["data_manifest_sha256"]) == len(run.data.tags["tokenizer_sha256"]) == 64
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert {point.step: point.value for point in history} == pytest.approx(reference)
