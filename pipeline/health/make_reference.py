"""Makes a preset's reference curves from finished or stopped runs of it: `python -m pipeline.health.make_reference`.

The mean is that of the runs. The band is as wide as three standard deviations of their single values, as the farthest
value of any run from the mean of the others, as the values of runs on other text (--also), and as a floor; `_LIMITS`.
With --onto a reference is carried on behind its last step by runs that went farther: what it has stays, and the band
behind is at least as wide as its own is at its end.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.base.arrays import Array
from pipeline.base.config import RunConfig, config_from_dict
from pipeline.base.errors import UserError
from pipeline.base.files import read_json, write_atomic
from pipeline.base.run_folder import RunFolder
from pipeline.base.tool import run_tool
from pipeline.base.yaml_file import read_yaml
from pipeline.health.reference import Curve, Reference, shape_of

POINTS = 48
"""Most steps of a curve."""
NEAR, AROUND = 1.15, 1.6
"""Steps that differ by so large a factor at most are averaged; those whose spread is taken together."""
DEVIATIONS, MARGIN = 3.0, 1.25
LEAST_RUNS = 3


class Limits(NamedTuple):
    """How a figure varies. low, high: the least that the band reaches below and above the mean: a factor where the
    figure is compared by ratio, else a difference."""

    ratio: bool
    low: float
    high: float


_LIMITS = {
    "train/generator/accuracy": Limits(False, 0.08, 0.20),
    "train/discriminator/fake_rate": Limits(False, 0.03, 0.01),
    "train/discriminator/loss_over_entropy": Limits(True, 1.25, 1.1),
    "train/gradient/": Limits(True, 3.0, 3.0),
    "train/update_ratio/": Limits(True, 1.6, 1.6),
    "train/noise_scale": Limits(True, 5.0, 5.0),
}
"""By the beginning of a figure's name: what another text of the same kind may do to it, beyond what --also shows."""


class Points(NamedTuple):
    """One run's values of a figure, as they are compared."""

    steps: Array
    values: Array


def make(
    runs: Sequence[Path], also: Sequence[Path], preset: str, last: int, onto: Reference | None = None
) -> Reference:
    """The reference of `runs` up to step `last`, behind that of `onto` where one is given.

    Raises UserError for too few runs, or runs of different settings.
    """
    if len(runs) < LEAST_RUNS:
        raise UserError(f"{len(runs)} runs are too few for a band: give {LEAST_RUNS} or more, of different seeds.")
    configs = [read_config(path) for path in runs]
    shapes = [shape_of(config, vocab_size(config)) for config in configs]
    for path, config in zip((*runs, *also), (*configs, *map(read_config, also)), strict=True):
        found = shape_of(config, vocab_size(config))
        if apart := sorted(key for key in found | shapes[0] if found.get(key) != shapes[0].get(key)):
            names = ", ".join(apart)
            raise UserError(f"{path} has other settings than {runs[0]}: {names}. A reference is of one preset.")
    metrics, others = [read_points(path, last) for path in runs], [read_points(path, last) for path in also]
    curves = {
        name: curve(_limits(name), [one[name] for one in metrics], [one[name] for one in others if name in one])
        for name in sorted(set.intersection(*(set(one) for one in metrics)))
    }
    seeds = ", ".join(str(config.seed) for config in configs)
    about = f"{len(runs)} runs with seeds {seeds}; the band has room for {len(also)} runs on other text"
    made = Reference(preset=preset, about=about, shape=shapes[0], curves=curves)
    return made if onto is None else carried_on(onto, made)


def carried_on(onto: Reference, made: Reference) -> Reference:
    """`onto`, and behind its last step the curves of `made`; a curve of it that ends before, as of a figure that is
    seldom known, stays as it is. UserError where they are of two presets, or `made` does not go farther."""
    if onto.shape != made.shape:
        raise UserError(f"the runs have other settings than the reference {onto.preset} that they are to carry on.")
    if made.last <= onto.last:
        raise UserError(f"the runs do not go farther than step {onto.last}, where the reference ends already.")
    joined = {
        name: behind(_limits(name), onto.curves[name], curve) if name in onto.curves else curve
        for name, curve in made.curves.items()
        if name not in onto.curves or onto.curves[name].steps[-1:] == [onto.last]
    }
    about = f"to step {onto.last}: {onto.about}; behind it: {made.about}"
    return made.model_copy(update={"about": about, "curves": onto.curves | joined})


def behind(limits: Limits, first: Curve, then: Curve) -> Curve:
    """`first`, and `then` behind its last step, where the band reaches at least as far as it does there."""
    later = [place for place, step in enumerate(then.steps) if step > first.steps[-1]]
    mean, low, high = (
        np.array(side)[later] if not limits.ratio else np.log(np.array(side)[later])
        for side in (then.mean, then.low, then.high)
    )
    middle, *ends = (
        side[-1] if not limits.ratio else math.log(side[-1]) for side in (first.mean, first.low, first.high)
    )
    return Curve(
        steps=first.steps + [then.steps[place] for place in later],
        mean=first.mean + _plain(limits, mean),
        low=first.low + _plain(limits, np.minimum(low, mean - (middle - ends[0]))),
        high=first.high + _plain(limits, np.maximum(high, mean + (ends[1] - middle))),
    )


def read_config(path: Path) -> RunConfig:
    """The config that the run has written down."""
    values, _ = read_yaml(RunFolder(path).config)
    return config_from_dict(values | {"run_dir": str(path)}, str(RunFolder(path).config))  # it may have moved


def vocab_size(config: RunConfig) -> int:
    """Pieces of the run's vocabulary, by its data set's manifest."""
    return int(read_json(RunFolder.with_data(config).manifest)["tokenizer"]["vocab_size"])


