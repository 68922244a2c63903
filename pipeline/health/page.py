"""run_dir/health.html: the run's health figures beside a reference's mean and band, and what was found, in words.

One page that needs nothing else: no script, no network, no other file. Price: metrics.jsonl is read from its beginning.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.health.bands import figures
from pipeline.health.reference import Curve, Reference
from pipeline.reporting import chart
from pipeline.reporting.curves import band_chart
from pipeline.reporting.page import fill

FILE = "health.html"
WHAT = {
    "train/generator/accuracy": "how often its first guess is right",
    "train/discriminator/fake_rate": "replaced tokens over all",
    "train/discriminator/loss_over_entropy": "1 knows the share of replaced tokens and no more",
    "train/gradient/": "norm before clipping",
    "train/update_ratio/": "norm of the update over that of the weights",
    "train/noise_scale": "batch, in sequences, at which noise and gradient are as large",
}
"""By the beginning of a figure's name."""
LINEAR = ("train/generator/accuracy", "train/discriminator/fake_rate")
"""All others have a logarithmic axis."""
Points = list[tuple[float, float]]


def render(metrics: Path, findings: Path, title: str, compared: str, reference: Reference | None) -> str:
    """The page. metrics, findings: metrics.jsonl and health.jsonl; compared: a sentence on the reference."""
    return fill(
        "health.html",
        title=title,
        compared=compared,
        findings=told(_lines(findings)),
        figures=[_figure(name, points, reference) for name, points in sorted(read_curves(metrics).items())],
        plot=chart,
    )


def compared_with(reference: Reference) -> str:
    """The sentence on a reference."""
    return (
        f"Compared with the preset {reference.preset} to step {reference.last:,}: {reference.about}. Later steps are "
        "not compared."
    )


def read_curves(metrics: Path) -> dict[str, Points]:
    """(step, value) of each health figure."""
    found: dict[str, Points] = {}
    for entry in _lines(metrics):
        for name in entry:
            if name.startswith(figures()):
                found.setdefault(name, []).append((entry["step"], entry[name]))
    return found


def told(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Findings with the steps of their beginning and end, None while they last; those that last come first."""
    found: list[dict[str, Any]] = []
    for entry in entries:
        if entry["state"] == "begins":
            found.append({"code": entry["code"], "words": entry["words"], "begin": entry["step"], "end": None})
        for one in found:
            if entry["state"] == "ends" and one["code"] == entry["code"] and one["end"] is None:
                one["end"] = entry["step"]
    return sorted(found, key=lambda one: (one["end"] is not None, one["begin"]))


def _figure(name: str, points: Points, reference: Reference | None) -> dict[str, Any]:
    curve = reference.curves.get(name, _NONE) if reference else _NONE
    sides = [list(zip(curve.steps, side, strict=True)) for side in (curve.mean, curve.low, curve.high)]
    step, value = points[-1]
    text, place = f"{value:.3g} at step {step:,}", curve.at(int(step))
    if place is not None:
        text += f"; the reference has {place.mean:.3g}, and {place.low:.3g} to {place.high:.3g} as its band"
    drawn = band_chart(points, *sides, ratio=name not in LINEAR)
    what = next(words for beginning, words in WHAT.items() if name.startswith(beginning))
    return {"name": name, "what": what, "chart": drawn, "told": f"{text}."}


_NONE = Curve(steps=[], mean=[], low=[], high=[])


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that may not be there; a line that is being written has no end yet."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]
