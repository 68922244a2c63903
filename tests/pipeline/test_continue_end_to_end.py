"""A released pair and its tokenizer, on own text: preprocess, pretrain, export, and what transformers makes of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining, AutoTokenizer

from pipeline.base.config import load_config
from pipeline.base.errors import UserError
from pipeline.base.files import sha256_file
from pipeline.base.run_folder import RunFolder
from pipeline.shards.manifest import read_manifest
from pipeline.stages import export, preprocess, pretrain
from tests.pipeline.training.hf_pairs import make_pair
from tests.pipeline.vocabulary.generated_text import make_documents
from tests.pipeline.vocabulary.hf_tokenizers import word_piece

TEXTS = ("bada ko, LATI tu.", "mo [MASK] ti 42", "se")


@pytest.mark.slow
def test_a_released_pair_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "DS_ACCELERATOR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)  # what a rank completes in its environment is undone afterwards
    tokenizer = word_piece()
    theirs: dict[str, Any] = dict(
        zip(("discriminator", "generator"), make_pair(tmp_path / "given", tokenizer), strict=True)
    )
    (tmp_path / "corpus").mkdir()
    lines = [json.dumps({"text": text}) for text in make_documents(400)]
    (tmp_path / "corpus" / "a.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "own.yaml").write_text(
        f"""
        run_dir: {tmp_path / "run"}
        corpus: {{paths: [{tmp_path / "corpus"}], validation_fraction: 0.1}}
        tokenizer: {{path: {tmp_path / "given" / "generator" / "tokenizer.json"}}}
        data: {{sequence_length: 24, block_tokens: 512}}
        init: {{discriminator: {tmp_path / "given" / "discriminator"}, generator: {tmp_path / "given" / "generator"}}}
        optimizer: {{lr: 1.0e-9}}
        train: {{steps: 3, batch_size: 4, precision: fp32, threads: 1, eval_sequences: 8}}
        ray: {{address: local, num_cpus: 1}}
        tracking: {{uri: "sqlite:///{tmp_path / "mlflow.db"}"}}
        """
    )
    config = load_config(tmp_path / "own.yaml")
    folder = RunFolder(tmp_path / "run")
    preprocess.run(config)
    assert folder.tokenizer.name == "tokenizer.json"
    assert read_manifest(folder.manifest).tokenizer.sha256 == sha256_file(folder.tokenizer)
    preprocess.run(config)  # a no-op: the given file becomes the run's own
    pretrain.run(config)
    export.run(config)

    transformers.logging.set_verbosity_error()
    before = AutoTokenizer.from_pretrained(tmp_path / "given" / "generator")
    for name, auto in (("discriminator", AutoModelForPreTraining), ("generator", AutoModelForMaskedLM)):
        after = AutoTokenizer.from_pretrained(folder.export / name)
        assert after.model_max_length == theirs[name].config.max_position_embeddings == 40
        mine = auto.from_pretrained(folder.export / name).eval()
        old = before(list(TEXTS), padding=True, return_tensors="pt")
        new = after(list(TEXTS), padding=True, return_tensors="pt")
        pieces = after.convert_ids_to_tokens(range(len(after)))
        assert [after.convert_ids_to_tokens(row) for row in new["input_ids"]] == [
            before.convert_ids_to_tokens(row) for row in old["input_ids"]
        ]
        with torch.no_grad():
            wanted, found = theirs[name](**old).logits, mine(**new).logits
        if name == "generator":
            wanted = wanted[..., before.convert_tokens_to_ids(pieces)]
        seen = old["attention_mask"].bool()
        assert float((found[seen] - wanted[seen]).abs().max()) < 1e-4
    names = json.loads((folder.export / "export.json").read_text())
    assert names["tokenizer_sha256"] == sha256_file(folder.tokenizer)

    other = word_piece(vocab_size=350)
    other.save(str(tmp_path / "given" / "generator" / "tokenizer.json"))
    with pytest.raises(UserError, match="is another model than the data was made with"):
        preprocess.run(config)
    with pytest.raises(UserError, match=r"made with another tokenizer than tokenizer\.path"):
        pretrain.run(config)
