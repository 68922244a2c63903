"""Where a step's time goes: by kind, and what its matrix products alone would take."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
KINDS = {
    "attention": ("_Attend", "softmax", "scaled_dot_product", "_safe_softmax"),
    "normalisation": ("layer_norm", "LayerNorm"),
    "dropout": ("Dropped", "dropout", "bernoulli"),
    "loss and sampling": ("_Read", "log_softmax", "LogSoftmax", "nll", "Nll", "binary_cross", "Gather", "multinomial"),
    "optimiser": ("Optimizer.step", "_foreach", "clip_grad", "linalg_vector_norm"),
    "activation": ("gelu", "Gelu"),
}
"""Kind -> parts of the names of operations, or of those that they are part of."""
ROUNDS = 5


def breakdown(step: Callable[[], None]) -> dict[str, float]:
    """Milliseconds of a step by kind: of each operation the least of a few steps, so that waiting counts little."""
    runs: list[list[tuple[str, float]]] = []
    for _ in range(ROUNDS):
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            step()
        events = sorted(profiler.events() or [], key=lambda event: (event.time_range.start, -event.time_range.end))
        runs.append([(_kind(event), event.self_cpu_time_total / 1e3) for event in events])
    usual = Counter(len(run) for run in runs).most_common(1)[0][0]
    found: dict[str, float] = defaultdict(float)
    for same in zip(*(run for run in runs if len(run) == usual), strict=True):
        found[same[0][0]] += min(milliseconds for _, milliseconds in same)
    return {kind: found[kind] for kind in ("matrix products", *KINDS, "other")}


def _kind(event: Any) -> str:
    if event.name in PRODUCTS:
        return "matrix products"
    while event is not None:
        for kind, parts in KINDS.items():
            if any(part in event.name for part in parts):
                return kind
        event = event.cpu_parent
    return "other"


class _Noted(TorchDispatchMode):
    """Counts matrix products by shape, stride and type."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[tuple[Any, ...]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split(".")[0]
        if name in PRODUCTS:
            factors = [x for x in args if isinstance(x, Tensor)][-2:]
            self.found[tuple((tuple(x.shape), x.stride(), x.dtype) for x in factors)] += 1
        return func(*args, **(kwargs or {}))


def products_alone(step: Callable[[], None]) -> float:
    """Milliseconds of processor time of one step's matrix products, run alone on tensors of the same layout."""
    with _Noted() as noted:
        step()
    total = 0.0
    for factors, count in noted.found.items():
        a, b = (_filled(*factor) for factor in factors)
        product = torch.bmm if a.ndim == 3 else torch.mm
        product(a, b)
        times = []
        for _ in range(ROUNDS):
            began = time.process_time()
            product(a, b)
            times.append(time.process_time() - began)
        total += count * min(times) * 1e3
    return total


def _filled(shape: tuple[int, ...], stride: tuple[int, ...], kind: torch.dtype) -> Tensor:
    size = 1 + sum((n - 1) * by for n, by in zip(shape, stride, strict=True))
    return torch.randn(size).to(kind).as_strided(shape, stride)
