"""Counter-based random numbers: (seed, stream, global sample index, position) -> 64 bits, by integer operations on
the device.

Promise: the same numbers on any device, rank and batch layout; no generator's state is read or moved.
Price: good for masks and draws (splitmix64's mixer, Steele, Lea and Flood 2014), not for secrets.
"""

from enum import IntEnum

import torch
from torch import Tensor

_WORD = 1 << 64
_GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_UNIFORM_BITS = 24
"""As many as a float32 holds exactly, so that a uniform number never rounds up to 1."""


class Stream(IntEnum):
    """What a number is for: numbers of different streams are independent."""

    POSITION = 1
    CORRUPTION = 2
    RANDOM_TOKEN = 3
    SAMPLE = 4
    BLOCK = 5


def random_bits(seed: int, stream: Stream, sample: Tensor, positions: Tensor) -> Tensor:
    """63 random bits each, int64 (batch, n). sample (batch,): global indices; positions (batch, n) or (1, n)."""
    key = (seed * _GOLDEN + stream * _MULTIPLIERS[0]) % _WORD
    row = _mix(_mix(sample + _signed(key)) ^ _signed(key))
    return _mix(row[:, None] + positions * _signed(_GOLDEN)) & _signed(_WORD // 2 - 1)


def random_uniforms(seed: int, stream: Stream, sample: Tensor, positions: Tensor) -> Tensor:
    """float32 in [0, 1), (batch, n), multiples of 2 ** -24. Arguments as in random_bits."""
    bits = random_bits(seed, stream, sample, positions) >> (63 - _UNIFORM_BITS)
    return bits.to(torch.float32) * 2.0**-_UNIFORM_BITS


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _signed(_MULTIPLIERS[0])
    x = (x ^ _shift_right(x, 27)) * _signed(_MULTIPLIERS[1])
    return x ^ _shift_right(x, 31)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift: torch's own keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    """The 64 bits of `word` as torch's int64 takes them."""
    return word - _WORD if word >= _WORD // 2 else word
