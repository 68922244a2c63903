"""A benchmark's table goes between its markers, whole, and nothing else of the page changes."""

import stat
import sys
from pathlib import Path

import pytest

from benchmarks import all as bench
from benchmarks.report import PAGE, machine, replace, spread, table

TEXT = "# Page\n\n<!-- bench:one -->\nold\n<!-- /bench:one -->\nbetween\n<!-- bench:two -->\n<!-- /bench:two -->\nend\n"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(TEXT, encoding="utf-8")
    path.chmod(0o640)
    return path


def test_only_what_stands_between_the_markers_changes(page: Path) -> None:
    replace("one", "new\n", page)
    replace("two", "first", page)
    expected = TEXT.replace("old", "new").replace("<!-- bench:two -->\n", "<!-- bench:two -->\nfirst\n")
    assert page.read_text(encoding="utf-8") == expected
    assert stat.S_IMODE(page.stat().st_mode) == 0o640
    assert [path.name for path in page.parent.iterdir()] == ["page.md"]


@pytest.mark.parametrize("text", ["", "<!-- bench:one -->\n", TEXT + "<!-- bench:one -->\n<!-- /bench:one -->\n"])
def test_a_page_without_one_pair_of_markers_is_left(page: Path, text: str) -> None:
    page.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit, match="bench:one"):
        replace("one", "new", page)
    assert page.read_text(encoding="utf-8") == text


def test_a_table_and_a_spread() -> None:
    assert table(["a", "b"], [[1, "x"]]) == "| a | b |\n| --- | --- |\n| 1 | x |"
    assert spread([1.0, 3.0, 2.0]) == "2.00 (1.00-3.00)"
    assert spread([1.5]) == "1.50"


def test_the_machine_says_cores_versions_and_a_date() -> None:
    assert "core(s)" in machine()
    assert "torch 2" in machine()


def test_every_benchmark_has_a_script_and_its_place_in_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, command in bench.COMMANDS.items():
        assert (bench.ROOT / command.split()[0]).exists()
        assert text.count(f"<!-- bench:{name} -->\n") == text.count(f"<!-- /bench:{name} -->\n") == 1


def test_a_benchmark_that_fails_leaves_its_table(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = {"one": "-c 'print(7); raise SystemExit(3)'", "two": "-c 'print(8)'"}
    monkeypatch.setattr(bench, "COMMANDS", commands)
    monkeypatch.setattr(sys, "argv", ["all.py", "--page", str(page)])
    assert bench.main() == 1
    text = page.read_text(encoding="utf-8")
    assert "old" in text
    assert "\n8\n<!-- /bench:two -->" in text


def test_an_unknown_name_is_a_mistake(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["all.py", "nope"])
    with pytest.raises(SystemExit) as stopped:
        bench.main()
    assert stopped.value.code == 2
    assert "no benchmark nope" in capsys.readouterr().err
