"""A benchmark's script on several ranks of this machine, as a launcher would start it."""

import os
import subprocess
from collections.abc import Sequence

from pipeline.training.distributed import free_port


def run_on_ranks(command: Sequence[str], world: int) -> None:
    """Runs the command once a rank, what it prints passed over, and waits. Raises SystemExit where a rank fails."""
    shared = {"WORLD_SIZE": world, "LOCAL_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    ranks = []
    for rank in range(world):
        own = {key: str(value) for key, value in {**shared, "RANK": rank, "LOCAL_RANK": rank}.items()}
        ranks.append(subprocess.Popen(command, env=os.environ | own, stdout=subprocess.DEVNULL))
    if any(rank.wait() for rank in ranks):
        raise SystemExit(1)
