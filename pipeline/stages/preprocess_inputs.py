"""What the stage starts from: checked input files by corpus, the tokenizer where one is given, and what is new."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder
from pipeline.base.workers import in_ray_job
from pipeline.cleaning.cleaner import Cleaner
from pipeline.cleaning.contamination_index import config_files
from pipeline.corpus.files import InputFile, find_files
from pipeline.corpus.tasks import Task, plan_tasks
from pipeline.shards.manifest import Manifest
from pipeline.vocabulary.codec import Codec
from pipeline.vocabulary.reading import given_codec, load_codec


@dataclass(frozen=True)
class Inputs:
    """Checked inputs: files to read by corpus ("" where there is but one), and the tokenizer where one is given.

    before: the manifest of the finished data set that these files are added to.
    """

    files: dict[str, list[InputFile]]
    codec: Codec | None
    before: Manifest | None = None

    @property
    def revision(self) -> int:
        """Of the data set that is made."""
        return self.before.version + 1 if self.before is not None else 1

    @property
    def all_files(self) -> list[InputFile]:
        """The files of all corpora, in reading order."""
        return [file for files in self.files.values() for file in files]

    def tasks(self, task_bytes: int) -> Iterator[Task]:
        """The tasks, corpus by corpus, in reading order."""
        for corpus, files in self.files.items():
            yield from plan_tasks(files, task_bytes, corpus)


def corpus_paths(config: RunConfig) -> dict[str, tuple[str, ...]]:
    """What is named for each corpus; "" is the only one where there is no mixture."""
    corpora = config.corpus.corpora
    return {name: source.paths for name, source in corpora.items()} if corpora else {"": config.corpus.paths}


def find_inputs(config: RunConfig, folder: RunFolder) -> dict[str, list[InputFile]]:
    """Input files by corpus; one that two corpora name is read in each of them. UserError for what cannot be read."""
    own = [folder.path.resolve(), *([folder.store] if folder.store is not None else [])]
    return {name: find_files(paths, *own) for name, paths in corpus_paths(config).items()}


def read_inputs(config: RunConfig, folder: RunFolder) -> Inputs:
    """Finds and checks the input files, the filters' files and the given tokenizer. UserError for what is unusable."""
    codec = given_codec(config.tokenizer.path) if config.tokenizer.path is not None else None
    files = find_inputs(config, folder)
    for file in (file for found in files.values() for file in found):
        if not file.path.isprintable() and file.path.encode(errors="replace").decode() != file.path:
            raise UserError(f"the name of {file.path!r} is not UTF-8. Rename the file.")
    for name, found in files.items():
        if all(file.size == 0 for file in found):
            key = f"corpus.corpora.{name}.paths" if name else "corpus.paths"
            raise UserError(
                f"{key} ({', '.join(corpus_paths(config)[name])}): all {len(found)} files are empty. "
                "Give files with text."
            )
    for clean in config.corpus.cleanings:
        Cleaner(clean)
    config_files(config.corpus.decontaminate)
    _warn_of_places(config)
    return Inputs(files, codec)


def added(files: dict[str, list[InputFile]], before: Manifest, folder: RunFolder) -> Inputs:
    """The inputs of a revision that adds these files to a finished data set, with its tokenizer."""
    return Inputs(files, load_codec(folder.tokenizer), before)


def _warn_of_places(config: RunConfig) -> None:
    if in_ray_job() and not config.store and not Path(config.run_dir).is_absolute():
        get_logger().warning(
            f"run_dir {config.run_dir} is relative to the Ray job's own working folder, {Path.cwd()}, which Ray "
            "removes some time after the job. Give an absolute run_dir on a file system that all hosts share."
        )
    store = config.tracking.uri
    if in_ray_job() and store.startswith("sqlite:///") and not store.startswith("sqlite:////"):
        get_logger().warning(
            f"tracking.uri {store} is relative to the Ray job's own working folder, {Path.cwd()}, and is lost with it. "
            "Give a server's address, or sqlite:////ABSOLUTE/PATH/mlflow.db on a file system that all hosts share."
        )
