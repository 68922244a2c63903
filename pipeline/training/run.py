"""What the loop and its jobs share."""

from dataclasses import dataclass, field

from pipeline.base.config import RunConfig
from pipeline.base.run_folder import RunFolder
from pipeline.base.tracking import Tracker
from pipeline.stream.loader import TokenStream
from pipeline.training.engine import Engine
from pipeline.training.metrics_file import append_metrics
from pipeline.training.origin import Origin
from pipeline.training.ranks import Ranks
from pipeline.training.speed import Speed


@dataclass(frozen=True)
class Run:
    """One rank's part of one pretraining run."""

    config: RunConfig
    folder: RunFolder
    origin: Origin
    engine: Engine
    stream: TokenStream
    tracker: Tracker
    speed: Speed = field(default_factory=Speed)

    @property
    def ranks(self) -> Ranks:
        """This rank among the others."""
        return self.engine.ranks

    def record(self, step: int, values: dict[str, float]) -> None:
        """To metrics.jsonl and MLflow, from rank 0. Collective: a full disk is every rank's error."""
        with self.ranks.together():
            if self.ranks.rank == 0:
                append_metrics(self.folder.metrics, step, values)
                self.tracker.metrics(step, values)
