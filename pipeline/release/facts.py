"""What a checkpoint knows about itself, gathered for the model card, the tags of the MLflow run and export.json."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.files import read_json, sha256_file
from pipeline.base.run_folder import RunFolder, tokenizer_file
from pipeline.training.checkpoint import TrainState, read_checkpoint_config, read_state
from pipeline.vocabulary.reading import load_codec

FIRST_WEIGHTS = "init_"
"""How the tags of what a run started from begin."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A verified checkpoint and where it comes from."""

    checkpoint: Path
    sha256: str
    """Of the checkpoint's manifest.json, and so of all its files."""
    config: RunConfig
    """The config it was trained with."""
    state: TrainState
    vocab_size: int
    tokenizer: bytes
    """The bytes of the SentencePiece model or of the tokenizer.json."""
    tokenizer_kind: str
    """What it is, in words."""
    tokenizer_sha256: str
    data_manifest_sha256: str
    pretrain_run_id: str
    """MLflow run, "" where there was none."""
    initial: dict[str, Any] | None = None
    """What the first weights were taken from (the checkpoint's init.json, docs/continue.md); None: random ones."""
    corpora: dict[str, dict[str, float]] = field(default_factory=dict)
    """Of a mixture, by corpus: "share" of the sequences, "epochs" seen."""

    @property
    def trained_length(self) -> int:
        """Longest text that positions were trained for, here or in what the run started from."""
        before = int((self.initial or {}).get("trained_positions", 0))
        return max(self.config.data.sequence_length, min(before, self.config.model.max_positions))

    def tags(self) -> dict[str, str]:
        """Runs and digests that the export comes from; init_NAME_sha256 of what the first weights were taken from."""
        sources = (self.initial or {}).get("sources", {})
        return {f"{FIRST_WEIGHTS}{name}_sha256": str(source["sha256"]) for name, source in sources.items()} | {
            "pretrain_run_id": self.pretrain_run_id,
            "checkpoint": self.checkpoint.name,
            "checkpoint_sha256": self.sha256,
            "tokenizer_sha256": self.tokenizer_sha256,
            "data_manifest_sha256": self.data_manifest_sha256,
        }


def gather_facts(checkpoint: Path) -> Facts:
    """Reads a verified checkpoint folder. Raises UserError."""
    manifest = read_json(checkpoint / "manifest.json")
    file = tokenizer_file(checkpoint)
    if not file.is_file():
        raise UserError(f"{file} is missing: an export needs the tokenizer that the checkpoint was trained with.")
    codec = load_codec(file)
    vocab_size = int(manifest["vocab_size"])
    if codec.vocab_size != vocab_size:
        raise UserError(
            f"{file} has {codec.vocab_size:,} pieces, the checkpoint's model {vocab_size:,}: they are not of one run."
        )
    state, _ = read_state(checkpoint)
    return Facts(
        checkpoint=checkpoint,
        sha256=sha256_file(checkpoint / "manifest.json"),
        config=read_checkpoint_config(checkpoint),
        state=state,
        vocab_size=vocab_size,
        tokenizer=codec.model,
        tokenizer_kind=codec.kind,
        tokenizer_sha256=codec.sha256,
        data_manifest_sha256=str(manifest.get("data_manifest_sha256") or ""),
        pretrain_run_id=str(manifest.get("mlflow_run_id") or ""),
        corpora=manifest.get("corpora") or {},
        initial=read_json(noted) if (noted := RunFolder(checkpoint).init).is_file() else None,
    )


def last_evaluation(metrics: Path, step: int) -> tuple[int | None, dict[str, float]]:
    """(step, eval/... figures) of the last line of metrics.jsonl that has such and is not past `step`."""
    found: tuple[int | None, dict[str, float]] = (None, {})
    if not metrics.is_file():
        return found
    with open(metrics, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            values = _parsed(line)
            figures = {key: float(value) for key, value in values.items() if key.startswith("eval/")}
            if figures and values.get("step", step + 1) <= step:
                found = (int(values["step"]), figures)
    return found


def _parsed(line: str) -> dict[str, Any]:
    """The numbers of a line of metrics.jsonl; {} for one that a kill cut off."""
    try:
        values = json.loads(line)
    except ValueError:
        return {}
    return {k: v for k, v in values.items() if isinstance(v, int | float)} if isinstance(values, dict) else {}
