"""finetune.dropout: the body's own modules have it, in each of the libraries' architectures."""

from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.families.base import open_task
from pipeline.tasks.pretrained import HEAD_DROPOUT, load_model, open_pretrained
from tests.pipeline.tasks.test_text_tasks import singles
from tests.pipeline.tasks.tiny_folders import ARCHITECTURES, tiny_folder

OWN = {"electra": {0.1}, "bert": {0.1}, "modernbert": {0.0}}
"""What the libraries' configs say where the folder says nothing."""


@pytest.mark.parametrize("dropout", [None, 0.0, 0.3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_body_drops_what_is_asked_for_and_the_head_its_own(
    tmp_path: Path, architecture: str, dropout: float | None
) -> None:
    settings = FinetuneConfig(**singles(tmp_path), max_length=32, dropout=dropout)
    pretrained = open_pretrained(tiny_folder(tmp_path / "export", architecture), open_task(settings), settings)
    model = load_model(pretrained, "AutoModelForSequenceClassification", None, 0, torch.device("cpu"))
    layers = [
        (name, part.p)
        for name, part in model.base_model.named_modules()
        if isinstance(part, nn.Dropout) and "attn" not in name and not name.endswith("attention.self.dropout")
    ]
    assert {rate for _, rate in layers} == (OWN[architecture] if dropout is None else {dropout}), layers
    assert model.config.classifier_dropout == HEAD_DROPOUT
