"""What is read, cleaned and mixed: the corpus section of a run's config, one line a key."""

from typing import Annotated

from pydantic import Field, model_validator

from pipeline.base.cleaning_sections import CleanConfig
from pipeline.base.decontaminate_sections import DecontaminateConfig
from pipeline.base.duplicates_sections import DeduplicateConfig
from pipeline.base.section import Fraction, Rate, Section

CorpusName = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=60)]
"""Part of a folder's name."""


class SourceConfig(Section):
    """One corpus of a mixture."""

    paths: tuple[str, ...]
    """As corpus.paths."""
    weight: Rate = 1.0
    """Its share of the training sequences, relative to the other corpora's."""
    text_field: str | None = None
    """By default corpus.text_field."""
    clean: CleanConfig | None = None
    """By default corpus.clean."""


class CorpusConfig(Section):
    """What is read."""

    paths: tuple[str, ...] = ("corpus",)
    """Files, folders, globs or URLs of .txt, .jsonl, .parquet, .arrow, .warc, .wet and .xml, also .gz, .zst or .bz2."""
    corpora: dict[CorpusName, SourceConfig] = {}
    """A mixture in place of corpus.paths: corpora by name, each with its own paths, weight and filters."""
    temperature: Annotated[float, Field(gt=0, le=100)] | None = None
    """Shares of the corpora by tokens to the power of 1 / temperature, in place of their weights."""
    text_field: str = "text"
    """Field of a JSON line, or column of a Parquet or Arrow file, that holds the text."""
    url_field: str = "url"
    """Field or column that says where a text comes from, where there is one: for blocklists of domains."""
    max_bad_fraction: Fraction = 0.01
    """The stage stops when more than this share of the records cannot be used."""
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.005
    """Share of the documents, chosen by a hash of their text, that is kept for evaluation."""
    task_bytes: Annotated[int, Field(ge=1024)] = 32 * 1024 * 1024
    """Bytes of input that one Ray task takes. Never depends on the number of workers."""
    max_record_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 16 * 1024 * 1024
    """A longer record is set aside: it bounds a worker's memory; 1 GiB at most."""
    clean: CleanConfig = CleanConfig()
    """Filters, each off unless named."""
    deduplicate: DeduplicateConfig = DeduplicateConfig()
    """Repeated documents and paragraphs."""
    decontaminate: DecontaminateConfig = DecontaminateConfig()
    """Texts of evaluation files."""

    @property
    def cleanings(self) -> list[CleanConfig]:
        """Filters of all corpora, and those of the corpora that name none."""
        return [self.clean, *(source.clean for source in self.corpora.values() if source.clean is not None)]

    @model_validator(mode="after")
    def _one_or_many(self) -> "CorpusConfig":
        if self.corpora and self.paths != CorpusConfig.model_fields["paths"].default:
            raise ValueError("give corpus.paths or corpus.corpora, not both")
        if self.temperature is not None and not self.corpora:
            raise ValueError("corpus.temperature weighs the corpora of corpus.corpora, and there are none")
        weighed = [name for name, source in self.corpora.items() if source.weight != 1]
        if self.temperature is not None and weighed:
            raise ValueError(f"give corpus.temperature or weights (corpus.corpora.{weighed[0]}.weight), not both")
        return self
