"""Hugging Face folders as the start of fine-tuning: ours of both bodies, and any ELECTRA, BERT or ModernBERT folder.

The model is the library's own class with a new last layer, so what is saved needs no custom code. Nothing is fetched.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import transformers
from torch import nn

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError, first_line
from pipeline.base.files import sha256_file
from pipeline.base.run_folder import RunFolder
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.rates import layer_powers

if TYPE_CHECKING:
    from pipeline.tasks.families.base import Task

ARCHITECTURES = ("electra", "bert", "modernbert")
HEAD_DROPOUT = 0.1
"""Dropout between [CLS] and the last layer (BERT's and ELECTRA's released code, run_finetuning.py)."""
BODY_DROPOUTS = ("hidden_dropout_prob", "embedding_dropout", "mlp_dropout")
"""What finetune.dropout sets, where the config has it: ELECTRA's and BERT's name, and ModernBERT's two."""
WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")


@dataclass(frozen=True)
class Pretrained:
    """A folder that has been looked at, not yet loaded."""

    path: Path
    config: Any
    tokenizer: Any
    parameters: int
    weights: Literal["pretrained", "random"] = "pretrained"
    """random: the folder gives shape and tokenizer only."""
    fresh_layers: int = 0
    """That many of the body's top layers, and what stands above them, are drawn anew."""

    def describe(self, max_length: int) -> str:
        """Path, architecture, size; and a warning where texts may be longer than what the folder was trained on."""
        length = self.tokenizer.model_max_length
        beyond = f"; its tokenizer says {length} tokens, places beyond may be untrained" if max_length > length else ""
        drawn = ""
        if self.weights == "random":
            drawn = "; random weights"
        elif self.fresh_layers:
            drawn = f"; its {self.fresh_layers} top layers drawn anew"
        return f"{self.path} ({self.config.model_type}, {self.parameters:,} parameters{drawn}{beyond})"


def pretrained_path(config: RunConfig) -> Path:
    """finetune.export, or this run's exported discriminator (mlm: generator)."""
    if config.finetune.export:
        return Path(config.finetune.export)
    network = "generator" if config.objective.name == "mlm" else "discriminator"
    return RunFolder(Path(config.run_dir)).export / network


def open_pretrained(path: Path, task: "Task", settings: FinetuneConfig) -> Pretrained:
    """Config and tokenizer, checked against each other and against the task's settings. Raises UserError."""
    quiet_transformers()
    if not (path / "config.json").is_file():
        raise UserError(
            f"{path} is no Hugging Face folder (it has no config.json). Run pipeline/export.py first, or set "
            "finetune.export to a folder that has one."
        )
    if settings.weights == "pretrained" and not weight_files(path):
        raise UserError(f"{path} has no weights ({' or '.join(WEIGHTS)}). Export it again.")
    tokenizer = open_tokenizer(path)
    try:
        config = transformers.AutoConfig.from_pretrained(path, local_files_only=True)
        for key, value in (task.head_config() | {"classifier_dropout": HEAD_DROPOUT}).items():
            setattr(config, key, value)
        for key in BODY_DROPOUTS:
            if settings.dropout is not None and hasattr(config, key):
                setattr(config, key, settings.dropout)
        with torch.device("meta"):
            model = getattr(transformers, task.auto_class).from_config(config)
    except Exception as error:
        raise UserError(f"{path} cannot be opened by transformers: {first_line(error)}") from error
    _check(path, model, config, tokenizer, settings.max_length)
    parameters, fresh = sum(p.numel() for p in model.parameters()), settings.reinitialize_layers
    if fresh > config.num_hidden_layers:
        raise UserError(f"finetune.reinitialize_layers is {fresh}, but {path} has {config.num_hidden_layers} layers.")
    pretrained = Pretrained(path, config, tokenizer, parameters, settings.weights, fresh)
    task.check(pretrained)
    return pretrained


def load_model(
    pretrained: Pretrained, auto_class: str, head_module: str | None, seed: int, device: torch.device
) -> Any:
    """The library's class with the body's weights and a new head drawn from `seed`, fp32, on the device.

    What the library itself keeps beside the body (BERT's pooler, ModernBERT's dense layer before the classifier) stays.
    With random weights, and above the lowest layer that is drawn anew, all is as the library initialises it. Raises
    UserError.
    """
    torch.manual_seed(seed)
    if pretrained.weights == "random":
        model = _random(pretrained, auto_class)
    else:
        model = _whole_body(pretrained, auto_class)
        if pretrained.fresh_layers:
            _draw_top(model, _random(pretrained, auto_class), pretrained.fresh_layers)
    torch.manual_seed(seed)
    for module in getattr(model, head_module).modules() if head_module else ():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=model.config.initializer_range)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model.to(device)


def _random(pretrained: Pretrained, auto_class: str) -> Any:
    model_class = getattr(transformers, auto_class)
    return model_class.from_config(pretrained.config, attn_implementation="eager").to(torch.float32)


