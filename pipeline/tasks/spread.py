"""Several seeds of one fine-tuning as one result: median, best on dev, spread; never a mean of the lucky ones.

The median is the middle seed's figure, or the mean of the middle two; the best on dev is chosen by the dev score and
reported with its own figures of the other splits, which took no part in the choice. The spread is smallest and largest,
and the standard deviation with the divisor n - 1 (0 for one seed).
"""

import os
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.base.errors import UserError
from pipeline.base.files import complete_folder, read_json, write_json
from pipeline.tasks.identity import METRICS

TRIVIAL = "trivial_"
"""Before the name of the trivial answer's figure (results.py)."""


@dataclass(frozen=True)
class Spread:
    """One figure over the seeds."""

    median: float
    min: float
    max: float
    std: float
    best_of_dev: float
    """The figure of the seed whose dev score is the best."""

    @property
    def rest(self) -> dict[str, float]:
        """All by name but the median."""
        return {key: number for key, number in asdict(self).items() if key != "median"}


def spread(values: Sequence[float], best: int) -> Spread:
    """Of one figure, a value a seed; `best` is the place of the best seed on dev."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return Spread(statistics.median(values), min(values), max(values), deviation, values[best])


def spreads(by_seed: Mapping[int, Mapping[str, float]], best_seed: int) -> dict[str, Spread]:
    """Of each figure that every seed has, by its name."""
    best, (first, *others) = list(by_seed).index(best_seed), by_seed.values()
    names = [name for name in first if all(name in figures for figures in others)]
    return {name: spread([figures[name] for figures in by_seed.values()], best) for name in names}


@dataclass(frozen=True)
class Results:
    """metrics.json of the seeds of one group, by seed."""

    by_seed: dict[int, dict[str, Any]]
    selection: str
    """The metric by which dev chooses."""

    @property
    def first(self) -> dict[str, Any]:
        """Of the first seed: what all have in common."""
        return next(iter(self.by_seed.values()))

    @property
    def prefix(self) -> str:
        """finetune/NAME/."""
        return f"finetune/{self.first['name']}/"

    @property
    def best_seed(self) -> int:
        """With the best dev score; of equals the first."""
        return max(self.by_seed, key=lambda seed: self.by_seed[seed][f"{self.prefix}dev/{self.selection}"])

    @property
    def reported_split(self) -> str:
        """test, or dev where there is no test file."""
        return str(self.first["reported_split"])

    def spreads(self) -> dict[str, Spread]:
        """By the figure's name without finetune/NAME/, such as test/accuracy; only what every seed has."""
        return spreads({seed: _figures(metrics, self.prefix) for seed, metrics in self.by_seed.items()}, self.best_seed)


def summarised(results: Results, baseline: Mapping[str, float]) -> dict[str, Any]:
    """The content of a group's metrics.json: medians under the usual names, and beside them /best_of_dev, /min, ...

    baseline: the bag-of-words model's figures by name such as test/accuracy; they become test/bag_of_words_accuracy.
    """
    best = results.by_seed[results.best_seed]
    figures: dict[str, float] = {}
    for name, value in results.spreads().items():
        figures[f"{results.prefix}{name}"] = value.median
        if TRIVIAL not in name:
            figures |= {f"{results.prefix}{name}/{key}": number for key, number in value.rest.items()}
    for name, number in baseline.items():
        split, _, metric = name.rpartition("/")
        figures[f"{results.prefix}{split}/bag_of_words_{metric}"] = number
    seeds = list(results.by_seed)
    facts = {key: value for key, value in best.items() if not key.startswith(results.prefix) and key != "history"}
    settings = best.get("settings", {}) | {"seed": f"{seeds[0]} to {seeds[-1]}"}
    own = {"seeds": seeds, "best_seed": results.best_seed, "selection": results.selection, "settings": settings}
    each = {str(seed): _figures(metrics, results.prefix) for seed, metrics in results.by_seed.items()}
    return figures | facts | own | {"by_seed": each}


def write_group(folder: Path, summary: dict[str, Any], *, with_model: bool) -> None:
    """folder/metrics.json, and folder/model: the best seed's, by hard links where the file system has them."""
    best = folder / f"seed-{summary['best_seed']}"
    if with_model and not _same_model(best / "model", folder / "model"):
        with complete_folder(folder / "model") as aside:
            for source in sorted((best / "model").rglob("*")):
                place = aside / source.relative_to(best / "model")
                if source.is_dir():
                    place.mkdir()
                else:
                    _link(source, place)
    write_json(folder / METRICS, summary)


def refuse_single(folder: Path) -> None:
    """UserError where the folder holds one fine-tuning, made without a sweep: its seeds would be mixed up with it."""
    if (folder / METRICS).is_file() and "seeds" not in read_json(folder / METRICS):
        raise UserError(f"{folder} holds a single fine-tuning. Set another finetune.name, or remove the folder.")


def _figures(metrics: dict[str, Any], prefix: str) -> dict[str, float]:
    return {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}


def _same_model(one: Path, other: Path) -> bool:
    """Whether `other` is made of links to the files of `one`."""
    files = [path for path in one.rglob("*") if path.is_file()]
    return other.is_dir() and all(
        (twin := other / path.relative_to(one)).is_file() and os.path.samefile(path, twin) for path in files
    )


def _link(source: Path, place: Path) -> None:
    try:
        os.link(source, place)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, place)
