"""What a corpus is made of, for data/statistics.json and the model card: documents by input file, letters by script."""

from collections import Counter
from collections.abc import Mapping

from pipeline.stages.preprocess_totals import MOST_INPUTS

FIELDS = ("files", "bytes", "documents", "characters", "dropped")


def inputs_of(counts: Mapping[str, Counter[str]]) -> list[dict[str, int | str]]:
    """{"input", "files", "bytes", "documents", "characters", "dropped"} of each input, in reading order."""
    shown = counts if len(counts) <= MOST_INPUTS else _largest(counts)
    return [{"input": name} | {field: count[field] for field in FIELDS} for name, count in shown.items()]


def scripts_of(counts: Counter[str]) -> dict[str, float]:
    """Share of each script among the sampled letters, largest first."""
    total = counts.total()
    return {name: round(count / total, 6) for name, count in sorted(counts.items(), key=lambda item: (-item[1], item))}


def _largest(counts: Mapping[str, Counter[str]]) -> dict[str, Counter[str]]:
    ordered = sorted(counts, key=lambda name: -counts[name]["characters"])
    kept = set(ordered[: MOST_INPUTS - 1])
    rest: Counter[str] = Counter()
    for name in ordered[MOST_INPUTS - 1 :]:
        rest.update(counts[name])
    return {name: count for name, count in counts.items() if name in kept} | {"others": rest}
