"""The part of the fp32 state that lies on this rank, without asking the others; no two ranks give the same element.

Private parts of DeepSpeed, as in engine_state: at stages 1 and 2 the fragment that links a parameter to the flat
partition, at stage 3 the padded part. At stage 0 all ranks have everything: each gives its share of every parameter.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from pipeline.training.engine import Engine
from pipeline.training.engine_state import MASTER, Partitioned, Whole


@dataclass(frozen=True)
class Part:
    """Elements [start, start + values.numel()) of the flattened parameter `name`; fp32, maybe on the accelerator."""

    name: str
    start: int
    values: Tensor


def local_parts(engine: Engine, kind: str) -> Iterator[Part]:
    """This rank's parts of all parameters; kind as in engine_state.KINDS. Views: copy them before the next step."""
    for name, parameter in engine.objective.named_parameters():
        part: Part | None
        if isinstance(engine.state, Whole):
            part = _share(engine, name, engine.state.read(parameter, kind))
        elif isinstance(engine.state, Partitioned):
            part = _padded(engine, name, parameter, kind)
        else:
            part = _fragment(name, parameter, kind)
        if part is not None and part.values.numel():
            yield part


def _share(engine: Engine, name: str, whole: Tensor) -> Part:
    rank, world, flat = engine.ranks.rank, engine.ranks.world, whole.reshape(-1)
    start, end = (flat.numel() * part // world for part in (rank, rank + 1))
    return Part(name, start, flat[start:end])


def _fragment(name: str, parameter: Tensor, kind: str) -> Part | None:
    linked = parameter._hp_mapping  # type: ignore[attr-defined]
    if linked is None:
        return None  # other ranks have all of it
    values = linked.get_hp_fragment(None if kind == MASTER else kind)
    return Part(name, linked.lp_fragment_address.start, values.detach())


def _padded(engine: Engine, name: str, parameter: Tensor, kind: str) -> Part:
    from deepspeed.utils import safe_get_local_fp32_param, safe_get_local_optimizer_state

    got = safe_get_local_fp32_param(parameter) if kind == MASTER else safe_get_local_optimizer_state(parameter, kind)
    size = parameter.ds_tensor.numel()  # type: ignore[attr-defined]
    start = min(size * engine.ranks.rank, parameter.ds_numel)  # type: ignore[attr-defined]
    end = min(start + size, parameter.ds_numel)  # type: ignore[attr-defined]
    return Part(name, start, got.detach().reshape(-1)[: end - start])
