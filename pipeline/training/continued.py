"""The config of a run that starts from given weights: sizes that follow the source, and gentler learning rates.

Keys that the user sets stay; those that contradict the source are an error. A run that has a checkpoint of its own
takes what it was resolved to from there, so it goes on without the source.
"""

import dataclasses
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from model.config import LAYER_NORM_EPS, ModelConfig, generator_config
from pipeline.base.config import RunConfig, config_from_dict, flatten
from pipeline.base.errors import UserError
from pipeline.base.run_folder import RunFolder
from pipeline.base.storage import place_of, reading
from pipeline.stream.cache import open_cache
from pipeline.training.checkpoint import (
    WEIGHTS,
    find_checkpoint,
    is_marked,
    list_checkpoints,
    local_checkpoint,
    read_config_values,
    verify_checkpoint,
)
from pipeline.training.hf_folder import HuggingFaceFolder, read_folder

FREE = ("dropout", "attention_dropout", "initializer_range", "embedding_initializer_range", "max_positions")
"""Keys of model.* that may differ from the source's: no weight depends on them, or the table is made to fit."""
GENERATOR = ("hidden_size", "layers", "heads", "ffn_size")
SHARED = ("body", "embedding_size", "layer_norm_eps", "max_positions", *FREE)
"""What a discriminator has from a generator that comes alone."""
ROTARY = ("rope_theta", "rope_theta_local")
SHARED_MODERNBERT = ("hidden_size", "heads", "ffn_size", "local_window", "global_every", *ROTARY)

PEAK_RATE = 1e-4
"""Half of the paper's rate for base and large models, a fifth of that for small ones (docs/continue.md says why)."""
LATER_PHASE = 2 / 3
"""Peak rate of a run that goes on from another one's checkpoint, as a part of that one's."""
WARMUP_FRACTION = 0.06
MOST_WARMUP = 10_000


def resolve_init(config: RunConfig) -> RunConfig:
    """The config with what follows from init.*, or from the run's own checkpoint; reads no weights. UserError."""
    before = _own_checkpoint(config)
    if before is not None:
        had_init = any((before.get("init") or {}).values())
        return _with(config, _resolved_before(config, before), "the run's checkpoint") if had_init else config
    init = config.init
    if not any((init.discriminator, init.generator, init.checkpoint)):
        return config
    if init.checkpoint is not None and (init.discriminator or init.generator):
        raise UserError("init.checkpoint gives both networks: leave init.discriminator and init.generator out.")
    followed, rate = _from_checkpoint(config) if init.checkpoint is not None else (_from_folders(config), PEAK_RATE)
    warmup = min(MOST_WARMUP, max(1, round(WARMUP_FRACTION * config.train.steps)))
    followed |= {"optimizer.lr": rate, "schedule.warmup_steps": warmup}
    return _with(config, {key: value for key, value in followed.items() if key not in config.given}, "init")


def source_checkpoint(config: RunConfig) -> Path:
    """The verified checkpoint that init.checkpoint names: a checkpoint's folder, or the newest of a run's.

    Of one in a store a local copy with the weights alone.
    """
    path, cache = place_of(config.init.checkpoint or ""), open_cache(config.data)
    with reading(path):
        is_checkpoint = (path / "weights.safetensors").is_file()
        is_run = (path / "checkpoints").is_dir()
    if is_checkpoint:
        return local_checkpoint(path, cache, (WEIGHTS,))
    if not is_run:
        hint = " It looks like a Hugging Face folder: give it as init.discriminator or init.generator."
        raise UserError(
            f"init.checkpoint: {path} is neither a run's folder with checkpoints nor a checkpoint."
            + (hint if (path / "config.json").is_file() else "")
        )
    own = RunFolder.of(config)
    if str(path) == config.store or path.absolute() == own.path.absolute():
        raise UserError("init.checkpoint is the run's own folder: set another run_dir for the second run.")
    return find_checkpoint(RunFolder(own.path, cast(Path, path)), cache=cache, kinds=(WEIGHTS,))


def folders(config: RunConfig) -> dict[str, HuggingFaceFolder]:
    """The Hugging Face folders of init.*, by the network that is to be filled from them."""
    init = config.init
    if config.objective.name == "mlm":
        if init.discriminator and init.generator:
            raise UserError("the mlm objective has one network: give init.generator or init.discriminator, not both.")
        key = "init.generator" if init.generator else "init.discriminator"
        return {"generator": read_folder(init.generator or init.discriminator or "", key)}
    given = {"discriminator": init.discriminator, "generator": init.generator}
    found = {name: read_folder(path, f"init.{name}") for name, path in given.items() if path is not None}
    if len(found) == 2:
        _check_pair(found["discriminator"], found["generator"])
    return found


def _check_pair(discriminator: HuggingFaceFolder, generator: HuggingFaceFolder) -> None:
    """UserError unless both can have the same embeddings."""
    keys = ["body", "embedding_size"] + (["hidden_size"] if discriminator.sizes["body"] == "modernbert" else [])
    for key in keys:
        mine, theirs = discriminator.sizes[key], generator.sizes[key]
        if mine != theirs:
            raise UserError(
                f"generator and discriminator share their embeddings, but {key} is {mine} in {discriminator.path} and "
                f"{theirs} in {generator.path}."
            )


