"""YAML with line numbers: which line set which dotted key. Floats as people write them (1e-4), duplicates refused."""

import contextlib
import re
from pathlib import Path
from typing import Any

import yaml

from pipeline.base.errors import UserError

_FLOAT = re.compile(r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$")
_INTEGER = re.compile(r"^[-+]?(0|[1-9][\d_]*)$")


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-4 as a number (YAML 1.1 wants 1.0e-4) and 017 or 12:30 as text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":float", ":int", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def parse_value(text: str) -> Any:
    """One value of the command line, read as YAML; UserError when it is not."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise UserError(f"command line: {text!r} is not a YAML value ({_problem(error)}).") from None


def parse_text(text: str) -> str:
    """A value that is a text, whatever YAML would make of it (Note: 1, [x], 12); of one in quotes what they hold."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        with contextlib.suppress(yaml.YAMLError):
            quoted = yaml.load(text, _Loader)
            return quoted if isinstance(quoted, str) else text
    return text


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The mapping of a YAML file and the line (from 1) of each dotted key; UserError when it cannot be read."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"the config file {path} does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the config file {path} cannot be read: {error}.") from None
    try:
        node = yaml.compose(text, _Loader)
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {_problem(error)}.") from None
    if node is None:
        return {}, {}
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{path}: a config is a mapping of keys to values.")
    lines: dict[str, int] = {}
    _collect(node, "", path, lines)
    return value, lines


def _collect(node: yaml.MappingNode, prefix: str, path: Path, lines: dict[str, int]) -> None:
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        line = key.start_mark.line + 1
        if name in lines:
            raise UserError(f"{path}:{line}: key {name} was already set in line {lines[name]}; keep one.")
        lines[name] = line
        if isinstance(value, yaml.MappingNode):
            _collect(value, f"{name}.", path, lines)


def _problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}: " if mark else ""
    return where + str(getattr(error, "problem", None) or error)
