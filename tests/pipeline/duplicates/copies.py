"""Made-up documents with known copies, their keys in folders, and workers that are this process."""

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.base.duplicates_sections import DeduplicateConfig
from pipeline.duplicates.drops import read_drops
from pipeline.duplicates.find import DuplicateTotals, find_duplicates
from pipeline.duplicates.keys import KeyWriter


class Killed(Exception):
    """The process is gone."""


@dataclass
class Here:
    """In place of Ray's workers; dies after so many units of work."""

    dies_after: int | None = None
    done: int = 0

    def map_unordered(
        self, function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Any]]:
        for place, one in reversed(list(enumerate(arguments))):
            if self.done == self.dies_after:
                raise Killed
            self.done += 1
            yield place, function(*one)

    def map_ordered(self, function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        yield from (result for _, result in sorted(self.map_unordered(function, arguments), key=lambda pair: pair[0]))


@dataclass(frozen=True)
class Folders:
    """Task -> folder of its keys."""

    path: Path

    def __call__(self, task: int) -> Path:
        return self.path / f"{task:03d}"


def config_of(**values: Any) -> DeduplicateConfig:
    return DeduplicateConfig.model_validate(values)


def save_keys(config: DeduplicateConfig, tasks: Sequence[Sequence[str]], path: Path) -> Folders:
    folders = Folders(path)
    for number, texts in enumerate(tasks):
        writer = KeyWriter(config)
        for text in texts:
            writer.add(text, hashlib.blake2b(text.encode(), digest_size=16).digest())
        writer.save(folders(number))
    return folders


def cut(items: Sequence[Any], sizes: Sequence[int]) -> list[list[Any]]:
    """Parts of these sizes in turn, over and over."""
    parts, start = [], 0
    while start < len(items):
        size = sizes[len(parts) % len(sizes)]
        parts.append(list(items[start : start + size]))
        start += size
    return parts


def found_in(
    config: DeduplicateConfig, tasks: Sequence[Sequence[str]], place: Path, index: Any = None
) -> tuple[DuplicateTotals, dict[int, str], set[tuple[int, int]]]:
    """Totals; kind of each document that is dropped; (document, paragraph) that are cut; numbered through all tasks."""
    folders = save_keys(config, tasks, place / "keys")
    totals = find_duplicates(config, folders, len(tasks), place / "out", Here(), index)  # type: ignore[arg-type]
    return totals, *drops_of(tasks, place / "out")


def drops_of(tasks: Sequence[Sequence[str]], out: Path) -> tuple[dict[int, str], set[tuple[int, int]]]:
    dropped, cuts, first = {}, set(), 0
    for number, texts in enumerate(tasks):
        drops = read_drops(out, number)
        dropped |= {
            first + int(document): {1: "exact", 2: "near"}[int(kind)]
            for document, kind in zip(drops.documents, drops.kinds, strict=True)
        }
        cuts |= {(first + document, paragraph) for document, paragraph in drops.paragraphs.tolist()}
        first += len(texts)
    return dropped, cuts


def words_of(chance: random.Random, count: int) -> list[str]:
    """Made-up words of a language with a few common ones and many rare ones."""
    return [f"w{int(chance.paretovariate(0.6)) % 20_000}" for _ in range(count)]


def changed(words: list[str], chance: random.Random, share: float = 0.05) -> list[str]:
    """A copy in which that share of the words are others."""
    copy = list(words)
    for place in chance.sample(range(len(copy)), round(share * len(copy))):
        copy[place] = f"other{chance.randrange(10**9)}"
    return copy


def corpus_with_copies(seed: int, count: int) -> tuple[list[str], dict[int, tuple[str, int]]]:
    """Texts of three paragraphs each; of those that are copies: exact, near or part, and the number of the first one.

    part: a new text that repeats a paragraph.
    """
    chance, texts, copies = random.Random(seed), list[str](), dict[int, tuple[str, int]]()
    while len(texts) < count:
        kind = chance.choice(["new", "new", "exact", "near", "part"]) if texts else "new"
        first = chance.choice([number for number in range(len(texts)) if number not in copies]) if texts else 0
        paragraphs = [" ".join(words_of(chance, 60)) for _ in range(3)]
        if kind == "exact":
            texts.append(texts[first])
        elif kind == "near":
            texts.append("\n\n".join(" ".join(changed(part.split(), chance)) for part in texts[first].split("\n\n")))
        elif kind == "part":
            paragraphs[1] = texts[first].split("\n\n")[1]
            texts.append("\n\n".join(paragraphs))
        else:
            texts.append("\n\n".join(paragraphs))
        if kind != "new":
            copies[len(texts) - 1] = (kind, first)
    return texts, copies
