"""Pretraining under kills, on this machine's CPU.

    python -m tests.soak [--kills 100] [--seed 0] [--stages 0,1,2,3] [--log FILE]

For each ZeRO stage a run of two ranks is made undisturbed, then again in another folder while one rank, all ranks or
the launcher get SIGKILL, a third of the times inside a save; the same command answers each kill. Every one has to go
on, nothing may be left behind (processes, ports, shared memory, temporary files), and at the end weights, moments
and all that was logged have to be the same bits. Price: a start of two ranks a kill, 10 seconds on two idle cores.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.soak.run import soak, to_line


def main() -> int:
    """0 when all kills were answered."""
    parser = argparse.ArgumentParser(prog="tests.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", default="0,1,2,3", help="ZeRO stages, with commas between")
    parser.add_argument("--log", type=Path, default=Path("soak.jsonl"), help="a JSON object a kill")
    arguments = parser.parse_args()
    stages = tuple(int(stage) for stage in arguments.stages.split(","))
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, arguments.log.open("w") as log:

        def say(entry: dict[str, Any]) -> None:
            for file in (log, sys.stdout):
                file.write(to_line(entry))
                file.flush()

        good = soak(Path(folder), arguments.kills, arguments.seed, say, stages)
    print(f"{good} of {arguments.kills} kills were answered by the same command; the ends are bit-equal")
    return 0 if good == arguments.kills else 1


sys.exit(main())
