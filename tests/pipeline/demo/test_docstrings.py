"""Gathering: modules are parsed and never imported, bytes do not depend on the machine, paragraphs are unique."""

import hashlib
import json
from pathlib import Path

import pytest

from pipeline.base.errors import UserError
from pipeline.demo.docstrings import gather, module_files, read_module, to_lines

FIRST = '''"""The first module of the package."""
import a_module_that_is_nowhere
raise SystemExit("imported!")

class Thing:
    """A thing that is used in the tests.

    It is kept in the list of the things.
    """

    if True:
        async def inner(self):
            """The inner function of the class is found too."""
'''
SECOND = '''"""The second module of the package."""

def again():
    """A THING that is used in the tests!

    This is the only new text of it.
    """
'''


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A small site-packages folder."""
    for name, text in {
        "beta/second.py": SECOND,
        "alpha/first.py": FIRST,
        "alpha/copy.py": '"""The first module of the package."""\n',
        "alpha/broken.py": "def (:\n",
        "single.py": '"""A module that is a file by itself."""\n',
        "pipeline/ours.py": '"""This is the text of our own package."""\n',
        "__editable___x_finder.py": '"""This is the text of the finder of the install."""\n',
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "alpha/latin.py").write_bytes(b'# coding: latin-1\n"""This is the caf\xe9 of the old encoding."""\n')
    return tmp_path


def test_documents_are_modules_in_order_without_repeated_paragraphs(site: Path) -> None:
    data, gathered = to_lines(gather(site, processes=1))
    documents = [json.loads(line) for line in data.splitlines()]
    # alpha/copy.py comes before alpha/first.py, so the sentence that both have is the former's.
    assert documents == [
        {"text": "The first module of the package.", "package": "alpha"},
        {
            "text": "A thing that is used in the tests.\nIt is kept in the list of the things.\n"
            "The inner function of the class is found too.",
            "package": "alpha",
        },
        {"text": "This is the café of the old encoding.", "package": "alpha"},
        {"text": "The second module of the package.\nThis is the only new text of it.", "package": "beta"},
        {"text": "A module that is a file by itself.", "package": "single"},
    ]
    assert gathered.documents == 5
    assert gathered.packages == 3
    assert gathered.text_bytes == sum(len(document["text"].encode()) for document in documents)
    assert gathered.sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.slow
def test_processes_change_nothing(site: Path) -> None:
    assert to_lines(gather(site, processes=2)) == to_lines(gather(site, processes=1))


def test_a_module_knows_no_machine_path(site: Path) -> None:
    assert module_files(site) == [
        "alpha/broken.py",
        "alpha/copy.py",
        "alpha/first.py",
        "alpha/latin.py",
        "beta/second.py",
        "single.py",
    ]
    assert read_module(site, "beta/second.py").path == "beta/second.py"


def test_an_environment_without_documentation_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="make setup"):
        gather(tmp_path, processes=1)
