"""What finetune leaves of a task, from random weights, without training; and files to evaluate it on."""

import json
import random
from pathlib import Path
from typing import Any

import torch
import transformers

from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.pretrained import save_model
from tests.pipeline.tasks.tiny_folders import tiny_model, tiny_tokenizer

LABELS = ("negative", "positive")


def write_task(folder: Path, seed: int = 2, **figures: Any) -> Path:
    """A classifier of texts of 32 tokens; figures: more of metrics.json."""
    config = tiny_model("electra").config
    config.num_labels, config.id2label = 2, dict(enumerate(LABELS))
    config.label2id = {label: index for index, label in enumerate(LABELS)}
    torch.manual_seed(seed)
    model = transformers.ElectraForSequenceClassification(config)
    for module in model.classifier.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=0.5)
    save_model(model, tiny_tokenizer(), folder / "model", 32)
    settings = FinetuneConfig(name="toy", family="classification", max_length=32, head="library")
    described: dict[str, Any] = {"name": "toy", "family": "classification", "labels": list(LABELS)}
    values = settings.model_dump(mode="json", exclude={"export", "train", "dev", "test", "data_folder"})
    described["settings"] = {f"finetune.{key}": value for key, value in values.items()} | {"seed": 0}
    (folder / "metrics.json").write_text(json.dumps(described | figures))
    return folder


def write_file(path: Path, size: int = 40) -> Path:
    """JSON lines of random words and labels, some longer than the model's 32 tokens."""
    draw = random.Random(0)
    rows = []
    for _ in range(size):
        words = [f"w{draw.randrange(40)}" for _ in range(draw.randrange(3, 50))]
        rows.append({"text": " ".join(words), "label": draw.choice(LABELS)})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pipeline_answers(model: Path, data: Path) -> tuple[list[str], list[str]]:
    """The right labels of a file, and those that transformers' own pipeline gives."""
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    classify = transformers.pipeline("text-classification", str(model), truncation=True, max_length=32)
    return [row["label"] for row in rows], [answer["label"] for answer in classify([row["text"] for row in rows])]
