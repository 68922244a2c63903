"""What deduplication keeps of each task's documents: hashes and signatures, a few files in the task's own folder.

Files are rows of one size, so a reader can take any range of documents. Counts are written last: with them the keys are
complete. Memory: 16 bytes a document, 28 a long paragraph, and of the signatures a part (the rest waits in a temporary
file). Price: 7 ms a megabyte of whole documents, most of it for signatures.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from pipeline.base.duplicates_sections import DeduplicateConfig
from pipeline.base.errors import UserError
from pipeline.base.files import complete_file, read_json, write_json
from pipeline.base.storage import read_range
from pipeline.duplicates.characters import weights
from pipeline.duplicates.signatures import Sketcher
from pipeline.duplicates.tables import Rows, Spool
from pipeline.duplicates.texts import Texts, together, utf8

DIGEST = np.dtype([("high", "<u8"), ("low", "<u8")])
"""The 16 bytes of the hash of a document's plain_text."""
PARAGRAPH = np.dtype([("high", "<u8"), ("low", "<u8"), ("document", "<u4"), ("number", "<u4"), ("characters", "<u4")])
"""XXH3 (128 bits) of a long paragraph, its document in the task, its number there and its length."""
COUNTS_FILE = "counts.json"
FILES = {"documents": "documents.bin", "near": "near.bin", "paragraphs": "paragraphs.bin"}
"""By the kind of their rows."""
BATCH_BYTES = 1 << 17
"""Texts' bytes of which keys are made together: what that takes stays in the processor's cache."""


def row_type(kind: str, config: DeduplicateConfig) -> Any:
    """The type of a row of documents, near or paragraphs."""
    if kind == "near":
        assert config.near is not None
        return np.dtype(("<u2", (config.near.permutations,)))
    return DIGEST if kind == "documents" else PARAGRAPH


class KeyWriter:
    """Takes a task's kept documents in order, then saves their keys."""

    def __init__(self, config: DeduplicateConfig) -> None:
        self.config = config
        self.documents = self.paragraphs = 0
        self._digests, self._hashes = bytearray(), bytearray()
        self._sketcher = Sketcher(config.near) if config.near else None
        self._signatures = Spool(row_type("near", config)) if config.near else None
        self._waiting: list[bytes] = []
        self._size = 0

    def add(self, text: str, digest: bytes, data: bytes | None = None) -> None:
        """The next document. digest: 16 bytes, BLAKE2b of its UTF-8, which is the key of most; data: that UTF-8."""
        if self.config.documents:
            plain = plain_text(text)
            self._digests += digest if plain is text else _digest(plain)
        self.documents += 1
        if self._sketcher is not None or self.config.paragraphs:
            data = utf8(text) if data is None else data
            self._waiting.append(data)
            self._size += len(data) + 1
            if self._size >= BATCH_BYTES:
                self._take()

    def save(self, folder: Path) -> None:
        """Writes the keys into the folder, the counts last."""
        self._take()
        if self._signatures is not None:
            self._signatures.save_rows(folder / FILES["near"])
            self._signatures.file.close()
        for kind, wanted, data in (
            ("documents", self.config.documents, self._digests),
            ("paragraphs", self.config.paragraphs, self._hashes),
        ):
            if wanted:
                with complete_file(folder / FILES[kind]) as aside:
                    aside.write_bytes(data)
        write_counts(folder, self.documents, self.paragraphs)

    def _take(self) -> None:
        """Keys of the texts that wait, together."""
        texts = together(self._waiting)
        if self._sketcher is not None and self._signatures is not None:
            self._signatures.add(self._sketcher.sketch(texts))
        if self.config.paragraphs:
            rows = paragraph_rows(texts, self.documents - len(texts), self.config.min_paragraph_characters)
            self._hashes += rows.tobytes()
            self.paragraphs += len(rows)
        self._waiting, self._size = [], 0


def paragraph_rows(texts: Texts, before: int, least: int) -> Rows:
    """PARAGRAPH rows of the texts' paragraphs of at least that weighed length; `before` documents come first."""
    from pipeline.duplicates.paragraph_loops import long_paragraphs

    found = np.empty((len(texts.data) // least, 5), np.int64)
    count = long_paragraphs(texts.array, texts.starts, least, weights(), found)
    document, number, characters, start, end = found[:count].T
    data, digest = texts.data, xxhash.xxh3_128_digest
    digests = [digest(data[first:last]) for first, last in zip(start.tolist(), end.tolist(), strict=True)]
    hashes = np.frombuffer(b"".join(digests), DIGEST)
    rows = np.empty(count, PARAGRAPH)
    rows["high"], rows["low"], rows["document"] = hashes["high"], hashes["low"], document + before
    rows["number"], rows["characters"] = number, characters
    return rows


def plain_text(text: str) -> str:
    """The text without white space around it, its line ends \\n; the same object where it is so already."""
    stripped = text.strip()
    if "\r" in stripped:
        stripped = stripped.replace("\r\n", "\n").replace("\r", "\n")
    return stripped


def _digest(text: str) -> bytes:
    return hashlib.blake2b(utf8(text), digest_size=DIGEST.itemsize).digest()


def write_counts(folder: Path, documents: int, paragraphs: int) -> None:
    """Says that the keys in the folder are complete, and how many there are."""
    write_json(folder / COUNTS_FILE, {"documents": documents, "paragraphs": paragraphs})


def read_counts(folder: Path) -> tuple[int, int]:
    """How many documents and long paragraphs the folder has keys of. UserError where it has none."""
    counts = read_json(folder / COUNTS_FILE)
    return int(counts["documents"]), int(counts["paragraphs"])


def read_rows(folder: Path, kind: str, config: DeduplicateConfig, start: int, stop: int) -> Rows:
    """Rows [start, stop) of one kind. UserError where the file is shorter."""
    dtype = row_type(kind, config)
    size = dtype.itemsize
    data = read_range(folder / FILES[kind], size * start, size * stop)
    if len(data) != size * (stop - start):
        raise UserError(f"{folder / FILES[kind]} is shorter than its counts say. Delete its folder, start again.")
    return np.frombuffer(data, dtype)
