"""Micro-batches: every rank makes the same number, every row once with weight 1; threads and interfaces of a rank."""

import socket

import pytest
import torch

from model.objectives.base import Batch
from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.training.distributed import interface_towards, local_world, meet, thread_count
from pipeline.training.speed import listed_peak
from pipeline.training.step import dropout_seed, micro_batches
from tests.ports import free_port


@pytest.mark.parametrize(("rows", "size", "count"), [(5, 2, 3), (4, 2, 3), (1, 4, 1), (2, 1, 3), (6, 6, 1)])
def test_micro_batches(rows: int, size: int, count: int) -> None:
    batch = Batch(torch.arange(rows * 3).view(rows, 3), torch.arange(rows), torch.zeros(rows, 3), None)
    parts = list(micro_batches(batch, size, count))
    assert len(parts) == count
    real = [part for part, weight in parts if weight == 1.0]
    assert torch.equal(torch.cat([part.sample for part in real]), batch.sample)
    assert torch.equal(torch.cat([part.ids for part in real]), batch.ids)
    for part, weight in parts:
        assert 1 <= len(part.sample) <= size
        assert part.documents is not None
        assert len(part.documents) == len(part.sample)
        assert part.segments is None
        if weight == 0.0:
            assert part.sample.tolist() == [0]


def test_dropout_seeds_differ_and_are_64_bit() -> None:
    config = RunConfig()
    seeds = {dropout_seed(config, step, rank, micro) for step in range(9) for rank in range(9) for micro in range(9)}
    assert len(seeds) == 9**3
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert dropout_seed(config, 1, 0, 0) == dropout_seed(config, 1, 0, 0)
    assert dropout_seed(config, 1, 0, 0) != dropout_seed(RunConfig(seed=1), 1, 0, 0)


def test_threads_of_a_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert thread_count(None) == 3
    assert thread_count(2) == 2
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("LOCAL_SIZE", "1000")
    assert thread_count(None) == 1
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.delenv("LOCAL_SIZE")
    assert local_world() == 8


def test_the_interface_that_reaches_an_address() -> None:
    assert interface_towards("127.0.0.1") == "lo"
    assert interface_towards("no such host.invalid") is None


@pytest.fixture
def half_a_job(monkeypatch: pytest.MonkeyPatch) -> int:
    """The environment of rank 0 of two, alone; the port where they would meet."""
    port = free_port()
    for key, value in {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(key, str(value))
    monkeypatch.setenv("ELECTRA_RENDEZVOUS_SECONDS", "1")
    return port


def test_ranks_that_do_not_come(half_a_job: int) -> None:
    with pytest.raises(UserError, match=r"not all 2 ranks came together at 127.0.0.1:\d+ within 1 s.*preflight"):
        meet("gloo")


def test_a_port_in_use(half_a_job: int) -> None:
    with socket.create_server(("", half_a_job)), pytest.raises(UserError, match=r"in use.*--master_port"):
        meet("gloo")


def test_peaks() -> None:
    assert listed_peak("NVIDIA H100 80GB HBM3", "bf16") == 989e12
    assert listed_peak("NVIDIA H100 PCIe", "bf16") == 756e12
    assert listed_peak("NVIDIA L40S", "fp32") == 91.6e12
    assert listed_peak("Some Other Device", "bf16") is None
