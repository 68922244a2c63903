"""Signatures estimate the Jaccard similarity, bands follow the closed formula, and no process has others."""

import hashlib
import os
import random
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from pipeline.base.duplicates_sections import NearConfig
from pipeline.duplicates.signatures import (
    LEAST_FOUND,
    Sketcher,
    band_keys,
    candidate_probability,
    estimated_similarity,
    has_shingles,
    rows_per_band,
)
from pipeline.duplicates.texts import encoded
from tests.pipeline.duplicates.copies import changed, words_of

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import hashlib
from pipeline.base.duplicates_sections import NearConfig
from pipeline.duplicates.signatures import Sketcher
from pipeline.duplicates.texts import encoded
texts = [" ".join(str(n * k) for n in range(k)) for k in (1, 5, 40, 300, 5000)] + ["中文" * 50, ""]
print(hashlib.sha256(Sketcher(NearConfig()).sketch(encoded(texts)).tobytes()).hexdigest())
"""
DIGEST = "c2ef467155412d998607e05a9582624374a147136eebd11328d32eab1a14c1f9"
PAIRS = 200


def jaccard(one: str, other: str) -> float:
    words = one.split(), other.split()
    sets = [{tuple(some[n : n + 5]) for n in range(len(some) - 4)} for some in words]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.parametrize("length", [12, 40, 150, 900])
@pytest.mark.parametrize("share", [0.02, 0.1])
def test_the_estimate_has_no_bias_and_the_error_of_a_binomial(length: int, share: float) -> None:
    chance, config = random.Random(length), NearConfig(permutations=128)
    originals = [words_of(chance, length) for _ in range(PAIRS)]
    pairs = [(" ".join(words), " ".join(changed(words, chance, max(share, 1.01 / length)))) for words in originals]
    signatures = Sketcher(config).sketch(encoded([text for pair in pairs for text in pair]))
    errors = estimated_similarity(signatures[::2], signatures[1::2]) - [jaccard(*pair) for pair in pairs]
    assert abs(errors.mean()) < 4 * 0.5 / np.sqrt(128 * PAIRS)
    assert errors.std() < 1.15 * 0.5 / np.sqrt(128)


def test_rows_follow_the_closed_formula() -> None:
    assert rows_per_band(NearConfig()) == 3
    assert candidate_probability(0.5, 2, 3) == pytest.approx(1 - 0.75**3)
    for similarity in (0.1, 0.4, 0.63, 0.8, 0.95, 1.0):
        for permutations in (16, 128, 192, 1024):
            rows = rows_per_band(NearConfig(similarity=similarity, permutations=permutations))
            assert rows == 1 or candidate_probability(similarity, rows, permutations // rows) >= LEAST_FOUND
    assert rows_per_band(NearConfig(similarity=1, permutations=64)) == 64


def test_pairs_meet_in_a_band_as_often_as_the_formula_says() -> None:
    chance, config = random.Random(7), NearConfig(permutations=48)
    pairs = []
    for _ in range(800):
        words = words_of(chance, 200)
        pairs.append((" ".join(words), " ".join(changed(words, chance, 0.1))))
    signatures = Sketcher(config).sketch(encoded([text for pair in pairs for text in pair]))
    met = np.zeros(len(pairs), bool)
    for keys in band_keys(signatures, 4):
        met |= keys[::2] == keys[1::2]
    expected = np.mean([candidate_probability(jaccard(*pair), 4, 12) for pair in pairs])
    assert met.mean() == pytest.approx(expected, abs=0.05)


def test_texts_without_shingles_are_marked() -> None:
    signatures = Sketcher(NearConfig()).sketch(encoded(["", "one", "... !", "한"]))
    assert has_shingles(signatures).tolist() == [False, True, False, True]
    assert Sketcher(NearConfig()).sketch(encoded([])).shape == (0, 192)


def test_composed_and_decomposed_letters_are_the_same() -> None:
    texts = [
        "Là-bas, l'été naît tôt",
        "Một người đàn ông đã đến đây",
        "한국어는 모아 쓴다",
        "ガギグゲゴ",
    ]
    sketch = Sketcher(NearConfig()).sketch
    composed = sketch(encoded([unicodedata.normalize("NFC", text) for text in texts]))
    assert (composed == sketch(encoded([unicodedata.normalize("NFD", text) for text in texts]))).all()
    assert len({row.tobytes() for row in composed}) == len(texts)


def test_bands_differ_where_values_do() -> None:
    signatures = np.array([[1, 2, 1, 2], [1, 2, 2, 1], [3, 2, 1, 2]], np.uint16)
    first, second = band_keys(signatures, 2)
    assert (first[0] == first[1], first[0] == first[2]) == (True, False)
    assert (second[0] == second[2], second[0] == second[1]) == (True, False)
    assert first[0] != second[0]


def test_signatures_do_not_change() -> None:
    texts = [" ".join(str(n * k) for n in range(k)) for k in (1, 5, 40, 300, 5000)] + ["中文" * 50, ""]
    assert hashlib.sha256(Sketcher(NearConfig()).sketch(encoded(texts)).tobytes()).hexdigest() == DIGEST


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["scalar", "avx2", ""])
def test_signatures_are_the_same_in_every_process(kernel: str) -> None:
    environ = {**os.environ, "PYTHONHASHSEED": str(len(kernel)), "RENSA_FORCE_KERNEL": kernel, "RAYON_NUM_THREADS": "1"}
    told = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, env=environ, capture_output=True, check=True)
    assert told.stdout.decode().strip() == DIGEST
