"""Tiny folders of every kind that a page is made from, and a config that names them."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers

from pipeline.base.config import RunConfig, load_config
from tests.pipeline.tasks.tiny_folders import tiny_folder, tiny_model, tiny_tokenizer

LABELS = ("negative", "positive")


def tiny_generator(path: Path) -> Path:
    """A masked language model over the discriminator's vocabulary."""
    config = tiny_model("electra").config
    torch.manual_seed(1)
    transformers.ElectraForMaskedLM(config).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def tiny_classifier(
    path: Path, architecture: str = "electra", labels: tuple[str, ...] = LABELS, positions: int = 64
) -> Path:
    """A sequence classifier of random weights, large enough that its answers differ."""
    config = tiny_model(architecture).config
    config.max_position_embeddings = positions
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    torch.manual_seed(2)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    for module in model.classifier.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=0.5)
    model.save_pretrained(path)
    tokenizer = with_types(tiny_tokenizer()) if architecture != "modernbert" else tiny_tokenizer()
    tokenizer.model_max_length = positions
    tokenizer.save_pretrained(path)
    return path


def with_types(tokenizer: Any) -> Any:
    """The tokenizer, made to give token types, now and when it is loaded again."""
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer.init_kwargs["model_input_names"] = tokenizer.model_input_names
    return tokenizer


def fine_tuned(path: Path, paired: bool | None, labels: tuple[str, ...] = LABELS, **settings: Any) -> Path:
    """A task's folder with these settings of finetune; paired: as its metrics.json has it, None: not at all."""
    positions = max(64, settings.get("max_length", 0))
    tiny_classifier(path / "model", labels=labels, positions=positions)
    recorded = {f"finetune.{key}": value for key, value in settings.items()}
    described = {"settings": recorded, "labels": list(labels)} | ({} if paired is None else {"paired": paired})
    (path / "metrics.json").write_text(json.dumps(described))
    return path


def all_folders(path: Path) -> dict[str, Path]:
    """discriminator, generator and classifier below `path`."""
    return {
        "discriminator": tiny_folder(path / "discriminator", "electra"),
        "generator": tiny_generator(path / "generator"),
        "classifier": tiny_classifier(path / "classifier"),
    }


def explain_config(path: Path, **values: Any) -> RunConfig:
    """A run below `path` with these keys of explain; all tests share one MLflow store, which takes seconds to make."""
    keys = {"run_dir": path / "run", "train.threads": 1, "tracking.uri": f"sqlite:///{path.parent / 'mlflow.db'}"}
    keys |= {f"explain.{name}": value for name, value in values.items()}
    return load_config(None, [f"{key}={value}" for key, value in keys.items()])
