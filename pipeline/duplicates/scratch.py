"""Files of a search: whole or absent, and durable, but for a search that one worker does alone and nobody takes up.

Such a one works in a temporary folder of its host, and its results are copied from there. Price: after a kill it begins
anew, which is a matter of seconds.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.base.files import complete_file, told_plainly

_PREFIX = "search-for-copies-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder whose files need not outlive this process."""
    with told_plainly(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix=_PREFIX) as folder:
        yield Path(folder)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """As complete_file, without waiting for the disk in a folder of scratch_folder."""
    if not any(parent.name.startswith(_PREFIX) for parent in path.parents):
        with complete_file(path) as aside:
            yield aside
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    yield path


def write_whole(path: Path, data: bytes) -> None:
    """Writes bytes by whole_file."""
    with whole_file(path) as aside:
        aside.write_bytes(data)


def write_whole_json(path: Path, value: Any) -> None:
    """Writes JSON by whole_file."""
    write_whole(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
