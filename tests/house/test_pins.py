"""Every package that is installed is pinned, in the version that is tested; what setup.py allows holds the pin."""

import re
import sysconfig
from importlib.metadata import distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "electra-pretraining"
NOT_PINNED = {PROJECT, "pip", "setuptools", "wheel"}
"""The project, and what installs it (pyproject.toml bounds that)."""


def pins() -> dict[str, str]:
    lines = [line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    found = [re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;*]+)", line) for line in lines if line and line[0] != "#"]
    assert all(found), "a line that pins nothing"
    names = [canonicalize_name(one[1]) for one in found if one]
    assert len(names) == len(set(names)), "a package stands there twice"
    return {canonicalize_name(one[1]): one[2] for one in found if one}


def test_all_that_is_installed_is_pinned() -> None:
    known = pins()
    folders = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    # Not sys.path: what setuptools has packed into itself is there once something has loaded it.
    installed = {canonicalize_name(one.metadata["Name"]): one.version for one in distributions(path=folders)}
    assert len(installed) > 100
    wrong = {
        name: (version, known.get(name, "not pinned"))
        for name, version in installed.items()
        if name not in NOT_PINNED and Version(version).public != Version(known.get(name, "0")).public
    }
    assert wrong == {}, "installed, and in constraints.txt"


def test_the_pins_are_within_what_setup_allows() -> None:
    known = pins()
    asked = [Requirement(line) for line in requires(PROJECT) or []]
    assert asked
    for one in asked:
        assert one.specifier.contains(known[canonicalize_name(one.name)]), one