@torch.no_grad()
def _draw_top(model: Any, drawn: Any, layers: int) -> None:
    """The top layers, and what stands above them, from the drawn model of the same class (Zhang et al. 2021, section
    5)."""
    prefix = "" if model.base_model is model else model.base_model_prefix
    drawn_state = drawn.state_dict()
    for name, power in layer_powers(model, prefix, top=1):
        if power <= layers:
            model.get_parameter(name).copy_(drawn_state[name])


def _whole_body(pretrained: Pretrained, auto_class: str) -> Any:
    """The folder's weights, none of the body's missing."""
    model, report = from_folder(
        pretrained.path, auto_class, str(pretrained.path), config=pretrained.config, ignore_mismatched_sizes=True
    )
    prefix = model.base_model_prefix
    absent = {str(key) for key in report["missing_keys"]} | {str(found[0]) for found in report["mismatched_keys"]}
    body = [k for k in absent if k.startswith(f"{prefix}.") or not hasattr(model, prefix)]
    broken = sorted(k for k in body if "pooler." not in k)
    if broken:
        raise UserError(
            f"{pretrained.path} does not hold the whole {type(model).__name__}: {len(broken)} of its tensors are "
            f"missing or of another shape, {broken[0]} first. Weights and config.json do not belong together."
        )
    return model


def reload_model(path: Path, auto_class: str, device: torch.device) -> tuple[Any, Any]:
    """Network and tokenizer of a fine-tuned folder as they are, head included, fp32. Raises UserError."""
    quiet_transformers()
    if not (path / "config.json").is_file():
        raise UserError(f"{path} is no Hugging Face folder (it has no config.json). Give a task's folder `model`.")
    model, report = from_folder(path, auto_class, str(path))
    if report["missing_keys"]:
        raise UserError(
            f"{path} is not fine-tuned for this task: it has no {sorted(map(str, report['missing_keys']))[0]}."
        )
    return model.to(device).eval(), open_tokenizer(path)


def open_tokenizer(path: Path, where: str | None = None) -> Any:
    """The folder's tokenizer. where: what messages call the folder. Raises UserError."""
    where = where or str(path)
    # Without a file transformers makes up a tokenizer of special tokens alone, to which every word is unknown.
    if not any(file.stat().st_size for name in TOKENIZERS for file in path.glob(name)):
        raise UserError(f"{where} has no tokenizer ({', '.join(TOKENIZERS)}). Copy its tokenizer.json there.")
    try:
        return transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
    except Exception as error:
        raise UserError(f"{where}: its tokenizer cannot be opened by transformers: {first_line(error)}") from error


def open_config_and_tokenizer(path: Path, where: str) -> tuple[Any, Any]:
    """Of a folder of transformers. where: what messages call it. Raises UserError."""
    try:
        config = transformers.AutoConfig.from_pretrained(path, local_files_only=True)
    except Exception as error:
        raise UserError(f"{where} cannot be opened by transformers: {first_line(error)}") from error
    return config, open_tokenizer(path, where)


def from_folder(path: Path, auto_class: str, where: str, **options: Any) -> tuple[Any, dict[str, Any]]:
    """from_pretrained in fp32 with its report of missing keys; eager attention is the same everywhere.

    where: what messages call the folder. Raises UserError.
    """
    try:
        model, report = getattr(transformers, auto_class).from_pretrained(
            path,
            local_files_only=True,
            output_loading_info=True,
            dtype=torch.float32,
            attn_implementation="eager",
            **options,
        )
    except Exception as error:
        raise UserError(f"{where} cannot be loaded by transformers: {first_line(error)}") from error
    return model, report


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


def check_positions(path: Path, model: nn.Module, max_length: int) -> None:
    """Raises UserError where a row of max_length tokens has more than the network has positions."""
    for name, parameter in model.named_parameters():
        if re.search(r"(^|\.)position_embeddings\.weight$", name) and parameter.shape[0] < max_length:
            raise UserError(
                f"finetune.max_length {max_length} is longer than the {parameter.shape[0]} positions of {path}. "
                f"Set it to {parameter.shape[0]} or less."
            )


def check_vocabulary(config: Any, tokenizer: Any, where: str) -> None:
    """Raises UserError where a piece's id has no embedding. where: what messages call the folder."""
    most = max(tokenizer.get_vocab().values())  # not their number: ids may have gaps
    if most >= config.vocab_size:
        raise UserError(
            f"{where}: the ids of the tokenizer's pieces reach {most:,}, the model has {config.vocab_size:,} "
            "embeddings, from 0 on. They do not belong together: copy the tokenizer that the model was trained with."
        )


def _check(path: Path, model: nn.Module, config: Any, tokenizer: Any, max_length: int) -> None:
    check_positions(path, model, max_length)
    if config.model_type not in ARCHITECTURES:
        raise UserError(f"{path}: {type(model).__name__} is not supported; ELECTRA, BERT and ModernBERT are.")
    if not tokenizer.is_fast:
        raise UserError(f"{path}: its tokenizer is not a fast one. Save it with its tokenizer.json.")
    check_vocabulary(config, tokenizer, str(path))
    if tokenizer.pad_token_id is None:
        raise UserError(f"{path}: the tokenizer has no padding token. Add one to its tokenizer_config.json.")
