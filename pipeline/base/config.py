"""One YAML file a run, typed and checked. No key is ignored: an unknown one is an error that names the nearest."""

import dataclasses
import difflib
import functools
import re
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, field_validator, model_validator

from model.config import ModelConfig
from model.objectives.base import objective_class, objective_names
from pipeline.base.corpus_sections import CorpusConfig
from pipeline.base.errors import UserError
from pipeline.base.section import LocalPlace, Section, Store
from pipeline.base.sections import (
    DataConfig,
    DeepSpeedConfig,
    ExportConfig,
    InitConfig,
    OptimizerConfig,
    RayConfig,
    ReplayConfig,
    ScheduleConfig,
    TokenizerConfig,
    TrackingConfig,
    TrainConfig,
)
from pipeline.base.stores.faults import hide, refuse_secrets, shown
from pipeline.base.task_sections import EvaluateConfig, ExplainConfig, FinetuneConfig
from pipeline.base.yaml_file import parse_text, parse_value, read_yaml

TEXTS = {"explain.text"}
"""Keys whose value on the command line is a text, not YAML."""
DEFAULT_CONFIG = Path(__file__).resolve().parents[2] / "configs" / "default.yaml"


@functools.cache
def objective_config_class(name: str) -> type:
    """The objective's own Config with its `name` as one more field."""
    config = objective_class(name).Config
    return dataclasses.make_dataclass("Config", [("name", str, name)], bases=(config,), frozen=True, kw_only=True)


class RunConfig(Section):
    """Everything that describes a run; every stage reads the same one."""

    run_dir: LocalPlace = "runs/default"
    """The run's folder, on this machine or on a file system that its machines share."""
    store: Store | None = None
    """A URL, s3:// or gs://, below which data/, tokenizer/ and checkpoints/ lie in place of run_dir."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """One seed for everything: sample, order, masks, initial weights, dropout."""
    corpus: CorpusConfig = CorpusConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    init: InitConfig = InitConfig()
    objective: Any = Field(default={"name": "electra"}, validate_default=True)
    """`name`, and the keys of that objective's Config (model/objectives/NAME.py)."""
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig()
    deepspeed: DeepSpeedConfig = {}
    """DeepSpeed's own JSON keys, verbatim."""
    tracking: TrackingConfig = TrackingConfig()
    ray: RayConfig = RayConfig()
    export: ExportConfig = ExportConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    explain: ExplainConfig = ExplainConfig()
    replay: ReplayConfig = ReplayConfig()

    @field_validator("objective", mode="before")
    @classmethod
    def _objective(cls, value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            return value
        if not isinstance(value, dict):
            raise ValueError("a mapping with a name")
        name = value.get("name", "electra")
        if name not in objective_names():
            raise ValueError(f"unknown objective {name!r}; there are {', '.join(objective_names())}")
        return TypeAdapter(objective_config_class(name)).validate_python(value)

    @model_validator(mode="after")
    def _sections_agree(self) -> "RunConfig":
        positions = self.model.max_positions
        if self.data.sequence_length > positions:
            raise ValueError(
                f"data.sequence_length {self.data.sequence_length} is longer than model.max_positions {positions}: "
                "raise model.max_positions or shorten the sequences"
            )
        if self.data.segments == "paper" and self.model.body == "modernbert":
            raise ValueError(
                "data.segments paper needs token types, which the modernbert body does not have: "
                "set data.segments to none, or model.body to electra"
            )
        if self.data.block_tokens < self.data.sequence_length:
            raise ValueError(
                f"data.block_tokens {self.data.block_tokens} is smaller than data.sequence_length "
                f"{self.data.sequence_length}: a block must hold at least one sequence"
            )
        return self

    @functools.cached_property
    def given(self) -> dict[str, str]:
        """Dotted keys that the user set, and where; not those of configs/default.yaml. {} for a config made in code."""
        return {}

    def written(self) -> dict[str, Any]:
        """Plain values as they are written down and shown: without what must stay secret in tracking.uri."""
        values = self.to_dict()
        return values | {"tracking": values["tracking"] | {"uri": shown(self.tracking.uri)}}

    def to_dict(self) -> dict[str, Any]:
        """Plain values. What is written down or shown is `written`."""
        values: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, BaseModel):
                value = value.model_dump(mode="json")
            elif dataclasses.is_dataclass(value) and not isinstance(value, type):
                value = dataclasses.asdict(value)
            values[name] = value
        return values


_SECTIONS = RunConfig.model_fields.keys() - {"run_dir", "store", "seed"}
"""An empty one is its defaults."""

_WANTED = {
    "tuple_type": "a list in brackets, such as [one, two]",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "dataclass_type": "a mapping of keys to values",
}
"""Where pydantic's own words are Python's."""