def _own_checkpoint(config: RunConfig) -> dict[str, Any] | None:
    """Plain config of the run's newest checkpoint whose config is as it was written."""
    for path in list_checkpoints(RunFolder.of(config)):
        if is_marked(path):
            try:
                verify_checkpoint(path, ("config.yaml",))
                return read_config_values(path)
            except UserError:
                continue
    return None


def _resolved_before(config: RunConfig, values: dict[str, Any]) -> dict[str, Any]:
    flat = flatten(values)
    keys = [key for key in flat if key.startswith("model.")] + ["optimizer.lr", "schedule.warmup_steps"]
    now = flatten(config.to_dict())
    given = [key for key in flat if key.startswith("init.") and now.get(key) is None]  # named once is enough
    return {key: flat[key] for key in keys if key in flat and key not in config.given} | {k: flat[k] for k in given}


def _from_checkpoint(config: RunConfig) -> tuple[dict[str, Any], float]:
    """What follows from another run's checkpoint, and the peak rate."""
    path = source_checkpoint(config)
    before = config_from_dict(read_config_values(path), str(path / "config.yaml"))
    if before.objective.name != config.objective.name:
        raise UserError(
            f"init.checkpoint: {path} is of objective {before.objective.name}, this run of {config.objective.name}. "
            "Export that run and give the folder as init.discriminator or init.generator."
        )
    followed = flatten({"model": asdict(before.model)})
    _check(config, followed, before.model, str(path))
    followed["model.max_positions"] = max(before.model.max_positions, config.data.sequence_length)
    return followed, before.optimizer.lr * LATER_PHASE


def _from_folders(config: RunConfig) -> dict[str, Any]:
    found = folders(config)
    body = found.get("discriminator") or found["generator"]
    alone = "discriminator" not in found and config.objective.name != "mlm"
    modern = body.sizes["body"] == "modernbert"
    keys = {*SHARED, *(SHARED_MODERNBERT if modern else ())} if alone else body.sizes.keys()
    followed = {f"model.{key}": body.sizes[key] for key in body.sizes if key in keys}
    generator = found.get("generator") if config.objective.name != "mlm" else None
    if generator is not None:
        own = [key for key in GENERATOR if not (modern and key == "hidden_size")]
        followed |= {f"model.generator.{key}": generator.sizes[key] for key in own}
    source = " and ".join(str(folder.path) for folder in found.values())
    wanted = _model(config.model, followed, source)
    _check(config, followed, wanted, source)
    followed["model.max_positions"] = max(body.sizes["max_positions"], config.data.sequence_length)
    return followed


def _check(config: RunConfig, followed: dict[str, Any], wanted: ModelConfig, source: str) -> None:
    """UserError where a key that the user set contradicts the source."""
    flat = flatten({"model": asdict(config.model)})
    wrong = []
    for key, value in followed.items():
        if key.removeprefix("model.") in FREE or key == "model.generator.size" or key not in config.given:
            continue
        mine, theirs = _plain(key, flat[key], config.model), _plain(key, value, wanted)
        if mine != theirs:
            wrong.append(f"{config.given[key]}: {key} is {flat[key]}, but {value} in {source}")
    if "model.generator.size" in config.given and any(key.startswith("model.generator.") for key in followed):
        mine = generator_config(dataclasses.replace(wanted, generator=config.model.generator), vocab_size=6)
        theirs = generator_config(wanted, vocab_size=6)
        part = "layers" if wanted.body == "modernbert" else "hidden_size"
        if getattr(mine, part) != getattr(theirs, part):
            wrong.append(
                f"{config.given['model.generator.size']}: model.generator.size {config.model.generator.size} makes its "
                f"{part} {getattr(mine, part)}, but it is {getattr(theirs, part)} in {source}"
            )
    if wrong:
        raise UserError("\n".join(wrong) + "\nLeave these keys out: sizes follow the weights. Or start from others.")


def _plain(key: str, value: Any, model: ModelConfig) -> Any:
    """The value that None stands for."""
    if value is not None:
        return value
    return {"model.embedding_size": model.hidden_size, "model.layer_norm_eps": LAYER_NORM_EPS[model.body]}.get(key)


def _model(model: ModelConfig, followed: dict[str, Any], source: str) -> ModelConfig:
    own = {key.removeprefix("model.generator."): v for key, v in followed.items() if key.startswith("model.generator.")}
    rest = {key.removeprefix("model."): v for key, v in followed.items() if not key.startswith("model.generator.")}
    try:
        return dataclasses.replace(model, **rest, generator=dataclasses.replace(model.generator, **own))
    except ValueError as error:
        raise UserError(f"sizes of {source} do not fit the rest of model.*: {error}") from None


def _with(config: RunConfig, followed: dict[str, Any], origin: str) -> RunConfig:
    """The config with these keys."""
    values = config.to_dict()
    for key, value in followed.items():
        *parents, last = key.split(".")
        section = values
        for parent in parents:
            section = section[parent]
        section[last] = value
    return config_from_dict(values, origin)
