"""The structure that the docs promise: arrows point one way, files and functions are short, package files empty."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("model", "pipeline", "cluster")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
ALL_PYTHON = sorted([*SOURCES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])

MAY_IMPORT = {"model": {"model"}, "pipeline": {"pipeline", "model"}, "cluster": {"cluster", "pipeline", "model"}}
HEAVY = {"deepspeed", "ray", "mlflow", "webdataset", "sentencepiece", "transformers", "tokenizers"}

# What a room of pipeline/ may import beside pipeline.base and itself (docs/architecture.md draws the same).
ROOMS = {
    "base": set(),
    "cleaning": set(),
    "duplicates": set(),
    "reporting": set(),
    "corpus": {"cleaning"},
    "vocabulary": {"corpus"},
    "shards": {"vocabulary"},
    "stream": {"shards"},
    "health": {"reporting"},
    "training": {"stream", "shards", "vocabulary", "health"},
    "release": {"training", "vocabulary"},
    "tasks": {"training", "vocabulary"},
    "probing": {"tasks"},
    "explaining": {"tasks", "probing"},
    "planning": {"training"},
    "demo": {"corpus"},
    "stages": {
        "corpus",
        "cleaning",
        "duplicates",
        "reporting",
        "vocabulary",
        "shards",
        "stream",
        "training",
        "release",
        "tasks",
        "probing",
        "explaining",
        "planning",
    },
}


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_layers_point_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    for name in imports(path):
        top = name.partition(".")[0]
        if top in PACKAGES:
            assert top in MAY_IMPORT[package], f"{package}/ imports {name}"
        if package == "model":
            assert top not in HEAVY, f"model/ is pure PyTorch, but imports {name}"


@pytest.mark.parametrize("path", [path for path in SOURCES if short(path).startswith("pipeline/")], ids=short)
def test_rooms_of_the_pipeline(path: Path) -> None:
    parts = path.relative_to(ROOT).parts
    if len(parts) < 3:
        return
    room = parts[1]
    for name in imports(path):
        if name.startswith("pipeline."):
            other = name.split(".")[1]
            late_stages = room == "demo" and other == "command"
            assert other in ROOMS[room] | {room, "base"} or late_stages, f"{room} imports {name}"


@pytest.mark.parametrize("path", ALL_PYTHON, ids=short)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is too long"
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            named = [a for a in arguments if a.arg not in ("self", "cls")]
            assert len(named) <= 8 or node.name.startswith("test_"), f"{node.name} has {len(named)} arguments"


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if path.name == "__init__.py":
        assert not tree.body, "package files stay empty, so that --help loads nothing heavy"
        return
    assert ast.get_docstring(tree), "a module opens with its job"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"
