"""Generated text for tokenizers: words of syllables in two scripts, and strings that tokenizers stumble over."""

import random
from collections.abc import Sequence

SPECIAL_NAMES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BYTE_NAMES = ("<0x00>", "<0x0A>", "<0xE2>", "<0xFF>")

# Marks that join, forms that normalise, white space of every kind, characters that are deleted or not assigned.
ODD = (
    *SPECIAL_NAMES,
    *BYTE_NAMES,
    *(
        "\u2581",
        "\u2581\u2581",
        " ",
        "  ",
        "\t",
        "\n",
        "\r\n",
        "\r",
        "\x0b",
        "\x0c",
        "\x85",
        "\xa0",
        "\u1680",
        "\u3000",
    ),
    *(
        "\x00",
        "\x01",
        "\x02",
        "\x1f",
        "\x7f",
        "\x8f",
        "\xad",
        "\u200b",
        "\u200c",
        "\u200d",
        "\u200e",
        "\u202e",
        "\u2028",
    ),
    *("\ufeff", "\ufffd", "\ufffe", "\uffff", "\U0010ffff", "\U000e0001", "\u0378", "\ue000"),
    *(
        "\u0301",
        "\u0308\u0301",
        "\u3099",
        "\u20e3",
        "\ufe0f",
        "\u0e33",
        "\uff9e",
        "\u0903",
        "\u094d",
        "\u0600",
        "\u06dd",
    ),
    *("\xe9", "e\u0301", "\xaa\u0301", "\u2460\u0301", "\ufb01\u0301", "\u304b\u3099", "\u1100\u1161\u11a8", "\uac01"),
    *("\ufdfa", "\u3300", "\xbd", "\u2026", "\xa8", "\xb4", "\u2122", "\uff21", "\uff0c", "\u0130", "\u1e9b\u0323"),
    *("\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "\U0001f44d\U0001f3fd", "#\ufe0f\u20e3"),
    *("\u05e9\u05c1", "\u0627\u0644\u0644\u0647", "\u0915\u094d\u0937\u093f", "\u0e01\u0e33", "\u6f22", "\U00020000"),
)

BLOCKS = (
    *((0x20, 0x7E), (0x00, 0xFF), (0x100, 0x24F), (0x250, 0x36F), (0x370, 0x52F), (0x530, 0x5FF), (0x600, 0x7FF)),
    *((0x900, 0xDFF), (0xE00, 0xFFF), (0x1000, 0x137F), (0x1E00, 0x1FFF), (0x2000, 0x2BFF), (0x2E80, 0x30FF)),
    *((0x3130, 0x33FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xF8FF), (0xF900, 0xFFFF), (0x10000, 0x1FFFF)),
    *((0x20000, 0x2FFFF), (0xE0000, 0xE01EF), (0x00, 0x10FFFF)),
)


def make_words(count: int, seed: int = 0) -> list[str]:
    """Words of one to four syllables, a tenth of them in Greek letters."""
    draw = random.Random(seed)
    latin = [a + b for a in "bcdfghklmnprst" for b in "aeiou"]
    greek = [a + b for a in "βγδκλμ" for b in "αεο"]
    return ["".join(draw.choices(latin if draw.random() < 0.9 else greek, k=draw.randint(1, 4))) for _ in range(count)]


def make_documents(count: int, seed: int = 0) -> list[str]:
    """Documents of 1 to 4 lines of words that follow Zipf's law, with a few numbers and marks."""
    draw = random.Random(seed)
    words = [*make_words(1500), "1980", "42", "(", ")", "[a]", "<b>", "x"]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    return [
        "\n".join(
            " ".join(draw.choices(words, weights, k=draw.randint(4, 20))) + "." for _ in range(draw.randint(1, 4))
        )
        for _ in range(count)
    ]


def character(draw: random.Random, block: tuple[int, int]) -> str:
    """A code point of the block that is no surrogate."""
    while True:
        code = draw.randint(*block)
        if not 0xD800 <= code < 0xE000:
            return chr(code)


def odd_texts(count: int, pieces: Sequence[str], seed: int) -> list[str]:
    """Random strings: of one block, of ODD, of pieces glued together, of words and ODD; some of 5,000 letters."""
    draw = random.Random(seed)
    words = make_words(300, seed + 1)
    glued = [piece.replace("\u2581", " ") for piece in pieces]

    def one() -> str:
        kind = draw.random()
        block = draw.choice(BLOCKS)
        if kind < 0.25:
            return "".join(character(draw, block) for _ in range(draw.randint(1, 60)))
        if kind < 0.5:
            some = (
                draw.choice(ODD) if draw.random() < 0.6 else character(draw, block) for _ in range(draw.randint(1, 30))
            )
            return "".join(some)
        if kind < 0.75:
            return "".join(
                draw.choice(glued).strip(" " if draw.random() < 0.5 else "") for _ in range(draw.randint(1, 40))
            )
        if kind < 0.98:
            text = draw.choices(words, k=draw.randint(1, 30))
            for _ in range(draw.randint(0, 5)):
                text.insert(draw.randrange(len(text) + 1), draw.choice(ODD))
            return draw.choice(("", " ")).join(text)
        return long_word(draw, block, glued)

    return [one() for _ in range(count)]


def long_word(draw: random.Random, block: tuple[int, int], pieces: Sequence[str]) -> str:
    """5,000 characters without a space: random letters, a repeated pattern, pieces, or one block."""
    letters = "".join(draw.choices("abcdefghiklmnoprstu", k=5_000))
    pattern = "".join(draw.choices("abde", k=draw.randint(1, 7)))
    glued = "".join(draw.choices(pieces, k=5_000)).replace(" ", "")
    return draw.choice((letters, pattern * 5_000, glued, "".join(character(draw, block) for _ in range(5_000))))[:5_000]
