"""The page in a real browser: mouse, keyboard, what a screen reader gets, dark mode, and nothing but the one file."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.stages import explain
from tests.pipeline.explaining.explained_folders import all_folders, explain_config

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
TEXTS = (
    'the good film </script><img src=x onerror="window.ran=1"><script>window.ran=1</script> was bad',
    "مرحبا film جميل",
    "这 film 很好 🎉",
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, one for all tests."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright's Python package is not installed")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no Chromium at {CHROMIUM} (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with everything on it."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "in.txt").write_text("\n".join(TEXTS))
    explain.run(explain_config(folder, file=folder / "in.txt", candidates=3, **all_folders(folder)))
    return folder / "run" / "explain.html"


@pytest.fixture
def page(browser: Any, page_file: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page, opened as a file; afterwards: nothing was fetched, nothing complained, no markup of a text ran."""
    options = {"viewport": {"width": 900, "height": 700}} | getattr(request, "param", {})
    context = browser.new_context(**options)
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda one: asked.append(one.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(page_file.as_uri())
    yield page
    assert asked == [page_file.as_uri()]
    assert complaints == []
    assert page.evaluate("window.ran") is None
    context.close()


def focused(page: Any) -> str:
    return str(page.evaluate("document.activeElement.textContent"))


def test_the_mouse_and_the_keyboard_show_the_same(page: Any) -> None:
    card, film = page.locator("#card"), page.locator(".tokens").first.get_by_text("film", exact=True)
    assert card.is_hidden()
    film.hover()
    hovered = card.inner_text()
    assert re.search(r"^film\s+replaced\s+\d+\.\d %\s+The generator, with this place masked:", hovered)
    assert card.locator(".row").count() == 1 + 3
    card.hover()
    page.wait_for_timeout(250)
    assert card.is_visible(), "the pointer may go to what it brought up"
    page.mouse.move(1, 1)
    card.wait_for(state="hidden")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "numbers"
    page.keyboard.press("Tab")
    assert focused(page) == "the"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert focused(page) == "film"
    assert card.inner_text() == hovered
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    said = page.locator("#live").text_content()
    assert re.fullmatch(r"replaced \d+\.\d %; candidates: (.+ \d+\.\d %(, )?){3}", said)
    page.keyboard.press("Escape")
    assert card.is_hidden()
    assert focused(page) == "film"
    page.keyboard.press("Enter")
    assert card.is_visible()
    for key, text in (("End", "bad"), ("ArrowRight", "bad"), ("Home", "the"), ("ArrowLeft", "the")):
        page.keyboard.press(key)
        assert focused(page) == text
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.tokens').dataset.block") == "1"
    assert re.search(r"^the\s+[+−]\d\.\d{3}, speaks (for|against) the answer$", card.inner_text())


def test_arrows_go_as_the_script_does(page: Any) -> None:
    arabic = page.locator(".tokens").nth(2)
    assert page.evaluate("(box) => getComputedStyle(box).direction", arabic.element_handle()) == "rtl"
    arabic.locator(".t").first.focus()
    page.keyboard.press("ArrowLeft")
    assert focused(page) == "film"
    page.keyboard.press("ArrowRight")
    assert focused(page) == "مرحبا"
    page.keyboard.press("ArrowDown")
    assert focused(page) == "مرحبا"


def test_what_a_screen_reader_gets(page: Any) -> None:
    tree = page.locator("body").aria_snapshot()
    assert 'heading "What the networks make of it" [level=1]' in tree
    assert 'listbox "Text 1, its tokens and how surely each is replaced"' in tree
    assert re.search(r'option "good: replaced \d+\.\d %"', tree)
    assert re.search(r'option "good: [+−]\d\.\d{3}"', tree)
    assert re.search(r'option "这: replaced', tree)
    assert re.search(r'row "(negative|positive) \d+\.\d %"', tree)
    assert page.locator(".t:not([aria-label])").count() == 0
    assert page.locator("#live").get_attribute("aria-live") == "polite"
    assert [box.text_content() for box in page.locator(".tokens").all()[::2]] == list(TEXTS)


LUMINANCE = """() => {
  const channel = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = (c) => { const [r, g, b] = parse(c).map(channel); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (e) => { const c = getComputedStyle(e).backgroundColor; const p = parse(c);
    return p.length === 4 && p[3] === 0 ? ground(e.parentElement) : c; };
  const texts = "p, h1, h2, h3, li, dt, dd, td, th, span.t, .scale span, summary, kbd, label, small, bdi";
  return [...document.querySelectorAll(texts)].map((e) => {
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => x - y);
    return [(b + 0.05) / (a + 0.05), e.className + " " + e.textContent.slice(0, 40)];
  });
}"""


@pytest.mark.parametrize("page", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True)
def test_all_text_is_readable(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    poor = [(ratio, text) for ratio, text in page.evaluate(LUMINANCE) if ratio < 4.5]
    assert poor == [], "WCAG 2.2, 1.4.3: contrast of 4.5 and more"


@pytest.mark.parametrize("page", [{"reduced_motion": "reduce", "forced_colors": "active"}], indirect=True)
def test_nothing_moves_where_that_is_asked_for(page: Any) -> None:
    token = page.locator(".t").first
    token.focus()
    assert page.evaluate("getComputedStyle(document.getElementById('card')).animationName") == "none"
    assert page.evaluate("getComputedStyle(document.querySelector('.t')).transitionDuration") == "0s"
    assert page.locator("#card").is_visible()


@pytest.mark.parametrize("page", [{"viewport": {"width": 320, "height": 600}}], indirect=True)
def test_a_narrow_screen_does_not_scroll_sideways(page: Any) -> None:
    page.locator("#numbers").check()
    for token in (page.locator(".t").first, page.locator(".tokens").first.locator(".t").last):
        token.focus()
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    shown = page.evaluate("getComputedStyle(document.querySelector('.t'), '::after').content")
    assert re.fullmatch(r'"\d+"', shown)
