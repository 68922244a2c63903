"""A checkpoint's folder: fp32 weights and both moments by parameter name, in safetensors; for any ranks and ZeRO stage.

    step-00000120/  weights.safetensors exp_avg.safetensors exp_avg_sq.safetensors state.json config.yaml config.json
                    tokenizer/tokenizer.model (or .json) manifest.json (digests of the others and of itself; last)

Written aside, fsynced and renamed, and `latest` moves after that: a kill at any moment leaves the one before. In a
store manifest.json is uploaded last; what is read there is copied to this machine first (`stream.cache`). Price: every
rank that goes on reads the three files whole. docs/checkpoints.md has the format for other readers.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pipeline.base.config import RunConfig, config_from_dict
from pipeline.base.errors import Damaged, UserError, first_line
from pipeline.base.files import read_json, sha256_file, write_atomic, write_json
from pipeline.base.log import get_logger
from pipeline.base.names import file_inside
from pipeline.base.run_folder import RunFolder
from pipeline.base.sections import DataConfig
from pipeline.base.storage import Location, facts_of, reading, upload, writing
from pipeline.base.yaml_file import parse_yaml
from pipeline.stream.cache import Cache, Remote, RemoteFile, open_cache
from pipeline.training.optimizer import MOMENTS

WEIGHTS = "weights"
TENSORS = (WEIGHTS, *MOMENTS)
"""Kinds of tensors, a file each."""
LATEST, BEST = "latest", "best"
"""Text files beside the checkpoints, each with the name of one."""
_BEFORE_DIGESTS = {
    *("files", "step", "vocab_size", "tokenizer_sha256", "data_manifest_sha256", "mlflow_run_id", "corpora")
}
"""Keys of manifests that had no digest of their own yet: one with others has lost it."""
_BROKEN = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
"""What a made-up or damaged JSON file leads to."""
_NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """How far a run is; position in the data and everything else follows from it."""

    step: int = 0
    """Global batches done."""
    samples: int = 0
    tokens: int = 0
    """Places of all sequences so far, [CLS] and [SEP] included."""
    flops: float = 0.0
    skipped_steps: int = 0
    """Batches whose update was left out because the gradient was not finite; the schedule does not count them."""
    skipped_in_a_row: int = 0
    """The last ones of these."""
    save_failures: int = 0
    """Checkpoints that could not be written."""

    evaluation_owed: bool = False
    """The evaluation due at this step was given up for a stop: it is made before the next step."""
    passed: tuple[str, ...] = ()
    """Global batches of the stream that are left out after a loss spike, as "first-last"."""
    losses: tuple[float, ...] = ()
    """The last train.spike_window of them, oldest first."""
    last_spike: int = 0
    """Step of the last loss spike."""
    bad_shards: tuple[str, ...] = ()
    """Shards that could not be read and are left out (data.on_bad_shard skip), by name."""

    @property
    def position(self) -> int:
        """Number, in the stream, of the next global batch: those done and those left out come before it."""
        place, covered = self.step, -1
        for first, last in sorted((int(one), int(other)) for one, _, other in (x.partition("-") for x in self.passed)):
            begin = max(first, covered + 1)
            place += max(0, last - begin + 1) if place >= begin else 0
            covered = max(covered, last)
        return place

    @property
    def updates(self) -> int:
        """Updates applied: what the schedule counts."""
        return self.step - self.skipped_steps


def checkpoint_name(step: int) -> str:
    """Folder name."""
    return f"step-{step:08d}"


def step_of(name: str) -> int | None:
    """The step of a folder of that name; None where it is no checkpoint's."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def list_checkpoints(folder: RunFolder) -> list[Path]:
    """Folders named as checkpoints, newest first, whole or not."""
    with reading(folder.checkpoints):
        if not folder.checkpoints.is_dir():
            return []
        found = [path for path in folder.checkpoints.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.name, reverse=True)


def is_marked(path: Location) -> bool:
    """Whether the checkpoint has its manifest, the mark of a complete one."""
    with reading(path):
        return (path / "manifest.json").is_file()


def verify_checkpoint(path: Location, names: Sequence[str] | None = None) -> None:
    """Existence, size and sha256 of every file, or of those named; of one in a store no sha256.

    Damaged names the first that differs.
    """
    for file in _listed(path):
        if names is not None and file.name not in names:
            continue
        place = file_inside(path, file.name)
        with reading(place):
            if not place.is_file():
                raise Damaged(f"checkpoint file {place} is missing.")
            whole = facts_of(place).size == file.bytes and (
                not isinstance(place, Path) or sha256_file(place) == file.sha256
            )
        if not whole:
            raise Damaged(f"checkpoint file {place} is damaged: its content differs from its manifest's sha256.")


