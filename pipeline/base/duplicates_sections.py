"""Which repeated documents and paragraphs are dropped: the corpus.deduplicate section of a run's config."""

from typing import Annotated, Any

from pydantic import Field, field_serializer, model_validator

from pipeline.base.section import Positive, Section


class NearConfig(Section):
    """Which documents count as nearly the same: MinHash signatures of their shingles (Broder 1997), in LSH bands."""

    similarity: Annotated[float, Field(ge=0.1, le=1)] = 0.4
    """Least Jaccard similarity of two documents' sets of shingles; one word in 20 changed leaves about 0.63."""
    shingle_words: Annotated[int, Field(ge=1, le=50)] = 5
    """Words a shingle."""
    shingle_characters: Annotated[int, Field(ge=1, le=50)] = 4
    """Characters a shingle in scripts without spaces (Chinese, Japanese); twice that in Thai, Lao, Khmer, Burmese."""
    permutations: Annotated[int, Field(ge=16, le=1024)] = 192
    """Values of a signature, 2 bytes each: more find more of the pairs near `similarity`, and cost disk and time."""


class DeduplicateConfig(Section):
    """Exact documents first, then near ones, then paragraphs; the first copy in reading order stays."""

    documents: bool = False
    """Documents whose text was there before are dropped; white space around it and line ends' kinds do not count."""
    near: NearConfig | None = None
    """Documents that are nearly the same as one before are dropped; true, {} or a part of its keys turns it on."""
    paragraphs: bool = False
    """Paragraphs that were there before are cut out of the documents."""
    min_paragraph_characters: Positive = 100
    """Shorter paragraphs are never cut; a character of a script without spaces (Chinese, Thai) counts as three."""

    @property
    def active(self) -> bool:
        """Whether there is anything to do."""
        return self.documents or self.paragraphs or self.near is not None

    @model_validator(mode="before")
    @classmethod
    def _near_by_word(cls, values: Any) -> Any:
        """`near: true` and an empty `near:` are its defaults, `near: false` is off, as it is when left out."""
        if not isinstance(values, dict) or "near" not in values:
            return values
        others = {name: value for name, value in values.items() if name != "near"}
        near = values["near"]
        if near is False:
            return others
        return {**others, "near": {} if near is None or near is True else near}

    @field_serializer("near")
    def _off_is_false(self, near: NearConfig | None) -> Any:
        return False if near is None else near.model_dump(mode="json")
