"""What small command-line tools have in common: how they end."""

import os
import sys
from collections.abc import Callable

from pipeline.base.errors import EXIT_INTERRUPTED, EXIT_USER, UserError


def run_tool(name: str, work: Callable[[], int], interrupted: str = "interrupted") -> int:
    """The exit code that `work` gives. A UserError is one message, and a reader that goes away is none."""
    try:
        code = work()
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        return EXIT_USER
    except BrokenPipeError:  # `| head`: what follows has nowhere to go, the interpreter's own flush neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"{name}: {interrupted}", file=sys.stderr, flush=True)
        return EXIT_INTERRUPTED
