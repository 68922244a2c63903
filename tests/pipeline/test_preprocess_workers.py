"""Ray workers: order, crashed workers, errors, and no trace left in the home folder."""

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import ray

from pipeline.base import workers
from pipeline.base.errors import UserError
from pipeline.base.sections import RayConfig
from pipeline.base.workers import ROOT, connected


@pytest.mark.slow
def test_map_on_local_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def work(number: int, folder: Path) -> tuple[int, str, list[str]]:
        import os
        import sys
        import time

        if number == 3 and not (folder / "crashed").exists():
            (folder / "crashed").touch()
            os.abort()
        if number == 98:
            raise UserError("line 5 of it")
        if number == 99:
            raise ValueError("ours")
        time.sleep(0.05 * (number % 3))
        return number, os.environ["OMP_NUM_THREADS"], [path for path in sys.path if path == str(folder)]

    with connected(RayConfig(address="local", num_cpus=2)) as workers:
        assert workers.cpus == 2
        results = list(workers.map_ordered(work, [(number, tmp_path) for number in range(30)]))
        assert results == [(number, "1", []) for number in range(30)]
        assert (tmp_path / "crashed").exists()
        with pytest.raises(UserError, match=r"^line 5 of it$"):
            list(workers.map_ordered(work, [(number, tmp_path) for number in range(97, 110)]))
        with pytest.raises(ValueError, match="ours"):
            list(workers.map_ordered(work, [(99, tmp_path)]))

        submitted = []

        def counted() -> "list[tuple[int, Path]]":
            for number in range(10, 60):
                submitted.append(number)
                yield number, tmp_path

        results_so_far = workers.map_ordered(work, counted())
        next(results_so_far)
        assert len(submitted) <= 8
        results_so_far.close()
    assert not (tmp_path / "home" / ".ray").exists()
    assert Path(os.environ["PYTHONPATH"].split(os.pathsep)[0]) == ROOT


@pytest.mark.parametrize("fails", [1, 2])
def test_a_local_ray_that_does_not_start_is_tried_again(fails: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[object] = []

    def init(**options: object) -> None:
        tries.append(options)
        if len(tries) <= fails:
            raise TimeoutError("Timed out waiting for file\nmore")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 3.0})
    monkeypatch.setattr(ray, "nodes", lambda: [{}])
    if fails == 1:
        with connected(RayConfig(address="local")) as workers:
            assert workers.cpus == 3
    else:
        told = "cannot start a local Ray: Timed out waiting for file\n"
        with pytest.raises(UserError, match=told), connected(RayConfig(address="local")):
            pass
    assert len(tries) == 2


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no address"])
def test_no_cluster_there(address: str) -> None:
    with pytest.raises(UserError, match="cannot connect to the Ray cluster"), connected(RayConfig(address=address)):
        pass


def test_a_cluster_whose_head_is_gone_ends_the_run(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    ended: list[int] = []
    monkeypatch.setattr(workers, "STOP_SECONDS", 0.01)
    monkeypatch.setattr(workers, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(os, "_exit", ended.append)
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        with workers._watched(address):
            time.sleep(0.5)
            assert not ended
            head.close()
            until = time.monotonic() + 30
            while not ended and time.monotonic() < until:
                time.sleep(0.05)
    assert ended[0] == 75
    assert f"the cluster's head at {address} is gone" in capfd.readouterr().err
