"""What two ranks of this machine take to add up their gradients: latency, bandwidth, and the processor's share."""

import json
import os
import subprocess
import sys
import time

import numpy as np

from pipeline.base.errors import UserError
from pipeline.planning.machine import Link

SIZES = (1, 1_000_000, 8_000_000, 32_000_000)
"""Elements that are added up; the largest by far do not fit in a cache, as gradients do not."""
PARTS = 64
"""Tensors that they come in."""
ROUNDS = 4


def measure_exchange() -> tuple[Link, float]:
    """The link, from an all-reduce of two ranks (of each, half goes there and half comes back, twice); and processor
    seconds a byte, with DeepSpeed's copies: gradients into one tensor, and out of it. UserError where ranks fail."""
    from pipeline.training.distributed import free_port

    address = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "pipeline.planning.exchange"],
            env=os.environ | address | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [process.communicate()[0] for process in ranks]
    if any(process.returncode for process in ranks):
        raise UserError("two ranks of this machine could not exchange tensors: their message is above.")
    samples = json.loads(told[0].splitlines()[-1])
    sizes, wall, processor = (np.array(values, dtype=float) for values in zip(*samples, strict=True))
    rate, first = np.polyfit(4 * sizes, wall, 1)
    host, _ = np.polyfit(4 * sizes, processor, 1)
    return Link(max(float(first) / 2, 1e-7), 1 / max(float(rate), 1e-12)), max(float(host), 0.0)


def _rank() -> None:
    import torch
    import torch.distributed as dist

    from pipeline.training.memory import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
    dist.init_process_group("gloo")
    found = []
    for size in SIZES:
        gradients = torch.zeros(size).chunk(PARTS)
        wall, processor = [], []
        for number in range(ROUNDS + 1):
            began = time.process_time()
            flat = torch.cat(gradients).div_(2)
            sent = time.perf_counter()
            dist.all_reduce(flat)
            sent = time.perf_counter() - sent
            for one, mean in zip(gradients, flat.chunk(PARTS), strict=True):
                one.copy_(mean)
            if number > 0:
                wall.append(sent)
                processor.append(time.process_time() - began)
            del flat
        found.append((size, min(wall), min(processor)))
    dist.destroy_process_group()
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _rank()
