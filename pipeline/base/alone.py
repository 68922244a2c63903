"""A task in a process of its own, so that the signal that ends it is known: a crash of the code, or a kill.

Ray says only that a worker is gone. The kernel ends a process for want of memory by SIGKILL, as an operator does; a
defect that a record brings to light ends it by SIGSEGV, SIGABRT and the like. Price: a start of Python and its imports,
so only a task whose worker has died is run like this.

    python -m pipeline.base.alone MODULE FUNCTION < JSON list of arguments > JSON of the result
"""

import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from pipeline.base.errors import UserError, first_line

PR_SET_PDEATHSIG = 1
CHILD_USER_ERROR, CHILD_FAILED = 2, 3


class Killed(Exception):
    """The process was ended from outside: for want of memory, or by an operator."""


class Crashed(Exception):
    """The process broke down by itself; the message names the signal, or the exception of the code."""


def run_alone(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """function(*arguments) in a child process; arguments and result are plain JSON values.

    Raises Killed, Crashed, and UserError as the function raises it.
    """
    command = [sys.executable, "-m", "pipeline.base.alone", function.__module__, function.__name__]
    child = subprocess.run(command, input=json.dumps(arguments).encode(), capture_output=True)
    last = (child.stderr.decode(errors="replace").strip().splitlines() or [""])[-1]
    if child.returncode == 0:
        return json.loads(child.stdout)
    if child.returncode == CHILD_USER_ERROR:
        raise UserError(json.loads(child.stdout))
    if child.returncode == CHILD_FAILED:
        raise Crashed(last)
    if -child.returncode in (signal.SIGKILL, signal.SIGTERM):
        raise Killed(f"ended by {signal.Signals(-child.returncode).name}")
    ended = signal.Signals(-child.returncode).name if child.returncode < 0 else f"exit code {child.returncode}"
    raise Crashed(f"the process broke down: {ended} {last}".strip())


def main() -> int:
    """The child: reads the arguments, calls the function, writes its result."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # it does not outlive its worker
    if os.getppid() != parent:
        return CHILD_FAILED
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not the result
    function = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])
    try:
        result = function(*json.load(sys.stdin))
    except UserError as error:
        json.dump(str(error), out)
        out.flush()
        return CHILD_USER_ERROR
    except MemoryError:
        os.kill(os.getpid(), signal.SIGKILL)
    except Exception as error:
        print(f"{type(error).__name__}: {first_line(error)}", file=sys.stderr)
        return CHILD_FAILED
    json.dump(result, out)
    out.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
