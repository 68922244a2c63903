"""Jobs of 1, 2 and 3 ranks that save known tensors at every ZeRO stage, in files that all ranks see or the first only.

All ranks are forked from one process, so that imports are paid once.
"""

import importlib
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from pipeline.base.config import load_config  # noqa: E402
from pipeline.base.run_folder import RunFolder  # noqa: E402
from pipeline.training import save  # noqa: E402
from pipeline.training.checkpoint import TrainState  # noqa: E402
from pipeline.training.distributed import start_ranks  # noqa: E402
from pipeline.training.engine import Engine  # noqa: E402
from pipeline.training.engine_state import KINDS  # noqa: E402
from pipeline.training.origin import find_origin  # noqa: E402
from tests.ports import free_port  # noqa: E402


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


def main(config: str, data: str, runs: str) -> None:
    """Exit code 0 when all ranks of all jobs did."""
    os.environ["DS_ACCELERATOR"] = "cpu"  # as a rank without an accelerator sets it, before the import
    for late in ("deepspeed.runtime.zero.muon.muon_optimizer", "torch._dynamo", "torch._inductor.compile_fx"):
        importlib.import_module(late)
    children = []
    for world in (1, 2, 3):
        shared = {"WORLD_SIZE": world, "LOCAL_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
        for rank in range(world):
            child = os.fork()
            if child == 0:
                own = {**shared, "RANK": rank, "LOCAL_RANK": rank}
                os.environ |= {key: str(value) for key, value in own.items()}
                save_all(config, f"run_dir={runs}/w{world}", f"data.path={data}", "train.keep_last=9")
                sys.exit(0)
            children.append(child)
    sys.exit(max(os.waitpid(child, 0)[1] for child in children) and 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
