"""Runs of closed formulas: metrics.jsonl and config.yaml as a pretraining leaves them, without one."""

import json
import math
from pathlib import Path

from pipeline.base.config import RunConfig, dump_config, load_config

ACCURACY, GRADIENT, NOISE = "train/generator/accuracy", "train/gradient/generator", "train/noise_scale"
STEPS = tuple(range(10, 401, 10))
VOCABULARY = 8000


def accuracy(step: int, seed: int = 0) -> float:
    """Rises to 0.4; seeds differ by up to 0.02."""
    return 0.4 * (1 - math.exp(-step / 100)) + 0.02 * math.sin(step + 2 * seed)


def gradient(step: int, seed: int = 0) -> float:
    """Falls from 10 to 1; seeds differ by up to a fifth."""
    return (1 + 9 * math.exp(-step / 50)) * 1.2 ** math.sin(2 * step + seed)


def run_folder(path: Path, seed: int, *settings: str, shift: float = 0.0) -> Path:
    """A folder of such a run with its data set's manifest. shift: of the accuracy."""
    config = load_config(None, [f"run_dir={path}", f"seed={seed}", *settings])
    (path / "data").mkdir(parents=True)
    (path / "config.yaml").write_text(dump_config(config))
    (path / "data" / "manifest.json").write_text(json.dumps({"tokenizer": {"vocab_size": VOCABULARY}}))
    lines = [
        {
            "step": step,
            "time": 0.0,
            "train/loss": 1.0,
            ACCURACY: accuracy(step, seed) + shift,
            GRADIENT: gradient(step, seed),
        }
        for step in STEPS
    ]
    lines[5][NOISE] = 100.0  # a figure that is known now and then
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def config_of(*settings: str) -> RunConfig:
    """The default config, changed."""
    return load_config(None, list(settings))
