"""The stage export: stock transformers loads what it writes, to our logits; what it says, refuses and leaves alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
import transformers
from mlflow.tracking import MlflowClient

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import read_run_id
from pipeline.release.refresh import MARK
from pipeline.stages import export
from pipeline.training.checkpoint import write_manifest
from pipeline.training.restore import load_objective
from tests.pipeline.release.checkpoints import make_checkpoint, make_config, make_tokenizer

KINDS = [("electra", "electra"), ("modernbert", "electra"), ("electra", "mlm"), ("modernbert", "mlm")]
AUTO = {
    "ElectraForPreTraining": transformers.AutoModelForPreTraining,
    "ModernBertForTokenClassification": transformers.AutoModelForTokenClassification,
    "ElectraForMaskedLM": transformers.AutoModelForMaskedLM,
    "ModernBertForMaskedLM": transformers.AutoModelForMaskedLM,
}


@pytest.fixture(scope="module")
def tokenizer() -> bytes:
    return make_tokenizer()


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def exported(request: pytest.FixtureRequest, tokenizer: bytes, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A run whose checkpoint has been exported."""
    config = make_config(tmp_path_factory.mktemp("runs") / "run", *request.param)
    make_checkpoint(config, tokenizer)
    export.run(config)
    return config


@pytest.mark.slow
def test_transformers_loads_our_logits(exported: RunConfig, tokenizer: bytes) -> None:
    folder = RunFolder(Path(exported.run_dir))
    networks = load_objective(folder.checkpoints / "step-00000012").networks()
    mlm = exported.objective.name == "mlm"
    assert set(networks) == ({"generator"} if mlm else {"generator", "discriminator"})
    assert {path.name for path in folder.export.iterdir()} == {*networks, MARK}
    text = "bada ko [MASK] (1980) 漢 bada."
    for name, network in networks.items():
        path = folder.export / name
        class_name = json.loads((path / "config.json").read_text())["architectures"][0]
        model, report = AUTO[class_name].from_pretrained(path, output_loading_info=True)
        assert type(model).__name__ == class_name
        assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        fast = transformers.AutoTokenizer.from_pretrained(path)
        inputs = fast([text, "ko"], padding=True, return_tensors="pt")
        with torch.no_grad():
            theirs, ours = model(**inputs).logits, network.logits(inputs["input_ids"])  # type: ignore[operator]
        if class_name == "ModernBertForTokenClassification":
            assert model.config.id2label == {0: "original", 1: "replaced"}
            ours = torch.stack((torch.zeros_like(ours), ours), -1)
        seen = inputs["attention_mask"].bool()
        torch.testing.assert_close(theirs[seen], ours[seen], atol=1e-5, rtol=1e-5)
        processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer)
        assert fast(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] == processor.encode(text)
        assert not list(path.glob("*.py"))
        assert "auto_map" not in (path / "config.json").read_text()


@pytest.mark.slow
def test_pipelines(exported: RunConfig) -> None:
    folder = RunFolder(Path(exported.run_dir)).export
    answers = transformers.pipeline("fill-mask", str(folder / "generator"))("bada ko [MASK] ko.", top_k=3)
    assert len(answers) == 3
    assert all(answer["sequence"].startswith("bada ko") for answer in answers)
    if exported.model.body == "modernbert" and exported.objective.name == "electra":
        tags = transformers.pipeline("token-classification", str(folder / "discriminator"))("bada ko.")
        assert {tag["entity"] for tag in tags} <= {"original", "replaced"}
        assert tags[0]["start"] == 0


