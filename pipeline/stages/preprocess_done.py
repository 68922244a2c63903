"""A finished stage is left alone; one whose config or input has changed since is refused, with what changed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.base.config import RunConfig, flatten
from pipeline.base.errors import UserError
from pipeline.base.files import read_json, sha256_file, write_json
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder
from pipeline.corpus.files import InputFile, find_files
from pipeline.shards.manifest import Manifest, all_shards, check_sizes, read_manifest
from pipeline.vocabulary.reading import given_digest, given_file

RELEVANT = (
    "corpus.paths",
    "corpus.text_field",
    "corpus.validation_fraction",
    "corpus.max_record_bytes",
    "tokenizer.path",
    "data.block_tokens",
    "data.shard_blocks",
)
TRAINED = ("tokenizer.vocab_size", "tokenizer.sample_bytes", "tokenizer.character_coverage", "seed")
"""These matter where the tokenizer is trained, not where it is given."""
SHOWN = 5


def inputs_path(folder: RunFolder) -> Path:
    """The list of input files and their sizes at the time of reading."""
    return folder.data / "inputs.json"


def write_inputs(folder: RunFolder, files: Sequence[InputFile]) -> None:
    """Notes what was read."""
    write_json(inputs_path(folder), {"files": [[file.path, file.size] for file in files]})


def check_unchanged(config: RunConfig, folder: RunFolder) -> Manifest:
    """The manifest of the finished stage; UserError naming what differs from when it was made, missing shards too."""
    manifest = read_manifest(folder.manifest)
    changes = _changed_keys(config, manifest.config) + _changed_tokenizer(config, folder, manifest)
    changes += _changed_files(config, folder)
    if changes:
        listed = "\n  ".join(changes)
        raise UserError(
            f"{folder.data} was made from another config or corpus:\n  {listed}\n"
            f"Set another run_dir, put this back as it was, or delete {folder.data} to make the data set again."
        )
    check_sizes(folder.data, all_shards(manifest))
    return manifest


def _changed_keys(config: RunConfig, made_with: dict[str, Any]) -> list[str]:
    now, then = flatten(config.to_dict()), flatten(made_with)
    keys = RELEVANT if config.tokenizer.path is not None else (*RELEVANT, *TRAINED)
    changes = []
    for key in keys:
        old, new = _plain(then.get(key)), _plain(now[key])
        if old != new:
            changes.append(f"{key}: was {old}, is {new}")
    return changes


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value


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


def _changed_files(config: RunConfig, folder: RunFolder) -> list[str]:
    if not inputs_path(folder).exists():
        return []
    try:
        then: dict[str, int] = dict(read_json(inputs_path(folder))["files"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{inputs_path(folder)} is damaged. Delete it: a changed corpus is then not noticed.") from None
    try:
        now = {file.path: file.size for file in find_files(config.corpus.paths, folder.path.resolve())}
    except UserError as error:
        get_logger().info(f"the corpus cannot be compared with what was read: {error}")
        return []
    changes = [f"{path} is new" for path in sorted(now.keys() - then.keys())]
    changes += [f"{path} is gone" for path in sorted(then.keys() - now.keys())]
    common = sorted(now.keys() & then.keys())
    changes += [f"{path} had {then[path]:,} bytes, has {now[path]:,}" for path in common if now[path] != then[path]]
    more = [f"... and {len(changes) - SHOWN} more files"] if len(changes) > SHOWN else []
    return changes[:SHOWN] + more
