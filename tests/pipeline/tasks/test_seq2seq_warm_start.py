"""What the decoder starts from: the promised tensors, and the function where the library's layers are the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models
from torch.testing import assert_close

from pipeline.tasks.pretrained import Pretrained
from pipeline.tasks.seq2seq_vocabulary import shared_pieces, train_target_vocabulary
from pipeline.tasks.seq2seq_warm_start import build_encoder_decoder
from tests.pipeline.tasks.tiny_folders import ARCHITECTURES, LAYERS, SPECIAL, WORDS, tiny_model, tiny_tokenizer

IDS = torch.tensor([[2, 7, 9, 30, 12, 3]])


def folder(path: Path, model: Any, weights: Any = "pretrained") -> Pretrained:
    """As open_pretrained would say of a folder with these weights."""
    model.save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    config = transformers.AutoConfig.from_pretrained(path)
    return Pretrained(path, config, tiny_tokenizer(), 0, weights)


def all_pieces() -> dict[int, int]:
    return {number: number for number in range(len(SPECIAL + WORDS))}


def built(pretrained: Pretrained, longest: int = 32) -> Any:
    return build_encoder_decoder(pretrained, pretrained.tokenizer, all_pieces(), longest, 5)[0].eval()


@pytest.mark.parametrize("architecture", ["electra", "bert"])
def test_decoder_is_the_encoder_with_a_causal_mask(tmp_path: Path, architecture: str) -> None:
    model = built(folder(tmp_path, tiny_model(architecture)))
    causal = torch.full((1, 1, 6, 6), -1e9).triu(1)  # added to the scores
    with torch.no_grad():
        expected = model.encoder(IDS, attention_mask=causal).last_hidden_state
        blind = model.decoder.base_model(IDS).last_hidden_state
        seeing = model.encoder(IDS).last_hidden_state
    assert_close(blind, expected)
    assert not torch.allclose(seeing, expected, atol=1e-3)


def test_modernbert_decoder_has_embeddings_norms_and_attention(tmp_path: Path) -> None:
    torch.manual_seed(3)
    pretrained_model = tiny_model("modernbert")
    for parameter in pretrained_model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model = built(folder(tmp_path, pretrained_model))
    encoder, decoder = model.encoder, model.decoder.base_model
    assert_close(decoder.embeddings.word_embeddings.weight, encoder.embeddings.tok_embeddings.weight)
    assert_close(decoder.embeddings.LayerNorm.weight, encoder.embeddings.norm.weight)
    assert_close(decoder.LayerNorm.weight, encoder.final_norm.weight)
    token = torch.randn(1, 1, 32)  # alone and at position 0, where the rotation is none
    turn = encoder.rotary_emb(token, torch.zeros(1, 1, dtype=torch.long), encoder.config.layer_types[0])
    for number in range(LAYERS):
        ours, theirs = decoder.encoder.layer[number], encoder.layers[number]
        assert_close(ours.intermediate.LayerNorm(token), theirs.mlp_norm(token))
        normed = token if number == 0 else theirs.attn_norm(token)
        inside = token if number == 0 else None  # the first layer has no norm there, and here a new one of gain 1
        attended, _ = theirs.attn(normed, position_embeddings=turn)
        if inside is None:
            assert_close(ours.attention(token)[0], token + attended)
        own = ours.attention.self
        joined = torch.cat([own.query.weight, own.key.weight, own.value.weight])
        assert_close(joined, theirs.attn.Wqkv.weight)
        assert not own.query.bias.any()


@pytest.mark.parametrize(
    ("class_name", "before", "after"),
    [
        ("ElectraForMaskedLM", "generator_predictions.dense.weight", "generator_predictions.dense.weight"),
        ("BertForMaskedLM", "cls.predictions.transform.dense.weight", "cls.predictions.transform.dense.weight"),
        ("ModernBertForMaskedLM", "head.dense.weight", "lm_head.dense.weight"),
    ],
)
def test_a_masked_language_model_gives_its_head_too(tmp_path: Path, class_name: str, before: str, after: str) -> None:
    config = tiny_model(class_name.removesuffix("ForMaskedLM").lower()).config
    torch.manual_seed(1)
    whole = getattr(transformers, class_name)(config)
    bias = whole.get_output_embeddings().bias
    bias.data.normal_()
    model = built(folder(tmp_path, whole))
    assert_close(model.decoder.state_dict()[after], whole.state_dict()[before])
    assert_close(model.decoder.get_output_embeddings().bias, bias)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_of_shared_pieces_only_and_tied_to_the_last_layer(tmp_path: Path, architecture: str) -> None:
    pretrained = folder(tmp_path, tiny_model(architecture))
    texts = [f"the film was very good and w{n} w{n + 1}" for n in range(30)]
    target, _ = train_target_vocabulary(texts, 330, 32)
    shared = shared_pieces(target, pretrained.tokenizer)
    model, copied = build_encoder_decoder(pretrained, target, shared, 32, 5)
    mine, theirs = model.decoder.get_input_embeddings().weight, model.encoder.get_input_embeddings().weight
    for number, other in shared.items():
        assert_close(mine[number], theirs[other])
    assert 5 < len(shared) < len(target) == len(mine)
    assert copied["decoder_pieces"] == len(shared)
    new = next(number for number in range(len(target)) if number not in shared)
    assert not (mine[new] == theirs).all(-1).any()
    assert mine[new].any()
    assert model.decoder.get_output_embeddings().weight is mine


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_random_weights_copy_nothing_and_a_seed_repeats(tmp_path: Path, architecture: str) -> None:
    given = tiny_model(architecture)
    pretrained = folder(tmp_path, given, "random")
    model, copied = build_encoder_decoder(pretrained, pretrained.tokenizer, all_pieces(), 32, 5)
    again, _ = build_encoder_decoder(pretrained, pretrained.tokenizer, all_pieces(), 32, 5)
    assert set(copied.values()) == {0}
    assert not torch.allclose(model.encoder.get_input_embeddings().weight, given.get_input_embeddings().weight)
    for (name, value), other in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(value, other), name


def test_pieces_are_matched_by_what_they_spell() -> None:
    target, _ = train_target_vocabulary(["the thing", "singing the thing", "the king , the wing"] * 20, 310, 16)
    words = [piece for piece in target.get_vocab() if piece.isalpha() or piece[1:].isalpha()]
    first = [piece[1:] for piece in words if piece[0] == "\u2581"]
    inside = [piece for piece in words if piece[0] != "\u2581" and len(piece) > 1] + ["t"]
    pieces = [*SPECIAL, *first, *(f"##{piece}" for piece in inside), ",", "x", "##never"]
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    vocabulary = {piece: number for number, piece in enumerate(reversed(pieces))}
    wordpiece = models.WordPiece(vocabulary, unk_token="[UNK]")
    source = transformers.PreTrainedTokenizerFast(tokenizer_object=Tokenizer(wordpiece), **names)
    shared = shared_pieces(target, source)
    spelt = {target.convert_ids_to_tokens(a): source.convert_ids_to_tokens(b) for a, b in shared.items()}
    expected = {name: name for name in SPECIAL} | {f"\u2581{piece}": piece for piece in first}
    expected |= {piece: f"##{piece}" for piece in inside}
    assert len(first) > 1
    assert {name: spelt.get(name) for name in expected} == expected
    assert set(spelt) - set(expected) <= {",", "\u2581,"}  # a sign is the same alone and after a word; "x" is not


def test_a_high_padding_id_makes_no_long_table_of_positions(tmp_path: Path) -> None:
    pretrained = folder(tmp_path, tiny_model("modernbert"))
    pretrained.tokenizer.pad_token = "w5"
    model, _ = build_encoder_decoder(pretrained, pretrained.tokenizer, all_pieces(), 20, 5)
    number = pretrained.tokenizer.pad_token_id
    assert model.decoder.config.max_position_embeddings == number + 1 + 20
    assert model.config.pad_token_id == number
