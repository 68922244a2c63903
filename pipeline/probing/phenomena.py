"""Agreement and word order in English: templates of minimal pairs, 100 a phenomenon, the same every time.

Half of the pairs of an agreement phenomenon are singular, half plural, so that no form is right more often.
"""

from itertools import product

from pipeline.probing.templates import PAIRS, Sentences, choose, halves, sentence

PEOPLE = (
    ("teacher", "teachers"),
    ("doctor", "doctors"),
    ("farmer", "farmers"),
    ("student", "students"),
    ("neighbour", "neighbours"),
    ("worker", "workers"),
    ("writer", "writers"),
    ("soldier", "soldiers"),
    ("girl", "girls"),
    ("boy", "boys"),
)
_DOES = (
    ("walks", "walk", "to the station"),
    ("writes", "write", "long letters"),
    ("lives", "live", "near the river"),
    ("wants", "want", "a new house"),
    ("likes", "like", "old films"),
    ("buys", "buy", "the newspaper"),
    ("plays", "play", "in the garden"),
    ("knows", "know", "the whole story"),
    ("works", "work", "in the city"),
    ("drinks", "drink", "a lot of water"),
)
_HEADS = (
    ("key", "keys"),
    ("picture", "pictures"),
    ("letter", "letters"),
    ("road", "roads"),
    ("box", "boxes"),
    ("book", "books"),
)
_PHRASES = (
    ("to the house", "to the houses"),
    ("near the window", "near the windows"),
    ("behind the door", "behind the doors"),
    ("from the village", "from the villages"),
    ("beside the tree", "beside the trees"),
)
_STATES = ("very old", "not important", "still there", "hard to find")
_SELF = ("saw", "hurt", "blamed", "described", "trusted", "introduced")
_WHERE = ("in the mirror", "after the game", "in the letter", "at the meeting", "last summer")
_HE = ("king", "father", "uncle", "husband", "grandfather")
_SHE = ("queen", "mother", "aunt", "wife", "grandmother")
_THEY = ("boys", "girls", "students", "workers", "neighbours")
_THINGS = (
    ("book", "books"),
    ("picture", "pictures"),
    ("flower", "flowers"),
    ("chair", "chairs"),
    ("letter", "letters"),
    ("song", "songs"),
    ("ticket", "tickets"),
    ("house", "houses"),
)
_VERBS = ("bought", "found", "liked", "remembered", "described")
_ADJECTIVES = ("old", "young", "tall", "famous", "friendly")


def subject_verb_agreement() -> list[Sentences]:
    """The teacher walks / *walk to the station."""
    one = ((sentence("the", n, v, r), sentence("the", n, w, r)) for (n, _), (v, w, r) in product(PEOPLE, _DOES))
    many = ((sentence("the", n, w, r), sentence("the", n, v, r)) for (_, n), (v, w, r) in product(PEOPLE, _DOES))
    return halves(one, many)


def agreement_across_a_phrase() -> list[Sentences]:
    """The key near the windows is / *are still there: a noun of the other number stands between."""
    grid = list(product(_HEADS, _PHRASES, _STATES))
    one = ((sentence("the", h, p, "is", s), sentence("the", h, p, "are", s)) for (h, _), (_, p), s in grid)
    many = ((sentence("the", h, p, "are", s), sentence("the", h, p, "is", s)) for (_, h), (p, _), s in grid)
    return halves(one, many)


def anaphor_agreement() -> list[Sentences]:
    """The king saw himself / *herself; the girls saw themselves / *herself: gender in one half, number in the other."""

    def pairs(nouns: tuple[str, ...], right: str, wrong: str) -> list[Sentences]:
        grid = product(nouns, _SELF, _WHERE)
        return [(sentence("the", n, v, right, w), sentence("the", n, v, wrong, w)) for n, v, w in grid]

    kinds = (
        pairs(_HE, "himself", "herself"),
        pairs(_SHE, "herself", "himself"),
        pairs(_HE, "himself", "themselves"),
        pairs(_THEY, "themselves", "himself"),
    )
    return [pair for kind in kinds for pair in choose(kind, PAIRS // len(kinds))]


def determiner_noun_agreement() -> list[Sentences]:
    """The girl bought this book / *books."""
    grid = list(product(PEOPLE, _VERBS, _THINGS))

    def pairs(words: tuple[str, str], right: int) -> list[Sentences]:
        return [
            (sentence("the", who, verb, word, things[right]), sentence("the", who, verb, word, things[1 - right]))
            for (who, _), verb, things in grid
            for word in words
        ]

    return halves(pairs(("this", "that"), 0), pairs(("these", "those"), 1))


def word_order() -> list[Sentences]:
    """The old teacher found the book / *old the teacher …: two neighbouring words change places."""
    pairs = []
    for adjective, (noun, _), verb, (thing, _) in product(_ADJECTIVES, PEOPLE, _VERBS, _THINGS):
        words = ["the", adjective, noun, verb, "the", thing]
        for place in (0, 1, 4):
            swapped = [*words]
            swapped[place : place + 2] = reversed(words[place : place + 2])
            pairs.append((sentence(*words), sentence(*swapped)))
    return choose(pairs, PAIRS)
