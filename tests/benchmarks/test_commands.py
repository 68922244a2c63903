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
# A fork for each script: what `python SCRIPT --help` does, but with one import of torch for them all.
STARTS = """
import os, runpy, sys
import numpy, torch
for script in sys.argv[1:]:
    if not (child := os.fork()):
        sys.path[0], sys.argv = os.path.dirname(script), [script, "--help"]
        with open(os.path.basename(script) + ".log", "w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        runpy.run_path(script, run_name="__main__")
        sys.exit()
    print(os.path.basename(script), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """Folder with what each script has told, and the exit codes by script."""
    folder = tmp_path_factory.mktemp("commands")
    command = [sys.executable, "-c", STARTS, *(str(ROOT / "benchmarks" / script) for script in SCRIPTS)]
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("PYTHONPATH", raising=False)
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    return folder, dict(line.split() for line in ran.stdout.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_it_tells_its_options(script: str, started: tuple[Path, dict[str, str]]) -> None:
    folder, codes = started
    told = (folder / f"{script}.log").read_text()
    assert codes[script] == "0", told
    assert "usage" in told