def newest_whole(folder: RunFolder, cache: Cache | None = None, kinds: Sequence[str] = TENSORS) -> Path | None:
    """The newest checkpoint whose files are as its manifest says; None where none was ever completed.

    Of one in a store a local copy, with the tensors of these kinds (see `local_checkpoint`). Half-written and damaged
    ones are passed over with a warning. UserError when all that were completed are damaged, or the store is away.
    """
    damaged = []
    for path in list_checkpoints(folder):
        try:
            return local_checkpoint(path, cache, kinds)
        except Damaged as error:
            get_logger().warning(f"{error} Taking the checkpoint before it.")
            if is_marked(path):
                damaged.append(str(error))
    if damaged:
        raise UserError(
            "no checkpoint is whole:\n  " + "\n  ".join(damaged) + f"\nRestore one from a backup, or delete "
            f"{folder.checkpoints} to train from the start."
        )
    return None


def find_checkpoint(
    folder: RunFolder, name: str = LATEST, cache: Cache | None = None, kinds: Sequence[str] = TENSORS
) -> Path:
    """A verified checkpoint by name, the newest whole one, or the best; see `newest_whole`. UserError for none."""
    if name == BEST:
        name = read_pointer(folder, BEST) or ""
        if not name:
            raise UserError(
                f"{folder.checkpoints} names no best checkpoint: pretrain with train.keep_best, or set latest."
            )
    if name != LATEST:
        path = folder.checkpoints / name
        if path.name not in (known := [path.name for path in list_checkpoints(folder)]):
            raise UserError(f"there is no checkpoint {path}; there are: {', '.join(known) or 'none'}.")
        return local_checkpoint(path, cache, kinds)
    newest = newest_whole(folder, cache, kinds)
    if newest is None:
        raise UserError(f"there is no checkpoint in {folder.checkpoints}. Run pipeline/pretrain.py first.")
    return newest


def local_checkpoint(path: Location, cache: Cache | None = None, kinds: Sequence[str] = TENSORS) -> Path:
    """The checkpoint, verified; of one in a store a verified copy, without the tensors of other kinds.

    The copy is held in the cache, by default that of the default config, until it is released there. Damaged, or
    UserError when the store or the disk of the copy is at fault.
    """
    verify_checkpoint(path)
    if isinstance(path, Path):
        return path
    with reading(path):
        manifest = (path / "manifest.json").read_bytes()
    left_out = {f"{kind}.safetensors" for kind in TENSORS if kind not in kinds}
    mark = RemoteFile("manifest.json", len(manifest), hashlib.sha256(manifest).hexdigest())
    files = [file for file in (*_listed(path), mark) if file.name not in left_out]
    named = tuple(RemoteFile(f"{path.name}/{file.name}", file.bytes, file.sha256) for file in files)
    copy = (cache or open_cache(DataConfig())).hold(Remote(path.parent, named))
    if copy is None:
        raise RuntimeError("a cache that waits gives a copy")
    get_logger().info(f"{path} is copied to {copy}")
    return copy / path.name


def read_manifest(path: Location) -> dict[str, Any]:
    """A checkpoint's manifest, compared with its own digest. Damaged where there is none, or it is broken."""
    file = path / "manifest.json"
    if not is_marked(path):
        raise Damaged(f"checkpoint {path} is not complete: manifest.json is missing.")
    with reading(file):
        content = file.read_bytes()
    try:
        manifest: dict[str, Any] = json.loads(content)
        int(manifest["vocab_size"])
        _files_in(manifest)
        own = manifest.pop("sha256", None)
        whole = manifest.keys() <= _BEFORE_DIGESTS if own is None else own == _digest_of(manifest)
    except _BROKEN:
        raise Damaged(f"{file} is damaged: it lacks vocab_size, or files with bytes and sha256.") from None
    if not whole:
        raise Damaged(f"{file} is damaged: its content differs from its own sha256.")
    return manifest


def _listed(path: Location) -> list[RemoteFile]:
    """The files of a checkpoint, by its manifest. Damaged where there is none, or it is broken."""
    return _files_in(read_manifest(path))


