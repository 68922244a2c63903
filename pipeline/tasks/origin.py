"""Where a fine-tuning comes from, as tags of its MLflow run: the runs behind its export, and digests of all inputs."""

from pipeline.base.config import RunConfig
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import read_run_id
from pipeline.tasks.identity import input_digests
from pipeline.tasks.pretrained import pretrained_path


def origin_tags(config: RunConfig) -> dict[str, str]:
    """{export,pretrain,preprocess}_run_id of the run whose export it is, where it is one of ours; NAME_sha256."""
    digests = {f"{key.removeprefix('finetune.')}_sha256": value for key, value in input_digests(config).items()}
    return run_tags(RunFolder(pretrained_path(config).resolve().parent.parent)) | digests


def run_tags(folder: RunFolder) -> dict[str, str]:
    """{export,pretrain,preprocess}_run_id of a run of ours, as far as they are known."""
    runs = {f"{stage}_run_id": read_run_id(folder, stage) for stage in ("preprocess", "pretrain", "export")}
    return {key: value for key, value in runs.items() if value}
