"""The batch of a step that could not be used, kept so that the step can be run again: run_dir/replay/step-NNNNNNNN/

    batch.safetensors    ids, sample, and documents and segments where there are: int64, of the whole global batch
    weights.safetensors  fp32, by parameter name: what the step started from
    replay.json          step, rate, ranks, rows a forward, loss scale, loss, the samples' keys and which were bad
    config.yaml          the run's

Written aside and renamed. Price: the weights once more (4 bytes a parameter).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.objectives.base import Batch
from pipeline.base.config import RunConfig, dump_config
from pipeline.base.errors import UserError
from pipeline.base.files import complete_folder, read_json, told_plainly, write_atomic, write_json
from pipeline.training.checkpoint import checkpoint_name, load_weights, read_checkpoint_config
from pipeline.training.engine import Engine
from pipeline.training.engine_state import MASTER
from pipeline.training.ranks import Ranks

FOLDER = "replay"


@dataclass(frozen=True)
class Replay:
    """A kept step."""

    path: Path
    config: RunConfig
    facts: dict[str, Any]
    """replay.json."""
    batch: Batch
    weights: dict[str, Tensor]


def save_replay(engine: Engine, run_dir: Path, step: int, facts: dict[str, Any], batch: Batch) -> Path:
    """Keeps the step that ended at `step`. batch: this rank's rows; facts: with first_sample. Collective; UserError."""
    config, ranks = engine.config, engine.ranks
    path = run_dir / FOLDER / checkpoint_name(step)
    whole = gathered(batch, facts["first_sample"], config.train.batch_size, ranks)
    first = ranks.rank == 0
    weights = {name: tensor.cpu().contiguous() for name, tensor in engine.read(MASTER) if first}
    with ranks.together():
        if first:
            with complete_folder(path) as aside:
                with told_plainly(aside):
                    save_file(whole, aside / "batch.safetensors")
                    save_file(weights, aside / "weights.safetensors")
                write_atomic(aside / "config.yaml", dump_config(config))
                write_json(aside / "replay.json", facts | {"step": step, "vocab_size": engine.vocab_size})
    return path


def gathered(batch: Batch, first: int, size: int, ranks: Ranks) -> dict[str, Tensor]:
    """The global batch's tensors, from all ranks' rows, in the order of their samples first ... first + size - 1."""
    rows = (batch.sample - first).cpu()
    mine = {"ids": batch.ids, "sample": batch.sample, "documents": batch.documents, "segments": batch.segments}
    parts = {}
    for name, tensor in mine.items():
        if tensor is not None:
            part = torch.zeros(size, *tensor.shape[1:], dtype=torch.float64)  # exact: ids are far below 2 ** 53
            part[rows] = tensor.cpu().double()
            parts[name] = part
    return {name: tensor.long().cpu().contiguous() for name, tensor in ranks.sum(parts).items()}


def find_replay(run_dir: Path, step: int | None) -> Path:
    """The folder of the step; by default the newest. Raises UserError."""
    kept = sorted(path for path in (run_dir / FOLDER).glob("step-*") if (path / "replay.json").is_file())
    if step is not None:
        kept = [path for path in kept if path.name == checkpoint_name(step)]
    if not kept:
        which = "no step is kept" if step is None else f"step {step} is not kept"
        raise UserError(
            f"{which} in {run_dir / FOLDER}: a run leaves one there when it stops after train.max_skipped updates "
            "left out in a row. Set run_dir to that run's folder."
        )
    return kept[-1]


def load_replay(path: Path) -> Replay:
    """Reads what `save_replay` wrote. Raises UserError."""
    facts, config = read_json(path / "replay.json"), read_checkpoint_config(path)
    try:
        tensors = load_file(path / "batch.safetensors")
        batch = Batch(tensors["ids"], tensors["sample"], tensors.get("documents"), tensors.get("segments"))
    except (OSError, SafetensorError, KeyError) as error:
        raise UserError(f"{path / 'batch.safetensors'} cannot be read: {error}.") from None
    return Replay(path, config, facts, batch, load_weights(path))
