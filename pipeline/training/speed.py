"""How fast training goes: tokens a second, share of the time spent waiting for data, share of the peak FLOP/s."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.base.log import get_logger
from pipeline.base.processes import own_age

PEAKS = (
    ("B200", 2250e12, 75e12),
    ("H200", 989e12, 67e12),
    ("H100 PCIe", 756e12, 51e12),
    ("H100", 989e12, 67e12),
    ("A100", 312e12, 19.5e12),
    ("L40S", 362e12, 91.6e12),
    ("L4", 121e12, 30.3e12),
    ("A10G", 70e12, 35e12),
    ("A10", 125e12, 31.2e12),
    ("V100", 125e12, 15.7e12),
    ("T4", 65e12, 8.1e12),
    ("RTX 4090", 165e12, 82.6e12),
    ("RTX 3090", 71e12, 35.6e12),
)
"""Part of the device's name; data sheets' peak FLOP/s, no sparsity: bf16 or fp16 (fp32 accumulation), and fp32."""


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Peak FLOP/s of one accelerator in train.precision; None where it is not known (a CPU, an unlisted device)."""
    if device.type != "cuda":
        return None
    return listed_peak(torch.cuda.get_device_name(device), precision)


def listed_peak(name: str, precision: str) -> float | None:
    """Peak of the device of that name, from the table."""
    for part, half, single in PEAKS:
        if part in name:
            return single if precision == "fp32" else half
    return None


class Speed:
    """Measures from log to log; evaluation and saving do not count."""

    def __init__(self, waited: float = 0.0) -> None:
        self._restart(waited)
        self._made: float | None = self.began
        """Until the first step is done."""

    def _restart(self, waited: float) -> None:
        self.began, self.excluded_seconds, self.waited, self.steps = time.perf_counter(), 0.0, waited, 0

    @contextmanager
    def excluded(self) -> Iterator[None]:
        """Work that is not training."""
        began = time.perf_counter()
        yield
        self.excluded_seconds += time.perf_counter() - began

    def stepped(self) -> None:
        """A step is done. The first one of a process tells how long its start took, imports and all."""
        self.steps += 1
        if self._made is not None:
            age, own = own_age(), time.perf_counter() - self._made
            self._made = None
            if age is not None:
                get_logger().info(f"first step after {age:.1f} s, the last {own:.1f} of them for its data and itself")

    def read(self, waited: float) -> tuple[float, float]:
        """(seconds a step, share of them spent waiting) since the last call; `waited`: the prefetcher's total so far.

        Call it after a result of the last step was read, so that the accelerator has done what is counted.
        """
        seconds = max(time.perf_counter() - self.began - self.excluded_seconds, 1e-9)
        found = seconds / max(self.steps, 1), min(1.0, (waited - self.waited) / seconds)
        self._restart(waited)
        return found
