"""MinHash signatures of documents and the LSH bands that bring similar ones together.

Two signatures agree in a place with the probability of the documents' Jaccard similarity, whatever their lengths. The
hashes are rensa's R-MinHash (fast similarity sketching, Dahlgaard et al. 2017): one pass over the shingles, and of
short documents a smaller error than independent permutations. Of each value its low 16 bits are kept. Price: signatures
of another algorithm version of rensa cannot be compared, so it is part of `scheme`.
"""

import unicodedata
from array import array
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import numpy as np

from pipeline.base.duplicates_sections import NearConfig
from pipeline.duplicates.characters import Hashes, mixed
from pipeline.duplicates.shingles import Shingler
from pipeline.duplicates.texts import Texts, together, utf8

Signatures = np.ndarray[Any, np.dtype[np.uint16]]

SEED = 20170405
"""Of the permutations; the same in every run, so that signatures of different runs can be compared."""
LEAST_FOUND = 0.9
"""Share of the pairs at the threshold itself that meet in a band; of more similar ones it is larger."""
NOTHING = np.uint16(0xFFFF)
"""Every value of a document without shingles."""


def candidate_probability(similarity: float, rows: int, bands: int) -> float:
    """Probability that two documents of that Jaccard similarity agree in all rows of a band.

    Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, section 3.4.2: 1 - (1 - s^r)^b.
    """
    return float(1 - (1 - similarity**rows) ** bands)


def rows_per_band(config: NearConfig) -> int:
    """The most rows, so the fewest chance meetings, that still find LEAST_FOUND of the pairs at the threshold."""
    rows = 1
    for more in range(2, config.permutations + 1):
        if candidate_probability(config.similarity, more, config.permutations // more) >= LEAST_FOUND:
            rows = more
    return rows


class Sketcher:
    """Signatures of texts."""

    def __init__(self, config: NearConfig) -> None:
        self.permutations = config.permutations
        self.shingler = Shingler(config.shingle_words, config.shingle_characters)

    def sketch(self, texts: Texts) -> Signatures:
        """(texts, permutations); NOTHING throughout for a text without shingles.

        Of the composed form (NFC): a letter and its mark are the same in one code point and in two.
        """
        shingles = self.shingler.cut(texts)
        matrix = _rensa().digest_matrix_from_flat_token_hashes(
            shingles.hashes, shingles.offsets, self.permutations, SEED
        )
        values = b"".join([array("I", row).tobytes() for row in matrix.to_rows()])
        rows = np.frombuffer(values, np.uint32).astype(np.uint16).reshape(len(texts), self.permutations)
        rows[shingles.offsets[1:] == shingles.offsets[:-1]] = NOTHING
        others = composed(texts, np.flatnonzero(shingles.may_compose))
        if others:
            rows[list(others)] = self.sketch(together(list(others.values())))
        return rows


def composed(texts: Texts, numbers: Iterable[int]) -> dict[int, bytes]:
    """The texts of these numbers in Unicode's composed form (NFC), but for those that have it already."""
    found = {}
    for number in numbers:
        text = texts.data[texts.starts[number] : texts.starts[number + 1]].decode("utf-8", "surrogatepass")
        if not unicodedata.is_normalized("NFC", text):
            found[int(number)] = utf8(unicodedata.normalize("NFC", text))
    return found


def scheme(config: NearConfig) -> dict[str, Any]:
    """What two signatures must have in common to be compared."""
    return {
        "algorithm": f"rensa R-MinHash {_rensa().ALGORITHM_VERSION}",
        "shingle_words": config.shingle_words,
        "shingle_characters": config.shingle_characters,
        "permutations": config.permutations,
    }


def has_shingles(signatures: Signatures) -> Any:
    """Which documents have any (documents,)."""
    return (signatures != NOTHING).any(axis=1)


def band_keys(signatures: Signatures, rows: int) -> Iterator[Hashes]:
    """Of each band in turn every document's key (documents,): 64 mixed bits of the band's number and values."""
    for band in range(signatures.shape[1] // rows):
        keys = np.full(len(signatures), band + 1, np.uint64)
        for row in range(rows):
            keys = mixed(keys ^ signatures[:, band * rows + row])
        yield keys


def estimated_similarity(first: Signatures, second: Signatures) -> Any:
    """Share of the places in which signatures agree, row by row: an unbiased estimate of the Jaccard similarity."""
    return (first == second).mean(axis=1)


@cache
def _rensa() -> Any:
    from rensa import RMinHash  # type: ignore[import-untyped]

    return RMinHash
