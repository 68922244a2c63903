"""What a model card says of a run that started from given weights, with a given tokenizer, and of one that did not."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.files import sha256_file
from pipeline.release.card import model_card
from pipeline.release.facts import Facts
from pipeline.training.checkpoint import TrainState
from pipeline.training.initial import initial_objective
from pipeline.vocabulary.fast import fast_tokenizer
from pipeline.vocabulary.reading import codec_of, read_renumbered
from tests.pipeline.release.checkpoints import make_config, make_tokenizer
from tests.pipeline.training.hf_pairs import POSITIONS, make_origin, make_pair, make_run
from tests.pipeline.vocabulary.hf_tokenizers import ROBERTA, byte_bpe, save


def make_facts(config: Any, tokenizer: bytes, initial: dict[str, Any] | None = None) -> Facts:
    codec = codec_of(tokenizer)
    return Facts(
        checkpoint=Path("step-00000012"),
        sha256="c" * 64,
        config=config,
        state=TrainState(step=12, samples=96, tokens=3072, flops=1e9),
        vocab_size=codec.vocab_size,
        tokenizer=tokenizer,
        tokenizer_kind=codec.kind,
        tokenizer_sha256=codec.sha256,
        data_manifest_sha256="d" * 64,
        pretrain_run_id="",
        initial=initial,
    )


def card_of(facts: Facts, name: str = "discriminator") -> str:
    return model_card(facts, name, "ElectraForPreTraining", "AutoModelForPreTraining", 1000)


def limits_of(facts: Facts) -> str:
    """The limits, whose length must be the one at which the exported tokenizer cuts."""
    text = card_of(facts).partition("## Limits\n")[2]
    cuts = fast_tokenizer(facts.tokenizer, facts.trained_length).model_max_length
    assert f"`model_max_length` is {cuts}, so" in text
    return text


@pytest.fixture(scope="module")
def sentence_piece() -> bytes:
    return make_tokenizer()


def test_released_weights_and_their_tokenizer(tmp_path: Path) -> None:
    given = tmp_path / "given"
    make_pair(given)
    data = make_origin(tmp_path / "data", given / "generator" / "tokenizer.json")
    sources = [f"init.{name}={given / name}" for name in ("discriminator", "generator")]
    config, origin = make_run(tmp_path, data, 400, *sources)
    facts = make_facts(config, origin.tokenizer_file.read_bytes(), initial_objective(config, origin)[1])
    card, limits = card_of(facts), limits_of(facts)
    assert f"Trained on sequences of 24 tokens. What the run started from was trained on up to {POSITIONS}" in limits
    assert "never trained" not in limits, "the network has no positions past those"
    assert "SentencePiece" not in card
    assert f"| tokenizer, sha256 of the Hugging Face tokenizer | {sha256_file(origin.tokenizer_file)} |" in card
    for name in ("discriminator", "generator"):
        digests = [sha256_file(given / name / file) for file in ("config.json", "model.safetensors")]
        digest = hashlib.sha256("".join(digests).encode()).hexdigest()
        (row,) = (line for line in card.splitlines() if line.startswith(f"| first weights, init.{name} |"))
        assert f"`{given / name} (" in row
        assert f"sha256 {digest}; 400 of 400 rows of the vocabulary matched" in row
        assert facts.tags()[f"init_{name}_sha256"] == digest
    assert "of its corpus and of whatever its first weights (see Origin) were trained on" in limits
    assert "| tokens seen in this run | 3,072 |" in card


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (None, "of 32 tokens. The network takes 48, but positions past 32 were never trained."),
        (16, "of 32 tokens. The network takes 48, but positions past 32 were never trained."),
        (40, "trained on up to 40 tokens. The network takes 48, but positions past 40 were never trained."),
        (512, "of 32 tokens. What the run started from was trained on up to 48 tokens. The tokenizer's"),
    ],
)
def test_a_second_phase(tmp_path: Path, sentence_piece: bytes, before: int | None, said: str) -> None:
    """Lengths, by the sequences of this run (32), the positions of the network (48) and what was trained before."""
    config = make_config(tmp_path / "runs" / "run", "electra", "electra")
    source = {"from": "runs/small/checkpoints/step-00001000", "sha256": "e" * 64, "trained_positions": before}
    source["notes"] = ["step 1,000 of that run", "16 of 48 positions are copies of the trained ones"]
    initial = None if before is None else {"trained_positions": before, "sources": {"checkpoint": source}}
    facts = make_facts(config, sentence_piece, initial)
    limits, card = limits_of(facts), card_of(facts)
    assert said in limits
    assert "The tokenizer gives SentencePiece's ids on any text." in limits
    assert "| tokenizer, sha256 of the SentencePiece model |" in card
    row = f"| first weights, init.checkpoint | `{source['from']}`; sha256 {'e' * 64}; step 1,000 of that run; 16 of 48"
    assert (row in card) == (before is not None)
    assert ("of its corpus and nothing else" in limits) == (before is None)


def test_the_example_has_the_tokenizers_own_mask(tmp_path: Path, sentence_piece: bytes) -> None:
    config = make_config(tmp_path / "runs" / "run", "electra", "electra")
    given = read_renumbered(save(byte_bpe(), tmp_path / "given", ROBERTA)).model
    assert '("The <mask> is here.")' in card_of(make_facts(config, given), "generator")
    assert '("The [MASK] is here.")' in card_of(make_facts(config, sentence_piece), "generator")


def test_a_mixture_is_told(tmp_path: Path, sentence_piece: bytes) -> None:
    facts = make_facts(make_config(tmp_path, "electra", "electra"), sentence_piece)
    assert "| corpus " not in card_of(facts)
    mixed = replace(facts, corpora={"wiki": {"share": 0.75, "epochs": 3.204}, "news": {"share": 0.25, "epochs": 0.5}})
    card = card_of(mixed)
    assert "| corpus wiki | 75.00% of the sequences, 3.20 epochs |" in card
    assert "| corpus news | 25.00% of the sequences, 0.50 epochs |" in card
