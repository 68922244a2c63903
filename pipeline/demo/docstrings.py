"""The demo's corpus: documentation strings of the packages installed in the running environment, as JSON lines.

Promise: modules are parsed, never imported; the same packages give the same bytes on any machine and with any number of
processes (paths are relative, order is by path); a paragraph that was seen before, in any package, is left out.
Price: every module of site-packages is parsed once, about a minute of one core.
"""

import ast
import gc
import hashlib
import json
import os
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from pipeline.base.errors import UserError
from pipeline.base.progress import Progress
from pipeline.demo.prose import paragraphs

OWN_PACKAGES = ("model", "pipeline", "cluster")
_MODULES_A_TASK = 64
_NOT_LETTERS = re.compile(r"[\W\d_]+")


@dataclass(frozen=True, kw_only=True)
class Module:
    """The prose of one module: a tuple of paragraphs for each documentation string that has any."""

    path: str
    """Relative to site-packages, with forward slashes."""
    docstrings: tuple[tuple[str, ...], ...]

    @property
    def package(self) -> str:
        """The top-level package (or single-file module) that it belongs to."""
        return self.path.split("/")[0].removesuffix(".py")

    @property
    def text(self) -> str:
        """The whole document: a paragraph a line."""
        return "\n".join(paragraph for docstring in self.docstrings for paragraph in docstring)


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What was written: number of documents, bytes of text (UTF-8), packages, and the SHA-256 of the file."""

    documents: int
    text_bytes: int
    packages: int
    sha256: str


def gather(root: Path | None = None, processes: int | None = None) -> list[Module]:
    """All modules of prose under `root` (default: this environment's site-packages), deduplicated, in order of path.

    Raises UserError where there is no module with a documentation string.
    """
    root = root or Path(sysconfig.get_paths()["purelib"])
    files = module_files(root)
    modules = list(deduplicate(_extract_all(root, files, processes or os.cpu_count() or 1)))
    if not modules:
        raise UserError(
            f"{root}: no module with a documentation string; run the demo in the environment that make setup built"
        )
    return modules


def module_files(root: Path) -> list[str]:
    """Paths of the .py files under `root`, relative and sorted, without our own packages and editable-install files."""
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py"))
    return [path for path in paths if path.split("/")[0] not in OWN_PACKAGES and not path.startswith("__editable__")]


def read_module(root: Path, path: str) -> Module:
    """Parse one file; a file that is no valid Python has no documentation strings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # escapes that a future Python will refuse
        try:
            tree = ast.parse((root / path).read_bytes())
        except (SyntaxError, ValueError, RecursionError):
            return Module(path=path, docstrings=())
    found = (tuple(paragraphs(text)) for text in _docstrings(tree))
    return Module(path=path, docstrings=tuple(docstring for docstring in found if docstring))


def deduplicate(modules: Iterable[Module]) -> Iterator[Module]:
    """Leave out paragraphs whose letters (case, digits, punctuation aside) were seen before, and modules left empty."""
    seen: set[bytes] = set()

    def is_new(paragraph: str) -> bool:
        letters = _NOT_LETTERS.sub(" ", paragraph).casefold().strip()
        key = hashlib.blake2b(letters.encode(), digest_size=12).digest()
        if key in seen:
            return False
        seen.add(key)
        return True

    for module in modules:
        kept = (tuple(paragraph for paragraph in docstring if is_new(paragraph)) for docstring in module.docstrings)
        docstrings = tuple(docstring for docstring in kept if docstring)
        if docstrings:
            yield Module(path=module.path, docstrings=docstrings)


def to_lines(modules: Iterable[Module]) -> tuple[bytes, Gathered]:
    """The corpus file, one JSON object {"text", "package"} a line, and what it holds."""
    lines, text_bytes, packages = [], 0, set()
    for module in modules:
        text = module.text
        lines.append(json.dumps({"text": text, "package": module.package}, ensure_ascii=False) + "\n")
        text_bytes += len(text.encode())
        packages.add(module.package)
    data = "".join(lines).encode()
    digest = hashlib.sha256(data).hexdigest()
    return data, Gathered(documents=len(lines), text_bytes=text_bytes, packages=len(packages), sha256=digest)


def _docstrings(tree: ast.Module) -> Iterator[str]:
    """Documentation strings of a module, its classes and functions, nested ones too, in source order."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text
        # Statements only: expressions hold no definitions, and walking them would take most of the time.
        for field in ("finalbody", "orelse", "handlers", "cases", "body"):
            children = getattr(node, field, None)
            if isinstance(children, list):
                waiting.extend(reversed(children))


def _extract_all(root: Path, files: list[str], processes: int) -> Iterator[Module]:
    """Modules in the order of `files`; processes are spawned, so that no lock of this one is inherited."""
    tasks = [files[start : start + _MODULES_A_TASK] for start in range(0, len(files), _MODULES_A_TASK)]
    with (
        ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=gc.disable) as pool,
        Progress(len(files), "modules", "gathering") as progress,
    ):
        for task, modules in zip(tasks, pool.map(_extract_task, [root] * len(tasks), tasks), strict=True):
            progress.advance(len(task))
            yield from modules


def _extract_task(root: Path, files: list[str]) -> list[Module]:
    return [read_module(root, path) for path in files]
