"""How the commands of this package end: 0 done, 2 a mistake to mend (one message, no traceback)."""

import sys
from collections.abc import Callable

from pipeline.base.errors import UserError


def told(name: str, command: Callable[[], int]) -> int:
    """The command's exit code; a UserError becomes its message on standard error, and 2."""
    try:
        return command()
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted.", file=sys.stderr, flush=True)
        return 130
