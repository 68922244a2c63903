"""Begins the scratch folder of a run, or takes up what an interrupted one has left there; another one's is refused."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.base.config import RunConfig, flatten
from pipeline.base.errors import UserError
from pipeline.base.files import complete_file, read_json, remove_tree, write_json
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder
from pipeline.corpus.files import InputFile
from pipeline.corpus.worklist import write_worklist
from pipeline.stages.preprocess_done import SHOWN, filter_files, plain_value
from pipeline.stages.preprocess_inputs import Inputs
from pipeline.stages.preprocess_work import FORMAT, Work, digest_of

Facts = tuple[str, str, str, int, str]
"""Corpus, path, place, size, and what differs when the content does."""


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
        write_json(path / "job.json", job | {"config": config.to_dict()})  # what may change has its new value
        get_logger().info(f"going on with what an interrupted run has left in {path}")
        return Work(path)
    remove_tree(path)
    _write_files(path / "files.jsonl", inputs.files)
    write_worklist(path, inputs.tasks(config.corpus.task_bytes))
    job = {
        "format": FORMAT,
        "revision": inputs.revision,
        "before": inputs.before.corpus.sha256 if inputs.before is not None else None,
        "tokenizer": inputs.codec.sha256 if inputs.codec is not None else None,
        "filters": filter_files(config),
        "config": config.to_dict(),
    }
    write_json(path / "job.json", job | {"id": digest_of([job, os.getpid(), str(path)])})
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
        changes += _changed_files(path / "files.jsonl", inputs)
    if changes:
        listed = "\n  ".join(changes)
        if stopped_mark(path).exists():
            get_logger().info(f"the work begins anew, because this has changed since it was stopped:\n  {listed}")
            return remove_tree(path)
        raise UserError(
            f"{path} holds the work of an interrupted run over another config or corpus:\n  {listed}\n"
            "Put this back as it was to go on from there, or add --fresh to begin anew."
        )


def _settings_of(values: dict[str, Any]) -> dict[str, Any]:
    from pipeline.base.config import config_from_dict

    return task_settings(config_from_dict(values, "job.json"))


def _changed_files(path: Path, inputs: Inputs) -> list[str]:
    then = {facts[:3]: facts[3:] for facts in _read_files(path)}
    now = {facts[:3]: facts[3:] for facts in _facts(inputs.files)}
    changes = [f"{name[1]} is new" for name in now if name not in then]
    changes += [f"{name[1]} is gone" for name in then if name not in now]
    for name, (size, stamp) in now.items():
        was = then.get(name)
        if was is not None and was != (size, stamp):
            told = f"had {was[0]:,} bytes, has {size:,}" if was[0] != size else "was written again"
            changes.append(f"{name[1]} {told}")
    more = [f"... and {len(changes) - SHOWN} more files"] if len(changes) > SHOWN else []
    return changes[:SHOWN] + more


def _facts(files: dict[str, list[InputFile]]) -> Iterator[Facts]:
    for corpus, some in files.items():
        for file in some:
            yield corpus, file.path, file.place, file.size, str(file.changed)


def _write_files(path: Path, files: dict[str, list[InputFile]]) -> None:
    with complete_file(path) as aside, open(aside, "w", encoding="utf-8") as out:
        out.writelines(json.dumps(facts) + "\n" for facts in _facts(files))


def _read_files(path: Path) -> Iterable[Facts]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            corpus, name, place, size, stamp = json.loads(line)
            yield corpus, name, place, size, stamp
