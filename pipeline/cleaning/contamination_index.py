"""The index of evaluation texts: hashes of the sequences that must not be in the corpus, and the files they are from.

A sequence is `words` words in a row, or `characters` units in a row of which one at least is a character of a script
without spaces; a text that is too short for one counts as a whole from SHORTEST units on. The index is one file, a line
of JSON and the arrays, which workers map into memory. Price: about 20 bytes a word of the evaluation files.

Sequences are told apart by 64-bit hashes. With n sequences in the index and m looked up, n m / 2**64 are taken for one
of them by chance: 5e-4 for ten million sequences against a corpus of a billion words.
"""

import json
import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.base.decontaminate_sections import DecontaminateConfig
from pipeline.base.errors import UserError
from pipeline.base.files import write_atomic
from pipeline.base.log import get_logger
from pipeline.base.storage import Location, is_remote, reading
from pipeline.cleaning.contamination_files import find_evaluation_files, names_of, texts_of
from pipeline.cleaning.contamination_units import Hashes, Places, prefix_hashes, row_hashes, units_of

FORMAT = "contamination index 1"
SHORTEST = {"words": 8, "characters": 12}
"""Units of the shortest text that counts as a whole: 8 words (Brown et al. 2020, appendix C), as much in Chinese."""
MOST_ALIKE = 3
"""A sequence of so few different units says nothing, such as the labels of a tagged sentence: "o o o o b o"."""
BATCH_CHARACTERS = 1 << 18
FILTER_BITS = 32
"""Bits of the filter a head, of which two are set: 1 in 250 rows passes by chance."""
_NONE = np.zeros(0, dtype=np.uint64)
_BITS = np.uint8(1) << np.arange(8, dtype=np.uint8)


class FileFacts(NamedTuple):
    """What an evaluation file gave."""

    name: str
    texts: int
    """Different strings."""
    used: int
    """Those that hold a sequence, or count as one."""
    sequences: int


