"""Tiny random folders in the layout of google's released ELECTRA, made by transformers, and runs that start there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

from pipeline.base.config import RunConfig, load_config
from pipeline.training.continued import resolve_init
from pipeline.training.origin import Origin, find_origin
from pipeline.vocabulary.reading import given_codec
from tests.datasets import make_dataset
from tests.pipeline.vocabulary.hf_tokenizers import BERT, save, word_piece

POSITIONS = 40
SHAPE: dict[str, Any] = {"embedding_size": 24, "max_position_embeddings": POSITIONS, "num_hidden_layers": 2}


@torch.no_grad()
def shake(module: nn.Module, seed: int) -> None:
    """Every parameter far from its start."""
    draw = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.2)


def make_pair(folder: Path, tokenizer: Any = None, same: bool = True, **changes: Any) -> tuple[Any, Any]:
    """folder/discriminator and folder/generator: projected embeddings in both, the generator narrower.

    The shared embeddings are equal in both, unless `same` is false. Returns the two networks of transformers.
    """
    tokenizer = tokenizer or word_piece()
    shape = SHAPE | {"vocab_size": tokenizer.get_vocab_size()} | changes
    wide = ElectraConfig(hidden_size=32, num_attention_heads=4, intermediate_size=64, **shape)
    narrow = ElectraConfig(hidden_size=16, num_attention_heads=1, intermediate_size=48, **shape)
    discriminator, generator = ElectraForPreTraining(wide), ElectraForMaskedLM(narrow)
    shake(discriminator, 1)
    shake(generator, 2)
    if same:
        generator.electra.embeddings.load_state_dict(discriminator.electra.embeddings.state_dict())
    transformers.logging.disable_progress_bar()
    for name, network in (("discriminator", discriminator), ("generator", generator)):
        network.save_pretrained(folder / name)
        save(tokenizer, folder / name, BERT)
    return discriminator.eval(), generator.eval()


def make_origin(folder: Path, tokenizer: Path) -> Path:
    """A run folder whose data are made with the given tokenizer."""
    codec = given_codec(tokenizer)
    make_dataset(folder, tokens=6_000, vocab_size=codec.vocab_size, tokenizer=codec.model)
    if codec.file_name == "tokenizer.json":
        (folder / "tokenizer" / "tokenizer.model").rename(folder / "tokenizer" / codec.file_name)
    return folder


def make_run(folder: Path, data: Path, vocab_size: int, *overrides: str) -> tuple[RunConfig, Origin]:
    """A run's config as the command line makes it, resolved, and its data."""
    (folder / "empty.yaml").write_text("train: {steps: 50, precision: fp32}\n")
    settings = [f"run_dir={folder / 'run'}", f"data.path={data}", f"tokenizer.vocab_size={vocab_size}"]
    config = resolve_init(load_config(folder / "empty.yaml", [*settings, "data.sequence_length=24", *overrides]))
    return config, find_origin(config)


def moved(ids: Tensor, places: Mapping[int, int]) -> Tensor:
    """Ids of one vocabulary as those of the other."""
    table = torch.tensor([places[index] for index in range(len(places))])
    return table[ids]
