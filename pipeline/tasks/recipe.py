"""The paper's rates of fine-tuning by the size of the export, where the config sets none.

Everything that compares, logs or keeps settings sees the resolved ones, so that a result made by the default is the
same as one made by the same values, set.
"""

from typing import Any

import transformers

from pipeline.base.config import RunConfig
from pipeline.base.task_sections import FinetuneConfig
from pipeline.tasks.pretrained import pretrained_path

SIZES = {256: (3e-4, 0.8), 768: (1e-4, 0.8), 1024: (5e-5, 0.9)}
"""Width of ELECTRA small, base and large to lr and layer_decay (Clark et al. 2020, appendix B)."""
RATES = ("lr", "layer_decay")
"""The keys that are resolved."""


def rates_of(width: int) -> tuple[float, float]:
    """lr and layer_decay for a body of that hidden size: of the nearest of the paper's three, of two the larger.

    So below 512 an export is small, and from 896 on it is large.
    """
    return SIZES[min(SIZES, key=lambda size: (abs(size - width), -size))]


def settled(config: RunConfig) -> RunConfig:
    """With finetune.lr and finetune.layer_decay, both as set or else by the export's size.

    Where the export cannot be read they stay open: open_pretrained says what is wrong with it.
    """
    settings = config.finetune
    if None not in (settings.lr, settings.layer_decay):
        return config
    width = _width(config)
    if width is None:
        return config
    missing = {key: value for key, value in zip(RATES, rates_of(width), strict=True) if getattr(settings, key) is None}
    return config.model_copy(update={"finetune": settings.model_copy(update=missing)})


def told(settings: FinetuneConfig) -> str:
    """The rates for a person."""
    return ", ".join(f"{key} {getattr(settings, key):g}" for key in RATES)


def _width(config: RunConfig) -> int | None:
    path = pretrained_path(config)
    if not (path / "config.json").is_file():
        return None
    try:
        found: Any = transformers.AutoConfig.from_pretrained(path, local_files_only=True)
    except Exception:  # told where the folder is opened
        return None
    width = getattr(found, "hidden_size", None)
    return width if isinstance(width, int) else None
