"""Hugging Face folders as the start of fine-tuning: ours of both bodies, and any ELECTRA, BERT or ModernBERT folder.

The model is the library's own class with a new last layer, so what is saved needs no custom code. Nothing is fetched.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.files import sha256_file
from pipeline.base.run_folder import RunFolder
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.families.base import Task

HEAD_DROPOUT = 0.1
"""Dropout between [CLS] and the last layer (BERT's and ELECTRA's released code, run_finetuning.py)."""
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True)
class Pretrained:
    """A folder that has been looked at, not yet loaded."""

    path: Path
    config: Any
    tokenizer: Any
    parameters: int

    def describe(self, max_length: int) -> str:
        """Path, architecture, size; and a warning where texts may be longer than what the folder was trained on."""
        length = self.tokenizer.model_max_length
        beyond = f"; its tokenizer says {length} tokens, places beyond may be untrained" if max_length > length else ""
        return f"{self.path} ({self.config.model_type}, {self.parameters:,} parameters{beyond})"


def pretrained_path(config: RunConfig) -> Path:
    """finetune.export, or this run's exported discriminator (mlm: generator)."""
    if config.finetune.export:
        return Path(config.finetune.export)
    network = "generator" if config.objective.name == "mlm" else "discriminator"
    return RunFolder(Path(config.run_dir)).export / network


def open_pretrained(path: Path, task: Task, settings: FinetuneConfig) -> Pretrained:
    """Config and tokenizer, checked against each other and against finetune.max_length. Raises UserError."""
    quiet_transformers()
    if not (path / "config.json").is_file():
        raise UserError(
            f"{path} is no Hugging Face folder (it has no config.json). Run pipeline/export.py first, or set "
            "finetune.export to a folder that has one."
        )
    if not weight_files(path):
        raise UserError(f"{path} has no weights ({' or '.join(WEIGHTS)}). Export it again.")
    try:
        config = transformers.AutoConfig.from_pretrained(path, local_files_only=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
        for key, value in (task.head_config() | {"classifier_dropout": HEAD_DROPOUT}).items():
            setattr(config, key, value)
        with torch.device("meta"):
            model = getattr(transformers, task.auto_class).from_config(config)
    except Exception as error:
        raise UserError(f"{path} cannot be opened by transformers: {_first_line(error)}") from error
    _check(path, model, config, tokenizer, settings.max_length)
    return Pretrained(path, config, tokenizer, sum(p.numel() for p in model.parameters()))


def load_model(pretrained: Pretrained, task: Task, seed: int, device: torch.device) -> Any:
    """The body's weights from the folder, a new head drawn from `seed`, fp32, on the device. Raises UserError.

    What the library itself keeps beside the body (BERT's pooler, ModernBERT's dense layer before the classifier) stays.
    """
    path = pretrained.path
    torch.manual_seed(seed)
    try:
        model, report = getattr(transformers, task.auto_class).from_pretrained(
            path,
            config=pretrained.config,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
            attn_implementation="eager",
        )
    except Exception as error:
        raise UserError(f"{path} cannot be loaded by transformers: {_first_line(error)}") from error
    prefix = model.base_model_prefix
    absent = {str(key) for key in report["missing_keys"]} | {str(found[0]) for found in report["mismatched_keys"]}
    broken = sorted(k for k in absent if k.startswith(f"{prefix}.") and not k.startswith(f"{prefix}.pooler."))
    if broken:
        raise UserError(
            f"{path} does not hold the whole {type(model).__name__}: {len(broken)} of its tensors are missing or of "
            f"another shape, {broken[0]} first. Weights and config.json do not belong together."
        )
    torch.manual_seed(seed)
    for module in model.classifier.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=model.config.initializer_range)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model.to(device)


def weight_files(path: Path) -> list[Path]:
    """The folder's files of weights."""
    return sorted(file for pattern in WEIGHTS for file in path.glob(pattern))


def pretrained_digest(path: Path) -> str:
    """sha256 of the weights (of the list of digests, where there are several files)."""
    return " ".join(sha256_file(file) for file in weight_files(path))


def save_model(model: Any, tokenizer: Any, path: Path, max_length: int) -> None:
    """A folder that pipeline("text-classification") loads; its tokenizer takes special names in a text as text."""
    model.save_pretrained(path)
    settings = {"split_special_tokens": True, "model_max_length": max_length}
    for key, value in settings.items():
        setattr(tokenizer, key, value)
    tokenizer.init_kwargs.update(settings)
    for key in ("local_files_only", "is_local"):
        tokenizer.init_kwargs.pop(key, None)
    tokenizer.save_pretrained(path)


def quiet_transformers() -> None:
    """No reports and bars of the library: what matters is checked here and told in our words."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def _check(path: Path, model: nn.Module, config: Any, tokenizer: Any, max_length: int) -> None:
    for name, parameter in model.named_parameters():
        if re.search(r"(^|\.)position_embeddings\.weight$", name) and parameter.shape[0] < max_length:
            raise UserError(
                f"finetune.max_length {max_length} is longer than the {parameter.shape[0]} positions of {path}. "
                f"Set it to {parameter.shape[0]} or less."
            )
    if not isinstance(getattr(model, "classifier", None), nn.Module):
        raise UserError(f"{path}: {type(model).__name__} is not supported; ELECTRA, BERT and ModernBERT are.")
    if len(tokenizer) > config.vocab_size:
        raise UserError(
            f"{path}: the tokenizer has {len(tokenizer):,} pieces, the model {config.vocab_size:,} embeddings. They do "
            "not belong together."
        )
    if tokenizer.pad_token_id is None:
        raise UserError(f"{path}: the tokenizer has no padding token. Add one to its tokenizer_config.json.")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
