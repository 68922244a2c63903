"""Pretraining on a mixture: the plan, the figures, and a killed run that goes on with the same batches."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.base.config import load_config
from pipeline.base.files import sha256_file
from pipeline.base.run_folder import RunFolder
from pipeline.command import main
from pipeline.stages.pretrain import plan
from pipeline.training.checkpoint import find_checkpoint
from pipeline.training.origin import find_origin, training_stream
from tests.mixtures import corpus_config, make_mixture
from tests.pipeline.training.pretrain_runs import VOCABULARY, Workshop, assert_same_end, kill, losses

TOKENS = {"wiki": 9_000, "news": 3_000}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    shop = Workshop(tmp_path_factory.mktemp("mixture"))
    shutil.rmtree(shop.folder / "data")
    make_mixture(shop.folder / "data", TOKENS, corpus_config({"wiki": 3, "news": 1}), vocab_size=VOCABULARY)
    return shop


def weighed(wiki: float, news: float) -> list[str]:
    given = corpus_config({"wiki": wiki, "news": news})["corpora"]
    return [f"corpus.corpora={json.dumps(given)}"]


def test_the_plan_tells_each_corpuss_share_and_epochs(shop: Workshop) -> None:
    lines = dict(plan(load_config(Path(shop.config), shop.arguments("planned", "train.steps=400")[2:])))
    assert lines["steps"] == "400"
    assert lines["corpora"] == "mixed by the weights of the config that the data was made with: news 1, wiki 3"
    assert "an epoch" not in lines
    stream = training_stream(config := load_config(shop.config, shop.arguments("planned")[2:]), find_origin(config))
    sequences = [part.order.sequences for part in stream.parts]
    counts = np.bincount(stream.mixture.locate(np.arange(2_000))[0]) if stream.mixture else np.zeros(2)
    for name, share, mine, seen in zip(("news", "wiki"), ("0.2500", "0.7500"), sequences, counts, strict=True):
        assert lines[f"  {name}"] == (
            f"{TOKENS[name]:,} tokens, {share} of the sequences, {seen / mine:,.2f} epochs of {mine:,} sequences of 24"
        )
    lines = dict(plan(load_config(shop.config, shop.arguments("planned", *weighed(1, 1))[2:])))
    assert lines["corpora"] == "mixed by the weights of this config: news 1, wiki 1"


@pytest.mark.slow
def test_killed_and_resumed_the_batches_are_the_same(shop: Workshop) -> None:
    settings = ("train.steps=20", *weighed(2, 1))
    assert main("pretrain", shop.arguments("whole", *settings)) == 0
    cut = shop.arguments("cut", *settings)
    with shop.ranks(1, cut) as processes:
        shop.wait_for_step("cut", 7)
        kill(processes)
    assert main("pretrain", cut) == 0
    whole = shop.run_folder("whole")
    assert_same_end(whole, shop.run_folder("cut"))
    assert losses(whole)[20] < 0.95 * losses(whole)[1]
    facts = corpora_of(whole)
    assert {name: round(seen["share"], 3) for name, seen in facts.items()} == {"news": 0.333, "wiki": 0.667}
    for name, seen in facts.items():
        assert losses(whole, name=f"train/epochs/{name}")[20] == seen["epochs"] > 0


def corpora_of(folder: RunFolder) -> dict[str, dict[str, float]]:
    """What the newest checkpoint's manifest says of the corpora."""
    return dict(json.loads((find_checkpoint(folder) / "manifest.json").read_text())["corpora"])


@pytest.mark.slow
def test_other_weights_and_other_data_on_resume(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("pretrain", shop.arguments("done", "train.steps=2", *weighed(1, 2))) == 0
    capsys.readouterr()
    assert main("pretrain", shop.arguments("done", "train.steps=4", *weighed(1, 3))) == 2
    assert "corpus.corpora.news.weight: 2.0 in the checkpoint, 3.0 now" in capsys.readouterr().err
    assert main("pretrain", shop.arguments("done", "train.steps=4")) == 2
    assert "corpus.corpora.wiki.weight: 1.0 in the checkpoint, not set now" in capsys.readouterr().err
    assert main("pretrain", shop.arguments("new", "corpus.corpora={wiki: {paths: [a]}, web: {paths: [b]}}")) == 2
    assert "news not named; web not in the data" in capsys.readouterr().err
    assert not (shop.folder / "new" / "checkpoints").exists()


@pytest.mark.slow
def test_a_run_stays_with_its_revision(shop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    """Text is added to the data while a run is under way: it goes on where it is told the revision."""
    shutil.copytree(shop.folder / "data", shop.folder / "growing")
    data = RunFolder(shop.folder / "growing")
    grown = json.loads(data.manifest.read_text()) | {"config": {"corpus": corpus_config({"wiki": 1, "news": 1})}}
    (data.data / "manifests").mkdir()
    shutil.copyfile(data.manifest, data.data / "manifests" / "000001.json")
    arguments = [*shop.arguments("grows"), f"data.path={data.path}"]
    assert main("pretrain", [*arguments, "train.steps=2"]) == 0
    data.manifest.write_text(json.dumps(grown))
    shutil.copyfile(data.manifest, data.data / "manifests" / "000002.json")
    capsys.readouterr()
    assert main("pretrain", [*arguments, "train.steps=4"]) == 2
    assert "set data.revision=1" in capsys.readouterr().err
    assert main("pretrain", [*arguments, "train.steps=4", "data.revision=1"]) == 0
    manifest = json.loads((find_checkpoint(shop.run_folder("grows")) / "manifest.json").read_text())
    assert manifest["data_manifest_sha256"] == sha256_file(data.data / "manifests" / "000001.json")
    assert main("pretrain", [*arguments, "train.steps=6", "data.revision=3"]) == 2
    assert "revisions of" in capsys.readouterr().err
