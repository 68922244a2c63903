"""DeepSpeed hostfiles: `NAME slots=N` a line, comments and blank lines between.

Stricter than the launcher, which reads `slots=4x` as 4: whatever passes here means the same there. A mistake names its
line. Standard library only, apart from the error.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.errors import UserError

LINE = re.compile(r"(\S+)\s+slots=(-?\d+)")
# pdsh would split a comma and expand brackets and %; ssh would take a leading dash for an option.
NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9_:][A-Za-z0-9_.:-]*")


@dataclass(frozen=True)
class Host:
    """One line of a hostfile."""

    name: str
    """Name or address that ssh takes, `user@` before it allowed."""
    slots: int
    """Ranks to start there."""
    where: str
    """`FILE:LINE`, for messages."""


def read_hostfile(path: Path) -> list[Host]:
    """The hosts in order: the first one is the master. UserError at the first mistake."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"the hostfile {path} does not exist. Write a line `NAME slots=N` for each host.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the hostfile {path} cannot be read: {error}.") from None
    hosts: list[Host] = []
    for number, line in enumerate(text.splitlines(), 1):
        content = line.partition("#")[0].strip()
        if content:
            hosts.append(_parse(content, f"{path}:{number}", hosts))
    if not hosts:
        raise UserError(f"the hostfile {path} names no host. Write a line `NAME slots=N` for each host.")
    return hosts


def _parse(content: str, where: str, before: list[Host]) -> Host:
    match = LINE.fullmatch(content)
    if not match:
        raise UserError(f"{where}: cannot read {content!r}. A line is `NAME slots=N`, as in `worker-1 slots=8`.")
    name, slots = match[1], int(match[2])
    if not NAME.fullmatch(name):
        raise UserError(f"{where}: {name!r} is no host name or address.")
    if slots < 1:
        raise UserError(f"{where}: {name} has slots={slots}. Give it 1 or more, or take the line out.")
    for host in before:
        if host.name == name:
            raise UserError(f"{where}: {name} stands at {host.where} already. Give each host one line.")
    return Host(name, slots, where)
