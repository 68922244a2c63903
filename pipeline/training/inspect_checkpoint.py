"""Looks into checkpoints for people: what is in one, whether it is whole, how two differ. Changes nothing.

Price: one tensor at a time passes through memory; one of a store is copied to this machine's cache first.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipeline.base.config import RunConfig, flatten
from pipeline.base.errors import Damaged, UserError
from pipeline.base.storage import Location, place_of, reading
from pipeline.training.checkpoint import (
    TENSORS,
    is_marked,
    local_checkpoint,
    read_checkpoint_config,
    read_config_values,
    read_manifest,
    read_state,
    read_vocab_size,
    step_of,
)
from pipeline.training.precision import make_objective


def checkpoints_at(text: str) -> list[Location]:
    """The complete checkpoints that a path or URL names, newest first: one itself, or those of a run's folder."""
    place = place_of(text)
    with reading(place):
        if step_of(place.name) is not None or (place / "manifest.json").is_file():
            return [place]
        folder = place / "checkpoints" if (place / "checkpoints").is_dir() else place
        if not folder.is_dir():
            raise UserError(f"{text} does not exist. Name a checkpoint's folder, or a run's.")
        found = [path for path in folder.iterdir() if step_of(path.name) is not None and is_marked(path)]
    if not found:
        raise UserError(f"there is no complete checkpoint in {folder}. Name a checkpoint's folder, or a run's.")
    return sorted(found, key=lambda path: path.name, reverse=True)


def show(place: Location, each_tensor: bool) -> Iterator[str]:
    """Lines about a checkpoint; with each_tensor one for each of its weights."""
    manifest, path = read_manifest(place), local_checkpoint(place)
    state, scaler = read_state(path)
    yield str(place)
    for name, value in (asdict(state) | scaler).items():
        yield f"  {name}: {value:,}" if isinstance(value, int | float) else f"  {name}: {value or 'none'}"
    for name, value in manifest.items():
        if name != "files":
            yield f"  {name}: {value}"
    yield "  files:"
    for name, file in manifest["files"].items():
        yield f"    {name}  {file['bytes']:,} bytes  sha256 {file['sha256']}"
    yield "  config, where it is not as by default:"
    plain = flatten(RunConfig().to_dict())
    for key, value in sorted(flatten(read_config_values(path)).items()):
        if plain.get(key) != value:
            yield f"    {key}: {value!r}"
    yield "  tensors:"
    for kind in TENSORS:
        names, elements, squares, broken = 0, 0, 0.0, 0
        for name, tensor in _tensors(path, kind):
            names, elements = names + 1, elements + tensor.numel()
            squares += float(tensor.double().square().sum())
            broken += int((~tensor.isfinite()).sum())
            if each_tensor:
                yield f"    {kind} {name} {list(tensor.shape)}: root mean square {_rms(tensor):.4g}"
        told = f", {broken:,} of them NOT FINITE" if broken else ""
        yield f"    {kind}: {names} tensors, {elements:,} elements{told}, norm {math.sqrt(squares):.6g}"


def verify(place: Location) -> str:
    """A line about a checkpoint that is whole: digests, shapes, states and finite numbers. Damaged names the fault."""
    path = local_checkpoint(place)  # with its digests
    read_state(path)
    config = read_checkpoint_config(path)
    with torch.device("meta"):
        objective = make_objective(config, read_vocab_size(path), "fp32")
    wanted = {name: tuple(parameter.shape) for name, parameter in objective.named_parameters()}
    for kind in TENSORS:
        found = {}
        for name, tensor in _tensors(path, kind):
            found[name] = tuple(tensor.shape)
            if tensor.dtype != torch.float32 or not bool(tensor.isfinite().all()):
                raise Damaged(f"{place}/{kind}.safetensors: {name} has numbers that are not finite, or no fp32 ones.")
        if found != wanted:
            name = next(name for name in sorted(found.keys() | wanted.keys()) if found.get(name) != wanted.get(name))
            raise Damaged(f"{place}/{kind}.safetensors: {name} does not have the shape that config.yaml gives it.")
    files = read_manifest(place)["files"]
    return f"{place}: whole, {len(files)} files, {sum(file['bytes'] for file in files.values()):,} bytes"


def diff(one: Location, other: Location) -> Iterator[str]:
    """Lines that say how two checkpoints differ; none where config, state and every bit of the tensors are equal."""
    paths = local_checkpoint(one), local_checkpoint(other)
    before, after = (flatten(read_config_values(path)) for path in paths)
    yield from _changes("config", before, after)
    yield from _changes("state", *(asdict(read_state(path)[0]) for path in paths))
    for kind in TENSORS:
        with ExitStack() as stack:
            first, second = (stack.enter_context(_opened(path, kind)) for path in paths)
            yield from _differences(kind, first, second)


def _differences(kind: str, first: Any, second: Any) -> Iterator[str]:
    names, others, equal, shared = set(first.keys()), set(second.keys()), 0, 0
    for name in sorted(names ^ others):
        yield f"{kind} {name}: only in the {'first' if name in names else 'second'}"
    worst, at = 0.0, ""
    for name in sorted(names & others):
        mine, theirs = first.get_tensor(name), second.get_tensor(name)
        if mine.shape != theirs.shape:
            yield f"{kind} {name}: {list(mine.shape)} in the first, {list(theirs.shape)} in the second"
            continue
        shared += 1
        if torch.equal(mine.view(torch.int32), theirs.view(torch.int32)):
            equal += 1
            continue
        apart = float((mine.double() - theirs.double()).abs().max())
        if not apart <= worst or not at:
            worst, at = apart, name
    if at:
        yield f"{kind}: {shared - equal} of {shared} tensors differ, by {worst:.6g} at most, in {at}"


def _changes(what: str, before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    for key in sorted(before.keys() | after.keys()):
        mine, theirs = (repr(side[key]) if key in side else "not set" for side in (before, after))
        if mine != theirs:
            yield f"{what} {key}: {mine} in the first, {theirs} in the second"


def _tensors(path: Path, kind: str) -> Iterator[tuple[str, Tensor]]:
    with _opened(path, kind) as file:
        for name in sorted(file.keys()):
            yield name, file.get_tensor(name)


def _opened(path: Path, kind: str) -> Any:
    file = path / f"{kind}.safetensors"
    try:
        return safe_open(str(file), framework="pt")
    except (OSError, SafetensorError) as error:
        raise Damaged(f"checkpoint file {file} cannot be read: {error}.") from None


def _rms(tensor: Tensor) -> float:
    return float(tensor.double().square().mean().sqrt())
