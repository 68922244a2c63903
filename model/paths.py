"""Which form of an operation is taken: the plain one, or one written for the device. The one place that decides.

On a CPU random draws, memory that is touched for the first time and passes over scores cost as much as the matrix
products; there dropout, attention and the language loss have forms of their own (dropout.py, tiles.py, guesses.py).
They compute the same: the plain form is what they are tested against. A GPU takes the plain forms, whose kernels are
fused, but for attention (stretches.py); and so does a compiler, which fuses for itself.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_plain = False


def by_hand(x: Tensor) -> bool:
    """Whether the forms for a CPU are taken for x."""
    return x.device.type == "cpu" and not _plain and not torch.compiler.is_compiling()


def in_one_pass(x: Tensor) -> bool:
    """Whether loss, draws and gradient of the scores x are made a few rows at a time."""
    return x.device.type in ("cpu", "cuda") and not _plain and not torch.compiler.is_compiling()


def has_flash(device: torch.device) -> bool:
    """Whether the device has the flash kernel for sequences of varying length: NVIDIA's from Ampere on."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def by_flash(x: Tensor, head_size: int) -> bool:
    """Whether attention on the device of x, one that has it, goes by the flash kernel: under autocast."""
    taken = x.device.type == "cuda" and not _plain and torch.is_autocast_enabled("cuda")
    return taken and head_size % 8 == 0 and head_size <= 256


def by_float32(kind: torch.dtype) -> bool:
    """Whether a CPU's products of matrices of this type go by float32 (products.py): it has none of its own for it."""
    return kind == torch.bfloat16 and not _plain and not multiplies_bfloat16()


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether torch has fast products of bfloat16 on this CPU: AMX, AVX-512 or ARM's."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def plain_forms() -> Iterator[None]:
    """Within, the plain forms are taken everywhere, as on an accelerator: for comparisons."""
    global _plain
    before, _plain = _plain, True
    try:
        yield
    finally:
        _plain = before
