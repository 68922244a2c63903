"""Copies among the documents: found from the keys that the read pass has kept, told with examples of their texts."""

from typing import Any

from pipeline.base.run_folder import RunFolder
from pipeline.base.workers import Workers
from pipeline.stages.preprocess_work import Work


def find_copies(work: Work, folder: RunFolder, workers: Workers, before: dict[str, Any]) -> dict[str, Any]:
    """What is dropped, by kind, with examples; added to what an older revision dropped (`before`)."""
    raise NotImplementedError
