"""Recall and precision of near-duplicate search on planted copies of real texts, and what the search costs.

    python benchmarks/duplicates.py FILE.jsonl.zst ... [--documents 20000] [--words 50 3000] [--change replace]
                                    [--share 0.05] [--exactly] [--characters] [--seeds 1 2]

Half of the documents are pieces of the files' texts, of lengths that are spread evenly by their logarithm; the other
half are their copies, in which a share of the words (with --characters: of the characters, for Chinese) is replaced,
deleted, or followed by another (mixed: each of these). Each word is changed with that probability, so short copies
differ widely; with --exactly the number of changed words is the share, rounded. Precision is told twice: by what was
planted, and by the true Jaccard similarity of a dropped document and its nearest one in the group, at least 0.35.
"""

import argparse
import hashlib
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import zstandard

from pipeline.base.duplicates_sections import DeduplicateConfig, NearConfig
from pipeline.duplicates.drops import DROP, of_source
from pipeline.duplicates.find import find_duplicates
from pipeline.duplicates.keys import KeyWriter
from pipeline.duplicates.plan import load_plan
from pipeline.duplicates.shingles import Shingler
from pipeline.duplicates.texts import encoded

TASK = 1000
"""Documents a task."""
SIMILAR = 0.35


class Here:
    """In place of Ray's workers this process, whose time and memory are told."""

    def map_unordered(self, function: Callable[..., Any], arguments: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """As Workers.map_unordered."""
        for place, one in enumerate(arguments):
            yield place, function(*one)

    def map_ordered(self, function: Callable[..., Any], arguments: Iterable[Any]) -> Iterator[Any]:
        """As Workers.map_ordered."""
        yield from (result for _, result in self.map_unordered(function, arguments))


def read_texts(paths: list[str]) -> list[str]:
    """The field `text` of all lines."""
    texts = []
    for path in paths:
        with zstandard.open(path, "rt", encoding="utf-8") as file:
            texts += [json.loads(line)["text"] for line in file]
    return texts


def pieces(texts: list[list[str]], wanted: int, least: int, most: int, chance: random.Random) -> list[list[str]]:
    """So many runs of words that do not overlap, of lengths from least to most."""
    found: list[list[str]] = []
    used = [0] * len(texts)
    order = list(range(len(texts)))
    chance.shuffle(order)
    for turn in range(40 * len(order)):
        number = order[turn % len(order)]
        length = int(least * (most / least) ** chance.random())
        if used[number] + length <= len(texts[number]):
            found.append(texts[number][used[number] : used[number] + length])
            used[number] += length
            if len(found) == wanted:
                break
    return found


def changed(
    words: list[str], share: float, kind: str, exactly: bool, chance: random.Random, more: list[str]
) -> list[str]:
    """A copy with some words replaced, deleted, or followed by another one of `more`."""
    if exactly:
        places = set(chance.sample(range(len(words)), max(1, round(share * len(words)))))
    else:
        places = {place for place in range(len(words)) if chance.random() < share}
    copy = []
    for place, word in enumerate(words):
        what = chance.choice(["replace", "delete", "insert"]) if kind == "mixed" else kind
        if place not in places or what == "insert":
            copy.append(word)
        if place in places and what != "delete":
            copy.append(chance.choice(more))
    return copy


def search(config: DeduplicateConfig, texts: list[str], place: Path) -> dict[str, Any]:
    """What is dropped and for which document, seconds of processor time, and bytes of text."""
    tasks = [texts[start : start + TASK] for start in range(0, len(texts), TASK)]
    started = time.process_time()
    for number, some in enumerate(tasks):
        writer = KeyWriter(config)
        for text in some:
            writer.add(text, hashlib.blake2b(text.encode(), digest_size=16).digest())
        writer.save(place / str(number))
    written = time.process_time()
    out = place / "out"
    find_duplicates(config, lambda number: place / str(number), len(tasks), out, cast(Any, Here()))
    ended = time.process_time()
    plan, dropped = load_plan(out), dict[int, int]()
    for number in range(len(tasks)):
        rows = of_source(out, plan, "documents", number)
        assert rows.dtype == DROP
        dropped |= {TASK * number + int(row["document"]): int(row["kept"]) for row in rows}
    return {"dropped": dropped, "keys": written - started, "find": ended - written}


def jaccard(shingler: Shingler, one: str, other: str) -> float:
    """The true similarity of two texts' sets of shingles."""
    hashes, offsets, _ = shingler.cut(encoded([one, other]))
    first, second = set(hashes[: int(offsets[1])].tolist()), set(hashes[int(offsets[1]) :].tolist())
    return len(first & second) / max(1, len(first | second))


def measure(texts: list[list[str]], options: argparse.Namespace, seed: int) -> str:
    """One row of the table."""
    chance, join = random.Random(seed), "" if options.characters else " "
    originals = pieces(texts, options.documents // 2, options.words[0], options.words[1], chance)
    more = [word for text in chance.sample(texts, min(300, len(texts))) for word in text if word.strip()]
    together = []
    for number, words in enumerate(originals):
        copy = changed(words, options.share, options.change, options.exactly, chance, more)
        together += [(join.join(words), number), (join.join(copy), number)]
    chance.shuffle(together)
    first: dict[int, int] = {}
    later = {place for place, (_, number) in enumerate(together) if first.setdefault(number, place) != place}
    whole = [text for text, _ in together]
    near = NearConfig()
    with tempfile.TemporaryDirectory() as folder:
        found = search(DeduplicateConfig(documents=True, near=near), whole, Path(folder))
    dropped = found["dropped"]
    others, groups = {place for place in dropped if place not in later}, dict[int, list[int]]()
    for place, kept in dropped.items():
        groups.setdefault(kept, [kept]).append(place)
    shingler = Shingler(near.shingle_words, near.shingle_characters)
    wrong = sum(
        max(jaccard(shingler, whole[place], whole[one]) for one in groups[dropped[place]] if one != place) < SIMILAR
        for place in others
    )
    size = sum(len(text.encode()) for text in whole) / 1e6
    right, total = len(dropped) - len(others), len(dropped)
    return (
        f"seed {seed}, {len(whole)} documents, {size:.1f} MB: recall {right / len(later):.4f}, precision "
        f"{right / total:.4f} by plan, {1 - wrong / total:.4f} by Jaccard; keys {size / found['keys']:.1f} MB/s, "
        f"search {found['find']:.1f} s"
    )


def main() -> None:
    """Prints a row for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--words", type=int, nargs=2, default=[50, 3000])
    parser.add_argument("--change", choices=["replace", "delete", "insert", "mixed"], default="replace")
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--exactly", action="store_true")
    parser.add_argument("--characters", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    options = parser.parse_args()
    texts = [list(text) if options.characters else text.split() for text in read_texts(options.files)]
    for seed in options.seeds:
        print(measure(texts, options, seed), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak of this process, its texts included: {peak:.1f} GB", file=sys.stderr)


if __name__ == "__main__":
    main()
