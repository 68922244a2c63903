"""The collectives' model: limits that it must keep, and what grows with what."""

from dataclasses import replace

import pytest

from pipeline.planning.machine import Link
from pipeline.planning.many import Cluster, half_exchange, step_of

INSIDE, BETWEEN = Link(5e-6, 450e9), Link(20e-6, 50e9)
GRADIENTS = 4e8


def cluster(hosts: int, ranks: int = 8, jitter: float = 0.0) -> Cluster:
    return Cluster(hosts, ranks, INSIDE, BETWEEN, jitter)


def test_one_rank_exchanges_nothing() -> None:
    step = step_of(1.0, 0.1, GRADIENTS, 0, cluster(1, 1, jitter=0.1), overlap=False)
    assert (step.exchange, step.waiting, step.efficiency) == (0.0, 0.0, 1.0)


def test_two_ranks_by_hand() -> None:
    """Half of the bytes pass the link each way, in one message a half."""
    assert half_exchange(GRADIENTS, Cluster(2, 1, INSIDE, BETWEEN)) == pytest.approx(GRADIENTS / 2 / 50e9 + 20e-6)


@pytest.mark.parametrize("size", [1e3, 1e6, 1e9])
def test_bytes_bound_the_exchange_and_latency_grows_with_the_logarithm_at_most(size: float) -> None:
    for hosts in (2, 16, 128):
        one = cluster(hosts)
        least = (one.world - 1) / one.world * size / 50e9
        assert least < half_exchange(size, one) <= size / 50e9 + 10 * 20e-6 * 1.0001


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_efficiency_falls_with_hosts_and_rises_with_overlap(stage: int) -> None:
    def efficiency(hosts: int, overlap: bool) -> float:
        return step_of(0.05, 0.001, GRADIENTS, stage, cluster(hosts, jitter=0.01), overlap).efficiency

    plain = [efficiency(hosts, False) for hosts in (1, 2, 8, 32, 128)]
    assert plain == sorted(plain, reverse=True)
    assert all(efficiency(hosts, True) >= efficiency(hosts, False) for hosts in (1, 2, 8, 32, 128))
    assert efficiency(8, True) == efficiency(8, False) if stage == 0 else efficiency(8, True) > efficiency(8, False)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_sharded_state_moves_half_as_much_again(stage: int) -> None:
    none, sharded = (step_of(1.0, 0.0, GRADIENTS, one, cluster(4), False).exchange for one in (0, stage))
    assert sharded == pytest.approx(1.5 * none)


def test_a_slower_network_costs() -> None:
    slow = replace(cluster(4), between=Link(20e-6, 1e9))
    assert half_exchange(GRADIENTS, slow) > 10 * half_exchange(GRADIENTS, cluster(4))
