"""What two ranks of this machine take to add up their gradients: latency, bandwidth, and the processor's share."""

import json
import os
import subprocess
import sys
import time

import numpy as np

from pipeline.base.errors import UserError
from pipeline.planning.machine import Link

SIZES = (1, 250_000, 2_000_000, 8_000_000)
"""Elements of the tensors that are added up."""
ROUNDS = 4


def measure_exchange() -> tuple[Link, float]:
    """The link, from an all-reduce of two ranks (of each, half goes there and half comes back, twice); and processor
    seconds a byte of the tensor. UserError where the ranks do not end well."""
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

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    found = []
    for size in SIZES:
        tensor = torch.zeros(size)
        dist.all_reduce(tensor)
        wall, processor = [], []
        for _ in range(ROUNDS):
            began = time.perf_counter(), time.process_time()
            dist.all_reduce(tensor)
            wall.append(time.perf_counter() - began[0])
            processor.append(time.process_time() - began[1])
        found.append((size, min(wall), min(processor)))
    dist.destroy_process_group()
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _rank()
