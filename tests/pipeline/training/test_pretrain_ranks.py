"""The stage as a whole: any number of ranks, any ZeRO stage, killed at any moment. Reference: one rank at stage 0."""

import random
import signal
from pathlib import Path

import pytest

from pipeline.command import EXIT_PREEMPTED, main
from pipeline.training.checkpoint import list_checkpoints
from tests.pipeline.training.pretrain_runs import Workshop, assert_same_end, kill, losses, records, wait

pytestmark = pytest.mark.slow

STEPS = 20
DROPOUT = ("model.dropout=0.1", "model.attention_dropout=0.1", "model.body=modernbert", "model.embedding_size=null")
MODERN = (*DROPOUT, "model.generator={layers: 1}", "model.layers=2")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def reference(shop: Workshop) -> dict[int, float]:
    """train/loss of 20 steps on one rank at stage 0, in one micro-batch."""
    assert main("pretrain", shop.arguments("one", "train.micro_batch_size=null")) == 0
    found = losses(shop.run_folder("one"))
    assert list(found) == list(range(1, STEPS + 1))
    assert found[STEPS] < 0.9 * found[1]
    return found


def assert_close(found: dict[int, float], reference: dict[int, float]) -> None:
    assert found == pytest.approx(reference, rel=1e-4)


def test_two_ranks_train_alike_at_every_stage_and_a_killed_run_goes_on_bit_equal(
    shop: Workshop, reference: dict[int, float]
) -> None:
    """Batch 5 on two ranks in micro-batches of 2: one rank has an empty micro-step. Then bf16 with dropout, killed."""
    stages = {stage: shop.arguments(f"two-{stage}", stage=stage) for stage in range(4)}
    settings = (*MODERN, "train.precision=bf16", "train.steps=30")
    whole, cut = (shop.arguments(name, *settings, stage=2) for name in ("whole-2", "cut-2"))
    with shop.ranks(2, stages[0], stages[1], stages[2], whole, cut) as processes:
        shop.wait_for_step("cut-2", random.randint(6, 14))
        kill(processes)
    moved = shop.arguments("moved", stage=3)
    # Stage 3 last: it replaces torch's linear function in its process by one that rounds differently under bf16.
    with shop.ranks(2, cut, stages[3], moved) as processes:
        shop.wait_for_step("moved", 7)
        processes[1].send_signal(signal.SIGTERM)
        assert wait(processes) == [EXIT_PREEMPTED, EXIT_PREEMPTED]
    assert_same_end(shop.run_folder("whole-2"), shop.run_folder("cut-2"))
    for stage in stages:
        folder = shop.run_folder(f"two-{stage}")
        assert_close(losses(folder), reference)
        norms = [losses(shop.run_folder(name), name="train/grad_norm") for name in ("one", f"two-{stage}")]
        assert_close(norms[1], norms[0])
        assert [line["step"] for line in records(folder) if "eval/discriminator/auc" in line] == [10, 20]
    stopped_at = max(losses(shop.run_folder("moved")))
    assert list_checkpoints(shop.run_folder("moved"))[0].name == f"step-{stopped_at:08d}"
    assert 7 <= stopped_at < STEPS
    assert main("pretrain", shop.arguments("moved", stage=1)) == 0
    assert_close(losses(shop.run_folder("moved")), reference)


def test_one_rank_killed_goes_on_bit_equal(shop: Workshop) -> None:
    settings = (*MODERN, "train.steps=30")
    assert main("pretrain", shop.arguments("whole-1", *settings, stage=1)) == 0
    cut = shop.arguments("cut-1", *settings, stage=1)
    with shop.ranks(1, cut) as processes:
        shop.wait_for_step("cut-1", random.randint(1, 20))
        kill(processes)
    assert main("pretrain", cut) == 0
    assert_same_end(shop.run_folder("whole-1"), shop.run_folder("cut-1"))


def test_one_mlflow_run_a_run_folder(shop: Workshop, reference: dict[int, float]) -> None:
    """Resumed runs go on in theirs, and name the digests of what they were trained on."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{shop.folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("electra")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    by_folder = {Path(run.data.tags["run_dir"]).name: run for run in runs}
    assert len(by_folder) == len(runs)
    run = by_folder["one"]
    assert run.info.status == "FINISHED"
    assert len(run.data.tags["data_manifest_sha256"]) == len(run.data.tags["tokenizer_sha256"]) == 64
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert {point.step: point.value for point in history} == pytest.approx(reference)
