"""train.deterministic: the same command twice ends with the same bits."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline.command import main
from pipeline.training.deterministic import ENVIRONMENT
from tests.pipeline.training.pretrain_runs import Workshop, assert_same_end


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, ENVIRONMENT[name])
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.slow
def test_the_same_command_twice(tmp_path: Path, restored: None) -> None:
    shop = Workshop(tmp_path)
    settings = ("train.deterministic=true", "train.steps=6", "train.precision=bf16", "model.dropout=0.1")
    for name in ("one", "other"):
        assert main("pretrain", shop.arguments(name, *settings, stage=1)) == 0
    assert torch.are_deterministic_algorithms_enabled()
    assert_same_end(shop.run_folder("one"), shop.run_folder("other"))
