"""Compiles the loops of cleaning and deduplication, so that no task has to: 20 s once, then 1 s.

    python -m pipeline.precompile

`make setup` does it. On a cluster whose hosts have no common folder for the program, or other processors, it saves each
host's first tasks that time; without it they compile for themselves.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.cleaning_sections import CleanConfig
from pipeline.base.duplicates_sections import DeduplicateConfig
from pipeline.cleaning.cleaner import Cleaner
from pipeline.corpus.documents import document_of
from pipeline.duplicates.equal_loops import first_equal
from pipeline.duplicates.keys import KeyWriter

TEXTS = ("The cat sat on the mat, and that was that. " * 40, "The naïve cat sat on the mat, and that was that. " * 40)
"""ASCII and other text have functions of their own."""

FILTERS: tuple[dict[str, Any], ...] = (
    {"length": {"min_words": 1}, "ratios": {}, "fineweb": {}},
    {"stop_words": {}},
    {"stop_words": {"language": "zh"}},
    {"gopher_quality": {}},
    {"gopher_repetition": {}},
)
"""Apart, because the text that one drops does not come to the next."""


def main() -> None:
    """Runs all filters and keys over a few words."""
    cleaners = [Cleaner(CleanConfig.model_validate(filter_)) for filter_ in FILTERS]
    keys = KeyWriter(DeduplicateConfig.model_validate({"near": {}, "paragraphs": True}))
    for text in TEXTS:
        for cleaner in cleaners:
            cleaner.apply(text)
        keys.add(text, document_of(text).digest)
    with tempfile.TemporaryDirectory() as folder:
        keys.save(Path(folder))
    first_equal(np.zeros(2, np.uint64), np.zeros(2, np.uint64))


if __name__ == "__main__":
    main()
