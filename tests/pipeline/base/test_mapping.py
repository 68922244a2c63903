"""What is done about tasks that fail and workers that die: a bad record is told from a kill and want of memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.exceptions import LocalRayletDiedError, NodeDiedError, OutOfMemoryError

from pipeline.base import mapping
from pipeline.base.errors import Preempted, UserError
from pipeline.base.mapping import Failure, Mapping
from pipeline.base.sections import RayConfig
from pipeline.base.workers import Workers, connected
from tests.failing import attempts, orphaned, troubled

BAD = 3


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with connected(RayConfig(address="local", num_cpus=2)) as connection:
        yield connection


def run(workers: Workers, folder: Path, trouble: str, times: int, *, give_up: bool = True) -> dict[int, object]:
    """Results by place of eight tasks."""
    arguments = [(str(folder), number, trouble, BAD, times) for number in range(8)]
    results = list(workers.map_unordered(troubled, arguments, plain=True, give_up=give_up))
    assert len(results) == 8, "each once"
    return dict(results)


def without_trouble() -> dict[int, object]:
    return {number: 2 * number for number in range(8)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "times", "tries"),
    [("raise", 2, 3), ("SIGKILL", 1, 2), ("SIGKILL", 2, 3), ("SIGTERM", 2, 3), ("memory", 2, 3), ("SIGSEGV", 2, 3)],
)
def test_done_again(workers: Workers, tmp_path: Path, trouble: str, times: int, tries: int) -> None:
    assert run(workers, tmp_path, trouble, times) == without_trouble()
    assert attempts(tmp_path) == {number: tries if number == BAD else 1 for number in range(8)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "told", "tries"),
    [
        ("raise", "ValueError: record 3 is odd", 3),
        ("SIGSEGV", "Crashed: the process broke down: SIGSEGV", 4),  # the first death has no name
        ("SIGABRT", "Crashed: the process broke down: SIGABRT", 4),
        ("exit", "Crashed: the process broke down: exit code 7", 4),
    ],
)
def test_given_up(workers: Workers, tmp_path: Path, trouble: str, told: str, tries: int) -> None:
    results = run(workers, tmp_path, trouble, 99)
    reason = results.pop(BAD)
    assert isinstance(reason, Failure)
    assert reason.reason.startswith(told)
    assert results == {number: 2 * number for number in range(8) if number != BAD}
    assert attempts(tmp_path) == {number: tries if number == BAD else 1 for number in range(8)}


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["SIGKILL", "memory"])
def test_want_of_memory_ends_the_stage(
    workers: Workers, tmp_path: Path, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapping, "DEATHS", 4)
    with pytest.raises(UserError) as told:
        run(workers, tmp_path, trouble, 99)
    assert "died over one task again and again (4 times), for want of memory perhaps" in str(told.value)
    assert "Lower ray.num_cpus" in str(told.value)
    assert attempts(tmp_path)[BAD] == 4, "it was never taken for a bad record"


@pytest.mark.slow
def test_an_error_comes_through_where_nothing_is_given_up(workers: Workers, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="record 3 is odd"):
        run(workers, tmp_path, "raise", 99, give_up=False)
    assert attempts(tmp_path)[BAD] == 3
    with pytest.raises(UserError, match=r"^line 5 of it$"):
        run(workers, tmp_path / "..", "user", 99)


@pytest.mark.slow
def test_a_task_of_its_own_dies_with_its_worker(workers: Workers, tmp_path: Path) -> None:
    assert dict(workers.map_unordered(orphaned, [(str(tmp_path), 1)], plain=True, give_up=True)) == {0: 3}
    assert not (tmp_path / "went-on").exists()


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (OutOfMemoryError("Task was killed due to the node running low on memory"), mapping._Gone, "want of memory"),
        (NodeDiedError("the node is gone"), mapping._Gone, "NodeDiedError"),
        (LocalRayletDiedError("gone"), Preempted, "start the same command again"),
    ],
)
def test_what_ray_tells(error: Exception, kind: type[Exception], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def get(reference: object) -> None:
        raise error

    monkeypatch.setattr(ray, "get", get)
    with pytest.raises(kind, match=told):
        mapping._get(None)


def test_delays_grow_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping.time, "monotonic", lambda: 100.0)

    def gone(reference: object) -> None:
        raise mapping._Gone("ended by SIGKILL")

    monkeypatch.setattr(mapping, "_get", gone)
    tasks = Mapping(troubled, 4, plain=True, give_up=True)
    job = mapping._Job(0, ())
    delays = []
    while job.deaths < mapping.DEATHS - 1:
        assert tasks._outcome(job, None) is None
        delays.append(job.not_before - 100.0)
    assert delays == sorted(delays)
    assert 30 < sum(delays) < 180, "a host that comes back within half a minute costs nothing"
    with pytest.raises(UserError, match="8 times"):
        tasks._outcome(job, None)
