"""YAML with line numbers: which line set which dotted key. Floats as people write them (1e-4), duplicates refused.

Plain values only, and a bounded number of them: no tag makes an object of Python's, no alias a bomb.
"""

import contextlib
import re
from pathlib import Path
from typing import Any

import yaml

from pipeline.base.errors import UserError, first_line
from pipeline.base.stores.faults import shown

_FLOAT = re.compile(r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$")
_INTEGER = re.compile(r"^[-+]?(0|[1-9][\d_]*)$")

DEEPEST = 64
MOST_VALUES = 100_000
"""Of a config; the largest task lists have some thousands."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-4 as a number (YAML 1.1 wants 1.0e-4) and 017 or 12:30 as text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":float", ":int", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def parse_yaml(text: str) -> Any:
    """The plain value of a YAML text, such as a config.yaml. YAMLError for all that is wrong with it."""
    return _parsed(text)[1]


def _parsed(text: str) -> tuple[yaml.Node | None, Any]:
    """The text's nodes, and its value."""
    try:
        node = yaml.compose(text, _Loader)
        if node is not None:
            _check_size(node)
        return node, yaml.load(text, _Loader)
    except yaml.YAMLError:
        raise
    except RecursionError:
        raise yaml.YAMLError(f"nested more than {DEEPEST} deep") from None
    except Exception as error:  # a tag such as !!int or !!timestamp before something else
        raise yaml.YAMLError(f"a value that its tag does not fit ({first_line(error)})") from None


def _check_size(node: yaml.Node) -> None:
    """YAMLError for more values than a config can have, counted as often as aliases repeat them."""
    waiting, seen = [(node, 1)], 0
    while waiting:
        one, depth = waiting.pop()
        seen += 1
        if depth > DEEPEST:
            raise yaml.YAMLError(f"nested more than {DEEPEST} deep")
        if seen + len(waiting) > MOST_VALUES:
            raise yaml.YAMLError(f"more than {MOST_VALUES:,} values, counted as often as aliases repeat them")
        if isinstance(one, yaml.MappingNode):
            waiting += [(part, depth + 1) for pair in one.value for part in pair]
        elif isinstance(one, yaml.SequenceNode):
            waiting += [(part, depth + 1) for part in one.value]


def parse_value(text: str) -> Any:
    """One value of the command line, read as YAML; UserError when it is not."""
    try:
        return parse_yaml(text)
    except yaml.YAMLError as error:
        raise UserError(f"command line: {shown(text)!r} is not a YAML value ({_problem(error)}).") from None


def parse_text(text: str) -> str:
    """A value that is a text, whatever YAML would make of it (Note: 1, [x], 12); of one in quotes what they hold."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        with contextlib.suppress(yaml.YAMLError):
            quoted = parse_yaml(text)
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
        node, value = _parsed(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {_problem(error)}.") from None
    if node is None:
        return {}, {}
    if not isinstance(node, yaml.MappingNode) or not isinstance(value, dict):
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
