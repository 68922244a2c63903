"""Shared by all tests: no network, no telemetry, few threads, no deadlines, and where real corpora lie."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Where Ray notes the cluster that runs on this machine: one of the tests beside these is not for these.
    _noted = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
    os.environ["RAY_TMPDIR"] = _noted.name

import pytest
from hypothesis import HealthCheck, settings

from tests.s3_server import s3, s3_backend  # noqa: F401 - fixtures of all tests

# A busy machine takes seconds for what takes milliseconds.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parents[1]


def _kept() -> Iterator[None]:
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys() - {"RAY_AUTH_TOKEN"}:  # which Ray reads once in a process's life
        del os.environ[name]
    os.environ.update(before)


# What a stage sets for its own process, a rank above all, is not in the environment of the next test or module.
environment = pytest.fixture(autouse=True)(_kept)
module_environment = pytest.fixture(autouse=True, scope="module")(_kept)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real corpora and downstream data sets; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("ELECTRA_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set ELECTRA_DATA")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest one first, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: "soak" not in item.nodeid)


def pytest_unconfigure() -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        _noted.cleanup()
