"""One network as a Hugging Face folder: safetensors, config.json, fast tokenizer, model card, SentencePiece model.

Price: the weights stand in memory twice.
"""

import json
from pathlib import Path

from safetensors.torch import save
from torch import nn

from model.hf import to_hf
from pipeline.base.files import write_json
from pipeline.release.card import model_card
from pipeline.release.facts import Facts
from pipeline.vocabulary.fast import fast_tokenizer
from pipeline.vocabulary.reading import is_json

AUTO_CLASSES = {
    "ElectraForPreTraining": "AutoModelForPreTraining",
    "ElectraForMaskedLM": "AutoModelForMaskedLM",
    "ModernBertForTokenClassification": "AutoModelForTokenClassification",
    "ModernBertForMaskedLM": "AutoModelForMaskedLM",
}
"""transformers' class -> the Auto class that loads it with its head."""


def write_folder(path: Path, name: str, network: nn.Module, facts: Facts) -> str:
    """Writes the files into the empty folder `path`; returns the name of the class that loads them.

    name: the network's, "generator" or "discriminator". The tokenizer cuts at the trained length, not at the number of
    positions: places after that have never been trained.
    """
    config, state, class_name = to_hf(network)
    (path / "model.safetensors").write_bytes(save(state, metadata={"format": "pt"}))
    write_json(path / "config.json", config)
    tokenizer = fast_tokenizer(facts.tokenizer, facts.trained_length, token_types=config["model_type"] == "electra")
    tokenizer.save_pretrained(path)
    if not is_json(facts.tokenizer):
        (path / "tokenizer.model").write_bytes(facts.tokenizer)
    card = model_card(facts, name, class_name, AUTO_CLASSES[class_name], sum(v.numel() for v in state.values()))
    (path / "README.md").write_text(card, encoding="utf-8")
    return class_name


def folder_class(path: Path) -> str:
    """The class that config.json names."""
    return str(json.loads((path / "config.json").read_bytes())["architectures"][0])
