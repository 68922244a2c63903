"""How the windows of a long text decide together: by their mean, or by the one that is surest (finetune.pooling)."""

from typing import Literal

from torch import Tensor

Pooling = Literal["mean", "max"]


def pool_chances(chances: Tensor, pooling: Pooling) -> Tensor:
    """Log-probabilities (windows, labels) to (labels,): their mean, normalised again, or those of the surest window."""
    if pooling == "max":
        return chances[chances.max(-1).values.argmax()]
    return chances.mean(0).log_softmax(-1)


def pool_scores(scores: Tensor, pooling: Pooling) -> Tensor:
    """Scores (windows,) to one (): the mean, or the largest."""
    return scores.max() if pooling == "max" else scores.mean()