def read_points(path: Path, last: int) -> dict[str, Points]:
    """The run's figures by name, in the scale in which they are compared."""
    found: dict[str, list[tuple[int, float]]] = {}
    file = RunFolder(path).metrics
    if not file.is_file():
        raise UserError(f"{file} does not exist; name a run's folder.")
    for line in file.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        for name in entry.keys() - {"step", "time"}:
            if (
                name.startswith(tuple(_LIMITS))
                and entry["step"] <= last
                and (entry[name] > 0 or not _limits(name).ratio)
            ):
                value = math.log(entry[name]) if _limits(name).ratio else entry[name]
                found.setdefault(name, []).append((entry["step"], value))
    return {name: Points(*np.array(pairs, dtype=np.float64).T) for name, pairs in found.items()}


def curve(limits: Limits, runs: Sequence[Points], others: Sequence[Points]) -> Curve:
    """Mean and band; values are logarithms where the figure is compared by ratio. Left out are steps near which one of
    the runs does not have the figure."""
    grid = np.unique(np.concatenate([run.steps for run in runs]))
    each = np.array([[_mean(run, step) for step in grid] for run in runs])
    known = ~np.isnan(each).any(0)
    grid, each = grid[known], each[:, known]
    if not len(grid):
        return Curve(steps=[], mean=[], low=[], high=[])
    mean = each.mean(0)
    without = (len(runs) * mean - each) / (len(runs) - 1)
    apart = [_apart(run, grid, mean) for run in runs]
    far = [_apart(run, grid, other) for run, other in zip(runs, without, strict=True)]
    far += [_apart(run, grid, mean) for run in others]
    places = _thinned(len(grid))
    reach = np.array([_reach(limits, apart, far, grid[place]) for place in places])
    return Curve(
        steps=grid[places].astype(int).tolist(),
        mean=_plain(limits, mean[places]),
        low=_plain(limits, mean[places] - reach[:, 0]),
        high=_plain(limits, mean[places] + reach[:, 1]),
    )


def _apart(run: Points, grid: Array, mean: Array) -> Points:
    """How far each value of the run is from a mean at its own step."""
    inside = (run.steps >= grid[0]) & (run.steps <= grid[-1])
    steps = run.steps[inside]
    return Points(steps, run.values[inside] - np.interp(steps, grid, mean))


def _reach(limits: Limits, apart: Sequence[Points], far: Sequence[Points], step: float) -> tuple[float, float]:
    """How far the band reaches below and above the mean. apart: of the runs; far: what has to be inside."""
    squares = np.concatenate([_near(run, step, AROUND) for run in apart]) ** 2
    spread = DEVIATIONS * float(np.sqrt(squares.mean() * len(apart) / (len(apart) - 1)))
    farthest = np.concatenate([[0.0], *(_near(run, step, AROUND) for run in far)])
    floors = (math.log(limits.low), math.log(limits.high)) if limits.ratio else (limits.low, limits.high)
    low, high = -MARGIN * float(farthest.min()), MARGIN * float(farthest.max())
    return max(low, spread, floors[0]), max(high, spread, floors[1])


def _near(run: Points, step: float, factor: float) -> Array:
    """The values at steps near this one."""
    found: Array = run.values[(run.steps <= step * factor) & (run.steps * factor >= step)]
    return found


def _mean(run: Points, step: float) -> float:
    values = _near(run, step, NEAR)
    return float(values.mean()) if len(values) else math.nan


def _thinned(number: int) -> Array:
    """Places of POINTS at most of so many steps: the first ones all, then ever farther apart."""
    found: Array = np.unique(np.geomspace(1, number, min(POINTS, number)).round().astype(int)) - 1
    return found if number > POINTS else np.arange(number)


def _plain(limits: Limits, values: Array) -> list[float]:
    """The figure's own values, four digits."""
    own = np.exp(values) if limits.ratio else values.clip(0.0, 1.0)
    return [float(f"{value:.4g}") for value in own]


def _limits(name: str) -> Limits:
    return next(limits for beginning, limits in _LIMITS.items() if name.startswith(beginning))


def main(arguments: Sequence[str] | None = None) -> int:
    """The tool."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.health.make_reference", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs of the preset, of different seeds")
    parser.add_argument("--also", nargs="*", type=Path, default=[], help="folders of runs of it on other text")
    parser.add_argument("--preset", required=True, help="the preset's name: that of its file in configs/")
    parser.add_argument("--last", type=int, default=10**12, help="the last step to use")
    parser.add_argument("--onto", type=Path, help="a reference of the preset to carry on behind its last step")
    parser.add_argument("--out", required=True, type=Path, help="file to write: pipeline/health/curves/NAME.json")
    given = parser.parse_args(arguments)

    def work() -> int:
        onto = Reference.model_validate(read_json(given.onto)) if given.onto else None
        made = make(given.runs, given.also, given.preset, given.last, onto)
        write_atomic(given.out, to_json(made))
        print(f"{given.out}: {len(made.curves)} figures to step {made.last}; {made.about}")
        return 0

    return run_tool("make_reference", work)


def to_json(reference: Reference) -> str:
    """A list a line, so that a file of curves can be read and compared."""
    values = reference.model_dump(mode="json")
    curves = ",\n".join(
        f"{json.dumps(name)}: {{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in one.items()) + "}"
        for name, one in values.pop("curves").items()
    )
    return json.dumps(values, indent=1)[:-2] + f',\n "curves": {{\n{curves}\n}}\n}}\n'


if __name__ == "__main__":
    sys.exit(main())