@dataclass(frozen=True)
class Index:
    """Sequences by hash, ascending, with the number of their file: a hash stands once for each file that has it.

    `bits` is a filter over heads, the first units of every sequence, so that a text is looked up by one row of hashes
    whatever the lengths. `lengths`: units of a sequence, by kind; a kind without sequences has none.
    """

    words: int
    characters: int
    action: str
    files: tuple[FileFacts, ...]
    lengths: dict[str, list[int]]
    hashes: Hashes
    owners: NDArray[np.uint32]
    bits: NDArray[np.uint8]

    def head(self, kind: str) -> int:
        """Units of the head of a sequence."""
        return min(SHORTEST[kind], self.words if kind == "words" else self.characters)

    def may_begin(self, heads: Hashes) -> NDArray[np.bool_]:
        """Whether a sequence may begin with this head: true for all that do, and by chance."""
        found = _test(self.bits, heads >> _shift(self.bits))
        among = found.nonzero()[0]
        found[among] = _test(self.bits, heads[among] & np.uint64(8 * len(self.bits) - 1))
        return found

    def knows(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Whether each is the hash of a sequence."""
        if not len(self.hashes):
            return np.zeros(hashes.shape, dtype=np.bool_)
        places = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        known: NDArray[np.bool_] = self.hashes[places] == hashes
        return known

    def owners_of(self, hashes: Hashes) -> list[int]:
        """Numbers of the files that have any of these sequences, ascending."""
        among = np.unique(hashes)
        low, high = np.searchsorted(self.hashes, among), np.searchsorted(self.hashes, among, side="right")
        return sorted({int(owner) for a, b in zip(low, high, strict=True) for owner in self.owners[a:b]})


def config_files(config: DecontaminateConfig) -> list[Location]:
    """The evaluation files, in order; their bytes are what the outcome depends on beside the config."""
    return find_evaluation_files(config.paths)


def build_index(config: DecontaminateConfig, files: Sequence[Location]) -> Index:
    """Reads the files. Raises UserError for one that is broken or holds no text; warns of one without a sequence."""
    facts: list[FileFacts] = []
    columns: tuple[list[NDArray[Any]], ...] = ([], [], [])
    lengths: dict[str, set[int]] = {kind: set() for kind in SHORTEST}
    for number, (path, name) in enumerate(zip(files, names_of(files), strict=True)):
        texts = list(dict.fromkeys(text for text in texts_of(path) if text.strip()))
        if not texts:
            raise UserError(f"{path} holds no text. Fill it, or take it off corpus.decontaminate.paths.")
        found = [_sequences(batch, config) for batch in batches(texts)]
        sequences, heads = (np.unique(np.concatenate([part[which] for part in found])) for which in (0, 1))
        facts.append(FileFacts(name, len(texts), sum(part.used for part in found), len(sequences)))
        parts = sequences, np.full(len(sequences), number, dtype=np.uint32), heads
        for column, part in zip(columns, parts, strict=True):
            column.append(part)
        for kind in SHORTEST:
            lengths[kind] |= {length for part in found for length in part.lengths[kind]}
        if not len(sequences):
            get_logger().warning(
                f"{path}: none of its {len(texts):,} texts is long enough to be looked for: a text counts from "
                f"{SHORTEST['words']} words or {SHORTEST['characters']} characters on."
            )
    hashes, owners, heads = (np.concatenate([_NONE, *column]) for column in columns)
    order = np.lexsort((owners, hashes))
    return Index(
        config.words,
        config.characters,
        config.action,
        tuple(facts),
        {kind: sorted(found) for kind, found in lengths.items()},
        hashes[order],
        owners[order].astype(np.uint32),
        _filter(heads),
    )


def save_index(index: Index, path: Path) -> None:
    """Writes the index as one file, whole or not at all."""
    arrays: dict[str, NDArray[Any]] = {"hashes": index.hashes, "owners": index.owners, "bits": index.bits}
    header = {
        "format": FORMAT,
        "words": index.words,
        "characters": index.characters,
        "action": index.action,
        "files": [list(facts) for facts in index.files],
        "lengths": index.lengths,
        "arrays": {name: [array.dtype.str, len(array)] for name, array in arrays.items()},
    }
    line = json.dumps(header).encode()
    padding = b" " * (-(len(line) + 1) % 8) + b"\n"
    write_atomic(path, b"".join([line, padding, *(array.tobytes() for array in arrays.values())]))


def load_index(path: Location) -> Index:
    """Maps a saved index into memory; from a store it is read as a whole. Raises UserError for a file that is none."""
    data: mmap.mmap | bytes
    with reading(path), path.open("rb") as file:
        data = file.read() if is_remote(path) else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    offset = data.find(b"\n") + 1
    try:
        header = json.loads(data[:offset])
        if header["format"] != FORMAT:
            raise ValueError(header["format"])
        arrays: dict[str, Any] = {}
        for name, (dtype, length) in header["arrays"].items():
            arrays[name] = np.frombuffer(data, dtype=np.dtype(dtype), count=length, offset=offset)
            offset += arrays[name].nbytes
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no {FORMAT} ({error}). Delete it and run its stage again.") from None
    files = tuple(FileFacts(*facts) for facts in header["files"])
    return Index(header["words"], header["characters"], header["action"], files, header["lengths"], **arrays)


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts in order, together about BATCH_CHARACTERS: numpy's calls cost more than a short text."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text) + 1
        if size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Found(NamedTuple):
    sequences: Hashes
    heads: Hashes
    used: int
    lengths: dict[str, set[int]]


def _sequences(texts: Sequence[str], config: DecontaminateConfig) -> _Found:
    units = units_of("\n".join(texts))
    bounds = np.cumsum([len(text) + 1 for text in texts])
    owner = np.searchsorted(bounds, units.starts, side="right")
    singles = np.concatenate([[0], np.cumsum(units.single)])
    used = np.zeros(len(texts), dtype=np.bool_)
    hashes, heads = [units.hashes[:0]], [units.hashes[:0]]
    lengths: dict[str, set[int]] = {kind: set() for kind in SHORTEST}

    def take(kind: str, starts: Places, length: int) -> None:
        starts = starts[_varied(units.hashes, starts, length)]
        if len(starts):
            lengths[kind].add(length)
            hashes.append(prefix_hashes(units.hashes, starts, [length])[:, 0])
            head = min(SHORTEST[kind], getattr(config, kind))
            heads.append(row_hashes(units.hashes, head)[starts])
            used[owner[starts]] = True

    first = np.flatnonzero(np.diff(owner, prepend=-1))
    counts = np.diff(first, append=len(owner))
    spaceless = singles[first + counts] > singles[first]
    for kind, length in (("words", config.words), ("characters", config.characters)):
        starts = np.arange(max(len(owner) - length + 1, 0))
        inside = owner[starts] == owner[starts + length - 1]
        without = singles[starts + length] == singles[starts]
        take(kind, starts[inside & (without if kind == "words" else ~without)], length)
        of_kind = spaceless if kind == "characters" else ~spaceless
        for short in range(SHORTEST[kind], length):
            take(kind, first[of_kind & (counts == short)], short)
    return _Found(np.concatenate(hashes), np.concatenate(heads), int(used.sum()), lengths)


def _varied(hashes: Hashes, starts: Places, length: int) -> NDArray[np.bool_]:
    """Whether each row has more than MOST_ALIKE different units."""
    varied = np.zeros(len(starts), dtype=np.bool_)
    for low in range(0, len(starts), 1 << 16):
        part = starts[low : low + (1 << 16)]
        rows = np.sort(hashes[part[:, None] + np.arange(length)], axis=1)
        varied[low : low + len(part)] = (np.diff(rows, axis=1) != 0).sum(axis=1) >= MOST_ALIKE
    return varied


def _filter(heads: Hashes) -> NDArray[np.uint8]:
    """Two bits a head, by its highest and its lowest digits."""
    size = max(16, (FILTER_BITS * len(heads) - 1).bit_length())
    bits = np.zeros((1 << size) // 8, dtype=np.uint8)
    for places in (heads >> _shift(bits), heads & np.uint64((1 << size) - 1)):
        np.bitwise_or.at(bits, places >> np.uint64(3), _bit(places))
    return bits


def _test(bits: NDArray[np.uint8], places: Hashes) -> NDArray[np.bool_]:
    tested: NDArray[np.bool_] = (bits.take((places >> np.uint64(3)).view(np.int64)) & _bit(places)) != 0
    return tested


def _bit(places: Hashes) -> NDArray[np.uint8]:
    return _BITS.take((places & np.uint64(7)).view(np.int64))


def _shift(bits: NDArray[np.uint8]) -> np.uint64:
    """What leaves of a hash the digits that count the filter's bits."""
    return np.uint64(64 - (8 * len(bits) - 1).bit_length())
