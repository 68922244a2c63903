"""Medians, spread, the best on dev, against numbers worked out by hand; tables and pictures that show them."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.base.errors import UserError
from pipeline.tasks.comparison import Compared, write_comparison
from pipeline.tasks.learning_curve import Curve, write_curve
from pipeline.tasks.page import Table
from pipeline.tasks.spread import Results, Spread, refuse_single, spread, summarised, write_group


def seed(dev: float, test: float) -> dict[str, Any]:
    """metrics.json of a seed."""
    figures = {"dev/accuracy": dev, "test/accuracy": test, "accuracy": test, "test/trivial_accuracy": 0.5}
    return {f"finetune/toy/{name}": value for name, value in figures.items()} | {
        "name": "toy",
        "reported_split": "test",
        "labels": ["a", "b"],
        "settings": {"seed": 0, "finetune.lr": 0.1},
        "history": [1],
    }


def results(*pairs: tuple[float, float]) -> Results:
    return Results({number + 3: seed(*pair) for number, pair in enumerate(pairs)}, "accuracy")


def test_one_figure_over_the_seeds() -> None:
    assert spread([0.5, 0.9, 0.6], 2) == Spread(
        median=0.6, min=0.5, max=0.9, std=pytest.approx(0.2081666), best_of_dev=0.6
    )
    assert spread([0.4, 0.6], 0).median == 0.5
    assert spread([0.4], 0).std == 0


def test_the_best_on_dev_is_reported_with_its_own_test_figure() -> None:
    """The second and the third seed are best on dev, the first of the two counts, though the third's test is higher."""
    found = summarised(results((0.70, 0.90), (0.80, 0.60), (0.80, 0.75)), {"test/accuracy": 0.55})
    assert found["best_seed"] == 4
    assert found["seeds"] == [3, 4, 5]
    assert found["finetune/toy/test/accuracy"] == 0.75
    assert found["finetune/toy/test/accuracy/best_of_dev"] == 0.60
    assert (found["finetune/toy/test/accuracy/min"], found["finetune/toy/test/accuracy/max"]) == (0.60, 0.90)
    assert found["finetune/toy/test/accuracy/std"] == pytest.approx(0.15)
    assert found["finetune/toy/test/bag_of_words_accuracy"] == 0.55
    assert found["finetune/toy/test/trivial_accuracy"] == 0.5
    assert found["by_seed"]["5"]["test/accuracy"] == 0.75
    assert found["labels"] == ["a", "b"]
    assert found["settings"] == {"seed": "3 to 5", "finetune.lr": 0.1}


def test_the_best_model_is_linked_and_replaced(tmp_path: Path) -> None:
    for number, text in ((3, "three"), (4, "four")):
        (tmp_path / f"seed-{number}" / "model" / "inner").mkdir(parents=True)
        (tmp_path / f"seed-{number}" / "model" / "inner" / "weights").write_text(text)
    for pair, text in (((0.9, 0.8), "three"), ((0.1, 0.8), "four"), ((0.1, 0.9), "four")):
        write_group(tmp_path, summarised(results((pair[0], 0.5), (pair[1], 0.5)), {}), with_model=True)
        place = tmp_path / "model" / "inner" / "weights"
        assert place.read_text() == text
        assert place.stat().st_nlink == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "model", "seed-3", "seed-4"]
    refuse_single(tmp_path)
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(UserError, match="holds a single fine-tuning"):
        refuse_single(tmp_path)


class Elements(HTMLParser):
    """Tags with their attributes, and what they refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_the_comparison_in_three_forms(tmp_path: Path) -> None:
    ours, random = results((0.7, 0.9), (0.8, 0.6), (0.6, 0.7)), results((0.5, 0.5), (0.5, 0.5))
    rows = [
        Compared("toy", None, ("accuracy", "f1"), "test", {"ours": ours, "random": random}, {"test/accuracy": 0.65}),
        Compared("a <b>|c", 8, ("f1",), "test", {}, {}),
    ]
    table, files = write_comparison(tmp_path, rows, ["ours", "random"])
    assert list(table.header) == ["task", "metric", "split", "ours", "random", "trivial answer", "bag of words"]
    best = "0.700 ± 0.153 (0.600 to 0.900); best of dev 0.600"
    assert list(table.rows[0]) == ["toy", "accuracy", "test", best, table.rows[0][4], "0.500", "0.650"]
    assert list(table.rows[1]) == ["a <b>|c, 8 examples", "f1", "test", "-", "-", "-", "-"]
    markdown, html, plain = (path.read_text() for path in files)
    assert markdown.count("\n| ") == 3
    assert "a <b>\\|c, 8 examples" in markdown
    page = Elements(html)
    assert len(page.named("caption")) == 1
    assert [cell["scope"] for cell in page.named("th")] == ["col"] * 7 + ["row"] * 2
    assert not page.named("script") + page.named("link") + page.named("b")
    assert json.loads(plain)["rows"][0]["exports"]["ours"]["std"] == pytest.approx(0.1527525)


def test_the_picture_has_every_series_and_words_for_those_who_do_not_see_it(tmp_path: Path) -> None:
    points = {8: spread([0.5, 0.6, 0.4], 0), 32: spread([0.8, 0.7, 0.9], 0)}
    curve = Curve(
        "toy", "accuracy", "dev", {"ours": points, "random": {8: points[8]}, "bag of words": points, "none": {}}
    )
    html = write_curve(tmp_path, curve)[1].read_text()
    page = Elements(html)
    (picture,) = page.named("svg")
    assert picture["role"] == "img"
    assert "ours 0.500 with 8 examples, 0.800 with 32" in str(picture["aria-label"])
    assert html.count("<title>") == 2
    for name in curve.series:
        assert f">{name}<" in html
    assert not page.named("script") + page.named("img") + page.named("link")
    assert "http" not in html.replace("http://www.w3.org/", "")
    series = json.loads((tmp_path / "learning-curve.json").read_text())["series"]
    assert series["ours"]["32"]["median"] == 0.8
    assert series["none"] == {}
    assert write_curve(tmp_path / "again", curve)[1].read_text() == html


def test_a_table_is_one_line_a_row() -> None:
    assert Table("what", ["a", "b"], [["x\ny", "1|2"]]).markdown() == "what\n\n| a | b |\n|---|---:|\n| x y | 1\\|2 |\n"
