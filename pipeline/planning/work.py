"""The work of a step on a CPU as counts for each kind of operation, forward and backward together.

A kind's time is a sum of rates times its counts (calibrate.py measures the rates, machine.py keeps them), so that large
and small shapes, which differ in what they wait for, are both met. The names of the counts stand in KINDS.
"""

from collections import defaultdict
from collections.abc import Sequence

from pipeline.planning.counts import Micro, Net, Seen, parameter_tensors, parameters

KINDS = {
    "linear": ("products", "elements in and out", "weights", "calls"),
    "attention": ("products", "pairs", "elements", "tiles"),
    "norm": ("elements", "calls"),
    "gelu": ("elements", "calls"),
    "dropout": ("elements", "calls"),
    "lookup": ("elements", "weights", "calls"),
    "scores": ("elements", "rows", "calls"),
    "rest": ("elements", "tokens", "layers", "micro-batches"),
    "update": ("parameters", "tensors", "calls"),
}
"""Kind -> what its counts are."""

Counts = tuple[float, ...]
Work = dict[str, list[float]]


def linear(rows: int, inside: int, outside: int) -> Counts:
    """A linear layer, (rows, inside) -> (rows, outside)."""
    return float(rows * inside * outside), float(rows * (inside + outside)), float(inside * outside), 1.0


def attention(seen: Seen, tokens: int, heads: int, hidden: int) -> Counts:
    """Attention between its two linear layers."""
    return float(seen.pairs * hidden), float(seen.pairs * heads), float(tokens * hidden), float(seen.tiles)


def micro_work(nets: Sequence[Net], micro: Micro) -> Work:
    """Forward and backward of a micro-batch."""
    work: Work = defaultdict(list)
    for net in nets:
        sizes, tokens = net.sizes, micro.tokens
        hidden, width, modern = sizes.hidden_size, sizes.embedding_size, sizes.body == "modernbert"
        _add(work, "lookup", (float(tokens * width), float(sizes.vocab_size * width), 1.0))
        _add(work, "norm", (float(tokens * width), 1.0))
        if sizes.dropout:
            _add(work, "dropout", (float(tokens * width), 1.0))
        if width != hidden:
            _add(work, "linear", linear(tokens, width, hidden))
        layers: Work = {}
        for number in range(sizes.layers):
            seen = micro.everywhere if sizes.is_global(number) else micro.nearby
            _layer(layers, net, tokens, seen)
        for kind, counts in layers.items():  # a forward pass more is half of what its backward pass takes
            _add(work, kind, tuple(count * (4 / 3 if micro.recompute else 1) for count in counts))
        rows = micro.masked if net.language else tokens
        inside = width if net.language else hidden
        _add(work, "linear", linear(rows, hidden, inside))
        _add(work, "gelu", (float(rows * inside), 1.0))
        if net.language or modern:
            _add(work, "norm", (float(rows * inside), 1.0))
        _add(work, "linear", linear(rows, inside, sizes.vocab_size if net.language else 1))
        if net.language:
            _add(work, "scores", (float(rows * sizes.vocab_size), float(rows), 1.0))
        _add(work, "rest", (float(sizes.layers * tokens * hidden), 0.0, float(sizes.layers), 0.0))
    _add(work, "rest", (0.0, float(micro.tokens), 0.0, 1.0))
    return dict(work)


def update_work(nets: Sequence[Net], own: float) -> Counts:
    """Counts of the kind "update". own: share of the state that this rank updates."""
    count = parameters(list(nets))
    return own * count, float(parameter_tensors(list(nets))), 1.0


def _layer(work: Work, net: Net, tokens: int, seen: Seen) -> None:
    sizes = net.sizes
    hidden, ffn = sizes.hidden_size, sizes.ffn_size
    wide = 2 * ffn if sizes.body == "modernbert" else ffn
    for inside, outside in ((hidden, 3 * hidden), (hidden, hidden), (hidden, wide), (ffn, hidden)):
        _add(work, "linear", linear(tokens, inside, outside))
    _add(work, "attention", attention(seen, tokens, sizes.heads, hidden))
    _add(work, "gelu", (float(tokens * ffn), 1.0))
    for _ in range(2):
        _add(work, "norm", (float(tokens * hidden), 1.0))
    if sizes.attention_dropout and sizes.body == "modernbert":
        _add(work, "dropout", (float(tokens * hidden), 1.0))
    if sizes.dropout:
        inside = ffn if sizes.body == "modernbert" else 2 * hidden
        _add(work, "dropout", (float(tokens * inside), 1.0 if sizes.body == "modernbert" else 2.0))


def _add(work: Work, kind: str, counts: Counts) -> None:
    before = work.get(kind) or [0.0] * len(counts)
    work[kind] = [a + b for a, b in zip(before, counts, strict=True)]
