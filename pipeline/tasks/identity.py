"""Which task this is, and whether it is finished: its folder, the settings and digests that the result comes from."""

import re
from pathlib import Path
from typing import Any

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.files import read_json, sha256_file
from pipeline.base.run_folder import RunFolder
from pipeline.tasks.families.base import SPLITS, family_class, split_path
from pipeline.tasks.pretrained import pretrained_digest, pretrained_path
from pipeline.tasks.recipe import RATES

METRICS = "metrics.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PLACES = ("export", "data_folder", *SPLITS)
"""Settings that are paths: what they hold is compared by digest, so a file may move."""
_INDIFFERENT = (
    "save_every",
    "log_model",
    "tasks",
    "task_settings",
    "exports",
    "seeds",
    "train_examples",
    "bag_of_words",
)
"""Settings on which the result of one fine-tuning does not depend."""


def target_folder(config: RunConfig) -> Path:
    """run_dir/finetune/NAME. UserError for a name that is no plain folder name."""
    check_name(config.finetune.name, "finetune.name")
    return RunFolder(Path(config.run_dir)).finetune / config.finetune.name


def check_name(name: str, place: str) -> None:
    """UserError for a name that is no plain folder name. place: what has it, for the message."""
    if not _NAME.fullmatch(name):
        raise UserError(f"{place}: {name!r} names a folder: use letters, digits, '.', '_' and '-'.")


def already_done(config: RunConfig, target: Path) -> bool:
    """Whether the task is finished with these settings and inputs; UserError when it is finished with others."""
    if not (target / METRICS).is_file():
        return False
    made = read_json(target / METRICS)
    if not isinstance(made, dict):
        raise UserError(f"{target / METRICS} is damaged. Remove the folder {target} and start the same command again.")
    now = {**comparable(config), **{f"content of {k}": v for k, v in input_digests(config).items()}}
    then = {**made.get("settings", {}), **{f"content of {k}": v for k, v in made.get("inputs", {}).items()}}
    changed = sorted(k for k in now.keys() | then.keys() if k in now and now[k] != then.get(k))
    if changed:
        shown = "\n  ".join(f"{key}: {then.get(key)} then, {now[key]} now" for key in changed)
        raise UserError(
            f"{target} was made with other settings:\n  {shown}\nSet another finetune.name, or remove the folder."
        )
    return True


def comparable(config: RunConfig) -> dict[str, Any]:
    """The settings that the result depends on; of a settled config (recipe.py), but for an export that is gone."""
    values = config.finetune.model_dump(mode="json", exclude={*_PLACES, *_INDIFFERENT})
    if values["fields"]["tag_names"] is None:
        del values["fields"]["tag_names"]  # results that are older than the key are without it
    if values["select"] == family_class(config.finetune.family).selection:
        values["select"] = None
    values = {key: value for key, value in values.items() if value is not None or key not in RATES}
    return {f"finetune.{key}": value for key, value in values.items()} | {"seed": config.seed}


def input_digests(config: RunConfig) -> dict[str, str]:
    """sha256 of the files and of the weights; what is not there (any more) is left out."""
    settings = config.finetune
    paths = {split: split_path(settings, split) for split in SPLITS if getattr(settings, split)}
    digests = {f"finetune.{split}": sha256_file(path) for split, path in paths.items() if path.is_file()}
    weights = pretrained_digest(pretrained_path(config))
    return digests | ({"finetune.export": weights} if weights else {})
