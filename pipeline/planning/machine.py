"""A machine as the predictor knows it: rates for each kind of work, and links; a small JSON file keeps it."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from pipeline.base.errors import UserError
from pipeline.base.files import read_json, write_json
from pipeline.planning.work import KINDS, Counts, Work

VERSION = 1


@dataclass(frozen=True)
class Link:
    """A way between ranks: a message of n bytes takes latency + n / bandwidth."""

    latency: float
    """Seconds."""
    bandwidth: float
    """Bytes a second in one direction."""


@dataclass(frozen=True)
class Machine:
    """Rates as calibrate.py measures them on a CPU."""

    name: str
    rates: dict[str, tuple[float, ...]]
    """Kind, a space and the precision -> seconds for each count of work.KINDS; "update" with the ZeRO stage."""
    link: Link
    """Between two ranks of this machine."""
    host_seconds_a_byte: float = 0.0
    """Processor time of a rank for a byte that it exchanges."""
    versions: dict[str, str] = field(default_factory=dict)

    def seconds(self, work: Work, precision: str) -> float:
        """Time of some work. UserError for a precision that was not calibrated."""
        return sum(self.kind_seconds(f"{kind} {precision}", tuple(counts)) for kind, counts in work.items())

    def kind_seconds(self, key: str, counts: Counts) -> float:
        """Time of one kind."""
        if key not in self.rates:
            raise UserError(f"the machine's file has no rates for {key!r}: calibrate it again with --calibrate.")
        return sum(rate * count for rate, count in zip(self.rates[key], counts, strict=True))


def write_machine(path: Path, machine: Machine) -> None:
    """Keeps it."""
    write_json(path, {"version": VERSION, **asdict(machine)})


def read_machine(path: Path) -> Machine:
    """The machine that a file describes. UserError where it does not."""
    if not path.is_file():
        raise UserError(f"the machine's file {path} does not exist: write one with --calibrate {path}.")
    wrong = UserError(f"{path} is not a machine's file of version {VERSION}: write a new one with --calibrate.")
    try:
        values = read_json(path)
        if values["version"] != VERSION:
            raise wrong
        rates = {key: tuple(map(float, rate)) for key, rate in values["rates"].items()}
        if any(len(rate) != len(KINDS[key.split()[0]]) for key, rate in rates.items()):
            raise wrong
        link = Link(float(values["link"]["latency"]), float(values["link"]["bandwidth"]))
        return Machine(values["name"], rates, link, float(values["host_seconds_a_byte"]), values["versions"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise wrong from None
