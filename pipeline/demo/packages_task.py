"""The demo's fine-tuning task: the text of a documentation string -> the package that it comes from.

Promise: labels cost nothing and leak nothing: a text that names one of the packages is left out, and no dev or test
text stands inside a training text. A split is chosen by a hash of the text, so a text never moves between splits.
Price: the texts were part of the pretraining corpus (without their labels), so the figures say that fine-tuning works,
not how the model does on text that it has never seen.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable

from pipeline.demo.docstrings import Module

PACKAGES = 6
MIN_WORDS, MAX_CHARACTERS = 12, 1000
EXAMPLES_A_PACKAGE = 1000
_DEV_SHARE, _TEST_SHARE = 0.1, 0.2

Example = tuple[str, str]
"""(text, package)"""


def derive(modules: Iterable[Module], packages: int = PACKAGES, most: int = EXAMPLES_A_PACKAGE) -> dict[str, bytes]:
    """JSON lines of {"text", "label"} for "train", "dev" and "test", from the packages with most text.

    At most `most` examples a package, those with the smallest hash: a sample that does not depend on the order.
    """
    modules = list(modules)
    labels = largest_packages(modules, packages)
    splits: dict[str, list[Example]] = {"train": [], "dev": [], "test": []}
    for text, label in sample_evenly(examples(modules, labels), most):
        splits[split_of(text)].append((text, label))
    splits["train"] = without_held_out(splits["train"], [text for name in ("dev", "test") for text, _ in splits[name]])
    return {name: _to_lines(chosen) for name, chosen in splits.items()}


def largest_packages(modules: Iterable[Module], count: int) -> list[str]:
    """Names of the `count` packages with most characters of prose, in alphabetical order."""
    sizes: Counter[str] = Counter()
    for module in modules:
        sizes[module.package] += len(module.text)
    ranked = sorted(sizes, key=lambda name: (-sizes[name], name))
    return sorted(ranked[:count])


def examples(modules: Iterable[Module], labels: list[str]) -> list[Example]:
    """Each documentation string of the labelled packages that is long enough and names none of them."""
    names = re.compile("|".join(re.escape(label) for label in labels), re.IGNORECASE)
    found = []
    for module in modules:
        if module.package not in labels:
            continue
        for docstring in module.docstrings:
            text = " ".join(docstring)[:MAX_CHARACTERS]
            if len(text.split()) >= MIN_WORDS and not names.search(text):
                found.append((text, module.package))
    return found


def sample_evenly(found: list[Example], most: int) -> list[Example]:
    """At most `most` examples of each package, ordered by the hash of their text; a text occurs once."""
    ordered = sorted(dict(found).items(), key=lambda example: _digest(example[0]))
    taken: Counter[str] = Counter()
    chosen = []
    for text, label in ordered:
        if taken[label] < most:
            taken[label] += 1
            chosen.append((text, label))
    return chosen


def split_of(text: str) -> str:
    """ "train", "dev" or "test", by a hash of the text alone."""
    # Another part of the digest than the one that orders the sample: the smallest hashes must not all be one split.
    place = int.from_bytes(_digest(text)[8:16]) / 2**64
    if place < _TEST_SHARE:
        return "test"
    return "dev" if place < _TEST_SHARE + _DEV_SHARE else "train"


def without_held_out(train: list[Example], held_out: list[str]) -> list[Example]:
    """The training examples that contain no held-out text (letters compared, case aside)."""
    keys = [_letters(text) for text in held_out]
    return [
        (text, label)
        for text, label in train
        if not any(key in letters for letters in [_letters(text)] for key in keys)
    ]


def _letters(text: str) -> str:
    return re.sub(r"[\W\d_]+", " ", text).casefold().strip()


def _digest(text: str) -> bytes:
    return hashlib.sha256(_letters(text).encode()).digest()


def _to_lines(chosen: list[Example]) -> bytes:
    return "".join(
        json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n" for text, label in chosen
    ).encode()
