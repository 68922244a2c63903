"""Verbs, negation and questions in English: templates of minimal pairs, 100 a phenomenon, the same every time."""

from itertools import product

from pipeline.probing.phenomena import PEOPLE
from pipeline.probing.templates import PAIRS, Sentences, choose, halves, sentence

_NAMES = tuple(one for one, _ in PEOPLE)
_IRREGULAR = (
    ("wrote", "written", "a long letter"),
    ("broke", "broken", "the window"),
    ("ate", "eaten", "the apple"),
    ("took", "taken", "the wrong bus"),
    ("chose", "chosen", "a small room"),
    ("drove", "driven", "the old car"),
    ("gave", "given", "a short answer"),
    ("knew", "known", "the answer"),
    ("stole", "stolen", "the money"),
    ("drew", "drawn", "a map"),
)
_FORMS = (
    ("open", "opens", "opening", "the door"),
    ("read", "reads", "reading", "the book"),
    ("help", "helps", "helping", "the child"),
    ("clean", "cleans", "cleaning", "the kitchen"),
    ("visit", "visits", "visiting", "the museum"),
    ("watch", "watches", "watching", "the game"),
    ("carry", "carries", "carrying", "the bags"),
    ("answer", "answers", "answering", "the question"),
)
_MODALS = ("will", "can", "must", "should")
_TAKES_OBJECT = ("opened", "carried", "found", "cleaned", "bought", "fixed", "pushed", "painted")
_TAKES_NONE = ("slept", "arrived", "smiled", "laughed", "fell", "appeared", "waited", "coughed")
_OBJECTS = ("the door", "the table", "the box", "the chair", "the machine")
_NOBODY = (
    ("nobody", "somebody"),
    ("no student", "some student"),
    ("no doctor", "some doctor"),
    ("no teacher", "some teacher"),
    ("no farmer", "some farmer"),
    ("no worker", "some worker"),
    ("no writer", "some writer"),
)
_EVER = (
    "has ever seen the sea",
    "has ever been to the island",
    "has ever read the book",
    "has ever heard the song",
    "has ever met the king",
    "would ever sell the house",
    "would ever leave the village",
    "had ever used the machine",
    "had ever tried the soup",
    "wants to hear it any more",
    "said anything at all",
    "lives there any more",
    "has found it yet",
    "knew anything about it",
    "could understand it at all",
    "trusted the man any more",
    "has answered the letter yet",
)
_KNOWS = ("knows", "knew", "remembered", "forgot", "discovered")
_NEEDS_OBJECT = ("had bought", "had found", "had brought", "had made", "had fixed", "had received", "had carried")


def irregular_forms() -> list[Sentences]:
    """Yesterday the boy wrote / *written a letter; the boy has written / *wrote a letter."""
    grid = list(product(_NAMES, _IRREGULAR))
    past = ((sentence("yesterday the", n, p, r), sentence("yesterday the", n, q, r)) for n, (p, q, r) in grid)
    perfect = ((sentence("the", n, "has", q, r), sentence("the", n, "has", p, r)) for n, (p, q, r) in grid)
    return halves(past, perfect)


def auxiliary_and_form() -> list[Sentences]:
    """The girl will open / *opens the door; the girl is opening / *opens the door."""
    modal = (
        (sentence("the", n, m, f[0], f[3]), sentence("the", n, m, f[1], f[3]))
        for n, m, f in product(_NAMES, _MODALS, _FORMS)
    )
    going_on = (
        (sentence("the", n, b, f[2], f[3]), sentence("the", n, b, f[1], f[3]))
        for n, b, f in product(_NAMES, ("is", "was"), _FORMS)
    )
    return halves(modal, going_on)


def transitivity() -> list[Sentences]:
    """The doctor opened / *slept the door: only some verbs take an object."""
    grid = product(_NAMES, _TAKES_OBJECT, _TAKES_NONE, _OBJECTS)
    return choose(((sentence("the", n, t, o), sentence("the", n, i, o)) for n, t, i, o in grid), PAIRS)


def negative_polarity() -> list[Sentences]:
    """Nobody / *somebody has ever seen the sea: "ever", "any" and "yet" need a negation before them."""
    return choose(
        ((sentence(no, rest), sentence(some, rest)) for (no, some), rest in product(_NOBODY, _EVER)),
        PAIRS,
    )


def wh_and_gap() -> list[Sentences]:
    """The teacher knows what / *that the boy had found; … that / *what the boy had found the key."""
    grid = [(a, k, b, v) for a, k, b, v in product(_NAMES, _KNOWS, _NAMES, _NEEDS_OBJECT) if a != b]

    def pairs(right: str, wrong: str, rest: tuple[str, ...]) -> list[Sentences]:
        return [
            (sentence("the", a, k, right, "the", b, v, *rest), sentence("the", a, k, wrong, "the", b, v, *rest))
            for a, k, b, v in grid
        ]

    return halves(pairs("what", "that", ()), pairs("that", "what", ("the key",)))
