"""Our networks as transformers' classes, both ways: configurations, class names and parameter names.

Promise: stock classes, no custom code, the same logits; every tensor once (a tied decoder follows from
tie_word_embeddings). One table of names serves both directions: it holds views of our parameters, which are copied
out, or written into.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from model.bodies import electra, modernbert
from model.config import CLS_ID, MASK_ID, PAD_ID, SEGMENT_TYPES, SEP_ID, UNK_ID, EncoderConfig
from model.networks import Discriminator, MaskedLanguageModel, Network

LABELS = ("original", "replaced")
_CLASSES = {
    ("electra", MaskedLanguageModel): "ElectraForMaskedLM",
    ("electra", Discriminator): "ElectraForPreTraining",
    ("modernbert", MaskedLanguageModel): "ModernBertForMaskedLM",
    ("modernbert", Discriminator): "ModernBertForTokenClassification",
}
_TIED = ("generator_lm_head.weight", "decoder.weight")
"""Their names for the word table once more; absent from what we export."""
_BUFFERS = ("position_ids", "token_type_ids", "inv_freq")


def to_hf(network: nn.Module) -> tuple[dict[str, Any], dict[str, Tensor], str]:
    """(contents of config.json, state dict of contiguous tensors that share no memory, name of transformers' class)."""
    network, class_name = _known(network)
    state = {name: view.detach().clone().contiguous() for name, view in views_of(network).items()}
    if class_name == "ModernBertForTokenClassification":  # one logit z as the pair (0, z)
        state = {k: torch.cat((torch.zeros_like(v), v)) if k.startswith("classifier.") else v for k, v in state.items()}
    config = _config(network.config) | {"architectures": [class_name]}
    if class_name == "ModernBertForTokenClassification":
        config |= {"id2label": dict(enumerate(LABELS)), "label2id": {label: n for n, label in enumerate(LABELS)}}
    return config, state, class_name


@torch.no_grad()
def load_hf(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Weights from a state dict of the transformers class that to_hf names.

    Raises ValueError for missing, unknown or misshapen tensors, before anything is written.
    """
    network, class_name = _known(network)
    state, views = own_form(network, state), views_of(network)
    missing, unknown = sorted(views.keys() - state.keys()), sorted(state.keys() - views.keys())
    if missing or unknown:
        raise ValueError(f"not a state of {class_name}: missing {missing or 'none'}, unknown {unknown or 'none'}")
    for name, view in views.items():
        if view.shape != state[name].shape:
            raise ValueError(f"{name} has shape {tuple(state[name].shape)}, but this network's is {tuple(view.shape)}")
    for name, view in views.items():
        view.copy_(state[name])


def own_form(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A transformers state as `views_of` names it: without tied copies and buffers, two labels as one logit."""
    _, class_name = _known(network)
    state = {k: v for k, v in state.items() if k not in _TIED and not k.endswith(_BUFFERS)}
    if class_name == "ModernBertForTokenClassification":  # z = theirs of "replaced" less theirs of "original"
        state = {k: v.diff(dim=0) if k.startswith("classifier.") else v for k, v in state.items()}
    return state


def _known(network: nn.Module) -> tuple[Network, str]:
    for (body, kind), class_name in _CLASSES.items():
        if isinstance(network, kind) and network.config.body == body:
            return network, class_name
    raise ValueError(f"{type(network).__name__} has no counterpart in transformers")


def _config(config: EncoderConfig) -> dict[str, Any]:
    common = {
        "model_type": config.body,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.ffn_size,
        "max_position_embeddings": config.max_positions,
        "initializer_range": config.initializer_range,
        "tie_word_embeddings": True,
        "pad_token_id": PAD_ID,
        "unk_token_id": UNK_ID,
        "cls_token_id": CLS_ID,
        "sep_token_id": SEP_ID,
        "mask_token_id": MASK_ID,
        "bos_token_id": CLS_ID,
        "eos_token_id": SEP_ID,
        "dtype": "float32",
    }
    return common | (_electra_config(config) if config.body == "electra" else _modernbert_config(config))


def _electra_config(config: EncoderConfig) -> dict[str, Any]:
    return {
        "embedding_size": config.embedding_size,
        "hidden_act": "gelu",
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "type_vocab_size": SEGMENT_TYPES,
        "layer_norm_eps": config.layer_norm_eps,
    }


def _modernbert_config(config: EncoderConfig) -> dict[str, Any]:
    return {
        "hidden_activation": "gelu",
        "embedding_dropout": config.dropout,
        "mlp_dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "classifier_dropout": 0.0,
        "norm_eps": config.layer_norm_eps,
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "classifier_bias": False,
        "decoder_bias": True,
        "local_attention": config.local_window,
        "layer_types": ["full_attention" if config.is_global(n) else "sliding_attention" for n in range(config.layers)],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": config.rope_theta},
            "sliding_attention": {"rope_type": "default", "rope_theta": config.rope_theta_local},
        },
    }


def views_of(network: nn.Module) -> dict[str, Tensor]:
    """transformers' names -> views of our parameters."""
    network, _ = _known(network)
    encoder = network.encoder
    views = _electra_encoder(encoder) if isinstance(encoder, electra.Encoder) else _modernbert_encoder(encoder)
    return views | (_electra_head(network) if isinstance(encoder, electra.Encoder) else _modernbert_head(network))


def _electra_encoder(encoder: electra.Encoder) -> dict[str, Tensor]:
    tables = encoder.embeddings
    views = {
        "electra.embeddings.word_embeddings.weight": tables.word.weight,
        "electra.embeddings.position_embeddings.weight": tables.position.weight,
        "electra.embeddings.token_type_embeddings.weight": tables.segment.weight,
        **_all("electra.embeddings.LayerNorm", tables.norm),
        **_all("electra.embeddings_project", encoder.project),
    }
    layer: Any
    for n, layer in enumerate(encoder.layers):
        to = f"electra.encoder.layer.{n}"
        for part in ("weight", "bias"):
            query, key, value = getattr(layer.attention.qkv, part).chunk(3)
            views |= {f"{to}.attention.self.query.{part}": query, f"{to}.attention.self.key.{part}": key}
            views |= {f"{to}.attention.self.value.{part}": value}
        views |= _all(f"{to}.attention.output.dense", layer.attention.out)
        views |= _all(f"{to}.attention.output.LayerNorm", layer.attention_norm)
        views |= _all(f"{to}.intermediate.dense", layer.ffn_in) | _all(f"{to}.output.dense", layer.ffn_out)
        views |= _all(f"{to}.output.LayerNorm", layer.ffn_norm)
    return views


def _electra_head(network: Any) -> dict[str, Tensor]:
    head = network.head
    if isinstance(network, Discriminator):
        to = "discriminator_predictions"
        return _all(f"{to}.dense", head.dense) | _all(f"{to}.dense_prediction", head.out)
    to = "generator_predictions"
    views = _all(f"{to}.dense", head.dense) | _all(f"{to}.LayerNorm", head.norm)
    return views | {"generator_lm_head.bias": head.decoder.bias}


def _modernbert_encoder(encoder: modernbert.Encoder) -> dict[str, Tensor]:
    views = {"model.embeddings.tok_embeddings.weight": encoder.embeddings.word.weight}
    views |= _all("model.embeddings.norm", encoder.embeddings.norm) | _all("model.final_norm", encoder.norm)
    layer: Any
    for n, layer in enumerate(encoder.layers):
        to = f"model.layers.{n}"
        views |= _all(f"{to}.attn_norm", layer.attention_norm)
        views |= _all(f"{to}.attn.Wqkv", layer.attention.qkv) | _all(f"{to}.attn.Wo", layer.attention.out)
        views |= _all(f"{to}.mlp_norm", layer.ffn_norm)
        views |= _all(f"{to}.mlp.Wi", layer.ffn_in) | _all(f"{to}.mlp.Wo", layer.ffn_out)
    return views


def _modernbert_head(network: Any) -> dict[str, Tensor]:
    head = network.head
    views = _all("head.dense", head.dense) | _all("head.norm", head.norm)
    if isinstance(network, Discriminator):
        return views | _all("classifier", head.out)
    return views | {"decoder.bias": head.decoder.bias}


def _all(to: str, module: nn.Module) -> dict[str, Tensor]:
    """A module's own parameters under another name (none for nn.Identity, no bias where there is none)."""
    return {f"{to}.{name}": parameter for name, parameter in module.named_parameters()}
