"""Writes a checkpoint: all ranks gather tensor by tensor, rank 0 writes; its error (a full disk) is everyone's.

With a store it is written aside below run_dir, as without one, and uploaded from there. Price: the disk below run_dir
must hold one checkpoint; the ranks wait for the upload.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from pipeline.base.config import dump_config
from pipeline.base.files import complete_folder, told_plainly, write_atomic, write_json
from pipeline.base.run_folder import RunFolder
from pipeline.base.storage import is_remote
from pipeline.training.checkpoint import (
    TrainState,
    checkpoint_name,
    local_checkpoints,
    move_latest,
    prune,
    upload_checkpoint,
    write_manifest,
)
from pipeline.training.engine import Engine
from pipeline.training.engine_state import KINDS
from pipeline.training.origin import Origin


def save_checkpoint(
    engine: Engine, folder: RunFolder, state: TrainState, origin: Origin, facts: dict[str, Any]
) -> Path:
    """Saves at state.step, moves `latest` there and prunes older ones. Collective. Raises UserError on every rank.

    facts: what else the checkpoint's manifest keeps.
    """
    ranks = engine.ranks
    first = ranks.rank == 0
    path = folder.checkpoints / checkpoint_name(state.step)
    with ExitStack() as stack:
        with ranks.together():
            aside = stack.enter_context(_aside(folder, path)) if first else path
        for kind in KINDS:
            gathered = {name: tensor.cpu().contiguous() for name, tensor in engine.read(kind) if first}
            with ranks.together():
                if first:
                    _write_tensors(gathered, aside / f"{kind}.safetensors")
        with ranks.together():
            if first:
                _write_rest(engine, folder, aside, state, origin, facts)
            stack.close()  # puts the folder into its place
    with ranks.together():
        if first:
            move_latest(folder, path.name)
            prune(folder, engine.config.train.keep_last)
    return path


@contextmanager
def _aside(folder: RunFolder, path: Path) -> Iterator[Path]:
    """Yields a folder of this machine; on a clean exit it takes its place at `path`, by a rename or an upload."""
    if not is_remote(path):
        with complete_folder(path) as aside:
            yield aside
        return
    local = local_checkpoints(folder)
    with told_plainly(local / path.name):
        local.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=local) as aside:
            yield Path(aside)
            upload_checkpoint(Path(aside), path)


def _write_rest(
    engine: Engine, folder: RunFolder, aside: Path, state: TrainState, origin: Origin, facts: dict[str, Any]
) -> None:
    write_json(aside / "state.json", asdict(state) | {"loss_scale": engine.scaler()})
    write_atomic(aside / "config.yaml", dump_config(engine.config))
    if folder.init.is_file():
        shutil.copyfile(folder.init, aside / folder.init.name)
    if origin.tokenizer_file.is_file():
        (aside / "tokenizer").mkdir()
        shutil.copyfile(origin.tokenizer_file, aside / "tokenizer" / origin.tokenizer_file.name)
    write_manifest(aside, {"step": state.step, "vocab_size": origin.vocab_size, **origin.digests(), **facts})


def _write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    with told_plainly(path):
        save_file(tensors, path)
