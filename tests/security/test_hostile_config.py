"""Configs that somebody else wrote: plain values only, and never more of them than fits."""

from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from pipeline.base.config import load_config
from pipeline.base.errors import UserError
from pipeline.base.yaml_file import parse_value, parse_yaml

LETTERS = "abcdefghijklmnopqrstuvw"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in pairwise(LETTERS[:10])
)
MAPS = "a: &a {x: 1, y: 1}\n" + "".join(f"{new}: &{new} {{x: *{old}, y: *{old}}}\n" for old, new in pairwise(LETTERS))
HOSTILE = {
    "a call": 'seed: !!python/object/apply:os.system ["true"]\n',
    "a module": "seed: !!python/name:os.system\n",
    "an object": "!!python/object/new:os.system [true]\n",
    "a bomb of lists": BOMB,
    "a bomb of mappings": MAPS,
    "a bomb below a free key": f"deepspeed:\n  {BOMB.replace(chr(10), chr(10) + '  ')}",
    "itself": "deepspeed: &a {b: *a}\n",
    "a deep list": "seed: " + "[" * 700,
    "a deep mapping": "".join("{a: " for _ in range(3_000)),
    "many digits": "seed: " + "9" * 10_000,
    "no number": "seed: !!int x\n",
    "no time": "seed: !!timestamp x\n",
    "no bool": "seed: !!bool x\n",
    "no base64": "seed: !!binary x\n",
    "a set": "!!set {a, b}\n",
    "a zero byte": "seed: \0\n",
    "a list as key": "? [a]\n: b\n",
    "a number as key": "1: 2\n",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_config_is_one_message(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(HOSTILE[kind])
    with pytest.raises(UserError, match=r"run\.yaml"):
        load_config(path)
    with pytest.raises(UserError):
        load_config(None, [f"deepspeed={HOSTILE[kind]}"])


@pytest.mark.parametrize("content", [b"\xff\xfe", b"seed: \xc3", b"\x80abc", b"%YAML 9.9\n---\n"])
def test_bytes_that_are_no_text(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"run\.yaml"):
        load_config(path)


def test_aliases_within_reason_are_taken() -> None:
    assert parse_yaml("a: &a {b: 1}\nc: [*a, *a]\nd: {<<: *a, e: 2}\n") == {
        "a": {"b": 1},
        "c": [{"b": 1}, {"b": 1}],
        "d": {"b": 1, "e": 2},
    }
    with pytest.raises(yaml.YAMLError):
        parse_yaml(BOMB)
    with pytest.raises(UserError, match="is not a YAML value"):
        parse_value("!!python/name:os.system")
