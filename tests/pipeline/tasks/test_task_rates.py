import pytest
import transformers

from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.rates import layer_powers, parameter_groups, rate_factor
from tests.pipeline.tasks.tiny_folders import ARCHITECTURES, LAYERS, tiny_model

HEADS = {
    "electra": {"classifier."},
    "bert": {"classifier.", "bert.pooler."},
    "modernbert": {"classifier.", "head."},
}
EMBEDDINGS = {
    "electra": {"electra.embeddings.", "electra.embeddings_project."},
    "bert": {"bert.embeddings."},
    "modernbert": {"model.embeddings."},
}
LAYER = {"electra": "electra.encoder.layer.", "bert": "bert.encoder.layer.", "modernbert": "model.layers."}


def classifier(architecture: str) -> transformers.PreTrainedModel:
    return transformers.AutoModelForSequenceClassification.from_config(tiny_model(architecture).config)


@pytest.mark.parametrize("top", [1, 2])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_parameter_has_the_power_of_its_layer(architecture: str, top: int) -> None:
    """Against a table by hand: with top=2 it is the released code's, decay ** (layers + 2 - depth)."""
    model = classifier(architecture)
    powers = dict(layer_powers(model, model.base_model_prefix, top))
    assert set(powers) == {name for name, _ in model.named_parameters()}
    table = dict.fromkeys(HEADS[architecture], 0)
    table |= dict.fromkeys(EMBEDDINGS[architecture], LAYERS + top)
    table |= {f"{LAYER[architecture]}{depth}.": LAYERS - 1 - depth + top for depth in range(LAYERS)}
    table |= {"model.final_norm.": top}
    for name, power in powers.items():
        (expected,) = (value for prefix, value in table.items() if name.startswith(prefix))
        assert power == expected, name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_groups_hold_each_parameter_once_and_decay_matrices_only(architecture: str) -> None:
    model = classifier(architecture)
    settings = FinetuneConfig(lr=1e-3, layer_decay=0.5, weight_decay=0.1)
    groups = parameter_groups(model, layer_powers(model, model.base_model_prefix, 1), settings)
    names = [name for group in groups for name in group["names"]]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    powers = dict(layer_powers(model, model.base_model_prefix, 1))
    for group in groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            assert group["peak"] == pytest.approx(1e-3 * 0.5 ** powers[name])
            assert parameter is model.get_parameter(name)
            norm_or_bias = name.endswith("bias") or "norm" in name.lower()
            assert group["weight_decay"] == (0.0 if norm_or_bias else 0.1), name


def test_rate_rises_and_falls_linearly() -> None:
    factors = [rate_factor(update, 20, 0.1) for update in range(20)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert factors[3:] == pytest.approx([(20 - update) / 18 for update in range(3, 20)])
    assert rate_factor(0, 1, 0.1) == 1.0
    assert [rate_factor(update, 3, 1.0) for update in range(3)] == pytest.approx([1 / 3, 2 / 3, 1.0])
