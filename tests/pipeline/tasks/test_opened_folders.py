"""Folders of transformers that lack something: refused, where the library would make it up."""

import json
from pathlib import Path

import pytest

from pipeline.base.errors import UserError
from pipeline.base.task_sections import FinetuneConfig
from pipeline.explaining.classifier import open_classifier
from pipeline.probing.networks import open_folder
from pipeline.tasks.families.base import open_task
from pipeline.tasks.pretrained import open_config_and_tokenizer, open_pretrained, open_tokenizer
from tests.pipeline.explaining.explained_folders import all_folders
from tests.pipeline.tasks.test_text_tasks import singles
from tests.pipeline.tasks.tiny_folders import SPECIAL, WORDS, tiny_folder, tiny_tokenizer


@pytest.mark.parametrize("architecture", ["electra", "bert", "modernbert"])
@pytest.mark.parametrize("left", [None, "vocab.txt"])
def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path, architecture: str, left: str | None) -> None:
    path = tiny_folder(tmp_path / "export", architecture)
    assert len(open_tokenizer(path)) == len(open_config_and_tokenizer(path, "it")[1])
    (path / "tokenizer.json").unlink()
    if left is not None:
        (path / left).touch()
    with pytest.raises(UserError, match=rf"^{path} has no tokenizer .*Copy its tokenizer\.json there\.$"):
        open_tokenizer(path)
    with pytest.raises(UserError, match=rf"^evaluate\.generator: {path} has no tokenizer"):
        open_config_and_tokenizer(path, f"evaluate.generator: {path}")


def open_as(kind: str, path: Path, folder: Path) -> None:
    """As each stage does that reads such a folder."""
    if kind == "fine-tuning":
        settings = FinetuneConfig(**singles(folder), max_length=32)
        open_pretrained(path, open_task(settings), settings)
    elif kind == "classifier":
        open_classifier(path)
    else:
        open_folder(path, kind)  # type: ignore[arg-type]


@pytest.mark.parametrize("left_out", [0, 3], ids=["one piece too many", "fewer pieces, but one id too high"])
@pytest.mark.parametrize("kind", ["fine-tuning", "discriminator", "generator", "classifier"])
def test_a_piece_without_an_embedding_is_refused(tmp_path: Path, kind: str, left_out: int) -> None:
    path = all_folders(tmp_path)["discriminator" if kind == "fine-tuning" else kind]
    rows = len(SPECIAL + WORDS)
    open_as(kind, path, tmp_path)
    tiny_tokenizer([*WORDS, "further"]).save_pretrained(path)
    saved = json.loads((path / "tokenizer.json").read_text())
    for word in WORDS[:left_out]:
        del saved["model"]["vocab"][word]
    (path / "tokenizer.json").write_text(json.dumps(saved))
    with pytest.raises(
        UserError, match=rf"{path}: the ids of the tokenizer's pieces reach {rows}, the model has {rows} "
    ):
        open_as(kind, path, tmp_path)
