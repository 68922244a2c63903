"""The data report as one HTML page that needs nothing else: no script, no network, no other file.

All of it is from data/statistics.json. Texts of the corpus are data: jinja2 escapes them, and the page's own policy
lets nothing be loaded or run, and only the one style sheet apply whose digest it names.
"""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

from pipeline.reporting import chart, parts
from pipeline.reporting.numbers import count

PARTS = {
    "composition": "What it is made of",
    "lengths": "Lengths of the documents",
    "left_out": "What was left out",
    "edits": "What was changed",
    "duplicates": "Duplicates",
    "contamination": "Evaluation texts",
    "tokenizer": "Tokenizer",
}
"""Headings of the page in order, by the function of parts.py that makes the part."""
SHOWN_BARS = 12
"""Rows of a long bar chart; the others unfold."""
TEXT_LENGTH = 200
"""Characters of an example."""


def render(statistics: Mapping[str, Any], title: str) -> str:
    """The page. A part without figures is left out, heading and all."""
    made = {name: getattr(parts, name)(statistics) for name in PARTS}
    return fill(
        "page.html",
        title=title,
        summary=parts.summary(statistics),
        headings={name: PARTS[name] for name, part in made.items() if part is not None},
        **made,
        plot=chart,
        shown=SHOWN_BARS,
        text_length=TEXT_LENGTH,
    )


def fill(name: str, **values: Any) -> str:
    """The page of that name with its figures, the style sheet, and a policy that lets nothing else in."""
    style = _part("page.css")
    policy = f"default-src 'none'; style-src {_digest(style)}; base-uri 'none'; form-action 'none'"
    return template(name).render(style=Markup(style), policy=policy, **values)


@cache
def template(name: str = "page.html") -> Template:
    """A page without its figures. Price: 0.1 s, the first time."""
    environment = Environment(
        loader=FunctionLoader(_part),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=visible,
    )
    environment.filters["count"] = count
    return environment.get_template(name)


def visible(value: object) -> object:
    """Text as HTML can hold it, one kind of line break and no NUL; anything else as it is."""
    return value.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd") if type(value) is str else value


def _part(name: str) -> str:
    return resources.files("pipeline.reporting").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
