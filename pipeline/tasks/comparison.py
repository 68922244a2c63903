"""The table of a sweep: tasks in rows, exports and simple baselines in columns, each with its spread over the seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.base.files import write_atomic, write_json
from pipeline.tasks.page import Table, page
from pipeline.tasks.spread import TRIVIAL, Results, Spread

ABSENT = "-"


@dataclass(frozen=True)
class Row:
    """One metric of one task, on the split that is reported."""

    task: str
    examples: int | None
    """Of finetune.train_examples; None: all."""
    metric: str
    split: str
    exports: dict[str, Spread]
    """By the export's name; those that have failed are not there."""
    seeds: dict[str, int]
    """How many of each export's seeds there are."""
    trivial: float | None
    bag_of_words: float | None


@dataclass(frozen=True)
class Compared:
    """What one task, at one number of examples, has to say."""

    task: str
    examples: int | None
    headline: Sequence[str]
    split: str
    """Which is reported."""
    results: Mapping[str, Results] = field(default_factory=dict)
    """By export."""
    baseline: Mapping[str, float] = field(default_factory=dict)
    """Bag of words, by name such as test/accuracy."""

    def rows(self) -> list[Row]:
        """A row for each metric of the headline that there is."""
        spreads = {export: results.spreads() for export, results in self.results.items()}
        seeds = {export: len(results.by_seed) for export, results in self.results.items()}
        rows = []
        for metric in self.headline:
            name, trivial = f"{self.split}/{metric}", f"{self.split}/{TRIVIAL}{metric}"
            found = {export: values[name] for export, values in spreads.items() if name in values}
            simple = next((values[trivial].median for values in spreads.values() if trivial in values), None)
            if found or name in self.baseline or metric == self.headline[0]:
                counted = self.baseline.get(name)
                rows.append(Row(self.task, self.examples, metric, self.split, found, seeds, simple, counted))
        return rows


def write_comparison(folder: Path, compared: Sequence[Compared], exports: Sequence[str]) -> tuple[Table, list[Path]]:
    """folder/comparison.{md,html,json}; the table and the three files."""
    rows = [row for one in compared for row in one.rows()]
    table = _table(rows, exports)
    files = [folder / f"comparison.{suffix}" for suffix in ("md", "html", "json")]
    write_atomic(files[0], f"# Comparison\n\n{table.markdown()}")
    write_atomic(files[1], page("Comparison of exports by task", table.html()))
    write_json(files[2], {"exports": list(exports), "rows": [_plain(row) for row in rows]})
    return table, files


def shown(value: Spread) -> str:
    """Median, standard deviation, range, and what the best seed on dev reached."""
    range_ = f"{value.min:.3f} to {value.max:.3f}"
    return f"{value.median:.3f} ± {value.std:.3f} ({range_}); best of dev {value.best_of_dev:.3f}"


def _table(rows: Sequence[Row], exports: Sequence[str]) -> Table:
    caption = (
        "Median over the seeds ± standard deviation (smallest to largest), and the figure of the seed that was best on "
        "dev. Baselines: the trivial answer (such as always the commonest label), and a linear model over words and "
        f"characters. {ABSENT} means that there is no such figure."
    )
    header = ["task", "metric", "split", *exports, "trivial answer", "bag of words"]
    body = []
    for row in rows:
        name = row.task if row.examples is None else f"{row.task}, {row.examples} examples"
        cells = [shown(row.exports[export]) if export in row.exports else ABSENT for export in exports]
        baselines = [ABSENT if value is None else f"{value:.3f}" for value in (row.trivial, row.bag_of_words)]
        body.append([name, row.metric, row.split, *cells, *baselines])
    return Table(caption, header, body)


def _plain(row: Row) -> dict[str, Any]:
    """As JSON has it; the numbers are not rounded."""
    return asdict(row)
