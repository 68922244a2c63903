"""What fine-tuning starts from: which weights are the folder's and which are new, and the body's dropout."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from torch.testing import assert_close

from pipeline.base.errors import UserError
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.families.base import open_task
from pipeline.tasks.pretrained import HEAD_DROPOUT, Pretrained, load_model, open_pretrained
from tests.pipeline.tasks.test_text_tasks import singles
from tests.pipeline.tasks.tiny_folders import ARCHITECTURES, LAYERS, tiny_folder

CPU = torch.device("cpu")
LOWEST = {"electra": "encoder.layer.0.", "bert": "encoder.layer.0.", "modernbert": "layers.0."}
OWN_DROPOUT = {"electra": {0.1}, "bert": {0.1}, "modernbert": {0.0}}
"""What the libraries' configs say where the folder says nothing."""


def opened(folder: Path, architecture: str, **keys: Any) -> tuple[Pretrained, dict[str, torch.Tensor]]:
    """The folder as a task with these settings opens it, and its tensors by the body's names."""
    settings = FinetuneConfig(**singles(folder), max_length=32, **keys)
    path = tiny_folder(folder / "export", architecture)
    pretrained = open_pretrained(path, open_task(settings), settings)
    return pretrained, transformers.AutoModel.from_pretrained(path).state_dict()


@pytest.mark.parametrize("auto_class", ["AutoModelForSequenceClassification", "AutoModel"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_top_layers_are_drawn_anew_and_the_others_are_the_folders(
    tmp_path: Path, architecture: str, auto_class: str
) -> None:
    pretrained, given = opened(tmp_path, architecture, reinitialize_layers=LAYERS - 1)
    body = load_model(pretrained, auto_class, None, 5, CPU).base_model.state_dict()
    other = load_model(pretrained, auto_class, None, 6, CPU).base_model.state_dict()
    matrices = {name for name, tensor in given.items() if tensor.dim() == 2 and "pooler" not in name}
    kept = {name for name in given if name.startswith(LOWEST[architecture]) or "embeddings" in name}
    assert {name for name in kept if not torch.equal(body[name], given[name])} == set()
    assert {name for name in matrices - kept if torch.equal(body[name], given[name])} == set()
    assert {name for name in matrices - kept if torch.equal(body[name], other[name])} == set()  # by the seed
    for name in matrices - kept:  # as spread as the library itself draws them
        assert_close(float(body[name].std()), float(other[name].std()), rtol=0.2, atol=0.0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_by_default_the_whole_body_is_the_folders(tmp_path: Path, architecture: str) -> None:
    pretrained, given = opened(tmp_path, architecture)
    body = load_model(pretrained, "AutoModelForSequenceClassification", None, 0, CPU).base_model.state_dict()
    assert {name for name, t in given.items() if "pooler" not in name and not torch.equal(body[name], t)} == set()


def test_more_layers_than_there_are_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^finetune\.reinitialize_layers is 9, but .*export has \d layers\.$"):
        opened(tmp_path, "electra", reinitialize_layers=9)


@pytest.mark.parametrize("dropout", [None, 0.0, 0.3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_body_drops_what_is_asked_for_and_the_head_its_own(
    tmp_path: Path, architecture: str, dropout: float | None
) -> None:
    pretrained, _ = opened(tmp_path, architecture, dropout=dropout)
    model = load_model(pretrained, "AutoModelForSequenceClassification", None, 0, CPU)
    layers = [
        (name, part.p)
        for name, part in model.base_model.named_modules()
        if isinstance(part, nn.Dropout) and "attn" not in name and not name.endswith("attention.self.dropout")
    ]
    assert {rate for _, rate in layers} == (OWN_DROPOUT[architecture] if dropout is None else {dropout}), layers
    assert model.config.classifier_dropout == HEAD_DROPOUT
