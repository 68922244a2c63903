"""Many ranks on many hosts: collectives by latency and bandwidth, what backward hides of them, and stragglers.

The alpha-beta model (Thakur et al. 2005): a ring moves 2 (N - 1) / N of the bytes in 2 (N - 1) messages one after
another, a tree moves them twice in 2 log2 N; NCCL takes what is quicker, and so is assumed here. What each ZeRO stage
moves: Rajbhandari et al. 2020. Price: no congestion, no topology beyond hosts.
"""

import math
from dataclasses import dataclass

from pipeline.planning.machine import Link


@dataclass(frozen=True)
class Cluster:
    """Ranks and what joins them."""

    hosts: int
    ranks_a_host: int
    inside: Link
    """Between ranks of a host."""
    between: Link
    """Between hosts: the whole host's bandwidth."""
    jitter: float = 0.0
    """Standard deviation of a rank's step time, as a share of it."""

    @property
    def world(self) -> int:
        """All ranks."""
        return self.hosts * self.ranks_a_host

    @property
    def slowest(self) -> Link:
        """What a ring over all ranks goes at."""
        if self.hosts == 1:
            return self.inside
        return Link(self.between.latency, min(self.inside.bandwidth, self.between.bandwidth))


@dataclass(frozen=True)
class Step:
    """Seconds of a step's parts."""

    compute: float
    update: float
    exchange: float
    """All collectives, hidden or not."""
    exposed: float
    """What of them is waited for."""
    waiting: float
    """For the slowest rank."""

    @property
    def seconds(self) -> float:
        """The step."""
        return self.compute + self.update + self.exposed + self.waiting

    @property
    def efficiency(self) -> float:
        """Share of the time in which a rank does what it would do alone."""
        return (self.compute + self.update) / self.seconds


def half_exchange(size: float, cluster: Cluster, messages: int = 1) -> float:
    """Seconds of a reduce-scatter or an all-gather of `size` bytes, sent as so many collectives."""
    world, link = cluster.world, cluster.slowest
    if world == 1:
        return 0.0
    ring = (world - 1) / world * size / link.bandwidth + messages * (world - 1) * link.latency
    tree = size / link.bandwidth + messages * math.ceil(math.log2(world)) * link.latency
    return min(ring, tree)


def step_of(
    compute: float, update: float, gradient_bytes: float, stage: int, cluster: Cluster, overlap: bool, buckets: int = 1
) -> Step:
    """A step. compute: forward and backward of all micro-batches; gradient_bytes: of all parameters; buckets: how many
    collectives the gradients are cut into; overlap: they run beside the backward pass (DeepSpeed's overlap_comm).

    Stage 0 sums the gradients on all ranks: there once and back once. So do stages 1 and 2 as DeepSpeed 0.19 has them
    (use_multi_rank_bucket_allreduce), and gather the weights after the update, which hides behind nothing. Stage 3
    brings each sum to its owner alone, and gathers the weights in forward and in backward.
    """
    half = half_exchange(gradient_bytes, cluster, buckets)
    exchange = (2 if stage == 0 else 3) * half
    before_update = exchange if stage == 3 else 2 * half
    hidden = min(before_update, compute * 2 / 3) if overlap and stage >= 1 else 0.0
    exposed = exchange - hidden
    waiting = compute * cluster.jitter * math.sqrt(2 * math.log(cluster.world)) if cluster.world > 1 else 0.0
    return Step(compute, update, exchange, exposed, waiting)
