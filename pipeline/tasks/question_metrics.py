"""Exact match and F1 of answers, by SQuAD's rules, and by characters where there are Han ones; and the null threshold.

SQuAD: Rajpurkar et al. 2016, section 6.1; without answers: Rajpurkar et al. 2018. Characters: the mixed segmentation of
CMRC 2018 (Cui et al. 2019, section 3.3), its overlap counted as in SQuAD, as MLQA does (Lewis et al. 2020).
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

_HAN = re.compile(r"[㐀-䶿一-鿿豈-﫿\U00020000-\U0003ffff]")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ASCII_MARKS = str.maketrans("", "", string.punctuation)


def exact_and_f1(answers: Sequence[str], predicted: str) -> tuple[float, float]:
    """(exact match, F1), each 0 to 1: the best over the right answers; none of them means that none is to be given."""
    by_character = any(map(_HAN.search, (*answers, predicted)))
    found = _pieces(predicted, by_character)
    right = [pieces for pieces in (_pieces(answer, by_character) for answer in answers) if pieces] or [[]]
    return float(found in right), max(_f1(pieces, found) for pieces in right)


def best_threshold(leads: Sequence[float], gains: Sequence[float]) -> float:
    """The threshold of the null's lead, above which no answer is given, that has the best sum; of equals, nearest to 0.

    leads: of each question the score of no answer less that of the best span. gains: what the span's F1 is more than
    that of no answer.
    """
    order = sorted(range(len(leads)), key=leads.__getitem__)
    ordered = [leads[place] for place in order]
    edges = [ordered[0] - 1.0, *((a + b) / 2 for a, b in pairwise(ordered)), ordered[-1] + 1.0]
    best, threshold, total = 0.0, edges[0], 0.0
    for count, place in enumerate(order, start=1):
        total += gains[place]
        if count < len(order) and ordered[count] == ordered[count - 1]:
            continue  # equals stand or fall together
        if total > best + 1e-9 or (total > best - 1e-9 and abs(edges[count]) < abs(threshold)):
            best, threshold = total, edges[count]
    at_zero = sum(gain for lead, gain in zip(leads, gains, strict=True) if lead <= 0)
    return 0.0 if at_zero > best - 1e-9 else threshold


def _pieces(text: str, by_character: bool) -> list[str]:
    """What is compared: words without articles and punctuation, or Han characters and words between them."""
    text = text.lower()
    if not by_character:
        return _ARTICLES.sub(" ", text.translate(_ASCII_MARKS)).split()
    bare = "".join(c for c in text if c not in string.punctuation and not unicodedata.category(c).startswith("P"))
    return _HAN.sub(lambda found: f" {found.group()} ", bare).split()


def _f1(right: Sequence[str], found: Sequence[str]) -> float:
    if not right or not found:
        return float(not right and not found)
    common = sum((Counter(right) & Counter(found)).values())
    return 2 * common / (len(right) + len(found))
