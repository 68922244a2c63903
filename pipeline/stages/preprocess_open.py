"""Begins the scratch folder of a run, or takes up what an interrupted one has left there; another one's is refused."""

import secrets
from pathlib import Path
from typing import Any

from pipeline.base.config import RunConfig, config_from_dict, flatten
from pipeline.base.errors import UserError
from pipeline.base.files import read_json, remove_tree, write_json
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder
from pipeline.corpus.worklist import write_worklist
from pipeline.stages.preprocess_changes import changed_files, write_files
from pipeline.stages.preprocess_done import filter_files, plain_value
from pipeline.stages.preprocess_inputs import Inputs
from pipeline.stages.preprocess_work import FORMAT, Work


def work_path(folder: RunFolder) -> Path:
    """Where the scratch folder is."""
    data = folder.data
    return (data.absolute() if isinstance(data, Path) else data) / ".work"


def stopped_mark(path: Path) -> Path:
    """There where too many records were bad: mended files are then expected, and begin the work anew."""
    return path / "stopped"


def open_work(config: RunConfig, folder: RunFolder, inputs: Inputs) -> Work:
    """The scratch folder of this input and config. UserError, naming what differs, where another one's is there."""
    path = work_path(folder)
    check_work(config, folder, inputs)
    if (path / "job.json").exists():
        job = read_json(path / "job.json")
        write_json(path / "job.json", job | {"config": config.written()})  # what may change has its new value
        get_logger().info(f"going on with what an interrupted run has left in {path}")
        return Work(path)
    remove_tree(path)
    write_files(path / "files.jsonl", inputs.files)
    write_worklist(path, inputs.tasks(config.corpus.task_bytes))
    job = {
        "format": FORMAT,
        "revision": inputs.revision,
        "before": inputs.before.corpus.sha256 if inputs.before is not None else None,
        "tokenizer": inputs.codec.sha256 if inputs.codec is not None else None,
        "filters": filter_files(config),
        "config": config.written(),
    }
    write_json(path / "job.json", job | {"id": secrets.token_hex(8)})
    return Work(path)


def task_settings(config: RunConfig) -> dict[str, Any]:
    """Dotted keys that decide what the tasks make, and their values."""
    flat = flatten({"corpus": config.to_dict()["corpus"]})
    names = [key for key in flat if not is_free(key)]
    settings = {key: plain_value(flat[key]) for key in names}
    if config.tokenizer.path is None:
        settings |= {"seed": config.seed, "tokenizer.sample_bytes": config.tokenizer.sample_bytes}
    return settings | {"tokenizer.path": config.tokenizer.path is not None}


def is_free(key: str) -> bool:
    """Whether a key of the corpus section decides nothing about the data: shares are weighed when they are read."""
    return key in ("corpus.max_bad_fraction", "corpus.temperature") or (
        key.startswith("corpus.corpora.") and key.endswith(".weight")
    )


def check_work(config: RunConfig, folder: RunFolder, inputs: Inputs) -> None:
    """UserError, naming what differs, where the scratch folder is of another input or config.

    Where it was stopped for too many bad records it is removed instead.
    """
    path = work_path(folder)
    if not (path / "job.json").exists():
        return
    job = read_json(path / "job.json")
    changes = []
    if job.get("format") != FORMAT:
        changes.append("another version of this program")
    else:
        before = inputs.before.corpus.sha256 if inputs.before is not None else None
        if (job["revision"], job["before"]) != (inputs.revision, before):
            changes.append("another data set was to be extended")
        if inputs.codec is not None and job["tokenizer"] not in (None, inputs.codec.sha256):
            changes.append(f"the tokenizer {inputs.codec.origin} is another model")
        then, now = _settings_of(job["config"]), task_settings(config)
        for key in sorted(then.keys() | now.keys()):
            if then.get(key) != now.get(key):
                changes.append(f"{key}: was {then.get(key)}, is {now.get(key)}")
        then_files, now_files = dict(job["filters"]), dict(filter_files(config))
        names = sorted(then_files | now_files)
        changes += [f"{name} changed" for name in names if then_files.get(name) != now_files.get(name)]
        changes += changed_files(Work(path), inputs.files, whole=False)
    if changes:
        listed = "\n  ".join(changes)
        if stopped_mark(path).exists():
            get_logger().info(f"the work begins anew, because this has changed since it was stopped:\n  {listed}")
            return remove_tree(path)
        raise UserError(
            f"{path} holds the work of an interrupted run over another config or corpus:\n  {listed}\n"
            f"Put this back as it was to go on from there, or {_anew(job)}."
        )


def _anew(job: dict[str, Any]) -> str:
    """How to begin anew without losing an older version of the data set."""
    return "delete that folder to begin that version anew" if job["revision"] > 1 else "add --fresh to begin anew"


def _settings_of(values: dict[str, Any]) -> dict[str, Any]:
    return task_settings(config_from_dict(values, "job.json"))
