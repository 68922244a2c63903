"""Evaluation files whose texts must not be trained on; pipeline/cleaning/contamination.py says what is compared."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.base.section import Section


class DecontaminateConfig(Section):
    """Documents that share long sequences with given evaluation files; off without paths."""

    paths: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Evaluation files, folders, globs or URLs of .jsonl, .json, .tsv, .csv and .txt, each also .gz or .zst."""
    words: Annotated[int, Field(ge=5, le=100)] = 13
    """Words in a row that make a match (Brown et al. 2020, appendix C: 13)."""
    characters: Annotated[int, Field(ge=8, le=200)] = 20
    """The same for scripts written without spaces, such as Chinese: characters in a row."""
    action: Literal["drop", "cut"] = "drop"
    """drop: the whole document. cut: the match with 200 characters on each side (the same appendix)."""
