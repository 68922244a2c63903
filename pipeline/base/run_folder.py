"""Where a run keeps its files: names only, nothing is created here.

With a store, data/, tokenizer/ and checkpoints/ lie below its URL (a upath.UPath, which has the methods of a Path);
everything else stays below run_dir.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from pipeline.base.config import RunConfig


@dataclass(frozen=True)
class RunFolder:
    """The paths below run_dir and the store (docs/interface.md, "A run's folder")."""

    path: Path
    store: Path | None = None

    @classmethod
    def of(cls, config: "RunConfig") -> "RunFolder":
        """The run's own folder, by run_dir and store."""
        from pipeline.base.storage import place_of

        return cls(Path(config.run_dir), cast(Path, place_of(config.store)) if config.store else None)

    @classmethod
    def with_data(cls, config: "RunConfig") -> "RunFolder":
        """The folder whose data/ and tokenizer/ the run uses: that of data.path, a run's folder or its store's URL."""
        from pipeline.base.storage import is_remote, place_of

        if config.data.path is None:
            return cls.of(config)
        place = cast(Path, place_of(config.data.path))
        return cls(Path(config.run_dir), cast(Path, place)) if is_remote(place) else cls(place)

    @property
    def kept(self) -> Path:
        """What data/, tokenizer/ and checkpoints/ lie below."""
        return self.store if self.store is not None else self.path

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def tokenizer(self) -> Path:
        """The vocabulary: a SentencePiece model or a tokenizer.json."""
        return tokenizer_file(self.kept)

    @property
    def init(self) -> Path:
        """What the run's first weights were taken from; absent where they were random."""
        return self.path / "init.json"

    @property
    def micro_batch(self) -> Path:
        """What train.micro_batch_size auto has found, and for which setting."""
        return self.path / "micro_batch.json"

    @property
    def data(self) -> Path:
        """Folder of the manifest and the shards."""
        return self.kept / "data"

    @property
    def manifest(self) -> Path:
        """Written last: without it there is no data set."""
        return self.data / "manifest.json"

    @property
    def train(self) -> Path:
        """Folder of the training shards."""
        return self.data / "train"

    @property
    def validation(self) -> Path:
        """Folder of the validation shards."""
        return self.data / "validation"

    @property
    def quarantine(self) -> Path:
        """One JSON line for each record set aside."""
        return self.data / "quarantine.jsonl"

    @property
    def statistics(self) -> Path:
        """What the corpus held, what was kept, what was dropped and why."""
        return self.data / "statistics.json"

    @property
    def report(self) -> Path:
        """The statistics as a page."""
        return self.data / "report.html"

    @property
    def checkpoints(self) -> Path:
        """Folder of step-NNNNNNNN folders and of `latest`."""
        return self.kept / "checkpoints"

    @property
    def metrics(self) -> Path:
        """A JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def export(self) -> Path:
        """Folder of the Hugging Face folders."""
        return self.path / "export"

    @property
    def finetune(self) -> Path:
        """One folder a task."""
        return self.path / "finetune"

    @property
    def log(self) -> Path:
        """Plain lines, a file a rank."""
        return self.path / "log"

    @property
    def tracking(self) -> Path:
        """Which MLflow run belongs to which stage, and what it has been sent."""
        return self.path / "tracking.json"


def tokenizer_file(folder: Path) -> Path:
    """The vocabulary of a run, or of a checkpoint: its tokenizer.json where there is one, else tokenizer.model."""
    given = folder / "tokenizer" / "tokenizer.json"
    return given if given.is_file() else folder / "tokenizer" / "tokenizer.model"
