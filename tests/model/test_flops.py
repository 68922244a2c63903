"""The formula equals torch's own counter over forward and backward."""

import pytest
from torch.utils.flop_counter import FlopCounterMode

from model.config import BODIES, GeneratorConfig
from model.objectives.base import build_objective, objective_class, objective_names
from tests.model.tiny import tiny_batch, tiny_model, tiny_objective


@pytest.mark.parametrize("changes", [{}, {"embedding_size": None, "generator": GeneratorConfig(layers=2, ffn_size=50)}])
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("name", objective_names())
def test_flops_are_what_torch_counts(name: str, body: str, changes: dict[str, object]) -> None:
    objective = tiny_objective(name, body, **changes)
    batch = tiny_batch(rows=3, seq=40, documents=True, padding=True)
    totals = objective.counts(batch)
    with FlopCounterMode(display=False) as counter:
        objective(batch, totals)[0].backward()
    assert objective.flops(3, 40) == counter.get_total_flops()


def test_the_papers_small_model() -> None:
    """About 9e9 a sequence of 128 with the language head on the masked positions; the generator an eighth of it."""
    model = tiny_model(
        "electra", hidden_size=256, layers=12, ffn_size=1024, embedding_size=128, generator=GeneratorConfig()
    )
    objective = build_objective("electra", model, objective_class("electra").Config(), 30522, 0)
    assert objective.flops(1, 128) == pytest.approx(8.99e9, rel=0.02)
    assert objective.flops(8, 128) == 8 * objective.flops(1, 128)
