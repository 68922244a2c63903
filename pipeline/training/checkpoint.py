"""A checkpoint's folder: fp32 weights and both moments by parameter name, in safetensors; for any ranks and ZeRO stage.

    step-00000120/  weights.safetensors exp_avg.safetensors exp_avg_sq.safetensors state.json config.yaml
                    tokenizer/tokenizer.model (or .json) manifest.json (digests of the others; written last)

Written aside, fsynced and renamed, and `latest` moves after that: a kill at any moment leaves the one before. Price:
each of the three files passes through the memory of rank 0 as a whole (ELECTRA-large: 1.3 GB).
"""

import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pipeline.base.config import RunConfig, config_from_dict
from pipeline.base.errors import UserError
from pipeline.base.files import read_json, sha256_file, write_atomic, write_json
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder

WEIGHTS = "weights"
LATEST = "latest"
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

    @property
    def updates(self) -> int:
        """Updates applied: what the schedule counts."""
        return self.step - self.skipped_steps


def checkpoint_name(step: int) -> str:
    """Folder name."""
    return f"step-{step:08d}"


def list_checkpoints(folder: RunFolder) -> list[Path]:
    """Folders named as checkpoints, newest first, whole or not."""
    if not folder.checkpoints.is_dir():
        return []
    return sorted((p for p in folder.checkpoints.iterdir() if _NAME.fullmatch(p.name)), reverse=True)


def is_marked(path: Path) -> bool:
    """Whether the checkpoint has its manifest, the mark of a complete one."""
    return (path / "manifest.json").is_file()


def verify_checkpoint(path: Path) -> None:
    """Existence, size and sha256 of every file; UserError that names the first that differs."""
    if not is_marked(path):
        raise UserError(f"checkpoint {path} is not complete: manifest.json is missing.")
    manifest = read_json(path / "manifest.json")
    try:
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
        int(manifest["vocab_size"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(
            f"{path / 'manifest.json'} is damaged: it lacks vocab_size, or files with bytes and sha256."
        ) from None
    for name, (size, digest) in files.items():
        file = path / name
        if not file.is_file():
            raise UserError(f"checkpoint file {file} is missing.")
        if file.stat().st_size != size or sha256_file(file) != digest:
            raise UserError(f"checkpoint file {file} is damaged: its content differs from its manifest's sha256.")


def newest_whole(folder: RunFolder) -> Path | None:
    """The newest checkpoint whose files are as its manifest says; None where none was ever completed.

    Half-written and damaged ones are passed over with a warning. UserError when all that were completed are damaged.
    """
    damaged = []
    for path in list_checkpoints(folder):
        try:
            verify_checkpoint(path)
            return path
        except UserError as error:
            get_logger().warning(f"{error} Taking the checkpoint before it.")
            if is_marked(path):
                damaged.append(str(error))
    if damaged:
        raise UserError(
            "no checkpoint is whole:\n  " + "\n  ".join(damaged) + f"\nRestore one from a backup, or delete "
            f"{folder.checkpoints} to train from the start."
        )
    return None


def find_checkpoint(folder: RunFolder, name: str = LATEST) -> Path:
    """A verified checkpoint by name, or the newest whole one. UserError when there is none."""
    if name != LATEST:
        path = folder.checkpoints / name
        if not path.is_dir():
            known = ", ".join(p.name for p in list_checkpoints(folder)) or "none"
            raise UserError(f"there is no checkpoint {path}; there are: {known}.")
        verify_checkpoint(path)
        return path
    newest = newest_whole(folder)
    if newest is None:
        raise UserError(f"there is no checkpoint in {folder.checkpoints}. Run pipeline/pretrain.py first.")
    return newest


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
        values = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"checkpoint file {path / 'config.yaml'} cannot be read: {error}.") from None
    return values if isinstance(values, dict) else {}


def read_vocab_size(path: Path) -> int:
    """Rows of the embedding."""
    return int(read_json(path / "manifest.json")["vocab_size"])


def read_state(path: Path) -> tuple[TrainState, dict[str, float]]:
    """How far the run was, and fp16's loss scale (empty in other precisions)."""
    content = read_json(path / "state.json")
    try:
        return TrainState(**{key: content[key] for key in asdict(TrainState())}), content.get("loss_scale", {})
    except (KeyError, TypeError):
        raise UserError(f"{path / 'state.json'} is not a checkpoint's state.") from None


def write_manifest(path: Path, facts: dict[str, Any]) -> None:
    """The mark of completeness: digests of all files below `path`, and where the checkpoint comes from."""
    files = {
        str(file.relative_to(path)): {"bytes": file.stat().st_size, "sha256": sha256_file(file)}
        for file in _files(path)
    }
    write_json(path / "manifest.json", {"files": files} | facts)


def move_latest(folder: RunFolder, name: str) -> None:
    """Points `latest` at a complete checkpoint."""
    write_atomic(folder.checkpoints / LATEST, name + "\n")


def prune(folder: RunFolder, keep: int) -> None:
    """Removes all but the newest `keep` complete checkpoints, and what a killed save left aside."""
    for path in [path for path in list_checkpoints(folder) if is_marked(path)][keep:]:
        (path / "manifest.json").unlink(
            missing_ok=True
        )  # first the mark: a kill half-way leaves nothing that looks whole
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.checkpoints.glob(".step-*"):
        shutil.rmtree(path, ignore_errors=True)


def _files(path: Path) -> Iterator[Path]:
    return (file for file in sorted(path.rglob("*")) if file.is_file() and file.name != "manifest.json")
