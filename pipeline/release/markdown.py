"""Tables of Markdown, and texts in it."""

import re
from collections.abc import Sequence


def as_text(text: str) -> str:
    """No tag, comment or entity in it; `code` keeps its ampersands, which are not read as entities there."""
    return re.sub(r"(`[^`]*`)|&", lambda found: found[1] or "&amp;", text).replace("<", "&lt;")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with a head; bars and markup inside a cell are escaped."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(as_text(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
