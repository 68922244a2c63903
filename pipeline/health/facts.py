"""What is known of a step that was looked at, as plain numbers of the whole global batch; and what is said of it."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Finding:
    """Something wrong."""

    code: str
    """A short name, the same whenever it is found."""
    words: str
    """What is wrong, by which numbers, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the config says, of which the rules are judges."""

    objective: str
    mask_fraction: float
    mask_share: float
    random_share: float = 0.0
    discriminator_weight: float = 0.0
    vocab_size: int
    batch_size: int
    warmup_steps: int
    continued: bool = False
    """Whether the first weights were taken from elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Of each parameter, by name: norms over the whole tensor."""

    gradient: dict[str, float]
    """Before clipping."""
    weight: dict[str, float]
    update: dict[str, float]
    sums: dict[str, float]
    """Sum of the elements: with the norm, a mark of whether anything moved."""
    squared_mean: dict[str, float]
    """Sum of the squares of the first moment."""
    mean_square: dict[str, float]
    """Sum of the second moment."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A step that was looked at. Sums are recomputed from what the networks were given and gave, not taken from the
    objective, whose own are `reported`."""

    step: int
    updates: int
    """Applied, with this one."""
    skipped: bool
    loss: float
    rate: float
    """What the optimizer was set to."""
    schedule_rate: float
    """What schedule.* and optimizer.lr say."""
    sums: dict[str, float]
    """See `checks`."""
    reported: dict[str, float]
    parameters: Parameters
    untied: list[str] = field(default_factory=list)
    """Tables that should be one and are not."""
    settings: list[str] = field(default_factory=list)
    """What the optimizer or the networks are set to against the config, in words."""
    rows: tuple[int, ...] = ()
    """A hash of each row of the global batch."""
