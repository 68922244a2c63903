"""Ranks forked from one process that has the imports of the pretrain stage: paid once, and not once a rank.

Argument: the descriptor of a socket. Each line that comes is an order, each is answered by a line; the server ends with
the socket. What forks do not show: ranks whose strings hash differently, and the imports themselves. The runs that are
started as a person starts them (tests/cluster, tests/soak) show both.
"""

import gc
import importlib
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[3])
os.environ["DS_ACCELERATOR"] = "cpu"  # as a rank without an accelerator sets it, before the import

from pipeline.base.tracking import import_mlflow  # noqa: E402
from pipeline.command import main  # noqa: E402

LATE = (
    "pipeline.stages.pretrain",
    "deepspeed.runtime.zero.muon.muon_optimizer",
    "deepspeed.module_inject",
    "mlflow.store.tracking.sqlalchemy_store",
    "sqlalchemy.dialects.sqlite",
    "torch._dynamo",
    "torch._inductor.compile_fx",
)
"""What a rank imports as it goes."""


def pretrain(*runs: list[str]) -> int:
    """The stage once for each argument list, until one is not done."""
    for run in runs:
        code = main("pretrain", run)
        if code:
            return code
        gc.collect()  # an engine whose end comes within an import breaks it: it imports itself
    return 0


def ended(process: int, seconds: float) -> int | None:
    """Exit code of a rank; None where it is still there by then."""
    until = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.01)


def serve(descriptor: int) -> dict[str, Any] | None:
    """Carries orders out. Returns in every fork, with what it is to do; at the end of the orders None."""
    for name in LATE:
        importlib.import_module(name)
    import_mlflow()
    gc.freeze()  # or every collection in a fork would go through, and copy, all that was imported
    with socket.socket(fileno=descriptor) as connection, connection.makefile("rw") as orders:
        for line in orders:
            order: dict[str, Any] = json.loads(line)
            if "function" in order:
                answer = os.fork()
                if answer == 0:
                    return order
            else:
                answer = ended(order["process"], order["seconds"])
            print(json.dumps(answer), file=orders, flush=True)
    return None


def live(order: dict[str, Any]) -> int:
    """A rank: calls the function of the module with the arguments. Its exit code, if it returns one."""
    os.environ.clear()
    os.environ.update(order["environment"])
    module = importlib.import_module(order["module"])
    return getattr(module, order["function"])(*order["arguments"]) or 0


if __name__ == "__main__":
    given = serve(int(sys.argv[1]))
    if given is not None:
        sys.exit(live(given))
