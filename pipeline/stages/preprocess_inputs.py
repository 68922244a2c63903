"""What the stage starts from: whether its data set is there already, and its checked inputs."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder
from pipeline.base.workers import in_ray_job
from pipeline.corpus.documents import TRAIN
from pipeline.corpus.files import InputFile, find_files
from pipeline.corpus.tasks import Task, plan_tasks
from pipeline.stages.preprocess_done import check_unchanged
from pipeline.vocabulary.codec import Codec
from pipeline.vocabulary.reading import given_codec


@dataclass(frozen=True)
class Inputs:
    """Checked inputs: files, tasks, and the tokenizer where one is given."""

    files: list[InputFile]
    tasks: list[Task]
    codec: Codec | None


def is_done(config: RunConfig, folder: RunFolder) -> bool:
    """Whether the data set is there: this run's own, or that of data.path. UserError where it is of another config."""
    if config.data.path is not None and Path(config.data.path).absolute() != folder.path:
        other = RunFolder(Path(config.data.path).absolute())
        if not other.manifest.exists():
            raise UserError(
                f"data.path {config.data.path} holds no finished data set ({other.manifest} is missing). "
                "Preprocess that run first, or leave data.path out to make this run's own."
            )
        get_logger().info(f"nothing to do: data.path says to use the data set of {other.path}")
        return True
    if not folder.manifest.exists():
        return False
    manifest = check_unchanged(config, folder)
    train = manifest.splits[TRAIN]
    get_logger().info(f"nothing to do: {folder.data} is complete, {train.tokens:,} training tokens")
    return True


def read_inputs(config: RunConfig, folder: RunFolder) -> Inputs:
    """Finds and checks the input files and the given tokenizer. UserError for what cannot be used."""
    codec = given_codec(config.tokenizer.path) if config.tokenizer.path is not None else None
    files = find_files(config.corpus.paths, folder.path.resolve())
    tasks = plan_tasks(files, config.corpus.task_bytes)
    if not tasks:
        raise UserError(
            f"corpus.paths ({', '.join(config.corpus.paths)}): all {len(files)} files are empty. Give files with text."
        )
    if in_ray_job() and not Path(config.run_dir).is_absolute():
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
    return Inputs(files, tasks, codec)
