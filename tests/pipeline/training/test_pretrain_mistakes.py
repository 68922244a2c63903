"""Bad input of the pretrain stage: one message that names the thing and the way out, exit code 2, nothing half-made."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.base.files import lock_folder
from pipeline.command import main
from pipeline.training.checkpoint import list_checkpoints, load_weights
from pipeline.training.deepspeed_keys import KNOWN
from pipeline.training.restore import load_objective
from tests.pipeline.training.pretrain_runs import Workshop, losses, records

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """With a run `done` of 4 steps, checkpoints at 2 and 4."""
    shop = Workshop(tmp_path_factory.mktemp("mistakes"))
    assert main("pretrain", shop.arguments("done", "train.steps=4", "train.save_every=2")) == 0
    return shop


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], *words: str) -> None:
    capsys.readouterr()
    assert main("pretrain", arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("pretrain: ")
    assert "Traceback" not in error
    for word in words:
        assert word in error, error


def test_no_data(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    refused(
        capsys, shop.arguments("new", f"data.path={shop.folder / 'nowhere'}"), "manifest.json", "pipeline/preprocess.py"
    )
    assert not (shop.folder / "new").exists()


def test_another_vocabulary(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, shop.arguments("new", "tokenizer.vocab_size=301"), "tokenizer.vocab_size", "300", "301")
    assert not (shop.folder / "new").exists()


def test_another_tokenizer_file(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(shop.folder / "data", shop.folder / "swapped")
    (shop.folder / "swapped" / "tokenizer" / "tokenizer.model").write_bytes(b"another")
    refused(capsys, shop.arguments("new", f"data.path={shop.folder / 'swapped'}"), "another tokenizer", "sha256")


def test_a_changed_byte_in_a_shard(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(shop.folder / "data", shop.folder / "flipped")
    shard = max((shop.folder / "flipped" / "data" / "train").glob("*.tar"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    refused(capsys, shop.arguments("new", f"data.path={shop.folder / 'flipped'}"), shard.name, "sha256")
    assert not list_checkpoints(shop.run_folder("new"))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("deepspeed.gradient_clipping=2.0", ("deepspeed.gradient_clipping", "optimizer.clip")),
        ("deepspeed.zero_optimization.stage=7", ("deepspeed.zero_optimization.stage", "0, 1, 2 or 3")),
        ("deepspeed.zero_optimization.reduce_bucket_sizes=9", ("DeepSpeedZeroConfig", "reduce_bucket_sizes")),
        ("train.stpes=3", ("train.stpes", "train.steps")),
        ("data.sequence_length=2000", ("data.sequence_length", "model.max_positions")),
    ],
)
def test_settings(shop: Workshop, capsys: pytest.CaptureFixture[str], setting: str, words: tuple[str, ...]) -> None:
    refused(capsys, shop.arguments("new", setting), *words)


def test_a_batch_smaller_than_the_ranks(
    shop: Workshop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "6")
    refused(capsys, shop.arguments("new"), "train.batch_size 5", "6 ranks")


def test_a_launcher_that_says_half(
    shop: Workshop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_PORT", raising=False)
    refused(capsys, shop.arguments("new"), "RANK", "MASTER_PORT")


def test_fp16_where_the_device_cannot(
    shop: Workshop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepspeed.accelerator import get_accelerator

    monkeypatch.setattr(get_accelerator(), "is_fp16_supported", lambda: False, raising=False)
    refused(capsys, shop.arguments("half", "train.precision=fp16"), "train.precision fp16", "bf16")


def test_a_folder_in_use(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    with lock_folder(shop.folder / "done"):
        refused(capsys, shop.arguments("done", "train.steps=4", "train.save_every=2"), "in use", "run_dir")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            ("model.hidden_size=32", "model.generator.hidden_size=16"),
            ("another model", "model.hidden_size: 16", "32 now"),
        ),
        (("objective.name=mlm",), ("objective.name",)),
        (("optimizer.lr=1.0", "seed=4"), ("optimizer.lr", "seed", "May change")),
    ],
)
def test_another_config_on_resume(
    shop: Workshop, capsys: pytest.CaptureFixture[str], settings: tuple[str, ...], words: tuple[str, ...]
) -> None:
    before = (shop.folder / "done" / "config.yaml").read_bytes()
    refused(capsys, shop.arguments("done", "train.steps=4", "train.save_every=2", *settings), *words)
    assert (shop.folder / "done" / "config.yaml").read_bytes() == before


def test_other_data_on_resume(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(shop.folder / "data", shop.folder / "relabelled")
    manifest = shop.folder / "relabelled" / "data" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"config": {"seed": 1}}))
    arguments = shop.arguments("done", "train.steps=4", f"data.path={shop.folder / 'relabelled'}")
    refused(capsys, arguments, "other data", "run_dir")


def test_finished_is_a_no_op_and_more_steps_go_on(shop: Workshop) -> None:
    shutil.copytree(shop.folder / "done", shop.folder / "longer")
    folder = shop.run_folder("longer")
    before = folder.metrics.read_bytes()
    arguments = shop.arguments("longer", "train.save_every=2")
    assert main("pretrain", [*arguments, "train.steps=4"]) == 0
    assert folder.metrics.read_bytes() == before
    assert main("pretrain", [*arguments, "train.steps=6"]) == 0
    assert list(losses(folder)) == [1, 2, 3, 4, 5, 6]
    rates = [line["train/lr"] for line in records(folder) if "train/lr" in line]
    assert rates[4] == pytest.approx(1e-2 * (1 - 4 / 6))


def test_a_damaged_checkpoint_is_passed_over(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(shop.folder / "done", shop.folder / "damaged")
    folder = shop.run_folder("damaged")
    newest = list_checkpoints(folder)[0]
    (newest / "exp_avg.safetensors").write_bytes(b"")
    assert main("pretrain", shop.arguments("damaged", "train.steps=4", "train.save_every=2")) == 0
    assert "exp_avg.safetensors" in capsys.readouterr().out
    assert losses(folder) == losses(shop.run_folder("done"))


def test_the_checkpoint_loads_without_deepspeed(shop: Workshop) -> None:
    path = list_checkpoints(shop.run_folder("done"))[0]
    objective = load_objective(path)
    weights = load_weights(path)
    assert {name: p.tolist() for name, p in objective.named_parameters()} == {n: w.tolist() for n, w in weights.items()}
    assert not objective.training


def test_dry_run_prints_a_plan_and_writes_nothing(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("pretrain", [*shop.arguments("dry", stage=2), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    for word in ("parameters", "bytes a rank", "for saves", "FLOPs a step", "an epoch", "shards"):
        assert word in shown
    assert not (shop.folder / "dry").exists()
    assert main("pretrain", [*shop.arguments("dry", "tokenizer.vocab_size=301"), "--dry-run"]) == 2


def test_dry_run_refuses_what_the_run_would(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("pretrain", [*shop.arguments("done", "train.steps=4", "train.save_every=2"), "--dry-run"]) == 0
    assert "step-0000" in capsys.readouterr().out
    assert main("pretrain", [*shop.arguments("done", "optimizer.lr=0.5"), "--dry-run"]) == 2
    assert "optimizer.lr: " in capsys.readouterr().err
    assert main("pretrain", [*shop.arguments("dry", "deepspeed.zero_optimization.stge=1"), "--dry-run"]) == 2
    assert "stge" in capsys.readouterr().err


def test_another_tokenizer_than_the_datas_is_refused(
    shop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.model"
    other.write_bytes(b"another model")
    assert main("pretrain", shop.arguments("other", f"tokenizer.path={other}")) == 2
    assert f"tokenizer.path {other}" in capsys.readouterr().err


def test_every_key_that_deepspeed_reads_is_known() -> None:
    from deepspeed.runtime.config import DeepSpeedConfig

    read = set()

    class Recorder(dict[str, object]):
        def get(self, key: str, default: object = None) -> object:
            read.add(key)
            return super().get(key, default)

        def __contains__(self, key: object) -> bool:
            read.add(key)
            return super().__contains__(key)

    DeepSpeedConfig(Recorder(train_batch_size=1))
    assert len(read) > 40
    assert read <= KNOWN


def test_fp16_scales_the_loss_and_skipped_steps_do_not_advance_the_schedule(shop: Workshop) -> None:
    from deepspeed.accelerator import get_accelerator

    if not get_accelerator().is_fp16_supported():
        pytest.skip("this device has no fp16")
    for stage in (0, 1):
        name = f"half-{stage}"
        arguments = shop.arguments(name, "train.precision=fp16", stage=stage)
        assert main("pretrain", arguments) == 0
        lines = [line for line in records(shop.run_folder(name)) if "train/lr" in line]
        skipped = lines[-1]["train/skipped_steps"]
        assert 0 < skipped < 15
        assert lines[-1]["train/lr"] == pytest.approx(1e-2 * (1 - (19 - skipped) / 20))
        assert lines[-1]["train/grad_norm"] < 100
        assert lines[-1]["train/loss"] < 0.9 * lines[0]["train/loss"]
