"""The derived task: balanced labels, splits by hash, nothing of a held-out text in the training set."""

import json

from pipeline.demo.docstrings import Module
from pipeline.demo.packages_task import derive, sample_evenly, split_of, without_held_out

WORDS = ["red", "blue", "green", "black", "white", "brown", "pink", "grey"]


def text_of(number: int, package: str) -> str:
    """A text of 14 words that no other number has."""
    names = [WORDS[number >> shift & 7] for shift in (0, 3, 6)]
    return f"The {' '.join(names)} part of it is what a {package[0]} reader looks for in this place"


def modules() -> list[Module]:
    """Three packages of 300, 200 and 100 documentation strings."""
    found = []
    for package, count in (("torch", 300), ("scipy", 200), ("tiny", 100)):
        docstrings = tuple((text_of(number, package),) for number in range(count))
        found.append(Module(path=f"{package}/all.py", docstrings=docstrings))
    return found


def read(lines: bytes) -> list[dict[str, str]]:
    return [json.loads(line) for line in lines.splitlines()]


def test_the_largest_packages_are_the_labels_and_are_balanced() -> None:
    splits = {name: read(lines) for name, lines in derive(modules(), packages=2, most=150).items()}
    everything = [example for examples in splits.values() for example in examples]
    assert {example["label"] for example in everything} == {"torch", "scipy"}
    assert sum(example["label"] == "torch" for example in everything) == 150
    assert len(splits["train"]) > len(splits["test"]) > len(splits["dev"]) > 0


def test_no_text_is_in_two_splits_and_none_names_a_label() -> None:
    given = [
        *modules(),
        Module(path="scipy/more.py", docstrings=(("Calls Torch to do the work " + "again and " * 9,),)),
    ]
    splits = {name: read(lines) for name, lines in derive(given, packages=2, most=1000).items()}
    texts = {name: {example["text"] for example in examples} for name, examples in splits.items()}
    assert not texts["train"] & (texts["dev"] | texts["test"])
    assert not any("Torch" in text for split in texts.values() for text in split)
    assert all(split_of(text) == name for name, split in texts.items() for text in split)


def test_a_training_text_around_a_test_text_is_dropped() -> None:
    train = [("Before. Find the root, of it! After.", "a"), ("Find the other one", "b")]
    assert without_held_out(train, ["find the root of it"]) == [("Find the other one", "b")]


def test_the_sample_does_not_depend_on_the_order() -> None:
    found = [(text_of(number, "torch"), "torch") for number in range(50)]
    assert sample_evenly(found, 20) == sample_evenly(found[::-1], 20)
