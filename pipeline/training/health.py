"""Stops a run that can learn nothing more, before it saves the damage."""

import math

from pipeline.base.errors import UserError

MOST_SKIPPED = 100
"""Updates that may be left out one after another; fp16's search for a loss scale takes some tens at the start."""


def check_loss(loss: float, step: int, precision: str) -> None:
    """UserError when the loss is not a number; under fp16 a single such step is the loss scale's business."""
    if math.isfinite(loss) or precision == "fp16":
        return
    raise UserError(
        f"train/loss is {loss} at step {step}: training has diverged and nothing of it is saved. Lower optimizer.lr or "
        "lengthen schedule.warmup_steps, and set another run_dir."
    )


def check_skips(in_a_row: int, step: int) -> None:
    """UserError when no update has been possible for long."""
    if in_a_row >= MOST_SKIPPED:
        raise UserError(
            f"the last {in_a_row} updates up to step {step} were left out, because gradients were not finite. Lower "
            "optimizer.lr, or set train.precision to bf16 in another run_dir."
        )
