"""What deduplication keeps of each task's documents: hashes and signatures, a few files in the task's own folder.

Files are rows of one size, so a reader can take any range of documents. Counts are written last: with them the keys are
complete. Memory: 16 bytes a document, 28 a long paragraph, and of the signatures a part (the rest waits in a temporary
file).
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
from pipeline.duplicates.paragraphs import long_paragraphs
from pipeline.duplicates.shingles import CHARACTERS_OF_ONE, WINDOW, weighed_length
from pipeline.duplicates.signatures import Sketcher
from pipeline.duplicates.tables import Rows, Spool

DIGEST = np.dtype([("high", "<u8"), ("low", "<u8")])
"""The 16 bytes of the hash of a document's plain_text."""
PARAGRAPH = np.dtype([("high", "<u8"), ("low", "<u8"), ("document", "<u4"), ("number", "<u4"), ("characters", "<u4")])
"""XXH3 (128 bits) of a long paragraph, its document in the task, its number there and its length."""
COUNTS_FILE = "counts.json"
FILES = {"documents": "documents.bin", "near": "near.bin", "paragraphs": "paragraphs.bin"}
"""By the kind of their rows."""


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
        self._texts: list[str] = []
        self._waiting = 0

    def add(self, text: str, digest: bytes) -> None:
        """The next document. digest: 16 bytes, BLAKE2b of its text as UTF-8; it is the key of most texts."""
        if self.config.documents:
            plain = plain_text(text)
            self._digests += digest if plain is text else _digest(plain)
        if self._sketcher is not None:
            self._texts.append(text)
            self._waiting += len(text) + 1
            if self._waiting >= WINDOW:
                self._sketch()
        if self.config.paragraphs:
            self._add_paragraphs(text)
        self.documents += 1

    def save(self, folder: Path) -> None:
        """Writes the keys into the folder, the counts last."""
        if self._signatures is not None:
            self._sketch()
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

    def _sketch(self) -> None:
        if self._texts and self._sketcher is not None and self._signatures is not None:
            self._signatures.add(self._sketcher.sketch(self._texts))
        self._texts, self._waiting = [], 0

    def _add_paragraphs(self, text: str) -> None:
        least = self.config.min_paragraph_characters
        for number, paragraph in long_paragraphs(text, -(-least // CHARACTERS_OF_ONE)):
            if len(paragraph) < least and weighed_length(paragraph) < least:
                continue
            self._hashes += xxhash.xxh3_128_digest(paragraph.encode("utf-8", "surrogatepass"))
            self._hashes += np.array([self.documents, number, len(paragraph)], "<u4").tobytes()
            self.paragraphs += 1


def plain_text(text: str) -> str:
    """The text without white space around it, its line ends \\n; the same object where it is so already."""
    stripped = text.strip()
    if "\r" in stripped:
        stripped = stripped.replace("\r\n", "\n").replace("\r", "\n")
    return stripped


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST.itemsize).digest()


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