def load_config(path: Path | None, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a YAML file (default: configs/default.yaml) and sets `key=value` on top. Raises UserError."""
    path = Path(path) if path is not None else DEFAULT_CONFIG
    values, lines = read_yaml(path)
    where = {key: f"{path}:{line}" for key, line in lines.items()}
    for override in overrides:
        _override(values, where, override)
    return _validated(values, where, str(path))


def config_from_dict(values: dict[str, Any], origin: str = "config") -> RunConfig:
    """A config from plain values, such as a checkpoint's config.yaml. Raises UserError."""
    return _validated(values, {}, origin)


def dump_config(config: RunConfig) -> str:
    """The resolved config as YAML text, as it is written down."""
    return yaml.safe_dump(config.written(), sort_keys=False, allow_unicode=True)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys: {"train": {"steps": 1}} -> {"train.steps": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _override(values: dict[str, Any], where: dict[str, str], override: str) -> None:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UserError(f"command line: {shown(override)!r} is not key=value, such as train.steps=30.")
    *parents, last = key.split(".")
    section = values
    for parent in parents:
        if section.get(parent) is None or isinstance(section[parent], bool):  # a filter that is on or off
            section[parent] = {}
        section = section[parent]
        if not isinstance(section, dict):
            raise UserError(f"command line: {key} has no such part: {parent} is a value, not a section.")
    section[last] = parse_text(text) if key in TEXTS else parse_value(text)
    where[key] = "command line"


def _validated(values: dict[str, Any], where: dict[str, str], origin: str) -> RunConfig:
    values = {key: value for key, value in values.items() if value is not None or key not in _SECTIONS}
    objective = values.get("objective")
    name = objective.get("name", "electra") if isinstance(objective, dict) else "electra"
    known = set(_known(RunConfig, "", name, values))
    for key in _given(values, "", known):
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"; did you mean {nearest[0]}?" if nearest else ". docs/configuration.md lists the keys."
            raise UserError(f"{where.get(key, origin)}: unknown key {key}{hint}")
    _refuse_secrets(values, where, origin)
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        raise UserError("\n".join(_told(problem, where, origin) for problem in error.errors())) from None
    places = {key: where.get(key, origin) for key in _given(values, "", known)}
    config.given.update({key: place for key, place in places.items() if not place.startswith(f"{DEFAULT_CONFIG}:")})
    return config


def _refuse_secrets(values: dict[str, Any], where: dict[str, str], origin: str) -> None:
    """A config is written down and shown, so its URLs hold no password and no signature; tracking.uri's is hidden."""
    for key, value in flatten(values).items():
        for text in value if isinstance(value, list | tuple) else (value,):
            if isinstance(text, str) and key == "tracking.uri":  # MLflow's own, given to its library
                hide(text)
            elif isinstance(text, str):
                try:
                    refuse_secrets(text)
                except UserError as error:
                    raise UserError(f"{_place(key, '', where) or origin}: {key}: {error}") from None


def _known(section: Any, prefix: str, objective: str, values: Any) -> Iterator[str]:
    """Dotted keys of a section, those of sections by name (corpus.corpora.NAME) for the names in `values`."""
    hints = typing.get_type_hints(section)
    is_model = isinstance(section, type) and issubclass(section, BaseModel)
    for field in section.model_fields if is_model else [field.name for field in dataclasses.fields(section)]:
        key = f"{prefix}{field}"
        yield key
        given = values.get(field) if isinstance(values, dict) else None
        inner = objective_config_class(objective) if key == "objective" and objective in objective_names() else None
        inner = inner or _section_of(hints[field])
        if inner is not None:
            yield from _known(inner, f"{key}.", objective, given)
        named = _section_of(typing.get_args(hints[field])[-1]) if typing.get_origin(hints[field]) is dict else None
        for name, part in given.items() if named is not None and isinstance(given, dict) else ():
            yield f"{key}.{name}"
            yield from _known(named, f"{key}.{name}.", objective, part)


def _section_of(hint: Any) -> type | None:
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for option in options:
        if isinstance(option, type) and (issubclass(option, BaseModel) or dataclasses.is_dataclass(option)):
            return option
    return None


def _given(values: dict[str, Any], prefix: str, known: set[str]) -> Iterator[str]:
    """Dotted keys that are set; does not look inside a known key that holds no section (such as deepspeed)."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        yield name
        holds_section = any(other.startswith(f"{name}.") for other in known)
        if isinstance(value, dict) and holds_section:
            yield from _given(value, f"{name}.", known)


def _told(problem: Any, where: dict[str, str], origin: str) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    text = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in _WANTED:
        text = f"must be {_WANTED[problem['type']]}"
    given = problem.get("input")
    got = f" (got {given!r})" if isinstance(given, str | int | float | bool) or given is None else ""
    return shown(f"{_place(key, text, where) or origin}: {key + ': ' if key else ''}{text}{got}")


def _place(key: str, text: str, where: dict[str, str]) -> str | None:
    """The command line where it set a key that the message names, else the line of the key or of its section."""
    prefix = f"{key}." if key else ""
    for other, place in where.items():
        named = other.startswith(prefix) and re.search(rf"(?<![\w.]){re.escape(other.removeprefix(prefix))}\b", text)
        if named and place == "command line":
            return place
    while key and key not in where:
        key = key.rpartition(".")[0]
    return where.get(key)
