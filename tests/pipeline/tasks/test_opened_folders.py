"""Folders of transformers that lack something: refused, where the library would make it up."""

from pathlib import Path

import pytest

from pipeline.base.errors import UserError
from pipeline.tasks.pretrained import open_config_and_tokenizer, open_tokenizer
from tests.pipeline.tasks.tiny_folders import tiny_folder


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
