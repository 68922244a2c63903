"""Tables of docs/benchmarks.md that the benchmarks write themselves: between markers, with machine, versions and date.

A table stands between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`, each on a line of its own. Promise: the page is
replaced whole or not at all; what stands outside of the markers is not touched.
"""

import datetime
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
PACKAGES = ("torch", "transformers", "deepspeed", "ray")
FEATURES = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16", "avx512f": "AVX-512", "avx2": "AVX2"}
"""Flag in /proc/cpuinfo -> its name; from the most capable to the least."""


def table(head: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range, such as `2.31 (2.20-2.40)`; a single value stands alone."""
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def machine() -> str:
    """Processor, what its vector units have, cores, versions and the date, in one line."""
    name, flags = platform.machine(), set[str]()
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() == "flags":
                flags = set(value.split())
    best = next((title for flag, title in FEATURES.items() if flag in flags), "no known vector unit")
    versions = ", ".join(f"{package} {_version(package)}" for package in PACKAGES)
    cores = len(os.sched_getaffinity(0))
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    return f"{name} ({best} at most), {cores} core(s), load {os.getloadavg()[0]:.1f}; {versions}; {day}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def replace(name: str, text: str, page: Path = PAGE) -> None:
    """Puts the text between the markers of that name. Raises SystemExit where the page has not one such pair."""
    before, opening, rest = page.read_text(encoding="utf-8").partition(f"<!-- bench:{name} -->\n")
    _, closing, after = rest.partition(f"<!-- /bench:{name} -->\n")
    if not opening or not closing or opening in rest:
        raise SystemExit(
            f"{page} needs one line `<!-- bench:{name} -->` and behind it one line `<!-- /bench:{name} -->`: "
            "the table goes between them"
        )
    aside = page.with_name(f".{page.name}.{os.getpid()}")
    try:
        aside.write_text(f"{before}{opening}{text.strip()}\n{closing}{after}", encoding="utf-8")
        aside.chmod(page.stat().st_mode)
        aside.replace(page)
    finally:
        aside.unlink(missing_ok=True)
