"""Tiny Hugging Face folders of three architectures, of random weights and a word-level tokenizer, for these tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["good", "bad", "film", "the", "a", "very", "plot", "was", "and", "MASK", "[", "]"] + [
    f"w{i}" for i in range(40)
]
ARCHITECTURES = ("electra", "bert", "modernbert")
LAYERS = 3


def tiny_tokenizer(pieces: Sequence[str] = WORDS, by_words: bool = True) -> Any:
    """One id a word (or character); [MASK] in a text is one special token unless special tokens are split."""
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*SPECIAL, *pieces])}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace() if by_words else pre_tokenizers.Split("", "isolated")
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=64, **names)


def tiny_model(architecture: str, pieces: int = len(SPECIAL + WORDS)) -> Any:
    """The class that a pretraining run would have exported."""
    sizes = {
        "vocab_size": pieces,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": LAYERS,
    }
    sizes |= {"num_attention_heads": 2, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
    torch.manual_seed(0)
    if architecture == "electra":
        config = transformers.ElectraConfig(
            **sizes, embedding_size=16, max_position_embeddings=64, initializer_range=0.1
        )
        return transformers.ElectraForPreTraining(config)
    if architecture == "bert":
        config = transformers.BertConfig(**sizes, max_position_embeddings=64, initializer_range=0.1)
        return transformers.BertModel(config)
    config = transformers.ModernBertConfig(
        **sizes, cls_token_id=2, sep_token_id=3, local_attention=8, max_position_embeddings=64, initializer_range=0.1
    )
    config.num_labels = 2
    return transformers.ModernBertForTokenClassification(config)


def tiny_folder(path: Path, architecture: str) -> Path:
    """Model and tokenizer, saved."""
    tiny_model(architecture).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path
