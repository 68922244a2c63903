"""corpus.deduplicate: off unless named, and a dumped config reads back the same."""

from pathlib import Path

import pytest

from pipeline.base.config import config_from_dict, dump_config, load_config
from pipeline.base.duplicates_sections import DeduplicateConfig, NearConfig
from pipeline.base.errors import UserError

KEY = "corpus.deduplicate"


@pytest.mark.parametrize(
    ("override", "near"),
    [
        (None, None),
        ("near=false", None),
        ("near=true", NearConfig()),
        ("near={}", NearConfig()),
        ("near=", NearConfig()),
        ("near.similarity=0.7", NearConfig(similarity=0.7)),
        ("near={permutations: 64}", NearConfig(permutations=64)),
    ],
)
def test_near_is_off_unless_named(override: str | None, near: NearConfig | None) -> None:
    config = load_config(None, [f"{KEY}.{override}"] if override else [])
    deduplicate = config.corpus.deduplicate
    assert deduplicate == DeduplicateConfig().model_copy(update={"near": near})
    assert deduplicate.active == (near is not None)
    again = config_from_dict(config.to_dict())
    assert again.corpus == config.corpus


def test_a_dumped_config_reads_back_the_same(tmp_path: Path) -> None:
    for overrides in ([], [f"{KEY}.near=true", f"{KEY}.documents=true"]):
        config = load_config(None, overrides)
        path = tmp_path / "config.yaml"
        path.write_text(dump_config(config))
        assert load_config(path).to_dict() == config.to_dict()
    assert "near: false" in dump_config(load_config(None))


@pytest.mark.parametrize(
    "override",
    ["near=3", "near.similarity=true", "near.similarity=1.5", "near.bands=9", "documents=1.5", "paragraphs=maybe"],
)
def test_other_values_are_refused(override: str) -> None:
    with pytest.raises(UserError, match="command line"):
        load_config(None, [f"{KEY}.{override}"])
