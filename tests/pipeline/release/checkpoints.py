"""Checkpoint folders without training: random weights, a tokenizer of generated text, and a line of metrics."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from pipeline.base.config import RunConfig, config_from_dict, dump_config
from pipeline.base.run_folder import RunFolder
from pipeline.base.sections import TokenizerConfig
from pipeline.training.checkpoint import TrainState, checkpoint_name, move_latest, write_manifest
from pipeline.training.precision import make_objective
from pipeline.vocabulary.codec import SentencePieceCodec
from pipeline.vocabulary.train import train_tokenizer
from tests.pipeline.vocabulary.generated_text import make_documents

VOCABULARY = 500
SIZES = {"hidden_size": 32, "layers": 3, "heads": 2, "ffn_size": 48, "max_positions": 48, "local_window": 8}


def make_tokenizer() -> bytes:
    """A SentencePiece model of VOCABULARY pieces."""
    return train_tokenizer(make_documents(500), TokenizerConfig(vocab_size=VOCABULARY), seed=0)


def make_config(run_dir: Path, body: str, objective: str) -> RunConfig:
    """A tiny run; the electra body with its projection."""
    model: dict[str, Any] = SIZES | {"body": body, "generator": {"size": 0.5}}
    values: dict[str, Any] = {
        "run_dir": str(run_dir),
        "model": model | ({"embedding_size": 24} if body == "electra" else {}),
        "objective": {"name": objective},
        "tokenizer": {"vocab_size": VOCABULARY},
        "data": {"sequence_length": 32},
        "tracking": {"uri": f"sqlite:///{run_dir.parents[1] / 'mlflow.db'}"},
    }
    return config_from_dict(values)


@torch.no_grad()
def make_checkpoint(config: RunConfig, tokenizer: bytes, step: int = 12) -> Path:
    """A complete checkpoint whose weights, biases and norms are all far from their start; `latest` points to it."""
    folder = RunFolder(Path(config.run_dir))
    path = folder.checkpoints / checkpoint_name(step)
    (path / "tokenizer").mkdir(parents=True)
    (path / "tokenizer" / "tokenizer.model").write_bytes(tokenizer)
    objective = make_objective(config, VOCABULARY)
    draw = torch.Generator().manual_seed(step)
    weights = {name: p + 0.2 * torch.randn(p.shape, generator=draw) for name, p in objective.named_parameters()}
    save_file(weights, path / "weights.safetensors")
    (path / "config.yaml").write_text(dump_config(config))
    state = TrainState(step=step, samples=96, tokens=3072, flops=1e9)
    (path / "state.json").write_text(json.dumps(asdict(state)))
    digests = {"tokenizer_sha256": SentencePieceCodec(tokenizer).sha256, "data_manifest_sha256": "d" * 64}
    write_manifest(path, {"step": step, "vocab_size": VOCABULARY, **digests, "mlflow_run_id": "run-of-pretraining"})
    move_latest(folder, path.name)
    lines = [{"step": 10, "eval/generator/loss": 5.25}, {"step": step, "train/loss": 3.0}, {"step": 99, "eval/x": 1.0}]
    folder.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 1')
    return path
