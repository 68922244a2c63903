"""Web pages to text: bytes in whatever encoding to the text of the page's main content.

Resiliparse (Bevendorff et al. 2018) does both, as in DataComp-LM (Li et al. 2024, section 3.2): navigation, headers and
footers are left out. Price: its look for the main content takes time that grows with the number of tags times their
nesting; of a page where that would be seconds the whole text is taken.
"""

import re

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

MOST_WORK = 1 << 23
"""Tags times elements within each other; measured: 4 s."""
_TAG = re.compile(r"<(/?)([a-z][a-z0-9]*)", re.IGNORECASE)
_VOID = "area base br col embed hr img input link meta param source track wbr"
_CLOSED_BY_THE_NEXT = "p li dt dd option optgroup td th tr tbody thead tfoot rt rp"
_NOT_NESTED = frozenset(f"{_VOID} {_CLOSED_BY_THE_NEXT}".split())


def decode(data: bytes, charset: str | None = None) -> str:
    """The bytes as text. charset: as named outside; else that of the page's meta tag, or the likeliest is taken."""
    encoding = map_encoding_to_html5(charset, fallback_utf8=False) if charset else None
    encoding = encoding or detect_encoding(data, from_html_meta=True) or "utf-8"
    return bytes_to_str(data, encoding)


def html_text(page: str) -> str:
    """The text of a page's main content, "" where there is none."""
    tags = page.count("<")
    main = tags * tags <= MOST_WORK or tags * _depth(page) <= MOST_WORK
    return extract_plain_text(page, main_content=main, alt_texts=False).strip()


def _depth(page: str) -> int:
    """About how many elements are within each other at most."""
    deepest = depth = 0
    for closes, name in _TAG.findall(page):
        if name.lower() not in _NOT_NESTED:
            depth = max(0, depth - 1) if closes else depth + 1
            deepest = max(deepest, depth)
    return deepest
