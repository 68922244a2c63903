"""Revisions: every manifest of a data set is kept, and a run may stay with an older one."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.base.errors import UserError
from pipeline.base.files import sha256_file
from pipeline.shards.manifest import find_revision, manifest_path, read_manifest
from tests.datasets import make_dataset


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two revisions; the manifest of the newest is that of the data set."""
    make_dataset(tmp_path, tokens=2_000)
    data = tmp_path / "data"
    (data / "manifests").mkdir()
    content = json.loads((data / "manifest.json").read_text())
    for number in (1, 2):
        content["config"] = {"seed": number}
        (data / "manifests" / f"{number:06d}.json").write_text(json.dumps(content))
    shutil.copyfile(data / "manifests" / "000002.json", data / "manifest.json")
    return data


def test_the_newest_unless_a_revision_is_named(data: Path) -> None:
    seeds = [read_manifest(manifest_path(data, revision)).config["seed"] for revision in (None, 1, 2)]
    assert seeds == [2, 1, 2]


def test_a_revision_that_is_not_there(data: Path) -> None:
    with pytest.raises(UserError, match=r"data\.revision 3: there is no .*000003\.json; revisions of .*: 1, 2\."):
        manifest_path(data, 3)
    shutil.rmtree(data / "manifests")
    with pytest.raises(UserError, match=r"revisions of .*: none\."):
        manifest_path(data, 1)


def test_a_revision_is_found_by_its_digest(data: Path) -> None:
    digest = sha256_file(data / "manifests" / "000001.json")
    assert find_revision(data, digest) == 1
    assert find_revision(data, sha256_file(data / "manifest.json")) == 2
    assert find_revision(data, "0" * 64) is None
    shutil.rmtree(data / "manifests")
    assert find_revision(data, digest) is None
