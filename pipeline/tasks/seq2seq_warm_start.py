"""An encoder-decoder whose halves both start from one pretrained encoder (Rothe, Narayan and Severyn 2020, section 3).

The result is transformers' EncoderDecoderModel of stock classes, so its folder needs no code of ours. BERT's and
ELECTRA's own classes decode: but for the vocabulary's rows everything fits. The library's ModernBERT cannot decode; its
decoder is RoBERTa-PreLayerNorm, which normalises at the same places, and `_from_modernbert` says what fits.
Price: cross-attention is new, as with Rothe et al.; ModernBERT's rotary positions and gates have no place to go.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from pipeline.tasks.pretrained import Pretrained, load_model

DROPOUT = 0.1
"""Least dropout of the decoder, which learns from few examples what it was not pretrained for; the encoder keeps its
own. Vaswani et al. 2017, section 5.4."""

HIGHEST_PAD_ID = 1024
"""RoBERTa's positions begin after the padding id, so the table of positions is as long as that id and more."""


def build_encoder_decoder(
    pretrained: Pretrained, target: Any, shared: Mapping[int, int], longest: int, seed: int
) -> tuple[Any, dict[str, int]]:
    """The model on the CPU in fp32, and how many tensors and rows of the decoder were copied.

    target: tokenizer of what is written. shared: its ids to ids of `pretrained.tokenizer`, pieces that are the same.
    longest: ids that the decoder ever reads, at most as many as the body has positions. With weights "random" nothing
    is copied.
    """
    config = pretrained.config
    encoder = load_model(pretrained, "AutoModel", None, seed, torch.device("cpu"))
    torch.manual_seed(seed)
    decoder = transformers.AutoModelForCausalLM.from_config(
        _decoder_config(config, target, longest), attn_implementation="eager"
    )
    both = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(encoder.config, decoder.config)
    both.decoder_start_token_id, both.pad_token_id = target.cls_token_id, target.pad_token_id
    both.eos_token_id = target.sep_token_id
    model = transformers.EncoderDecoderModel(encoder=encoder, decoder=decoder, config=both)
    model.tie_weights()
    if pretrained.weights == "random":
        return model, {"decoder_tensors": 0, "decoder_pieces": 0}
    tensors = _copy_body(encoder, decoder.base_model)
    tensors += _copy_head(pretrained, decoder, shared if len(shared) == len(target) else {})
    _copy_rows(encoder.get_input_embeddings(), decoder.get_input_embeddings(), shared)
    return model, {"decoder_tensors": tensors, "decoder_pieces": len(shared)}


def _decoder_config(config: Any, target: Any, longest: int) -> Any:
    """The encoder's sizes with the target's vocabulary."""
    ids = {"bos_token_id": target.cls_token_id, "eos_token_id": target.sep_token_id}
    role = {"is_decoder": True, "add_cross_attention": True, "use_cache": True, "tie_word_embeddings": True}
    common = {"vocab_size": len(target), "pad_token_id": target.pad_token_id} | ids | role
    if config.model_type != "modernbert":
        dropouts = ("hidden_dropout_prob", "attention_probs_dropout_prob")
        decoder = copy.deepcopy(config)
        for name, value in (common | {name: max(DROPOUT, getattr(config, name)) for name in dropouts}).items():
            setattr(decoder, name, value)
        decoder.architectures = None
        return decoder
    # Its padding id decides only where positions start; an id that no target holds does as well as a very high one.
    padding = target.pad_token_id if target.pad_token_id < HIGHEST_PAD_ID else 0
    return transformers.RobertaPreLayerNormConfig(
        **(common | {"pad_token_id": padding}),
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        hidden_act=config.hidden_activation,
        hidden_dropout_prob=max(DROPOUT, config.mlp_dropout),
        attention_probs_dropout_prob=max(DROPOUT, config.attention_dropout),
        max_position_embeddings=padding + 1 + longest,
        type_vocab_size=1,
        initializer_range=config.initializer_range,
        layer_norm_eps=config.norm_eps,
    )


@torch.no_grad()
def _copy_body(encoder: Any, body: Any) -> int:
    """Everything of the encoder that the decoder has a place for, but the vocabulary's rows; number of tensors."""
    given = dict(encoder.state_dict())
    if encoder.config.model_type == "modernbert":
        given = _from_modernbert(given, encoder.config.num_hidden_layers)
    return _fill(body, {name: value for name, value in given.items() if "word_embeddings" not in name})


def _from_modernbert(given: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Names and shapes of RoBERTa-PreLayerNorm: norms and attention of each layer, the last norm.

    No place: the feed-forward layers, which are gated there and plain here, and the rotary positions. A token alone, at
    position 0, is attended to by the same function. Norms and layers without bias leave that bias 0.
    """
    taken = {"embeddings.LayerNorm": "embeddings.norm", "LayerNorm": "final_norm"}
    for layer in range(layers):
        ours, theirs = f"encoder.layer.{layer}", f"layers.{layer}"
        taken[f"{ours}.attention.LayerNorm"] = f"{theirs}.attn_norm"
        taken[f"{ours}.attention.output.dense"] = f"{theirs}.attn.Wo"
        taken[f"{ours}.intermediate.LayerNorm"] = f"{theirs}.mlp_norm"
    state = {
        f"{ours}.{kind}": given[f"{theirs}.{kind}"]
        for ours, theirs in taken.items()
        for kind in ("weight", "bias")
        if f"{theirs}.{kind}" in given
    }
    for layer in range(layers):
        for kind in ("weight", "bias"):
            if (joined := given.get(f"layers.{layer}.attn.Wqkv.{kind}")) is not None:
                for name, part in zip(("query", "key", "value"), joined.chunk(3), strict=True):
                    state[f"encoder.layer.{layer}.attention.self.{name}.{kind}"] = part
    return state


@torch.no_grad()
def _copy_head(pretrained: Pretrained, decoder: Any, same: Mapping[int, int]) -> int:
    """The layer before the vocabulary, where the folder is of a masked language model (ours: the generator).

    same: as `shared`, where it holds every piece: then the biases of the pieces are copied too.
    """
    if not any(name.endswith("ForMaskedLM") for name in pretrained.config.architectures or ()):
        return 0
    given = load_model(pretrained, "AutoModelForMaskedLM", None, 0, torch.device("cpu")).state_dict()
    renamed = {"head.dense": "lm_head.dense", "head.norm": "lm_head.layer_norm"}
    state = {}
    for name, value in given.items():
        module, _, kind = name.rpartition(".")
        state[f"{renamed.get(module, module)}.{kind}"] = value
    heads = ("generator_predictions.", "cls.predictions.transform.", "lm_head.")
    count = _fill(decoder, {name: value for name, value in state.items() if name.startswith(heads)})
    biases = ("generator_lm_head.bias", "cls.predictions.bias", "decoder.bias")
    bias = next((state[name] for name in biases if name in state), None)
    if bias is not None and same:
        for ours, theirs in same.items():
            decoder.get_output_embeddings().bias[ours] = bias[theirs]
    return count


def _copy_rows(source: nn.Embedding, target: nn.Embedding, shared: Mapping[int, int]) -> None:
    if shared:
        with torch.no_grad():
            target.weight[torch.tensor(list(shared))] = source.weight[torch.tensor(list(shared.values()))]


def _fill(module: nn.Module, given: Mapping[str, Tensor]) -> int:
    """Copies what has the same name and shape; number of tensors."""
    own = module.state_dict()
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    for name, value in fitting.items():
        own[name].copy_(value)
    return len(fitting)
