"""Formulas against torch: parameters to the last one, and the bytes that autograd saves."""

from itertools import product

import pytest
import torch
from torch import Tensor

from model.objectives.base import Batch
from pipeline.base.config import RunConfig, load_config
from pipeline.base.errors import UserError
from pipeline.planning.counts import (
    embeddings_saved,
    head_saved,
    layers_saved,
    nets_of,
    parameter_tensors,
    parameters,
    weight_copies,
)
from pipeline.planning.estimate import flops_of
from pipeline.planning.micro import micro_of, one_document_a_row
from pipeline.training.precision import make_objective

VOCAB, ROWS, SEQ = 3000, 4, 64
BODIES = (("electra", 32), ("electra", 64), ("modernbert", 64))


def config_of(body: str, width: int, objective: str = "electra", **more: object) -> RunConfig:
    values = {
        "model.body": body,
        "model.embedding_size": width,
        "model.hidden_size": 64,
        "model.layers": 4,
        "model.heads": 2,
        "model.ffn_size": 128,
        "model.generator.size": 0.5,
        "model.local_window": 16,
        "objective": "{name: " + objective + "}",
        "train.precision": "fp32",
        **more,
    }
    return load_config(None, [f"{key}={value}" for key, value in values.items()])


@pytest.mark.parametrize(("body", "width"), BODIES)
@pytest.mark.parametrize("objective", ["electra", "mlm"])
def test_parameters_are_exact(body: str, width: int, objective: str) -> None:
    config = config_of(body, width, objective)
    made = list(make_objective(config, VOCAB).parameters())
    nets = nets_of(objective, config.model, VOCAB)
    assert parameters(nets) == sum(parameter.numel() for parameter in made)
    assert parameter_tensors(nets) == len(made)


@pytest.mark.parametrize(("body", "width"), BODIES)
@pytest.mark.parametrize(
    ("objective", "precision", "dropout"), list(product(("electra", "mlm"), ("fp32", "bf16"), (0.0, 0.1)))
)
def test_what_autograd_saves(body: str, width: int, objective: str, precision: str, dropout: float) -> None:
    """Storages that are kept for the backward pass, but for weights; the scores' gradient is kept beside them."""
    more = {"model.dropout": dropout, "model.attention_dropout": dropout, "train.precision": precision}
    config = config_of(body, width, objective, **more)
    made = make_objective(config, VOCAB)
    batch = Batch(torch.randint(5, VOCAB, (ROWS, SEQ)), torch.arange(ROWS))
    weights = {parameter.untyped_storage().data_ptr() for parameter in made.parameters()}
    kept: dict[int, Tensor] = {}

    def note(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in weights:
            kept[x.untyped_storage().data_ptr()] = x
        return x

    totals = made.counts(batch)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        made(batch, totals)
    measured = sum(x.untyped_storage().nbytes() for x in kept.values())
    micro = micro_of(config, one_document_a_row(ROWS, SEQ))
    nets = nets_of(objective, config.model, VOCAB)
    counted = sum(sum(layers_saved(n, micro)) + embeddings_saved(n, micro) + head_saved(n, micro) for n in nets)
    counted -= sum(micro.masked * VOCAB * micro.compute for n in nets if n.language)
    counted += sum(weight_copies(n, micro) for n in nets)
    assert counted == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize(("body", "width"), BODIES)
def test_flops_are_the_objectives(body: str, width: int) -> None:
    config = config_of(body, width)
    with torch.device("meta"):
        made = make_objective(config, VOCAB)
    micro = micro_of(config, one_document_a_row(ROWS, SEQ), by_hand=False)
    assert flops_of(nets_of("electra", config.model, VOCAB), micro) == made.flops(ROWS, SEQ)


def test_windows_and_documents_leave_less_to_attend_to() -> None:
    config = config_of("modernbert", 64, **{"data.sequence_length": 512})
    whole = micro_of(config, one_document_a_row(2, 512))
    assert whole.nearby.pairs < whole.everywhere.pairs == 2 * 512 * 512
    apart = micro_of(config, torch.arange(512).div(64, rounding_mode="floor").expand(2, -1))
    assert apart.everywhere.pairs < whole.everywhere.pairs


def test_an_unknown_objective() -> None:
    with pytest.raises(UserError, match="not electric"):
        nets_of("electric", RunConfig().model, VOCAB)


def test_recomputing_keeps_the_layers_inputs_alone() -> None:
    kept = []
    for recompute in ("false", "true"):
        config = config_of("electra", 64, **{"train.recompute": recompute})
        micro = micro_of(config, one_document_a_row(ROWS, SEQ))
        kept.append(sum(sum(layers_saved(net, micro)) for net in nets_of("electra", config.model, VOCAB)))
    assert kept[1] == 4 * ROWS * SEQ * 4 * (64 + 32) < kept[0] / 8
