"""Score against training examples, for exports, bag of words and trivial answer, in one picture: did it pay?

Points are medians over the seeds, bands reach from the smallest to the largest. The picture is SVG inside a page that
stands alone; the same figures are in a table below it, and as Markdown and JSON.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from pipeline.base.files import write_atomic, write_json
from pipeline.tasks.page import Table, page
from pipeline.tasks.spread import Spread

BAG_OF_WORDS = "bag of words"
TRIVIAL_ANSWER = "trivial answer"
_STYLES = (
    ("#0072b2", "o", "-"),
    ("#d55e00", "s", "--"),
    ("#009e73", "^", "-."),
    ("#cc79a7", "D", ":"),
    ("#e69f00", "v", "-"),
    ("#56b4e9", "P", "--"),
)
"""Colour (told apart by the colour-blind: Okabe and Ito), marker and line of a series, used in turn."""


@dataclass(frozen=True)
class Curve:
    """A task's figures by series (an export's name, bag of words, trivial answer) and number of examples."""

    task: str
    metric: str
    split: str
    series: Mapping[str, Mapping[int, Spread]]

    @property
    def sizes(self) -> list[int]:
        """All numbers of examples."""
        return sorted({size for points in self.series.values() for size in points})


def write_curve(folder: Path, curve: Curve) -> list[Path]:
    """folder/learning-curve.{md,html,json}."""
    title = f"{curve.task}: {curve.metric} against training examples"
    table = _table(curve)
    files = [folder / f"learning-curve.{suffix}" for suffix in ("md", "html", "json")]
    write_atomic(files[0], f"# {title}\n\n{described(curve)}\n\n{table.markdown()}")
    figure = f"<figure>\n{picture(curve)}\n<figcaption>{escape(described(curve))}</figcaption>\n</figure>"
    write_atomic(files[1], page(title, f"{figure}\n{table.html()}"))
    write_json(files[2], {"task": curve.task, "metric": curve.metric, "split": curve.split, "series": _plain(curve)})
    return files


def described(curve: Curve) -> str:
    """In words what the picture shows; it is also the picture's alternative text."""
    parts = []
    for name, points in curve.series.items():
        if points:
            few, many = min(points), max(points)
            parts.append(f"{name} {points[few].median:.3f} with {few} examples, {points[many].median:.3f} with {many}")
    return f"{curve.metric} on {curve.split}, median over the seeds: {'; '.join(parts)}."


def picture(curve: Curve) -> str:
    """An <svg> element with a title and a description."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    with matplotlib.rc_context({"svg.hashsalt": curve.task, "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for place, (name, points) in enumerate(curve.series.items()):
            colour, marker, line = _STYLES[place % len(_STYLES)]
            sizes = sorted(points)
            axes.plot(sizes, [points[n].median for n in sizes], line, color=colour, marker=marker, label=name)
            low, high = [points[n].min for n in sizes], [points[n].max for n in sizes]
            axes.fill_between(sizes, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.set_xscale("log")
        axes.set_xticks(curve.sizes, [f"{size:,}" for size in curve.sizes])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("training examples")
        axes.set_ylabel(f"{curve.metric} ({curve.split})")
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    drawn = re.sub(r"<metadata>.*?</metadata>", "", file.getvalue(), flags=re.DOTALL)
    drawn = drawn[drawn.index("<svg") :]
    opening, rest = drawn.split(">", 1)
    words = (
        f"<title>{escape(curve.task)}: score against training examples</title>\n<desc>{escape(described(curve))}</desc>"
    )
    return f'{opening} role="img" aria-label="{escape(described(curve), quote=True)}">\n{words}{rest.rstrip()}'


def _table(curve: Curve) -> Table:
    header = ["training examples", *curve.series]
    rows = []
    for size in curve.sizes:
        found: Sequence[Spread | None] = [points.get(size) for points in curve.series.values()]
        cells = ["-" if one is None else f"{one.median:.3f} ({one.min:.3f} to {one.max:.3f})" for one in found]
        rows.append([f"{size:,}", *cells])
    caption = f"{curve.metric} on {curve.split}: median over the seeds (smallest to largest)."
    return Table(caption, header, rows)


def _plain(curve: Curve) -> dict[str, Any]:
    return {name: {str(size): asdict(value) for size, value in points.items()} for name, points in curve.series.items()}
