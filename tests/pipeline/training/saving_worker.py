"""A rank that saves known tensors at every ZeRO stage, in files that all ranks see or the first only."""

from pathlib import Path

import torch

from pipeline.base.config import load_config
from pipeline.base.run_folder import RunFolder
from pipeline.training import save
from pipeline.training.checkpoint import TrainState
from pipeline.training.distributed import start_ranks
from pipeline.training.engine import Engine
from pipeline.training.engine_state import KINDS
from pipeline.training.origin import find_origin


def known(shapes: dict[str, tuple[int, ...]], kind: str) -> dict[str, torch.Tensor]:
    """Tensors that follow from the kind and the names alone."""
    found = {}
    for name in shapes:
        draw = torch.Generator().manual_seed(sum(map(ord, kind + name)))
        found[name] = torch.randn(shapes[name], generator=draw)
    return found


def save_all(config: str, *settings: str) -> None:
    """Checkpoints of steps 10 x stage (seen by all ranks) and 10 x stage + 1 (by the first only)."""
    seen, ranks = Path.is_file, start_ranks(1)
    for stage in range(4):
        given = load_config(Path(config), [*settings, f"deepspeed.zero_optimization.stage={stage}"])
        engine, folder, origin = Engine(given, 300, ranks), RunFolder.of(given), find_origin(given)
        engine.load({kind: known(engine.shapes, kind) for kind in KINDS}, 7, {})
        save.save_checkpoint(engine, folder, TrainState(step=10 * stage), origin, {})
        if ranks.rank:
            Path.is_file = lambda path: path.suffix != ".safetensors" and seen(path)  # type: ignore[method-assign]
        save.save_checkpoint(engine, folder, TrainState(step=10 * stage + 1), origin, {})
        Path.is_file = seen  # type: ignore[method-assign]
    ranks.barrier()
