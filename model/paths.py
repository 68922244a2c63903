"""Which form of an operation is taken: the plain one, or the one written for a CPU. The one place that decides.

On a CPU random draws, memory that is touched for the first time and passes over scores cost as much as the matrix
products; there dropout, attention and the language loss have forms of their own (dropout.py, tiles.py, guesses.py).
They compute the same: the plain form is what they are tested against. An accelerator has fused kernels and takes the
plain form.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

_plain = False


def by_hand(x: Tensor) -> bool:
    """Whether the forms for a CPU are taken for x."""
    return x.device.type == "cpu" and not _plain


@contextmanager
def plain_forms() -> Iterator[None]:
    """Within, the plain forms are taken everywhere, as on an accelerator: for comparisons."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before
