"""How a run ends early without being broken: a mistake, or a preemption; and other libraries' errors in short."""

EXIT_USER, EXIT_INTERRUPTED = 2, 130
"""Exit codes of a mistake to mend, and of Ctrl-C."""
EXIT_PREEMPTED = 75
"""Exit code of a run that has to be started again."""


class UserError(Exception):
    """A mistake that a person can mend. The message says what is wrong, where, and what to do; exit code 2."""

    shared: bool | None = None
    """Whether rank 0 tells it too, so that no other rank has to; None: not known."""


class Damaged(UserError):
    """Something is not what was written, or is missing: another copy, or one from before, may be whole."""


class Preempted(Exception):
    """The run was asked to stop and its state is saved; the same command goes on. Exit code 75."""

    told: bool | None = None
    """Whether this process tells it; None: rank 0 does, for all."""


class PeersLost(Preempted):
    """Other ranks are gone, so this one cannot go on. What the newest checkpoint holds is safe. Exit code 75."""


def first_line(error: BaseException) -> str:
    """What an error of a library says, without the rest of its page; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
