"""Bad input: one clear message, exit code 2, no traceback, nothing half-written.

What a driver finds wrong is found with the tasks done in this process; the full disk, which a worker meets, on Ray.
"""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import command
from pipeline.base.run_folder import RunFolder
from tests.corpora import make_corpus, make_texts
from tests.in_process import here

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the MLflow store of all these runs."""
    return tmp_path_factory.getbasetemp()


def arguments(store: Path, run_dir: Path, corpus: str, *more: str) -> list[str]:
    fixed = ["ray.address=local", "ray.num_cpus=1", f"tracking.uri=sqlite:///{store / 'mlflow.db'}"]
    return [f"run_dir={run_dir}", f"corpus.paths=[{corpus}]", "tokenizer.vocab_size=400", *fixed, *more]


def refused(capsys: pytest.CaptureFixture[str], argv: list[str]) -> str:
    """The message of a run in this process that ends with exit code 2."""
    assert command.main("preprocess", argv) == command.EXIT_USER
    told = capsys.readouterr().err
    assert "Traceback" not in told
    return told


def nothing_left_but(run_dir: Path, *names: str) -> bool:
    files = {str(path.relative_to(run_dir)) for path in run_dir.rglob("*") if path.is_file()}
    files = {name for name in files if not name.startswith("data/.work/")}
    logs = {"log/rank-0.log", "log/tasks.jsonl", "log/tracking-preprocess.jsonl"}
    kept = logs | {"config.yaml", "tracking.json", ".tracking.lock"}
    return files <= kept | {".lock", *names}


@pytest.mark.slow
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_missing_paths_from_the_command_line(tmp_path: Path, dry: list[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").write_text("raise ImportError('the wrong package')")
    argv = [f"run_dir={tmp_path / 'run'}", "corpus.paths=[gone.txt, empty, 'x*.jsonl']", *dry]
    script = [sys.executable, str(ROOT / "pipeline" / "preprocess.py")]
    done = subprocess.run([*script, *argv], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for told in ("gone.txt does not exist", "the folder empty holds no file", "the glob x*.jsonl matches nothing"):
        assert told in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@here()
def test_no_valid_document(tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_bytes(b" \n\n\x00\x01\n\n\xff\xfe\n")
    told = refused(capsys, arguments(store, tmp_path / "run", str(tmp_path / "a.txt")))
    assert "no valid document" in told
    assert "1 x invalid UTF-8" in told
    assert nothing_left_but(tmp_path / "run", "data/quarantine.jsonl")
    (tmp_path / "a.txt").write_bytes(b"")
    assert "empty" in refused(capsys, arguments(store, tmp_path / "other", str(tmp_path / "a.txt")))
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
@here()
def test_too_many_bad_records_then_allowed(tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.dumps({"text": text}) for text in make_texts(1, 200)]
    whole = gzip.compress("\n".join(lines * 3).encode())
    (tmp_path / "a.jsonl").write_bytes("\n".join([*lines, *["{"] * 20]).encode())
    (tmp_path / "b.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    argv = arguments(store, tmp_path / "run", str(tmp_path), "corpus.task_bytes=4096")
    told = refused(capsys, argv)
    quarantine = tmp_path / "run" / "data" / "quarantine.jsonl"
    assert str(quarantine) in told
    assert "corpus.max_bad_fraction 0.01" in told
    assert nothing_left_but(tmp_path / "run", "data/quarantine.jsonl")
    assert "larger than the text supports" in refused(
        capsys, [*argv, "corpus.max_bad_fraction=0.2", "tokenizer.vocab_size=20000"]
    )
    assert not RunFolder(tmp_path / "run").tokenizer.exists()
    assert command.main("preprocess", [*argv, "corpus.max_bad_fraction=0.2"]) == 0
    bad = [json.loads(line) for line in quarantine.read_text().splitlines()]
    assert [one["line"] for one in bad[:-1]] == list(range(201, 221))  # the run's own files are no input
    assert bad[-1]["reason"] == "truncated gzip: it ends inside a member"


@pytest.mark.slow
def test_no_space_left(tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a full disk needs the right to mount a tmpfs")
    try:
        make_corpus(tmp_path / "corpus")
        told = refused(capsys, arguments(store, disk / "run", str(tmp_path / "corpus")))
        assert "no space left on the device" in told
        assert not RunFolder(disk / "run").manifest.exists()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
