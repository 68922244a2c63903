"""Tables for people: Markdown, and HTML pages that stand alone, need no script and can be read by a screen reader."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0.5rem 0; }
th, td { border-bottom: 1px solid #8888; padding: 0.3rem 0.8rem; text-align: right; vertical-align: top; }
thead th { border-bottom: 2px solid; }
tbody th { text-align: left; font-weight: 600; }
figure { margin: 1rem 0; background: #fff; color: #000; }
figure svg { max-width: 100%; height: auto; }
figcaption { padding: 0 0.5rem 0.5rem; }
"""


@dataclass(frozen=True)
class Table:
    """Rows of text; the first cell of a row is its heading."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """A pipe table under its caption; a "|" in a cell is escaped."""
        lines = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in (self.header, *self.rows)]
        lines.insert(1, "|" + "|".join(["---", *["---:"] * (len(self.header) - 1)]) + "|")
        return f"{self.caption}\n\n" + "\n".join(lines) + "\n"

    def html(self) -> str:
        """A table with a caption and headings of columns and rows, in a box that scrolls by keyboard when too wide."""
        head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in self.header)
        body = "\n".join(
            f'<tr><th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in rest) + "</tr>"
            for first, *rest in self.rows
        )
        label = escape(self.header[0])
        return (
            f'<div class="wide" role="region" aria-label="Table: {label}" tabindex="0">\n<table>\n'
            f"<caption>{escape(self.caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n"
            "</table>\n</div>"
        )


def page(title: str, body: str) -> str:
    """A whole document; `body` is HTML already."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
