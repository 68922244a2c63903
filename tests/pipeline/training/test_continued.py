"""The config of a run that starts from given weights: what follows, what contradicts, what is told; and two phases."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.base.config import load_config
from pipeline.base.errors import UserError
from pipeline.base.files import read_json
from pipeline.base.run_folder import RunFolder
from pipeline.command import main
from pipeline.stages.pretrain import plan, run
from pipeline.training.checkpoint import find_checkpoint, load_tensors, load_weights, read_checkpoint_config, read_state
from pipeline.training.continued import resolve_init
from pipeline.training.initial import initial_objective
from pipeline.training.origin import find_origin
from tests.pipeline.training.hf_pairs import make_pair
from tests.pipeline.training.pretrain_runs import Workshop, losses, wait


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pair")
    make_pair(folder)
    return folder


def config_of(folder: Path, *overrides: str, text: str = "{}") -> Any:
    (folder / "own.yaml").write_text(text)
    return load_config(folder / "own.yaml", [f"run_dir={folder / 'run'}", *overrides])


def test_sizes_and_rates_follow(pair: Path, tmp_path: Path) -> None:
    both = [f"init.{name}={pair / name}" for name in ("discriminator", "generator")]
    config = resolve_init(config_of(tmp_path, *both, "train.steps=1000"))
    assert (config.model.hidden_size, config.model.embedding_size, config.model.layers) == (32, 24, 2)
    assert config.model.max_positions == 128, "as many as the sequences need"
    assert (config.optimizer.lr, config.schedule.warmup_steps) == (1e-4, 60)
    long = resolve_init(config_of(tmp_path, *both, "optimizer.lr=3e-3"))
    assert (long.optimizer.lr, long.schedule.warmup_steps) == (3e-3, 10_000)
    free = resolve_init(config_of(tmp_path, *both, "model.dropout=0.25", "schedule.warmup_steps=7", "model.heads=4"))
    assert (free.model.dropout, free.model.attention_dropout, free.schedule.warmup_steps) == (0.25, 0.1, 7)
    assert resolve_init(free) == free
    assert resolve_init(config_of(tmp_path)).optimizer.lr == 5e-4, "nothing changes without init"


@pytest.mark.parametrize(
    ("overrides", "text", "message"),
    [
        (["init.discriminator"], "model:\n  hidden_size: 64\n", r"own.yaml:2: model.hidden_size is 64, but 32 in"),
        (["init.discriminator"], "model: {body: modernbert}", "model.body is modernbert, but electra in"),
        (["init.generator"], "model: {embedding_size: 32}", "model.embedding_size is 32, but 24 in"),
        (["init.generator"], "model: {generator: {ffn_size: 64}}", "model.generator.ffn_size is 64, but 48 in"),
        (["init.generator", "init.discriminator"], "model: {generator: {size: 0.25}}", "hidden_size 8, but it is 16"),
        (["init.discriminator"], "init: {checkpoint: somewhere}", "init.checkpoint gives both networks"),
        ([], "init: {discriminator: nowhere}", "nowhere is no Hugging Face folder: config.json is missing"),
        ([], "init: {checkpoint: nowhere}", "neither a run's folder with checkpoints nor a checkpoint"),
    ],
)  # fmt: skip
def test_contradictions(pair: Path, tmp_path: Path, overrides: list[str], text: str, message: str) -> None:
    given = [f"{key}={pair / key.removeprefix('init.')}" for key in overrides]
    with pytest.raises(UserError, match=message):
        resolve_init(config_of(tmp_path, *given, text=text))


def test_a_pair_must_share_its_embeddings(pair: Path, tmp_path: Path) -> None:
    make_pair(tmp_path / "other", embedding_size=20)
    given = [f"init.discriminator={pair / 'discriminator'}", f"init.generator={tmp_path / 'other' / 'generator'}"]
    with pytest.raises(UserError, match="share their embeddings, but embedding_size is 24 in"):
        resolve_init(config_of(tmp_path, *given))


@pytest.mark.slow
def test_two_phases(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)

    def start(name: str, *settings: str) -> RunFolder:
        arguments = shop.arguments(name, *settings)
        run(load_config(Path(arguments[1]), arguments[2:]))
        return shop.run_folder(name)

    first = find_checkpoint(start("first", "train.steps=2", "data.sequence_length=16"))
    second = ["data.sequence_length=48", "model.max_positions=64", "train.steps=4", "train.save_every=2"]
    source = f"init.checkpoint={shop.folder / 'first'}"
    arguments = shop.arguments("second", *second, source)
    config = resolve_init(load_config(Path(arguments[1]), arguments[2:]))
    objective, report = initial_objective(config, find_origin(config))
    before, after = load_weights(first), dict(objective.named_parameters())
    for name, tensor in before.items():
        if name.endswith("position.weight"):
            trained = tensor[:16]
            assert torch.equal(after[name], torch.cat([trained] * 4)), "past its 16 tokens nothing was trained"
        else:
            assert torch.equal(after[name], tensor), name
    assert report["trained_positions"] == 16
    lines = dict(plan(config))
    assert lines["starts"] == "from given weights"
    assert "48 of 64 positions are copies of the trained ones" in lines["init.checkpoint"]

    folder = start("second", *second, source)
    state, _ = read_state(find_checkpoint(folder))
    assert (state.step, state.samples) == (4, 20), "step, data and schedule start anew"
    assert read_json(find_checkpoint(folder) / "init.json") == report
    # Stopped and taken up without the first run: the same end.
    other = start("other", *second, source, "train.steps=4")
    (other.checkpoints / "step-00000004" / "manifest.json").unlink()
    (shop.folder / "first").rename(shop.folder / "gone")
    start("other", *second, source)
    for kind in ("weights", "exp_avg"):
        mine, theirs = load_tensors(find_checkpoint(folder), kind), load_tensors(find_checkpoint(other), kind)
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    with pytest.raises(UserError, match=r"init.checkpoint: .* in the checkpoint, 'elsewhere' now"):
        start("other", *second, "init.checkpoint=elsewhere", "train.steps=6")
    # A third run knows how far positions were trained, here and before.
    third = shop.arguments(
        "third", "data.sequence_length=16", "model.max_positions=64", f"init.checkpoint={folder.path}"
    )
    config = resolve_init(load_config(Path(third[1]), third[2:]))
    assert config.optimizer.lr == pytest.approx(1e-2), "the user's own"
    objective, report = initial_objective(config, find_origin(config))
    assert report["trained_positions"] == 48
    # A checkpoint's folder will do, wherever it lies.
    shutil.copytree(find_checkpoint(folder), tmp_path / "carried")
    carried = [*third[2:], f"init.checkpoint={tmp_path / 'carried'}"]
    again, _ = initial_objective(resolve_init(load_config(Path(third[1]), carried)), find_origin(config))
    assert all(torch.equal(one, two) for one, two in zip(again.parameters(), objective.parameters(), strict=True))
    assert read_checkpoint_config(find_checkpoint(folder)).init.checkpoint == str(shop.folder / "first")


@pytest.mark.slow
def test_two_ranks_start_alike(tmp_path: Path) -> None:
    shop = Workshop(tmp_path)
    assert main("pretrain", shop.arguments("first", "train.steps=2")) == 0
    settings = ("train.steps=4", f"init.checkpoint={shop.folder / 'first'}", "model.max_positions=48")
    assert main("pretrain", shop.arguments("one", *settings)) == 0
    stages = [shop.arguments(f"two-{stage}", *settings, stage=stage) for stage in (1, 3)]
    with shop.ranks(2, *stages) as processes:
        assert wait(processes) == [0, 0]
    reference = losses(shop.run_folder("one"))
    for stage in (1, 3):
        assert losses(shop.run_folder(f"two-{stage}")) == pytest.approx(reference, rel=1e-4)