def _files_in(manifest: dict[str, Any]) -> list[RemoteFile]:
    return [
        RemoteFile(str(name), int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest["files"].items()
    ]


def _digest_of(manifest: dict[str, Any]) -> str:
    """sha256 of the manifest as compact JSON with sorted keys."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def load_tensors(path: Path, kind: str = WEIGHTS) -> dict[str, Tensor]:
    """fp32 tensors by parameter name: weights, exp_avg or exp_avg_sq."""
    try:
        return load_file(path / f"{kind}.safetensors")
    except (OSError, SafetensorError) as error:
        raise UserError(f"checkpoint file {path / f'{kind}.safetensors'} cannot be read: {error}.") from None


def load_weights(path: Path) -> dict[str, Tensor]:
    """The objective's weights, fp32, by parameter name."""
    return load_tensors(path, WEIGHTS)


def read_checkpoint_config(path: Path) -> RunConfig:
    """The config of the run that wrote the checkpoint."""
    return config_from_dict(read_config_values(path), str(path / "config.yaml"))


def read_config_values(path: Path) -> dict[str, Any]:
    """The same, as plain values."""
    try:
        with reading(path / "config.yaml"):
            text = (path / "config.yaml").read_bytes()
        values = parse_yaml(text.decode())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"checkpoint file {path / 'config.yaml'} cannot be read: {first_line(error)}.") from None
    return values if isinstance(values, dict) else {}


def read_vocab_size(path: Path) -> int:
    """Rows of the embedding."""
    return int(read_json(path / "manifest.json")["vocab_size"])


def read_state(path: Path) -> tuple[TrainState, dict[str, float]]:
    """How far the run was, and fp16's loss scale (empty in other precisions)."""
    try:
        content = read_json(path / "state.json")
        plain = asdict(TrainState())
        told = {"step": content["step"], "samples": content["samples"]} | content
        state = TrainState(**{key: _like(told.get(key, default), default) for key, default in plain.items()})
        return state, {str(name): _like(value, 0.0) for name, value in content.get("loss_scale", {}).items()}
    except _BROKEN:
        raise UserError(f"{path / 'state.json'} is not a checkpoint's state.") from None


def _like(value: Any, default: Any) -> Any:
    """The value, if it is of its default's type; numbers are finite and not below zero."""
    number = isinstance(default, int | float) and not isinstance(default, bool)
    allowed = (int, float) if isinstance(default, float) else type(default)
    if isinstance(default, tuple):  # of names or numbers
        if not isinstance(value, list | tuple) or not all(isinstance(one, str | float) for one in value):
            raise ValueError(f"{value!r} is no list of names or numbers")
        value = tuple(value)
    elif not isinstance(value, allowed) or (number and (isinstance(value, bool) or not 0 <= value < math.inf)):
        raise ValueError(f"{value!r} is no {type(default).__name__}")
    return value


def write_manifest(path: Path, facts: dict[str, Any], digests: Mapping[str, str] | None = None) -> None:
    """The mark of completeness: digests of all files below `path` and of itself, and where the checkpoint comes from.

    digests: of files whose sha256 is known already.
    """
    known = digests or {}
    names = {str(file.relative_to(path)): file for file in _files(path)}
    files = {
        name: {"bytes": file.stat().st_size, "sha256": known.get(name) or sha256_file(file)}
        for name, file in names.items()
    }
    manifest = {"files": files} | facts
    write_json(path / "manifest.json", manifest | {"sha256": _digest_of(manifest)})


def add_to_manifest(path: Location, facts: dict[str, Any]) -> None:
    """Adds what was learned of a complete checkpoint later. Damaged where it is none."""
    manifest = read_manifest(path) | facts
    write_json(path / "manifest.json", manifest | {"sha256": _digest_of(manifest)})


def upload_checkpoint(local: Path, path: Location, uploaded: Callable[[], None] = lambda: None) -> None:
    """Puts a whole checkpoint's folder into a store, manifest.json last. UserError where the store refuses.

    uploaded: called after each file.
    """
    mark = path / "manifest.json"
    with writing(path):
        mark.unlink(missing_ok=True)  # of a checkpoint that was passed over: it is half the old one from here on
    for file in _files(local):
        upload(file, path / file.relative_to(local).as_posix())
        uploaded()
    upload(local / mark.name, mark)


def move_latest(folder: RunFolder, name: str, pointer: str = LATEST) -> None:
    """Points `latest`, or `best`, at a complete checkpoint."""
    write_atomic(folder.checkpoints / pointer, name + "\n")


def read_pointer(folder: RunFolder, pointer: str) -> str | None:
    """The name that `latest` or `best` holds; None where there is none, or it is broken."""
    place = folder.checkpoints / pointer
    with reading(place):
        text = place.read_bytes() if place.is_file() else b""
    name = text.decode(errors="replace").strip()
    return name if step_of(name) is not None else None


def local_checkpoints(folder: RunFolder) -> Path:
    """Where checkpoints are written, before they go to the store if there is one."""
    return folder.path / folder.checkpoints.name


def _files(path: Path) -> Iterator[Path]:
    return (file for file in sorted(path.rglob("*")) if file.is_file() and file.name != "manifest.json")
