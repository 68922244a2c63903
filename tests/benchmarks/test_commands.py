"""Each benchmark starts as its page says, from any folder."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
APART = {"datatrove_tokens.py", "predictor_worker.py"}  # another interpreter's; started by predictor.py
SCRIPTS = sorted(
    path.name
    for path in (ROOT / "benchmarks").glob("*.py")
    if "__main__" in path.read_text(encoding="utf-8") and path.name not in APART
)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_it_tells_its_options(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    command = [sys.executable, str(ROOT / "benchmarks" / script), "--help"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert "usage" in ran.stdout
