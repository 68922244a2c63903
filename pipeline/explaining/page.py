"""The report as one HTML page that needs nothing else: no network, no other file, and no script but its own.

All that comes from texts, vocabularies and folders is data: jinja2 escapes it, the JSON in the page has no markup left,
and the page's own policy lets only the one script and the one style sheet run whose digests it names.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from pipeline.explaining.cells import Cell, Chunk, lay_out

Json = dict[str, Any]
PARTS = ("text", "pair")
"""What a token is of."""
REPLACED_FROM = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Where the levels of the colour scale begin; below the first there is no colour."""
SHARE_FROM = (0.1, 0.3, 0.6)
"""The same for attributions, as shares of the text's largest."""
TITLE_LENGTH = 60
UNREAD_SHOWN = 200
"""Characters of a stretch that no explained window holds: so many at its begin and end are shown, without colour."""


def render(report: Json) -> str:
    """The page."""
    style, script = _part("page.css"), _part("page.js")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": percent, "signed": signed, "visible": visible}
    blocks: list[list[list[list[Any]]]] = []
    sections = [_section(entry, blocks) for entry in report["texts"]]
    return environment.from_string(_part("page.html")).render(
        report=report,
        sections=sections,
        title=_title(report["texts"]),
        policy=f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; base-uri 'none'; "
        "form-action 'none'",
        style=Markup(style),
        script=Markup(script),
        data=Markup(json_in_page(blocks)),
        replaced_from=REPLACED_FROM,
    )


def json_in_page(value: Any) -> str:
    """JSON that may stand in a script element: no character of it begins a tag, a comment or an entity."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def percent(share: float) -> str:
    """0.1234 as 12.3 %."""
    return f"{100 * share:.1f} %"


def signed(value: float) -> str:
    """With its sign, to three decimals."""
    return f"{value:+.3f}".replace("-", "\u2212")


def visible(text: str) -> str:
    """What HTML can hold: one kind of line break, and no NUL."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")


def level(value: float, borders: tuple[float, ...]) -> int:
    """How many borders `value` has reached."""
    return sum(value >= border for border in borders)


def _section(entry: Json, blocks: list[Any]) -> Json:
    """What the template shows of one text or two: a block each; the details of the cells are added to `blocks`."""
    texts = {of: entry[of] for of in PARTS if of in entry}
    section: Json = {"texts": list(texts.values()), "place": entry["place"]}
    section |= {"judged": None, "guessed": None, "decided": None}

    def shown(tokens: list[Json], *how: Any) -> list[Json]:
        return [_block(text, [t for t in tokens if t["of"] == of], blocks, *how) for of, text in texts.items()]

    if "tokens" in entry:
        section["judged"] = shown(entry["tokens"], _judged_cell, _judged_row)
        section["chances"] = [token["replaced"] for token in entry["tokens"] if "replaced" in token]
    if "generator_tokens" in entry:
        section["guessed"] = shown(entry["generator_tokens"], _judged_cell, _judged_row)
    if "classification" in entry:
        section["decision"] = decision = entry["classification"]
        explained = [token for token in decision["tokens"] if token["attribution"] is not None]
        largest = max(abs(token["attribution"]) for token in explained)
        section["decided"] = shown(explained, lambda cell: _attributed_cell(cell, largest), _attributed_row, _short)
    return section


def _block(
    text: str,
    tokens: list[Json],
    blocks: list[Any],
    look: Callable[[Cell], tuple[str, str, str]],
    row: Callable[[Json], list[Any]],
    gap: Callable[[str], str] = str,
) -> Json:
    """Chunks of (what is before, text, class, number, name) a cell; `gap` says how what lies between is shown."""
    chunks: list[Chunk] = lay_out(text, tokens)
    blocks.append([[row(token) for token in cell.tokens] for chunk in chunks for cell in chunk.cells])
    shown = []
    for chunk in chunks:
        cells = []
        for cell in chunk.cells:
            style, number, said = look(cell)
            name = cell.text.strip() or f"blank {cell.tokens[0]['shown']}"
            cells.append((visible(gap(cell.before)), visible(cell.text), style, number, visible(f"{name}{said}")))
        shown.append({"first": chunk.first, "cells": cells, "after": visible(gap(chunk.after))})
    return {"index": len(blocks) - 1, "chunks": shown}


def _judged_cell(cell: Cell) -> tuple[str, str, str]:
    chances = [token["replaced"] for token in cell.tokens if "replaced" in token]
    if not chances:
        return "", "", ""
    chance = max(chances)
    return f"r{level(chance, REPLACED_FROM)}", f"{100 * chance:.0f}", f": replaced {percent(chance)}"


def _judged_row(token: Json) -> list[Any]:
    """Name, p(replaced), the generator's [p, rank] of the token itself, its candidates (false: it was not asked)."""
    generator, best = token.get("generator"), token.get("candidates")
    own = None if generator is None else [_rounded(generator["probability"]), generator["rank"]]
    asked = None if "candidates" not in token else False
    shown = asked if best is None else [[one["shown"], _rounded(one["probability"])] for one in best]
    return [token["shown"], _rounded(token.get("replaced")), own, shown]


def _attributed_cell(cell: Cell, largest: float) -> tuple[str, str, str]:
    value = sum(token["attribution"] for token in cell.tokens)
    strength = level(abs(value) / largest if largest else 0.0, SHARE_FROM)
    kind = "f" if value > 0 else "a"
    return f"{kind}{strength}", f"{value:+.2f}".replace("-", "\u2212"), f": {signed(value)}"


def _attributed_row(token: Json) -> list[Any]:
    return [token["shown"], _rounded(token["attribution"])]


def _short(gap: str) -> str:
    """A long stretch without tokens, without its middle."""
    left_out = len(gap) - 2 * UNREAD_SHOWN
    return (
        gap if left_out <= 0 else f"{gap[:UNREAD_SHOWN]} \u2026 ({left_out:,} characters) \u2026 {gap[-UNREAD_SHOWN:]}"
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def _title(texts: list[Json]) -> str:
    first = " ".join(texts[0]["text"].split())
    short = first if len(first) <= TITLE_LENGTH else first[: TITLE_LENGTH - 1] + "\u2026"
    return short if len(texts) == 1 else f"{short} (and {len(texts) - 1:,} more)"


def _part(name: str) -> str:
    return resources.files("pipeline.explaining").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
