"""A rank of predictor.py: trains a config on random tokens and tells memory and time as the system counts them.

    python benchmarks/predictor_worker.py STEPS key=value ...

The ranks meet as the trainer's do, by the environment. The process's base is its resident memory after a step of a tiny
model: interpreter, libraries, DeepSpeed and their first use. A line of JSON comes back.
"""

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

TINY = (
    "model.hidden_size=64",
    "model.layers=1",
    "model.heads=1",
    "model.ffn_size=64",
    "model.embedding_size=null",
    "tokenizer.vocab_size=300",
    "data.sequence_length=16",
    "train.batch_size=4",
    "train.micro_batch_size=2",
)


def resident(name: str) -> int:
    """Bytes: VmRSS now, VmHWM at most since the last reset."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def reset_peak() -> None:
    """VmHWM starts again from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def train(settings: list[str], steps: int) -> dict[str, Any]:
    """Trains; seconds of each step but the first, and the peak of the memory."""
    import numpy as np

    from model.config import SPECIAL_IDS
    from pipeline.base.config import load_config
    from pipeline.stream.loader import Rows
    from pipeline.training.checkpoint import TrainState
    from pipeline.training.distributed import start_ranks
    from pipeline.training.engine import Engine
    from pipeline.training.engine_config import largest_share
    from pipeline.training.snapshot import Snapshot
    from pipeline.training.step import train_step

    config = load_config(None, settings)
    ranks = start_ranks(1)
    vocabulary, seq = config.tokenizer.vocab_size, config.data.sequence_length
    engine = Engine(config, vocabulary, ranks)
    kept = Snapshot(engine)
    count = largest_share(config.train.batch_size, ranks.world)
    draw = np.random.default_rng(ranks.rank)
    wall, processor = [], []
    for number in range(steps):
        ids = draw.integers(len(SPECIAL_IDS), vocabulary, (count, seq))
        rows = Rows(ids, None, None, np.arange(count))
        began = time.perf_counter(), time.process_time()
        train_step(engine, rows, TrainState(step=number))
        wall.append(time.perf_counter() - began[0])
        processor.append(time.process_time() - began[1])
    del kept
    return {"wall": wall[1:], "processor": processor[1:], "peak": resident("VmHWM")}


def main() -> None:
    """A tiny model first, then what was asked."""
    steps, settings = int(sys.argv[1]), sys.argv[2:]
    train([*settings, *TINY], 2)
    base = resident("VmRSS")
    reset_peak()
    found = train(settings, steps)
    print(json.dumps(found | {"base": base, "above": found["peak"] - base}), flush=True)


if __name__ == "__main__":
    main()
