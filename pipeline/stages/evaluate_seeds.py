"""Several seeds of one fine-tuning on a file: their evaluations as one, which has a median and a spread.

A folder that holds seed-N folders is such a group. The best seed is the one with the best dev score of its training:
the file that is read here takes no part in the choice.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.base.errors import UserError
from pipeline.base.files import read_json
from pipeline.tasks.families.base import family_class
from pipeline.tasks.identity import METRICS
from pipeline.tasks.spread import Results, spreads

_SEED = re.compile(r"seed-(\d+)")


def seed_folders(folder: Path) -> dict[int, Path]:
    """The fine-tunings of a group by seed: those that its metrics.json names, else all; {} where it is no group.

    UserError for one that is missing.
    """
    found = {int(match[1]): path for path in folder.glob("seed-*") if (match := _SEED.fullmatch(path.name))}
    found = {seed: path for seed, path in found.items() if (path / METRICS).is_file()}
    joint = read_json(folder / METRICS) if found and (folder / METRICS).is_file() else {}
    named = joint.get("seeds") if isinstance(joint, dict) else None
    if not isinstance(named, list):
        return dict(sorted(found.items()))
    missing = [seed for seed in named if seed not in found]
    if missing:
        raise UserError(
            f"evaluate.model: {folder} is of the seeds {', '.join(map(str, named))}, but seed-{missing[0]} is missing "
            "or not finished. Fine-tune it again, or give one of the seed folders."
        )
    return {seed: found[seed] for seed in named}


def best_seed(folders: Mapping[int, Path]) -> int:
    """The one with the best dev score of its training. Raises UserError where the scores are not there."""
    trained = {seed: read_json(path / METRICS) for seed, path in folders.items()}
    try:
        first = next(iter(trained.values()))
        return Results(trained, first.get("selection") or family_class(first["family"]).selection).best_seed
    except (KeyError, TypeError, AttributeError):
        names = ", ".join(str(path / METRICS) for path in folders.values())
        raise UserError(f"evaluate.model: the seeds' dev scores are missing in one of {names}.") from None


def joined(folders: Mapping[int, Path], best: int, evaluations: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    """The group's evaluation: medians as `metrics`, the rest of each figure as `spread`, each seed's in `by_seed`.

    best: the best seed. evaluations: of every seed, by the same file and settings.
    """
    metrics = spreads({seed: one["metrics"] for seed, one in evaluations.items()}, best)
    trivial = spreads({seed: one["trivial"] for seed, one in evaluations.items()}, best)
    shared = {key: value for key, value in evaluations[best].items() if key != "model_sha256"}
    return shared | {
        "models_sha256": {folders[seed].name: one["model_sha256"] for seed, one in evaluations.items()},
        "seeds": list(evaluations),
        "best_seed": best,
        "metrics": {name: value.median for name, value in metrics.items()},
        "trivial": {name: value.median for name, value in trivial.items()},
        "spread": {name: value.rest for name, value in metrics.items()},
        "by_seed": {str(seed): one["metrics"] for seed, one in evaluations.items()},
    }
