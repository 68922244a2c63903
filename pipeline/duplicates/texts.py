"""Texts as their UTF-8, one after another: what compiled loops go over. Price: a copy of the bytes."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np


class Texts(NamedTuple):
    """Bytes of some texts, and where each begins and the last one ends."""

    data: bytes
    starts: Any
    """(texts + 1,) int64."""

    @property
    def array(self) -> Any:
        """The bytes (uint8)."""
        return np.frombuffer(self.data, np.uint8)

    def __len__(self) -> int:
        return len(self.starts) - 1


def utf8(text: str) -> bytes:
    """The text's UTF-8, also of half a surrogate pair."""
    return text.encode("utf-8", "surrogatepass")


def together(encoded: Sequence[bytes]) -> Texts:
    """Texts of their UTF-8."""
    starts = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=starts[1:])
    return Texts(b"".join(encoded), starts)


def encoded(texts: Iterable[str]) -> Texts:
    """Texts of strings."""
    return together([utf8(text) for text in texts])
