"""Progress of long work: a bar with rate and time left on a terminal, plain lines (one each few seconds) in a log."""

import sys
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

from pipeline.base.log import get_logger

LINE_SECONDS = 5.0


class Progress:
    """Counts work done. `total` may be None where it is not known; `start` is what earlier runs did already."""

    def __init__(self, total: int | None, unit: str, label: str, *, start: int = 0, active: bool = True) -> None:
        self.total, self.unit, self.label = total, unit, label
        self.done = self.start = start
        self.began = self.last_line = time.monotonic()
        self.on_terminal = active and sys.stderr.isatty()
        self.active = active
        self.bar = tqdm(
            total=total,
            initial=start,
            unit=f" {unit}",
            unit_scale=True,
            desc=label,
            disable=not self.on_terminal,
            dynamic_ncols=True,
        )

    def advance(self, n: int = 1, **figures: Any) -> None:
        """Adds n units; figures (loss=1.23) are shown beside."""
        self.done += n
        if not self.active:
            return
        if self.on_terminal:
            self.bar.set_postfix(figures, refresh=False)
            self.bar.update(n)
        elif time.monotonic() - self.last_line >= LINE_SECONDS:
            self._line(figures)

    def _line(self, figures: dict[str, Any]) -> None:
        self.last_line = time.monotonic()
        seconds = self.last_line - self.began
        rate = (self.done - self.start) / seconds if seconds > 0 else 0.0
        of = f" of {self.total:,} ({self.done / max(self.total, 1):.0%})" if self.total is not None else ""
        left = ""
        if self.total is not None and rate > 0:
            left = f", {tqdm.format_interval(max(self.total - self.done, 0) / rate)} left"
        more = "".join(f", {name} {value}" for name, value in figures.items())
        get_logger().info(f"{self.label}: {self.done:,}{of} {self.unit}, {_short(rate)} {self.unit}/s{left}{more}")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()
        if self.active and not self.on_terminal and kind is None:
            self._line({})


def _short(rate: float) -> str:
    return f"{rate:,.1f}" if rate >= 1 else f"{rate:.3g}"