@pytest.mark.slow
def test_card_and_tracking(exported: RunConfig) -> None:
    folder = RunFolder(Path(exported.run_dir))
    mark = json.loads((folder.export / MARK).read_text())
    card = (folder.export / "generator" / "README.md").read_text()
    for part in (mark["checkpoint_sha256"], mark["tokenizer_sha256"], "d" * 64, "run-of-pretraining", "step 12 "):
        assert part in card
    assert "`eval/generator/loss` | 5.2500" in card
    assert "at step 10" in card
    assert "eval/x" not in card
    assert "positions past 32 were never trained" in card
    assert f'from_pretrained("{exported.run_dir}/export/generator")' in card
    lines = card.partition("```python\n")[2].partition("```")[0]
    scope: dict[str, Any] = {}
    exec(lines, scope)
    assert scope["model"].config.vocab_size == len(scope["tokenizer"])
    run = MlflowClient(exported.tracking.uri).get_run(read_run_id(folder, "export") or "")
    assert run.info.status == "FINISHED"
    assert run.data.tags["pretrain_run_id"] == "run-of-pretraining"
    assert run.data.tags["checkpoint_sha256"] == mark["checkpoint_sha256"]
    assert run.data.metrics["export/generator/logits_difference"] <= 1e-5


@pytest.mark.slow
def test_again_is_a_no_op_and_a_newer_checkpoint_replaces(tokenizer: bytes, tmp_path: Path) -> None:
    config = make_config(tmp_path / "run", "electra", "mlm")
    folder = RunFolder(Path(config.run_dir))
    make_checkpoint(config, tokenizer)
    assert dict(export.plan(config))["writes"] == str(folder.export / "generator")
    assert not folder.export.exists(), "a plan writes nothing"
    export.run(config)
    weights = folder.export / "generator" / "model.safetensors"
    before, content = weights.stat().st_ino, weights.read_bytes()
    export.run(config)
    assert weights.stat().st_ino == before
    assert export.plan(config) == [("already done", str(folder.export))]
    weights.write_bytes(b"damaged")
    export.run(config)
    assert weights.read_bytes() == content
    make_checkpoint(config, tokenizer, step=24)
    export.run(config)
    assert weights.read_bytes() != content
    export.run(config.model_copy(update={"export": config.export.model_copy(update={"checkpoint": "step-00000012"})}))
    assert weights.read_bytes() == content
    assert {path.name for path in tmp_path.joinpath("run").iterdir()} <= {
        "checkpoints",
        ".tracking.lock",
        "export",
        "log",
        "metrics.jsonl",
        "tracking.json",
    }


def test_a_failed_check_leaves_the_old_export(
    tokenizer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(tmp_path / "run", "electra", "mlm")
    make_checkpoint(config, tokenizer)
    old = RunFolder(Path(config.run_dir)).export / "generator"
    old.mkdir(parents=True)
    monkeypatch.setattr(export, "largest_difference", lambda *_: 1e-3)
    with pytest.raises(RuntimeError, match="other logits than ours"):
        export.run(config)
    assert [path.name for path in old.parent.iterdir()] == ["generator"]
    assert not list(tmp_path.joinpath("run").glob(".export*"))


def test_checkpoints_that_cannot_be_exported(tokenizer: bytes, tmp_path: Path) -> None:
    config = make_config(tmp_path / "run", "modernbert", "electra")
    with pytest.raises(UserError, match=r"no checkpoint in .*Run pipeline/pretrain\.py"):
        export.run(config)
    path = make_checkpoint(config, tokenizer)
    absent = config.model_copy(update={"export": config.export.model_copy(update={"checkpoint": "step-00000099"})})
    with pytest.raises(UserError, match=r"there is no checkpoint .*step-00000099; there are: step-00000012"):
        export.plan(absent)
    (path / "weights.safetensors").write_bytes(b"cut off")
    for stage in (export.run, export.plan):
        with pytest.raises(UserError, match=r"weights\.safetensors is damaged"):
            stage(config)
    shutil.rmtree(path)
    make_checkpoint(config, tokenizer)
    (path / "manifest.json").unlink()
    with pytest.raises(UserError, match="no checkpoint"):
        export.run(config)
    assert not (tmp_path / "run" / "export").exists()


def test_tokenizer_of_another_model(tokenizer: bytes, tmp_path: Path) -> None:
    config = make_config(tmp_path / "run", "electra", "mlm")
    path = make_checkpoint(config, tokenizer)
    manifest = json.loads((path / "manifest.json").read_text())
    facts = {key: value for key, value in manifest.items() if key not in ("files", "sha256")}
    write_manifest(path, facts | {"vocab_size": 501})
    with pytest.raises(UserError, match="has 500 pieces, the checkpoint's model 501"):
        export.run(config)
