"""What the tests of the stream share."""

import pytest

from pipeline.stream import bad


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken shards are tried again at once."""
    monkeypatch.setattr(bad, "PAUSES", (0.0,))
