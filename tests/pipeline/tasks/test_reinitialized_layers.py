"""finetune.reinitialize_layers: which weights are the folder's, and which are new."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.testing import assert_close

from pipeline.base.errors import UserError
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.families.base import open_task
from pipeline.tasks.pretrained import load_model, open_pretrained
from tests.pipeline.tasks.test_text_tasks import singles
from tests.pipeline.tasks.tiny_folders import ARCHITECTURES, LAYERS, tiny_folder

CPU = torch.device("cpu")
LOWEST = {"electra": "encoder.layer.0.", "bert": "encoder.layer.0.", "modernbert": "layers.0."}


def opened(folder: Path, architecture: str, layers: int) -> tuple[Any, dict[str, torch.Tensor]]:
    """The folder as the task opens it, and its tensors by the body's names."""
    settings = FinetuneConfig(**singles(folder), max_length=32, reinitialize_layers=layers)
    path = tiny_folder(folder / "export", architecture)
    pretrained = open_pretrained(path, open_task(settings), settings)
    return pretrained, transformers.AutoModel.from_pretrained(path).state_dict()


@pytest.mark.parametrize("auto_class", ["AutoModelForSequenceClassification", "AutoModel"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_top_layers_are_drawn_anew_and_the_others_are_the_folders(
    tmp_path: Path, architecture: str, auto_class: str
) -> None:
    pretrained, given = opened(tmp_path, architecture, LAYERS - 1)
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
    pretrained, given = opened(tmp_path, architecture, 0)
    body = load_model(pretrained, "AutoModelForSequenceClassification", None, 0, CPU).base_model.state_dict()
    assert {name for name, t in given.items() if "pooler" not in name and not torch.equal(body[name], t)} == set()


def test_more_layers_than_there_are_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^finetune\.reinitialize_layers is 9, but .*export has \d layers\.$"):
        opened(tmp_path, "electra", 9)
