"""What a worker of a sweep does: one fine-tuning, or the linear model's turn at one. Repeatable; finished is finished.

A worker speaks to no MLflow server: it appends to its job's journal, which the sweep's own process sends on. So any
number of them run side by side on one database file. Price: the run's folder must be one that all hosts see.
"""

import os
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.config import config_from_dict, flatten
from pipeline.base.errors import UserError
from pipeline.base.files import read_json, write_json
from pipeline.base.journal import Journal
from pipeline.base.log import setup_logging
from pipeline.tasks.bag_of_words import bag_of_words
from pipeline.tasks.families.base import open_task
from pipeline.tasks.identity import comparable, input_digests
from pipeline.tasks.job import fine_tune
from pipeline.tasks.subsets import limited


@dataclass(frozen=True)
class Failure:
    """A job that did not end well."""

    message: str
    defect: bool
    """Whether it is this program's, and not a person's to mend."""

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        """The error as a value, of a defect with its traceback."""
        defect = not isinstance(error, UserError)
        return cls("".join(traceback.format_exception(error)) if defect else str(error), defect)


def fine_tune_one(values: dict[str, Any], target: str, journal: str) -> Failure | None:
    """Fine-tunes by the config's plain values into `target`; what is wrong comes back instead of being raised."""
    _quiet()
    config = config_from_dict(values)
    points = Journal(Path(journal))
    points.status("RUNNING")
    points.params(flatten({"finetune": config.finetune.model_dump(mode="json"), "seed": config.seed}))
    try:
        fine_tune(config, Path(target), points)
    except Exception as error:
        points.status("FAILED")
        return Failure.of(error)
    else:
        points.status("FINISHED")
        return None
    finally:
        points.close()


def count_words(values: dict[str, Any], path: str) -> Failure | None:
    """The bag-of-words model on the same examples as the fine-tuning of `values`; its figures go to the JSON file."""
    _quiet()
    config = config_from_dict(values)
    try:
        settings = {key: value for key, value in comparable(config).items() if key in _DECIDE}
        inputs = {key: value for key, value in input_digests(config).items() if key != "finetune.export"}
        made = {"settings": settings, "inputs": inputs}
        file = Path(path)
        if file.is_file() and {key: read_json(file).get(key) for key in made} == made:
            return None
        found = bag_of_words(limited(open_task(config.finetune), config.finetune, config.seed))
        reached = {"examples": found.examples, "figures": found.figures} if found else {"examples": 0, "figures": {}}
        write_json(file, made | reached)
    except Exception as error:
        return Failure.of(error)
    return None


_DECIDE = (
    "finetune.family",
    "finetune.fields",
    "finetune.format",
    "finetune.max_train_examples",
    "finetune.select",
    "seed",
)
"""Settings that a linear model's figures depend on."""


def _quiet() -> None:
    """A worker's lines go nowhere; one thread: there are as many workers as CPUs."""
    setup_logging(None, rank=1)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
