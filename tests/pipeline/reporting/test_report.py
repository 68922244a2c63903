"""The data report: every part is there when its figures are, nothing empty when not, and texts stay texts."""

import copy
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.reporting.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, rank_frequency
from pipeline.reporting.numbers import bars, percent, size
from pipeline.reporting.page import PARTS, render
from tests.pipeline.reporting.reported import FULL, HOSTILE, OLD

VOID = {"meta", "rect", "line", "polyline", "polygon", "circle", "img"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"


class Page(HTMLParser):
    """Elements in order, text by the element that it stands in, and whether every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "h2":
            self.headings.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if "h2" in self.open:
            self.headings[-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in copy.deepcopy(FULL).items() if name not in names}


def test_every_part_is_shown_in_order() -> None:
    page = Page(render(FULL, "Data report: mine"))
    assert page.headings == list(PARTS.values())
    sections = [section["id"] for section in page.all("section")]
    assert sections == list(PARTS)
    assert [link["href"] for link in page.all("a")] == [f"#{name}" for name in sections]
    for shown in (
        *("120,600", "412 MB", "30,150 records left out", "20.0 %"),
        *("crawl/part-19.jsonl.zst", "books", "75.0 %", "Cyrillic", "zh"),
        *("median", "128–255", "8,123"),
        *("too many symbols", "Dropped nothing: language, web: ratios", "line 1,024", "broken JSON"),
        *("personal_data.email", "1,234"),
        *("web: fineweb", "nothing but repeated paragraphs dropped"),
        *("near-equal documents dropped", "The storm reached the coast at noon!", "an older revision"),
        *("mrpc/test.jsonl.zst", "A text of the test set.", "the shared passages were cut out"),
        *("1.25", "over 99.9 %", "0.012 %", "▁piece99", "16,384"),
    ):
        assert shown in page.text, shown
    assert "an older revision, line" not in page.text


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("filters", "dropped_by_reason"), {"left_out"}),
        (("edits",), {"edits"}),
        (("duplicates",), {"duplicates"}),
        (("contamination",), {"contamination"}),
        (("tokenizer",), {"tokenizer"}),
        (("splits",), {"lengths"}),
        (("corpora", "languages", "scripts", "inputs"), set()),
        (("inputs", "scripts", "languages", "splits", "corpora"), {"composition", "lengths"}),
        (tuple(FULL), set(PARTS)),
    ],
)
@pytest.mark.parametrize("empty", [False, True])
def test_absent_parts_leave_nothing_behind(names: tuple[str, ...], parts: set[str], empty: bool) -> None:
    statistics = without(*names) | ({name: type(FULL[name])() for name in names} if empty else {})
    page = Page(render(statistics, "t"))
    kept = [name for name in PARTS if name not in parts]
    assert [section["id"] for section in page.all("section")] == kept
    assert page.headings == [PARTS[name] for name in kept]
    assert len(page.all("a")) == len(kept)


def test_figures_of_earlier_versions_make_a_page() -> None:
    page = Page(render(OLD, "t"))
    assert page.headings == ["What it is made of", "Lengths of the documents"]


def test_parts_with_some_of_their_figures_make_a_page() -> None:
    statistics = without()
    statistics["tokenizer"] = {"vocab_size": 10, "fertility": None, "rank_frequency": [[1, 5]]}
    statistics["duplicates"] = {"exact": 0}
    statistics["contamination"] = {"documents": 1}
    statistics["filters"] = [{"name": "a", "documents": 1}]
    statistics["splits"]["validation"]["lengths"] = {"histogram": {}}
    page = Page(render(statistics, "t"))
    assert page.headings == list(PARTS.values())
    assert "1 document was dropped" in page.text
    assert "Frequency by rank" not in page.text


def test_a_hostile_text_is_shown_and_never_markup() -> None:
    statistics = without()
    for place in (statistics["inputs"][0], statistics["filters"][0], statistics["corpora"][0]):
        place["input" if "input" in place else "name"] = HOSTILE
    for name in ("languages", "scripts", "edits", "dropped_by_reason"):
        statistics[name][HOSTILE] = 1
    statistics["contamination"]["by_file"][HOSTILE] = {"dropped": 1, "cut": 0}
    statistics["duplicates"]["examples"][0]["kept"]["text"] = HOSTILE
    statistics["tokenizer"]["frequencies"][0][1] = HOSTILE
    statistics["splits"][HOSTILE] = statistics["splits"]["train"]
    html = render(statistics, HOSTILE)
    page = Page(html)
    assert page.all("script") == []
    assert page.all("img") == []
    assert all(not name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert page.text.count(HOSTILE.replace("\0", "\ufffd")) >= 12
    assert "\0" not in html


def test_the_page_loads_nothing() -> None:
    page = Page(render(FULL, "t"))
    for _, attributes in page.elements:
        assert not {"src", "style", "srcset"} & set(attributes)
        assert (attributes.get("href") or "#").startswith("#")
    policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")


def test_charts_have_text_alternatives() -> None:
    page = Page(render(FULL, "t"))
    for drawing in page.all("svg"):
        assert drawing.get("aria-hidden") == "true" or (drawing.get("role") == "img" and drawing.get("aria-label"))
    label = next(one["aria-label"] for one in page.all("svg") if one.get("role") == "img")
    assert label == (
        "Line chart: the most frequent piece occurs 400,000 times, the piece of rank 16,384 64 times. "
        "The table below has the values."
    )
    assert len(page.all("caption")) == len(page.all("table"))


def test_examples_show_two_hundred_characters() -> None:
    statistics = without()
    statistics["filters"][0]["examples"] = [{"file": "a", "line": 1, "reason": "r", "text": "y" * 5000}]
    assert "y" * 200 + "…" in render(statistics, "t")
    assert "y" * 201 not in render(statistics, "t")


def test_the_chart_lies_inside_its_frame() -> None:
    chart = rank_frequency([(1, 1000), (2, 400), (4, 90), (8, 1)])
    assert chart is not None
    assert chart.dots[0] == (LEFT, TOP)
    assert chart.dots[-1] == (WIDTH - RIGHT, HEIGHT - BOTTOM)
    assert [label for _, label in chart.up] == ["1", "10", "100", "1 k"]
    assert [label for _, label in chart.across] == ["1"]
    x, y, end, low = chart.zipf
    assert (x, y) == chart.dots[0]
    assert end == WIDTH - RIGHT
    assert low == pytest.approx(TOP + (HEIGHT - TOP - BOTTOM) * 0.30103, abs=0.1), "1000 / 8 at rank 8"
    assert rank_frequency([(1, 5)]) is None
    assert rank_frequency([(1, 5), (2, 5)]) is not None


@pytest.mark.parametrize(
    ("part", "whole", "told"),
    [
        (0, 0, "0 %"),
        (0, 7, "0 %"),
        (1, 3, "33.3 %"),
        (1, 100, "1.0 %"),
        (12, 150_750, "0.0080 %"),
        (1, 10**9, "under 0.0001 %"),
        (31_990, 32_000, "over 99.9 %"),
        (7, 7, "100 %"),
    ],
)
def test_shares_are_neither_none_nor_all_unless_they_are(part: int, whole: int, told: str) -> None:
    assert percent(part, whole) == told


def test_numbers() -> None:
    assert [size(value) for value in (0, 999, 1000, 412_345_678, 5e12)] == [
        *("0 bytes", "999 bytes", "1 kB", "412 MB", "5 TB")
    ]
    assert [bar.width for bar in bars({"a": 4, "b": 1, "c": 0})] == [100.0, 25.0, 0.0]
    assert bars({"a": 0})[0].width == 0.0
    assert bars({}) == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_finds_nothing_to_complain_of(tmp_path: Path, scheme: str) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright's Python package is not installed")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no Chromium at {CHROMIUM} (apt-get install chromium)")
    (tmp_path / "report.html").write_text(render(FULL, HOSTILE), encoding="utf-8")
    heard: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 390, "height": 700}, color_scheme=scheme)
        page.on("console", lambda message: heard.append(message.text))
        page.on("request", lambda request: heard.append(request.url))
        page.goto(f"file://{tmp_path}/report.html")
        assert page.evaluate("window.ran") is None
        assert page.evaluate("document.documentElement.scrollWidth") == 390, "nothing is wider than a telephone"
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(246, 245, 242)" if scheme == "light" else "rgb(22, 22, 21)"
        )
        browser.close()
    assert heard == [f"file://{tmp_path}/report.html"]
