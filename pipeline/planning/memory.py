"""Bytes of memory that a rank needs, by part, and when a micro-step needs most.

The most is found by walking through forward and backward layer by layer: gradients come while activations go. Price:
what the allocator cannot use again is two fitted figures; docs/planning.md has how near it comes.
"""

from dataclasses import dataclass, fields
from typing import Any

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.planning.counts import (
    FLOAT,
    Micro,
    Net,
    around_parameters,
    embedding_parameters,
    embeddings_saved,
    head_saved,
    layer_parameters,
    layers_saved,
    layers_whole,
    parameters,
    weight_copies,
)
from pipeline.training.engine_config import LARGEST_BUCKET, zero_stage
from pipeline.training.plan import bytes_a_rank, bytes_for_saves

HEAP, LEFT = 1.25, 2.6
"""What glibc's heap takes on a CPU: bytes for each byte of activations and gradients that lives at once; and what start
and update leave free but unused, in units of the fp32 weights. Freed aligned pieces do not fit the next of their size.
Fitted to eight configs (docs/planning.md)."""


@dataclass(frozen=True)
class Sharding:
    """How DeepSpeed spreads the state over the ranks."""

    stage: int
    world: int
    precision: str
    bucket: int
    """Elements that gradients are exchanged in."""
    micro_steps: int = 1
    """Forwards of an update: with more than one, gradients are held while activations come and go."""
    overlap: bool = False
    """Whether they are exchanged beside the backward pass: an accelerator then has two buffers for it."""


def sharding_of(config: RunConfig, world: int, count: int, micro_steps: int = 1) -> Sharding:
    """Of a config. count: parameters. UserError for a bucket that is no number."""
    zero: dict[str, Any] = config.deepspeed.get("zero_optimization", {})
    given = zero.get("reduce_bucket_size", min(count, LARGEST_BUCKET))
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise UserError(f"deepspeed.zero_optimization.reduce_bucket_size is {given!r}; it must be a number.")
    return Sharding(zero_stage(config), world, config.train.precision, int(given), micro_steps, overlaps(config))


def overlaps(config: RunConfig) -> bool:
    """deepspeed.zero_optimization.overlap_comm, which DeepSpeed sets at stage 3."""
    return bool(config.deepspeed.get("zero_optimization", {}).get("overlap_comm", zero_stage(config) == 3))


@dataclass(frozen=True)
class Memory:
    """Bytes of one rank, by part. Gradients and activations are those of the moment at which both need most."""

    parameters: float
    gradients: float
    moments: float
    masters: float
    """fp32 copies of the weights that the optimizer works on."""
    activations: float
    buffers: float
    """DeepSpeed's, for the exchange of gradients, and on a CPU what the heap holds unused."""
    saves: float
    """The copy of the state from which checkpoints are written; host memory."""

    def parts(self) -> dict[str, float]:
        """By name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def total(self) -> float:
        """All parts."""
        return sum(self.parts().values())


def memory_of(nets: list[Net], micro: Micro, sharding: Sharding) -> Memory:
    """Memory of a rank."""
    count, stage, world = parameters(nets), sharding.stage, sharding.world
    state = bytes_a_rank(count, stage, world, sharding.precision)
    own = 1 / world if stage >= 1 else 1.0
    moments = 8 * count * own
    held = FLOAT * count * (own if stage >= 2 else 1.0) if sharding.micro_steps > 1 else 0.0
    moment, heap = _most(nets, micro, held, added=stage >= 2), HEAP if micro.by_hand else 1.0
    gradients, activations, buffers = heap * moment.gradients, heap * moment.activations, 0.0
    whole = FLOAT * float(count)
    if stage == 0:
        after = 2 * whole  # gradients, and the flat copy that is exchanged
        if gradients + activations < after:
            gradients, activations, buffers = whole, 0.0, whole
    else:
        # The bucket is memory of its own: as large as what is in it on a CPU, taken whole on an accelerator.
        taken = min(count, sharding.bucket) if micro.by_hand else sharding.bucket * (1 + sharding.overlap)
        buffers = FLOAT * float(taken)
        after = whole * (1 + 2 * own)  # gradients, this rank's part cut out and made flat
        if gradients + activations < after:
            gradients, activations = after, 0.0
    if micro.by_hand:
        buffers += LEFT * whole
    return Memory(
        parameters=state["weights"],
        gradients=gradients,
        moments=moments,
        masters=state["optimizer"] - moments,
        activations=activations,
        buffers=buffers,
        saves=bytes_for_saves(count, world),
    )


@dataclass(frozen=True)
class _Moment:
    gradients: float
    activations: float


def _most(nets: list[Net], micro: Micro, before: float, added: bool) -> _Moment:
    """When gradients and activations together are most, from the end of the forward pass on.

    before: bytes of gradients held from earlier micro-steps; added: new ones stay beside them until they are summed
    over the ranks (ZeRO 2 and 3), instead of being added at once.
    """
    saved = sum(embeddings_saved(net, micro) + sum(layers_saved(net, micro)) + head_saved(net, micro) for net in nets)
    copies = sum(weight_copies(net, micro) for net in nets)
    scores = sum(micro.compute * micro.masked * net.sizes.vocab_size for net in nets if net.language)
    held = float(saved + copies)
    moments = [_Moment(0.0, held + scores + _forward(nets[-1], micro))]
    gradients = 0.0
    for net in reversed(nets):
        table = FLOAT * embedding_parameters(net.sizes)
        if net.language:  # the word table's gradient comes from the head as well as from the lookup
            moments.append(_Moment(gradients, held + 2 * table))
        gradients += FLOAT * around_parameters(net)
        held -= head_saved(net, micro)
        again = max(layers_whole(net, micro)) if micro.recompute else 0
        for number, layer in reversed(list(enumerate(layers_saved(net, micro)))):
            moments.append(_Moment(gradients, held + again + _backward(net, micro)))
            gradients += FLOAT * layer_parameters(net.sizes, number == 0)
            held -= layer
        moments.append(_Moment(gradients, held + 2 * table))
        held -= embeddings_saved(net, micro)
        if net is nets[-1]:
            gradients += table
    moments = [
        _Moment(one.gradients + before if added else max(one.gradients, before), one.activations) for one in moments
    ]
    return max(moments, key=lambda one: one.gradients + one.activations)


def _forward(net: Net, micro: Micro) -> float:
    """Bytes for a moment within a layer's forward pass: its output, and the feed-forward network's."""
    sizes = net.sizes
    return micro.tokens * sizes.hidden_size * (2.0 * FLOAT + micro.compute)


def _backward(net: Net, micro: Micro) -> float:
    """Bytes for a moment within a layer's backward pass: gradients of the stream, and those of the widest product."""
    sizes, tokens, c = net.sizes, micro.tokens, micro.compute
    widest = max(2 * sizes.ffn_size * (2 if sizes.body == "modernbert" else 1), 7 * sizes.hidden_size)
    return tokens * (2.0 * FLOAT * sizes.hidden_size + c * widest)
