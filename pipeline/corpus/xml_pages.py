"""The <page> elements of a dump, cut out of its bytes: which ones a range owns, and what is left after damage.

Inside a page every "<" of its text is written "&lt;", so the tags are found without parsing. Price: none of a page is
kept, so it has to be used as it passes by.
"""

from collections.abc import Iterator

from pipeline.corpus.streams import Damage

BEGIN, END, CLOSE = b"<page>", b"</page>", b"</mediawiki>"
_TAIL = len(CLOSE) - 1


class Pages:
    """Goes from page to page of a stream of pieces, each with whether pages that begin in it are wanted.

    The wanted pieces come first. Raises each Damage of the stream once, where it stands.
    """

    def __init__(self, pieces: Iterator[tuple[bytes | Damage, bool]]) -> None:
        self._pieces = pieces
        self._buffer = b""
        self._at = self._wanted_to = 0
        self._behind = self._closed = False
        self.cut_off = False
        """Whether the stream ended without the end of the dump."""

    def enter(self) -> bool:
        """Goes behind the tag of the next wanted page; False where there is none."""
        while True:
            found = self._buffer.find(BEGIN, self._at)
            if found >= 0:
                if found >= self._wanted_to:
                    return False
                self._at = found + len(BEGIN)
                return True
            self._closed = self._closed or self._buffer.find(CLOSE, self._at) >= 0
            self._at = max(self._at, len(self._buffer) - _TAIL)
            if self._behind:
                return False
            try:
                more = self._fill()
            except Damage:
                if self._behind:  # no wanted page begins there
                    return False
                raise
            if not more:
                self.cut_off = not self._closed
                return False

    def rest(self) -> Iterator[bytes]:
        """The page that was entered, to the end of its closing tag, piece by piece. Raises Damage where it has none."""
        while True:
            end, begin = self._buffer.find(END, self._at), self._buffer.find(BEGIN, self._at)
            if begin >= 0 and (end < 0 or begin < end):
                self._at = begin
                raise Damage("damaged XML: a page without an end")
            stop = end + len(END) if end >= 0 else max(self._at, len(self._buffer) - _TAIL)
            piece, self._at = self._buffer[self._at : stop], stop
            yield piece
            if end >= 0:
                return
            if not self._fill():
                raise Damage("truncated XML: it ends inside a page")

    def _fill(self) -> bool:
        """Puts the next piece behind what is left; False at the end."""
        for piece, wanted in self._pieces:
            if isinstance(piece, Damage):
                self._buffer, self._at, self._wanted_to = b"", 0, 0
                self._behind = not wanted
                raise piece
            if piece:
                self._wanted_to = max(0, self._wanted_to - self._at)
                self._buffer, self._at = self._buffer[self._at :] + piece, 0
                if wanted:
                    self._wanted_to = len(self._buffer)
                self._behind = not wanted
                return True
        return False
