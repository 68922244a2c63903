"""A Hugging Face folder as a source of weights: its sizes in our words, its tensors, its digests. Nothing is fetched.

ELECTRA in any of its classes (google's released layout among them) and ModernBERT. Price: the tensors stand in memory
once, in fp32.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model.config import BODIES
from pipeline.base.errors import UserError
from pipeline.base.files import read_json, sha256_file

WHOLE = ("model.safetensors", "pytorch_model.bin")
PREFIXES = {
    "electra": ("electra.", ("embeddings.", "embeddings_project.", "encoder.")),
    "modernbert": ("model.", ("embeddings.", "layers.", "final_norm.")),
}
"""What stands before the encoder's names in a model with a head, and how they begin in a bare encoder."""
LONGEST = 1_000_000
"""A model_max_length above this is transformers' way of saying that none is known."""


@dataclass(frozen=True)
class HuggingFaceFolder:
    """A folder whose config has been read and understood."""

    path: Path
    architecture: str
    """transformers' class, as config.json names it; "" where it does not."""
    sizes: dict[str, Any]
    """Keys of ModelConfig, without the generator's."""
    vocab_size: int
    detects: bool
    """Whether a two-label head is the discriminator's (original, replaced)."""

    @property
    def trained_positions(self) -> int:
        """Rows of the position table that the folder's tokenizer lets texts reach; all where it does not say.

        UserError for a tokenizer_config.json that is none.
        """
        path = self.path / "tokenizer_config.json"
        settings = read_json(path) if path.is_file() else {}
        if not isinstance(settings, dict):
            raise UserError(f"{path} is no JSON object. Take the file of the released model, or delete it.")
        longest = settings.get("model_max_length")
        positions = int(self.sizes["max_positions"])
        told = isinstance(longest, int) and 0 < longest < LONGEST
        return min(positions, int(longest)) if told else positions  # type: ignore[arg-type]

    def files(self) -> list[Path]:
        """The weights: one file, or those that an index lists. UserError where there are none."""
        for name in WHOLE:
            if (self.path / name).is_file():
                return [self.path / name]
            index = self.path / f"{name}.index.json"
            if index.is_file():
                try:
                    names = sorted(set(read_json(index)["weight_map"].values()))
                except (KeyError, TypeError, AttributeError):
                    raise UserError(f"{index} is not an index of weights.") from None
                return [self.path / part for part in names]
        raise UserError(f"{self.path} has no weights: neither {' nor '.join(WHOLE)}, nor an index of parts.")

    def tensors(self) -> dict[str, Tensor]:
        """fp32 tensors by the names of the class with a head. UserError for what cannot be read."""
        state: dict[str, Tensor] = {}
        for file in self.files():
            state |= _read_tensors(file)
        inner, bare = PREFIXES[self.sizes["body"]]
        if not any(name.startswith(inner) for name in state):
            state = {inner + name if name.startswith(bare) else name: value for name, value in state.items()}
        if not self.detects and self.sizes["body"] == "modernbert":
            state = {name: value for name, value in state.items() if not name.startswith("classifier.")}
        return {name: value.float() for name, value in state.items()}

    def digest(self) -> str:
        """sha256 over config.json and the weights, by their digests."""
        digests = [sha256_file(file) for file in (self.path / "config.json", *self.files())]
        return hashlib.sha256("".join(digests).encode()).hexdigest()


def read_folder(path: str | Path, key: str) -> HuggingFaceFolder:
    """Reads config.json. key: the config key that names the folder, for messages. Raises UserError."""
    folder = Path(path)
    if not (folder / "config.json").is_file():
        ours = (folder / "checkpoints").is_dir() or (folder / "weights.safetensors").is_file()
        hint = " It is a run of ours: give it as init.checkpoint." if ours else ""
        raise UserError(
            f"{key}: {folder} is no Hugging Face folder: config.json is missing. Nothing is fetched: "
            f"download the model and give its folder.{hint}"
        )
    raw = read_json(folder / "config.json")
    body = raw.get("model_type") if isinstance(raw, dict) else None
    if body not in BODIES:
        raise UserError(f"{key}: {folder} is of model_type {body!r}; weights are taken from {' and '.join(BODIES)}.")
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        sizes = _electra_sizes(config, folder) if body == "electra" else _modernbert_sizes(config, folder)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{key}: {folder / 'config.json'} cannot be understood: {error}") from None
    labels = {str(label) for label in (raw.get("id2label") or {}).values()}
    architecture = next(iter(raw.get("architectures") or []), "")
    return HuggingFaceFolder(folder, architecture, sizes, int(config.vocab_size), labels == {"original", "replaced"})


def _electra_sizes(config: Any, folder: Path) -> dict[str, Any]:
    activation = config.hidden_act
    if activation != "gelu":
        raise UserError(f"{folder}: its activation is {activation!r}; the electra body has gelu alone.")
    return _sizes(config, "electra") | {
        "embedding_size": config.embedding_size,
        "dropout": config.hidden_dropout_prob,
        "attention_dropout": config.attention_probs_dropout_prob,
        "layer_norm_eps": config.layer_norm_eps,
    }


def _modernbert_sizes(config: Any, folder: Path) -> dict[str, Any]:
    if config.norm_bias or config.attention_bias or config.mlp_bias or config.hidden_activation != "gelu":
        raise UserError(f"{folder}: a ModernBERT with biases, or without gelu, is not what the modernbert body is.")
    kinds = list(config.layer_types)
    every = next((n for n in range(1, len(kinds)) if kinds[n] == "full_attention"), len(kinds))
    if kinds != ["full_attention" if n % every == 0 else "sliding_attention" for n in range(len(kinds))]:
        raise UserError(f"{folder}: its global layers do not come at equal distances from the first.")
    return _sizes(config, "modernbert") | {
        "embedding_size": None,
        "dropout": config.mlp_dropout,
        "attention_dropout": config.attention_dropout,
        "layer_norm_eps": config.norm_eps,
        "local_window": config.local_attention,
        "global_every": every,
        "rope_theta": config.rope_parameters["full_attention"]["rope_theta"],
        "rope_theta_local": config.rope_parameters["sliding_attention"]["rope_theta"],
    }


def _sizes(config: Any, body: str) -> dict[str, Any]:
    return {
        "body": body,
        "hidden_size": config.hidden_size,
        "layers": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "ffn_size": config.intermediate_size,
        "max_positions": config.max_position_embeddings,
        "initializer_range": config.initializer_range,
    }


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        found = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{file} is missing, but the folder's index lists it.") from None
    except (OSError, SafetensorError, RuntimeError, ValueError, json.JSONDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    except Exception as error:  # what an unpickler that takes tensors alone meets in a foreign file
        raise UserError(f"{file} is not a file of tensors: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{file} holds no state dict: names and tensors alone.")
    return {str(name): value for name, value in found.items()}
