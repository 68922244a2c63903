"""Documents that share long sequences with evaluation texts: found by the index, dropped whole or cut as GPT-3's were.

Brown et al. 2020, appendix C: a match of 13 words is removed with 200 characters around it, read as 200 on each side;
pieces of under 200 characters are discarded, and a document of more than 10 pieces is dropped. Unlike there, the pieces
stay one document, and a sequence that is in many documents is not forgiven: that would take a count over the whole
corpus first. Price: about 15 ns a character, and numpy's calls a batch: ask about many documents at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.base.storage import Location
from pipeline.cleaning.contamination_index import batches, load_index
from pipeline.cleaning.contamination_units import Hashes, Places, Units, prefix_hashes, row_hashes, units_of

MARGIN = 200
"""Characters that go with a match, on each side."""
SHORTEST_PIECE = 200
MOST_PIECES = 10
SHOWN = 200
"""Most characters of a match that a Hit quotes."""
BETWEEN_PIECES = "\n\n"
CANDIDATES = 1 << 16
"""Places that are looked at at once: bounds the memory."""


@dataclass(frozen=True)
class Hit:
    """What becomes of a document that holds evaluation text."""

    action: str
    """drop or cut: with cut a document is still dropped where too little of it is left."""
    text: str | None
    """What is left, None of a dropped document."""
    files: tuple[str, ...]
    """Names of the evaluation files, in the index's order."""
    sequence: str
    """The first match as it stands in the document, at most SHOWN characters."""


class Contamination:
    """Looks documents up in a saved index."""

    def __init__(self, index_path: Location) -> None:
        self.index = load_index(index_path)
        self.names = tuple(facts.name for facts in self.index.files)

    def check(self, text: str) -> Hit | None:
        """None for a clean document. For many short ones check_many is much faster."""
        return self.check_many([text])[0]

    def check_many(self, texts: Sequence[str]) -> list[Hit | None]:
        """The same for each of the documents."""
        return [hit for batch in batches(texts) for hit in self._check_batch(batch)]

    def _check_batch(self, texts: Sequence[str]) -> list[Hit | None]:
        hits: list[Hit | None] = [None] * len(texts)
        units = units_of("\n".join(texts))
        found = [self._matches(units, kind) for kind in self._kinds(units)]
        if not any(len(starts) for starts, _, _ in found):
            return hits
        starts, ends, hashes = (np.concatenate(column) for column in zip(*found, strict=True))
        bounds = np.concatenate([[0], np.cumsum([len(text) + 1 for text in texts])])
        owner = np.searchsorted(bounds, starts, side="right") - 1
        inside = ends < bounds[owner + 1]
        for number in np.unique(owner[inside]).tolist():
            own = inside & (owner == number)
            begin = int(bounds[number])
            low, high = np.searchsorted(units.starts, (begin, bounds[number + 1]))
            words = units.starts[low:high] - begin, units.ends[low:high] - begin
            hits[number] = self._hit(texts[number], starts[own] - begin, ends[own] - begin, hashes[own], words)
        return hits

    def _kinds(self, units: Units) -> list[str]:
        """Kinds of sequence that the index has and the text can have."""
        spaceless = bool(units.single.any())
        return [kind for kind, lengths in self.index.lengths.items() if lengths and (kind == "words" or spaceless)]

    def _matches(self, units: Units, kind: str) -> tuple[Places, Places, Hashes]:
        """(first character, end, hash) of each match."""
        heads = row_hashes(units.hashes, self.index.head(kind))
        candidates = np.flatnonzero(self.index.may_begin(heads))
        lengths = self.index.lengths[kind]
        found = [(candidates[:0], candidates[:0], units.hashes[:0])]
        for low in range(0, len(candidates), CANDIDATES):
            starts = candidates[low : low + CANDIDATES]
            hashes = prefix_hashes(units.hashes, starts, lengths)
            stops = starts[:, None] + lengths
            row, column = np.nonzero(self.index.knows(hashes) & (stops <= len(units.hashes)))
            last = stops[row, column] - 1
            found.append((units.starts[starts[row]], units.ends[last], hashes[row, column]))
        starts, ends, hashes = (np.concatenate(columns) for columns in zip(*found, strict=True))
        return starts, ends, hashes

    def _hit(self, text: str, starts: Places, ends: Places, hashes: Hashes, words: tuple[Places, Places]) -> Hit:
        files = tuple(self.names[owner] for owner in self.index.owners_of(hashes))
        first, end = _joined(starts, ends)[0]
        left = None if self.index.action == "drop" else _cut(text, starts, ends, words)
        return Hit("drop" if left is None else "cut", left, files, text[first : min(end, first + SHOWN)])


def _cut(text: str, starts: Places, ends: Places, words: tuple[Places, Places]) -> str | None:
    """The text without the matches and what stands around them, no word cut in two; None where too little is left."""
    begins, stops = words
    starts = np.maximum(starts - MARGIN, 0)
    place = np.searchsorted(begins, starts, side="right") - 1
    starts = np.where((place >= 0) & (stops[place] > starts), begins[place], starts)
    ends = np.minimum(ends + MARGIN, len(text))
    place = np.searchsorted(begins, ends) - 1
    ends = np.where((place >= 0) & (stops[place] > ends), stops[place], ends)
    pieces, done = [], 0
    for start, end in [*_joined(starts, ends), (len(text), len(text))]:
        pieces.append(text[done:start].strip())
        done = end
    if sum(map(bool, pieces)) > MOST_PIECES:
        return None
    return BETWEEN_PIECES.join(piece for piece in pieces if len(piece) >= SHORTEST_PIECE) or None


def _joined(starts: Places, ends: Places) -> list[tuple[int, int]]:
    """Stretches of the text that the matches cover together, in order."""
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(ends[order])
    fresh = np.flatnonzero(np.concatenate([[True], starts[1:] > reach[:-1]]))
    last = np.concatenate([fresh[1:], [len(starts)]]) - 1
    return list(zip(starts[fresh].tolist(), reach[last].tolist(), strict=True))
