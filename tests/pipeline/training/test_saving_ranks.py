"""The same state saved by 1, 2 and 3 ranks at every ZeRO stage is the same files, and safetensors' own."""

import hashlib
import json

import pytest
from safetensors.torch import load_file, save

from pipeline.base.run_folder import RunFolder
from pipeline.training.checkpoint import list_checkpoints, verify_checkpoint
from pipeline.training.engine_state import KINDS
from tests.pipeline.training.pretrain_runs import Workshop, forked, wait
from tests.pipeline.training.saving_worker import known

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("saving"))


def test_the_files_do_not_depend_on_ranks_or_stage(shop: Workshop) -> None:
    for world in (1, 2, 3):
        settings = [f"run_dir={shop.folder / f'w{world}'}", f"data.path={shop.folder / 'data'}", "train.keep_last=9"]
        given = [str(shop.config), *settings]
        with forked(world, "tests.pipeline.training.saving_worker", "save_all", *given) as ranks:
            assert wait(ranks) == [0] * world
    found: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for world in (1, 2, 3):
        paths = list_checkpoints(RunFolder(shop.folder / f"w{world}"))
        assert [path.name[-2:] for path in paths] == ["31", "30", "21", "20", "11", "10", "01", "00"]
        for path in paths:
            verify_checkpoint(path)
            assert json.loads((path / "manifest.json").read_text())["step"] == int(path.name[-8:])
            for kind in KINDS:
                found[kind].add(hashlib.sha256((path / f"{kind}.safetensors").read_bytes()).hexdigest())
    shapes = {name: tuple(tensor.shape) for name, tensor in load_file(path / "weights.safetensors").items()}
    assert found == {kind: {hashlib.sha256(save(known(shapes, kind))).hexdigest()} for kind in KINDS}
