"""The config: nothing ignored, nothing guessed, every message names file, line and key."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from pipeline.base.config import RunConfig, config_from_dict, dump_config, flatten, load_config
from pipeline.base.errors import UserError

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
PRESETS = sorted(CONFIGS.glob("*.yaml"))
DOCUMENTATION = CONFIGS.parent / "docs" / "configuration.md"


def refused(*settings: str, text: str | None = None, folder: Path | None = None) -> str:
    path = None
    if text is not None and folder is not None:
        path = folder / "my.yaml"
        path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_config(path, settings)
    return str(caught.value)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_load_and_survive_a_round_trip(path: Path) -> None:
    config = load_config(path)
    again = config_from_dict(yaml.safe_load(dump_config(config)))
    assert again == config


def test_every_preset_that_is_promised_is_there() -> None:
    promised = {"default", "demo", "small", "base", "large", "base-modern", "small-mlm", "base-modern-mlm"}
    assert promised <= {path.stem for path in PRESETS}


def test_defaults_of_the_interface() -> None:
    config = load_config(None)
    assert (config.corpus.text_field, config.corpus.max_bad_fraction, config.corpus.validation_fraction) == (
        "text",
        0.01,
        0.005,
    )
    assert (config.data.sequence_length, config.data.block_tokens) == (128, 65536)
    assert (config.data.isolate_documents, config.data.segments) == (True, "none")
    assert (config.objective.mask_fraction, config.objective.discriminator_weight) == (0.15, 50.0)
    assert config.tracking.uri == "sqlite:///mlflow.db"


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_an_extra_key_in_any_section_is_refused(path: Path) -> None:
    sections = [name for name, value in load_config(path).to_dict().items() if isinstance(value, dict)]
    for section in [*sections, "model.generator"]:
        if section != "deepspeed":
            assert f"unknown key {section}.sizee" in refused(f"{section}.sizee=1")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.stpes=1", "command line: unknown key train.stpes; did you mean train.steps?"),
        ("model.hiden_size=1", "did you mean model.hidden_size?"),
        ("objective.mask_fracton=0.1", "did you mean objective.mask_fraction?"),
        ("steps=1", "unknown key steps; did you mean"),
        ("train.steps=-1", "command line: train.steps: Input should be greater than 0 (got -1)"),
        ("train.steps=many", "train.steps: Input should be a valid integer"),
        ("train.precision=fp8", "train.precision: Input should be 'fp32', 'bf16' or 'fp16' (got 'fp8')"),
        ("objective.name=gan", "unknown objective 'gan'; there are electra, mlm"),
        ("objective.mask_fraction=1.5", "mask_fraction"),
        ("model.heads=7", "hidden_size 256 is not a multiple of the 7 heads"),
        ("model.body=bert", "body"),
        ("model.generator.size=2", "a fraction above 0, at most 1"),
        ("data.sequence_length=1024", "data.sequence_length 1024 is longer than model.max_positions 512"),
        ("data.block_tokens=64", "a block must hold at least one sequence"),
        ("train=3", "train: "),
        ("train.steps", "is not key=value"),
        ("train.steps=[1", "is not a YAML value"),
        ("tracking.uri=file:///tmp/x", "command line: tracking.uri: not a tracking store; use sqlite:///mlflow.db"),
        ("run_dir=", "command line: run_dir: Input should be a valid string"),
        ("run_dir=''", "run_dir: String should have at least 1 character"),
        ("seed=", "command line: seed: Input should be a valid integer"),
        ("train.steps=true", "train: steps is true, which is no value for it"),
        ("train.threads=100000", "train.threads: Input should be less than or equal to 1024"),
        ("tokenizer.character_coverage=0.5", "character_coverage: Input should be greater than or equal to 0.98"),
        ("optimizer.lr=.inf", "optimizer.lr: Input should be a finite number"),
        ("corpus.paths=texts", "command line: corpus.paths: must be a list in brackets, such as [one, two]"),
        ("deepspeed=3", "deepspeed: must be a mapping of keys to values (got 3)"),
        ("seed.more=1", "seed.more has no such part: seed is a value, not a section"),
    ],
)
def test_mistakes_on_the_command_line(setting: str, message: str) -> None:
    assert message in refused(setting)


def test_a_mistake_that_shows_in_another_place_is_told_where_it_was_made() -> None:
    assert refused("model.heads=7").startswith("command line: model: hidden_size 256")
    assert refused("data.sequence_length=1024").startswith("command line: data.sequence_length 1024")


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    config = load_config(None, ["run_dir=~/runs/x", "tokenizer.path=~/a.model", "finetune.train=~/t.jsonl"])
    assert (config.run_dir, config.tokenizer.path) == ("/home/me/runs/x", "/home/me/a.model")
    assert config.finetune.train == "/home/me/t.jsonl"


def test_segments_need_token_types() -> None:
    assert "which the modernbert body does not have" in refused(
        "model.body=modernbert", "model.embedding_size=null", "data.segments=paper"
    )


def test_messages_name_file_and_line(tmp_path: Path) -> None:
    text = "run_dir: x\ntrain:\n  steps: 3\n  stpes: 4\n"
    assert (
        refused(text=text, folder=tmp_path)
        == f"{tmp_path}/my.yaml:4: unknown key train.stpes; did you mean train.steps?"
    )
    text = "run_dir: x\nmodel:\n  generator:\n    size: 3.0\n"
    assert refused(text=text, folder=tmp_path).startswith(f"{tmp_path}/my.yaml:3: model.generator: ")
    assert "my.yaml:3: key seed was already set in line 1" in refused(text="seed: 1\n\nseed: 2\n", folder=tmp_path)
    assert "not valid YAML" in refused(text="a: [1\n", folder=tmp_path)
    assert "a mapping" in refused(text="- 1\n", folder=tmp_path)


def test_several_mistakes_are_told_together() -> None:
    message = refused("train.steps=0", "optimizer.lr=0")
    assert "train.steps" in message
    assert "optimizer.lr" in message


def test_numbers_as_people_write_them() -> None:
    config = load_config(
        None, ["optimizer.lr=1e-4", "optimizer.eps=1E-08", "deepspeed.zero_optimization.reduce_bucket_size=5e8"]
    )
    assert (config.optimizer.lr, config.optimizer.eps) == (1e-4, 1e-8)
    assert config.deepspeed["zero_optimization"]["reduce_bucket_size"] == 5e8


def test_deepspeed_keys_stand_verbatim() -> None:
    config = load_config(None, ["deepspeed.zero_optimization.stage=3", "deepspeed.wall_clock_breakdown=true"])
    assert config.deepspeed == {"zero_optimization": {"stage": 3}, "wall_clock_breakdown": True}


def test_an_empty_section_is_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("train:\nobjective:\n  name: mlm\n")
    config = load_config(path)
    assert (config.train.batch_size, config.objective.name) == (128, "mlm")


def test_every_key_is_documented() -> None:
    text = DOCUMENTATION.read_text(encoding="utf-8")
    keys = set(flatten(load_config(None).to_dict())) | set(flatten(load_config(None, ["objective.name=mlm"]).to_dict()))
    keys = {key for key in keys if not key.startswith("deepspeed.")}
    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []


def test_every_section_forbids_extra_keys() -> None:
    for field in RunConfig.model_fields.values():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            assert kind.model_config["extra"] == "forbid"
            assert kind.model_config["frozen"]
        elif dataclasses.is_dataclass(kind):
            assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined, union-attr]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("run_dir=s3://bucket/run", "run_dir: must be a local folder, not a URL .* set store"),
        ("data.cache=gs://bucket/cache", "data.cache: must be a local folder"),
        ("store=runs/x", "store: must be a URL such as s3://bucket/runs/x"),
        ("store=s3://", "store: must be a URL"),
        ("store=https://host/x", "store: must be a URL"),
    ],
)
def test_what_may_be_a_url(setting: str, said: str) -> None:
    with pytest.raises(UserError, match=f"command line: {said}"):
        load_config(None, [setting])
    assert load_config(None, ["store=s3://bucket/run/", "data.path=s3://bucket/run"]).store == "s3://bucket/run"
