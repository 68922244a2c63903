"""A checkpoint back as a module, for export and evaluation; no DeepSpeed."""

from pathlib import Path

from model.objectives.base import Objective
from pipeline.base.errors import UserError
from pipeline.training.checkpoint import load_weights, read_checkpoint_config, read_vocab_size
from pipeline.training.precision import make_objective


def load_objective(path: Path) -> Objective:
    """The checkpoint's objective on the CPU with its weights, computing in fp32, in eval mode.

    Raises UserError when the weights are not those of the checkpoint's own config.
    """
    config = read_checkpoint_config(path)
    weights = load_weights(path)
    objective = make_objective(config, read_vocab_size(path), "fp32")
    parameters = dict(objective.named_parameters())
    if {name: value.shape for name, value in weights.items()} != {name: p.shape for name, p in parameters.items()}:
        raise UserError(f"the weights in {path} are not of the model that its config.yaml describes.")
    for name, parameter in parameters.items():
        parameter.data.copy_(weights[name])
    return objective.eval()
