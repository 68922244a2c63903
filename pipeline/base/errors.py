"""The two ways in which a run ends early without being broken: a person's mistake, and a preemption."""


class UserError(Exception):
    """A mistake that a person can mend. The message says what is wrong, where, and what to do; exit code 2."""

    shared: bool | None = None
    """Whether rank 0 tells it too, so that no other rank has to; None: not known."""


class Preempted(Exception):
    """The run was asked to stop and its state is saved; the same command goes on. Exit code 75."""
