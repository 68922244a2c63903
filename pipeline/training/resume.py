"""Going on from a checkpoint: find it, compare its config with the run's, put its state into the engine."""

import re
from pathlib import Path
from typing import Any, cast

from pipeline.base.config import RunConfig, flatten
from pipeline.base.errors import UserError
from pipeline.base.run_folder import RunFolder
from pipeline.base.storage import is_remote, place_of, reading
from pipeline.shards.manifest import find_revision
from pipeline.stream.cache import Cache
from pipeline.training.checkpoint import (
    TrainState,
    is_marked,
    list_checkpoints,
    load_tensors,
    local_checkpoint,
    newest_whole,
    read_config_values,
    read_state,
)
from pipeline.training.engine import Engine
from pipeline.training.engine_state import KINDS, SCALER_FIELDS
from pipeline.training.origin import Origin
from pipeline.training.ranks import Ranks

MAY_CHANGE = (
    "run_dir",
    "store",
    "corpus",
    "tokenizer",
    "data.path",
    "data.revision",
    "data.on_bad_shard",
    "data.cache",
    "data.cache_bytes",
    "data.cache_ahead",
    "data.shard_blocks",
    "deepspeed",
    "train.micro_batch_size",
    "train.precision",
    "train.compile",
    "train.recompute",
    "train.log_every",
    "train.eval_every",
    "train.eval_sequences",
    "train.save_every",
    "train.keep_last",
    "train.keep_every",
    "train.keep_best",
    "train.stop_seconds",
    "train.hang_timeout",
    "train.peer_timeout",
    "train.threads",
    "train.max_skipped",
    "train.deterministic",
    "tracking",
    "ray",
    "export",
    "finetune",
    "evaluate",
    "explain",
    "replay",
)
"""Keys, or sections, that do not decide what is learned (data and tokenizer are compared by digest)."""
MIXTURE = re.compile(r"corpus\.temperature|corpus\.corpora\.[^.]+\.weight")
"""What of `corpus` decides it all the same: the corpora's shares, and with them their names."""


def find_resume_point(folder: RunFolder, ranks: Ranks, cache: Cache) -> Path | None:
    """The newest whole checkpoint, looked for by rank 0; of one in a store this host's copy. Collective."""
    found = None
    with ranks.together():
        if ranks.rank == 0:
            found = newest_whole(folder, cache)
            if found is None:
                check_place(folder)
    name = ranks.from_first(found.name if found else None)
    if name is None or not is_remote(folder.checkpoints):
        return folder.checkpoints / name if name else None
    with ranks.together():
        return found or local_checkpoint(folder.checkpoints / name, cache)


def check_place(folder: RunFolder) -> None:
    """For a run without a checkpoint: UserError where it has kept some elsewhere, in run_dir or another store."""
    try:
        before = read_config_values(folder.path).get("store")
    except UserError:
        before = None
    stores = [None, *([cast(Path, place_of(before))] if isinstance(before, str) else [])]
    for other in (RunFolder(folder.path, store) for store in stores if store != folder.store):
        if any(is_marked(path) for path in list_checkpoints(other)):
            raise UserError(
                f"there is no checkpoint in {folder.checkpoints}, but there are in {other.checkpoints}. Set store as "
                "it was, or copy them; or set another run_dir for a new run."
            )


def check_unchanged(path: Path, config: RunConfig, state: TrainState) -> None:
    """UserError that names every key whose change would make this another run than the checkpoint's.

    train.steps may be raised once they are reached: the schedule then goes on as that of the longer run, from here.
    """
    before, now = flatten(read_config_values(path)), flatten(config.to_dict())
    before = {key: value for key, value in flatten(RunConfig().to_dict()).items() if key in now} | before
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key) and not _free(key))
    if "train.steps" in changed and state.step >= before["train.steps"] and now["train.steps"] > state.step:
        changed.remove("train.steps")
    if not changed:
        return
    shape = any(key.startswith(("model.", "objective.name")) for key in changed)
    what = "is of another model than the config" if shape else "was written with another config"
    raise UserError(
        f"the checkpoint {path} {what}:\n"
        + "\n".join(f"  {key}: {_shown(before, key)} in the checkpoint, {_shown(now, key)} now" for key in changed)
        + f"\nSet them back, or set another run_dir for a new run. May change on resume: {', '.join(MAY_CHANGE)} (of "
        "corpus all but a mixture's names, weights and temperature), the number of ranks; and train.steps may be "
        "raised once they are reached (it sets the learning rates on the way)."
    )


def check_same_data(path: Path, manifest: dict[str, Any], origin: Origin) -> None:
    """UserError when the run's data or tokenizer is not what the checkpoint was trained on."""
    for key, now in origin.digests().items():
        then, what = manifest.get(key), "tokenizer" if key == "tokenizer_sha256" else "data"
        if then == now:
            continue
        way = f"Put the {what} back (data.path)"
        with reading(origin.folder.data):
            older = find_revision(origin.folder.data, str(then)) if what == "data" else None
        if older is not None:
            way = f"It is revision {older} of {origin.folder.data}: set data.revision={older} to go on with it"
        raise UserError(
            f"the checkpoint {path} was trained on other {what}:\n  sha256 {then} in the checkpoint, "
            f"{now} now.\n{way}, or set another run_dir for a new run."
        )


def load_into(engine: Engine, path: Path) -> TrainState:
    """Sets weights, moments, step counters and loss scale from the checkpoint. Collective."""
    state, scaler = read_state(path)
    with engine.ranks.together():
        tensors = {kind: load_tensors(path, kind) for kind in KINDS}
        shapes = engine.shapes
        for kind, named in tensors.items():
            found = {name: tuple(tensor.shape) for name, tensor in named.items()}
            if found != shapes:
                raise UserError(f"{path / kind}.safetensors is of another model: {_difference(found, shapes)}.")
    engine.load(tensors, state.updates, {name: scaler[name] for name in SCALER_FIELDS if name in scaler})
    return state


def _free(key: str) -> bool:
    return not MIXTURE.fullmatch(key) and any(key == free or key.startswith(f"{free}.") for free in MAY_CHANGE)


def _shown(values: dict[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "not set"


def _difference(found: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]]) -> str:
    name = next(name for name in sorted(found.keys() | wanted.keys()) if found.get(name) != wanted.get(name))
    return f"{name} has shape {found.get(name, 'none')} there and {wanted.get(name, 'none')} here"
