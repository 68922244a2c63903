"""The driver over the real stages, tiny: every command runs, the report has figures, a second run is a no-op."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.demo.docstrings import Module, to_lines
from pipeline.demo.packages_task import derive
from pipeline.demo.report import last_figures

REPOSITORY = Path(__file__).resolve().parents[3]
CONFIG = """
tokenizer: {{vocab_size: 320}}
corpus: {{validation_fraction: 0.2}}
data: {{sequence_length: 32, block_tokens: 1024}}
model: {{body: modernbert, hidden_size: 16, layers: 2, heads: 2, ffn_size: 16, max_positions: 64, dropout: 0.0, \
attention_dropout: 0.0, local_window: 8, generator: {{layers: 1}}}}
optimizer: {{lr: 1.0e-3}}
schedule: {{warmup_steps: 1}}
train: {{steps: 3, batch_size: 4, precision: fp32, threads: 1, log_every: 1, eval_every: 3, \
save_every: 3, eval_sequences: 16}}
finetune: {{name: packages, epochs: 1, max_length: 32}}
evaluate: {{sequences: 16}}
tracking: {{uri: "sqlite:///{run}/mlflow.db"}}
ray: {{address: local, num_cpus: 1}}
"""


@pytest.mark.slow
def test_a_tiny_demo_runs_every_stage_and_then_none(tmp_path: Path) -> None:
    run, config = tmp_path / "run", tmp_path / "tiny.yaml"
    config.write_text(CONFIG.format(run=run), encoding="utf-8")
    write_corpus(tmp_path / "corpus")
    first = demo(run, config)
    assert first.returncode == 0, first.stdout + first.stderr
    for stage in ("preprocess", "pretrain", "export", "finetune", "evaluate"):
        assert f"{stage}: done in" in first.stdout
    figures = last_figures(run / "metrics.jsonl", "eval/")
    for name in (
        "generator/accuracy",
        "generator/unigram_accuracy",
        "discriminator/auc",
        "discriminator/frequency_auc",
    ):
        assert f"eval/{name}" in figures
    closing = first.stdout[first.stdout.index("== what was learned ==") :]
    assert " -" not in closing[: closing.index("In minutes")].replace("----", ""), closing
    assert "accuracy 0." in closing
    page = (run / "health.html").read_text(encoding="utf-8")
    assert "train/generator/accuracy" in page
    assert "Nothing is compared" in page  # its settings are not those of configs/demo.yaml

    second = demo(run, config)
    assert second.returncode == 0
    assert "nothing left to do" in second.stdout
    assert "done in" not in second.stdout


def write_corpus(folder: Path) -> None:
    """A gathered corpus of two packages, so that site-packages need not be read."""
    draw = random.Random(0)
    words = [letter + end for letter in "bcdfgmnprst" for end in ("ade", "in", "ore", "ull", "ine", "ash")]
    modules = []
    for package in ("zeta", "omega"):
        for number in range(60):
            docstrings = tuple((f"The {' '.join(draw.choices(words, k=20))} of it.",) for _ in range(4))
            modules.append(Module(path=f"{package}/m{number:02}.py", docstrings=docstrings))
    (folder / "task").mkdir(parents=True)
    (folder / "docstrings.jsonl").write_bytes(to_lines(modules)[0])
    for split, lines in derive(modules).items():
        (folder / f"task/{split}.jsonl").write_bytes(lines)


def demo(run: Path, config: Path) -> subprocess.CompletedProcess[str]:
    """The demo's command line."""
    folders = ["--run-dir", str(run), "--corpus-dir", str(run.parent / "corpus")]
    words = [sys.executable, "-m", "pipeline.demo", "--config", str(config), *folders]
    return subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
