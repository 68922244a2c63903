"""A finished data set is left alone, extended by new files, or refused with what has changed since it was made."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.config import RunConfig, flatten
from pipeline.base.errors import UserError
from pipeline.base.files import complete_file, read_json, sha256_file
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder
from pipeline.base.stores.faults import StoreAway
from pipeline.cleaning.cleaner import config_files as clean_files
from pipeline.cleaning.contamination_index import config_files as evaluation_files
from pipeline.corpus.files import InputFile, find_files
from pipeline.corpus.tasks import content_digest
from pipeline.shards.manifest import Manifest, all_shards, check_sizes, read_manifest
from pipeline.stages.preprocess_inputs import corpus_paths
from pipeline.stages.preprocess_totals import Totals
from pipeline.vocabulary.reading import given_digest, given_file

FREE = ("corpus.paths", "corpus.max_bad_fraction", "corpus.temperature", "corpus.task_bytes")
"""Keys of the corpus section that may change: its files are compared one by one, shares are weighed at training."""
RELEVANT = ("tokenizer.path", "data.block_tokens", "data.shard_blocks")
TRAINED = ("tokenizer.vocab_size", "tokenizer.sample_bytes", "tokenizer.character_coverage", "seed")
"""These matter where the tokenizer is trained, not where it is given."""
SHOWN = 5


@dataclass(frozen=True)
class Done:
    """A finished data set, and the files that have been added to its corpora since, by corpus."""

    manifest: Manifest
    new: dict[str, list[InputFile]]
    note: dict[str, Any]
    """What it was made from."""


def inputs_path(folder: RunFolder, revision: int) -> Path:
    """What was read: every file with its size and digests, and the totals that a later revision goes on from."""
    return folder.data / "manifests" / f"{revision:06d}.inputs.json"


def write_inputs(
    folder: RunFolder,
    revision: int,
    files: Iterator[tuple[str, InputFile, list[list[Any]]]],
    totals: Totals,
    filters: Mapping[str, str],
    before: Sequence[Any] = (),
) -> None:
    """Notes what was read: (corpus, file, [[start, stop, sha256], ...]) each; before: an older revision's entries."""
    with complete_file(inputs_path(folder, revision)) as aside, open(aside, "w", encoding="utf-8") as out:
        head = {"revision": revision, "filters": dict(filters), "totals": totals.plain()}
        out.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "files": [\n')
        comma = ""
        new = ([corpus, file.path, file.size, str(file.changed), digests] for corpus, file, digests in files)
        for entry in itertools.chain(before, new):
            out.write(comma + json.dumps(entry))
            comma = ",\n"
        out.write("\n]}\n")


def read_inputs_note(folder: RunFolder, revision: int) -> dict[str, Any]:
    """What a revision has noted of its inputs. UserError where it is damaged; {} where there is none."""
    path = inputs_path(folder, revision)
    path = path if path.exists() else folder.data / "inputs.json"  # of a data set made by version 0.2
    if not path.exists():
        return {}
    note = read_json(path)
    try:
        for entry in note["files"]:
            str(entry[0]), int(entry[-1] if len(entry) == 2 else entry[2])
        return dict(note)
    except (KeyError, TypeError, ValueError, IndexError):
        raise UserError(f"{path} is damaged. Delete it: a changed corpus is then not noticed.") from None


def check_done(config: RunConfig, folder: RunFolder, find: Callable[[], dict[str, list[InputFile]]]) -> Done:
    """The finished data set and what is new; UserError naming what differs from when it was made, missing shards too.

    find: the input files as they are now.
    """
    manifest = read_manifest(folder.manifest)
    note = read_inputs_note(folder, manifest.version)
    changes = _changed_keys(config, manifest.config) + _changed_tokenizer(config, folder, manifest)
    changes += _changed_filters(config, note)
    new: dict[str, list[InputFile]] = {}
    if note:
        try:
            more, new = _compare_files(note, find())
            changes += more
        except StoreAway:
            raise
        except UserError as error:
            if _some_found(config):
                changes.append(str(error))
            elif left_behind(folder, manifest):
                raise  # new files were being added; without them nothing is said about that work
            else:
                get_logger().info(f"the corpus is not here to be compared with what was read: {error}")
    if new and "totals" not in note:
        changes += [f"{file.path} is new" for files in new.values() for file in files][:SHOWN]
    if changes:
        listed = "\n  ".join(changes)
        raise UserError(
            f"{folder.data} was made from another config or corpus:\n  {listed}\n"
            f"Set another run_dir, put this back as it was, or add --fresh to make the data set again."
        )
    check_sizes(folder.data, all_shards(manifest))
    return Done(manifest, new, note)


def left_behind(folder: RunFolder, manifest: Manifest) -> bool:
    """Whether there is work of a later version that was interrupted."""
    job = folder.data / ".work" / "job.json"
    return job.exists() and int(read_json(job)["revision"]) > manifest.version


def _some_found(config: RunConfig) -> bool:
    """Whether anything that is named can be found; where nothing can, this host has no corpus, as for training."""
    for entry in (path for paths in corpus_paths(config).values() for path in paths):
        with suppress(UserError):
            if find_files([entry]):
                return True
    return False


def filter_files(config: RunConfig) -> dict[str, str]:
    """Digests of the user's files that the filters read: blocklists and evaluation files."""
    corpus = config.corpus
    files = [path for clean in corpus.cleanings for path in clean_files(clean)] + list(
        evaluation_files(corpus.decontaminate)
    )
    return {str(path): sha256_file(path) for path in files}


def plain_value(value: Any) -> Any:
    """Tuples as lists, as they come back from JSON and YAML."""
    return [plain_value(one) for one in value] if isinstance(value, tuple | list) else value


def _changed_keys(config: RunConfig, made_with: dict[str, Any]) -> list[str]:
    now, then = flatten(config.to_dict()), flatten(made_with)
    keys = set(RELEVANT if config.tokenizer.path is not None else (*RELEVANT, *TRAINED))
    corpora = made_with.get("corpus", {}).get("corpora", {})
    for key in now.keys() | then.keys():
        name = key.split(".")[2] if key.startswith("corpus.corpora.") else ""
        weighed = bool(name) and key.endswith((".weight", ".paths"))
        if key.startswith("corpus.") and key not in FREE and not weighed and (not name or name in corpora):
            keys.add(key)
    changes = []
    for key in sorted(keys):
        old, new = plain_value(then.get(key)), plain_value(now.get(key))
        if old != new and not (key not in then and new == plain_value(_default(key))):
            changes.append(f"{key}: was {old}, is {new}")
    return changes


def _default(key: str) -> Any:
    """The value of a key that a data set made by an older version does not have."""
    return flatten(RunConfig().to_dict()).get(key)


def _changed_tokenizer(config: RunConfig, folder: RunFolder, manifest: Manifest) -> list[str]:
    changes = []
    given, made = config.tokenizer.path, manifest.tokenizer.sha256
    if folder.tokenizer.is_file() and sha256_file(folder.tokenizer) != made:
        changes.append(f"the run's tokenizer: {folder.tokenizer} is another model than the data was made with")
    if given is not None and given_file(given).is_file() and given_digest(given) != made:
        changes.append(f"tokenizer.path: {given} is another model than the data was made with")
    if not folder.tokenizer.is_file():
        changes.append(f"the run's tokenizer: {folder.tokenizer} is missing")
    return changes


def _changed_filters(config: RunConfig, note: dict[str, Any]) -> list[str]:
    if "filters" not in note:
        return []
    then = note["filters"]
    try:
        now = filter_files(config)
    except UserError as error:
        return [str(error)]
    names = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
    return [f"{name} is not what the filters read then" for name in names[:SHOWN]]


def _compare_files(
    note: dict[str, Any], now: dict[str, list[InputFile]]
) -> tuple[list[str], dict[str, list[InputFile]]]:
    """(what has changed or is gone, files that are new by corpus)."""
    then: dict[tuple[str, str], tuple[int, str, list[list[Any]]]] = {}
    for entry in note["files"]:
        corpus, path, size, stamp, digests = entry if len(entry) > 2 else ("", entry[0], entry[1], "", [])
        then[corpus, path] = (size, stamp, digests)
    changes: list[str] = []
    new: dict[str, list[InputFile]] = {}
    seen = set()
    for corpus, files in now.items():
        for file in files:
            key = (corpus, file.path)
            seen.add(key)
            if key not in then:
                new.setdefault(corpus, []).append(file)
                continue
            size, stamp, digests = then[key]
            if size != file.size:
                changes.append(f"{file.path} had {size:,} bytes, has {file.size:,}")
            elif stamp and stamp != str(file.changed) and not same_content(file, digests):
                changes.append(f"{file.path} has the same size, but another content")
    changes += [f"{path} is gone" for corpus, path in then if (corpus, path) not in seen]
    more = [f"... and {len(changes) - SHOWN} more files"] if len(changes) > SHOWN else []
    return changes[:SHOWN] + more, new


def same_content(file: InputFile, digests: list[list[Any]]) -> bool:
    """Whether a file that was written again, or moved, still has the bytes that were read."""
    if file.size == 0:
        return True
    return bool(digests) and all(content_digest(file, start, stop) == sha256 != "" for start, stop, sha256 in digests)
