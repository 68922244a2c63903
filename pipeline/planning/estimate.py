"""Memory, time and price of a run, and the ZeRO stage and micro-batch that are quickest among those that fit.

Price: for cards and for many hosts it is arithmetic from data sheets and an assumed share of the peak; docs/planning.md
has how near it comes on a CPU.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from model.flops import FORWARD_AND_BACKWARD, detection_head_flops, encoder_flops, language_head_flops
from pipeline.base.config import RunConfig
from pipeline.planning.cards import Card
from pipeline.planning.counts import FLOAT, Micro, Net, nets_of, parameters
from pipeline.planning.machine import Machine
from pipeline.planning.many import Cluster, Step, step_of
from pipeline.planning.memory import Memory, memory_of, sharding_of
from pipeline.planning.micro import micro_of, one_document_a_row, with_rows
from pipeline.planning.work import micro_work, update_work
from pipeline.training.engine_config import micro_size, micro_steps, zero_stage

UPDATE_BYTES = 28
"""What an update of a parameter reads and writes: weight, gradient and both moments read, three of them written."""


@dataclass(frozen=True)
class CardUse:
    """A card, and the share of its peak that the products reach."""

    card: Card
    efficiency: float


@dataclass(frozen=True)
class Estimate:
    """What a config takes on a cluster."""

    stage: int
    micro_batch: int
    micro_steps: int
    parameters: int
    flops: float
    """Of a step, all ranks together."""
    memory: Memory
    step: Step
    processor: float
    """Seconds of a rank's processor a step, waiting left out; of a card the step without its exchange."""
    tokens: int
    """Of a step, all ranks together."""

    @property
    def tokens_a_second(self) -> float:
        """Of all ranks together."""
        return self.tokens / self.step.seconds

    def hours(self, budget: float) -> float:
        """To so many tokens."""
        return budget / self.tokens_a_second / 3600


def estimate(
    config: RunConfig, vocab_size: int, on: Machine | CardUse, cluster: Cluster, groups: Tensor | None = None
) -> Estimate:
    """groups (micro-batch, seq): documents of some rows of the data; by default each row is one document.

    UserError where the config's objective or precision is not known to the predictor or the machine.
    """
    world, stage = cluster.world, zero_stage(config)
    rows, steps = micro_size(config, world), micro_steps(config, world)
    groups = one_document_a_row(rows, config.data.sequence_length) if groups is None else groups
    by_hand = isinstance(on, Machine)
    nets, micro = nets_of(config.objective.name, config.model, vocab_size), micro_of(config, groups, by_hand)
    count, own = parameters(nets), 1 / world if stage >= 1 else 1.0
    sharding = sharding_of(config, world, count, steps)
    bytes_all = FLOAT * float(count)
    if isinstance(on, Machine):
        compute = steps * on.seconds(micro_work(nets, micro), config.train.precision)
        update = on.kind_seconds(f"update {min(stage, 2)}", update_work(nets, own))
        host = bytes_all * on.host_seconds_a_byte if world > 1 else 0.0
    else:
        again = 4 / 3 if micro.recompute else 1.0
        compute = again * steps * flops_of(nets, micro) / (on.card.peak(config.train.precision) * on.efficiency)
        update = UPDATE_BYTES * count * own / on.card.bandwidth
        host = 0.0
    step = step_of(compute, update, bytes_all, stage, cluster, sharding.overlap, max(1, -(-count // sharding.bucket)))
    return Estimate(
        stage=stage,
        micro_batch=rows,
        micro_steps=steps,
        parameters=count,
        flops=flops_of(nets, replace(micro, rows=1, masked=micro.masked // rows)) * config.train.batch_size,
        memory=memory_of(nets, micro, sharding),
        step=step,
        processor=compute + update + host,
        tokens=config.train.batch_size * config.data.sequence_length,
    )


def flops_of(nets: list[Net], micro: Micro) -> float:
    """Matrix products of forward and backward (model/flops.py)."""
    forward = 0.0
    for net in nets:
        forward += encoder_flops(net.sizes, micro.rows, micro.seq)
        if net.language:
            forward += language_head_flops(net.sizes, micro.masked)
        else:
            forward += detection_head_flops(net.sizes, micro.tokens)
    return FORWARD_AND_BACKWARD * forward


def choices(
    config: RunConfig, vocab_size: int, on: Machine | CardUse, cluster: Cluster, memory: float
) -> Iterator[Estimate]:
    """Every ZeRO stage with micro-batches of powers of two that fit in `memory` bytes a rank; the quickest is best."""
    share = -(-config.train.batch_size // cluster.world)
    sizes = sorted({min(2**power, share) for power in range(share.bit_length() + 1)})
    for stage in range(4 if isinstance(on, CardUse) else 3):
        zero = {**config.deepspeed.get("zero_optimization", {}), "stage": stage}
        for size in sizes:
            block = {**config.deepspeed, "zero_optimization": zero}
            staged = with_rows(config, size).model_copy(update={"deepspeed": block})
            one = estimate(staged, vocab_size, on, cluster)
            held = one.memory.total - (one.memory.saves if isinstance(on, CardUse) else 0.0)
            if held <= memory:
                yield one
