"""Learning rate of an update: linear decay from the first update, multiplied by the warm-up ramp; no state."""

from pipeline.base.config import RunConfig
from pipeline.base.sections import ScheduleConfig


def learning_rate(peak: float, schedule: ScheduleConfig, update: int, steps: int) -> float:
    """Rate of update number `update` (from 0): peak * min(1, update / warmup) * (1 - update / steps).

    BERT's and ELECTRA's released code (optimization.py): the decay begins at update 0, not at the end of the warm-up,
    so the peak itself is never reached; and with a warm-up the first update has rate 0.
    """
    warmup = min(1.0, update / schedule.warmup_steps) if schedule.warmup_steps else 1.0
    return peak * warmup * max(0.0, 1.0 - update / steps)


def odd_warmup(config: RunConfig) -> str:
    """What is to be said where the warm-up does not end within the run; "" where it does."""
    warmup, steps = config.schedule.warmup_steps, config.train.steps
    if warmup <= steps:
        return ""
    return f"schedule.warmup_steps {warmup:,} is more than train.steps {steps:,}: the rate never gets near its peak"
