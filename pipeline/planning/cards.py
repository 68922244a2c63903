"""Accelerators as their data sheets have them. Nothing here is measured: the share of the peak is the user's
assumption."""

from dataclasses import dataclass

from pipeline.base.errors import UserError
from pipeline.training.speed import listed_peak


@dataclass(frozen=True)
class Card:
    """An accelerator."""

    name: str
    memory: float
    """Bytes."""
    bandwidth: float
    """Of its memory, bytes a second."""
    link: float
    """Bytes a second to the other cards of a host, in one direction."""

    def peak(self, precision: str) -> float:
        """FLOP/s, dense."""
        found = listed_peak(self.name, precision)
        assert found is not None
        return found


CARDS = {
    card.name: card
    for card in (
        Card("H200", 141e9, 4.8e12, 450e9),
        Card("H100", 80e9, 3.35e12, 450e9),
        Card("A100", 80e9, 2.04e12, 300e9),
        Card("L40S", 48e9, 0.86e12, 32e9),
        Card("L4", 24e9, 0.3e12, 32e9),
    )
}


def card_of(name: str) -> Card:
    """By its name. UserError for one that is not listed."""
    if name not in CARDS:
        raise UserError(f"the card {name!r} is not listed: one of {', '.join(CARDS)}.")
    return CARDS[name]
