"""Names of files as a manifest lists them: they stay inside the manifest's folder, whoever wrote it.

Price: a link that leads out of the folder is refused too, so what is to lie elsewhere is linked as a whole folder.
"""

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from pipeline.base.errors import Damaged

if TYPE_CHECKING:
    from pipeline.base.storage import Location

Folder = TypeVar("Folder", bound="Location")
LONGEST = 255
"""Bytes of a part of a name that file systems take."""
_LEADING_OUT = frozenset(("", ".", ".."))


def inside(name: str) -> str:
    """The name, relative and with slashes, if it cannot lead out of its folder; ValueError otherwise."""
    parts = name.split("/")
    wrong = not _LEADING_OUT.isdisjoint(parts)
    if len(name.encode(errors="replace")) > LONGEST:  # rare: a data set has 10^5 names
        wrong = wrong or any(len(part.encode(errors="replace")) > LONGEST for part in parts)
    if wrong or "\\" in name or not name.isprintable():
        raise ValueError(f"{name!r} is no name of a file inside the manifest's folder")
    return name


def file_inside(folder: Folder, name: str) -> Folder:
    """The file `name` of a folder. Damaged where the name, or a link on its way, leads out of the folder."""
    try:
        inside(name)
    except ValueError as error:
        raise Damaged(f"{folder}: {error}. Take the folder from where it was made.") from None
    if isinstance(folder, Path) and not _stays(folder, name):
        raise Damaged(
            f"{folder / name} is a link that leads out of {folder}. Put the file itself there, or link the folder as a "
            "whole."
        )
    return cast(Folder, folder / name)


def _stays(folder: Path, name: str) -> bool:
    try:
        return (folder / name).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links in a circle
        return False
