"""`python -m pipeline.shards verify`: what is wrong with a data set is named, file and place, in one message."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.shards.reading import read_blocks
from pipeline.shards.writer import write_shard
from tests.pipeline.shards.running import Run, flip
from tests.pipeline.shards.text_dataset import TextDataset
from tests.s3_server import S3Server


def test_verify_a_sound_data_set(made: TextDataset, run: Run) -> None:
    for jobs in (1, 4):
        done = run("verify", made.folder, "--jobs", jobs)
        assert (done.code, done.out.splitlines()[-1].partition(": ")[2]) == (
            0,
            "14 shards, 51 blocks, 266,240 bytes: as they were written, every digest and every block",
        )
    part = run("verify", made.data / "validation").out
    assert "1 shards, 2 blocks, 10,240 bytes, a part of the data set: as they were written" in part


def swap(made: TextDataset) -> None:
    first, second = made.data / "train-web" / "000001.tar", made.data / "train-web" / "000002.tar"
    first_bytes = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(first_bytes)


DAMAGES: dict[str, tuple[Callable[[TextDataset], Any], str]] = {
    "an id": (
        lambda made: flip(made.data / "train-web" / "000003.tar", 700),
        "train-web/000003.tar is broken: its bytes are not those that were written.",
    ),
    "a header": (
        lambda made: flip(made.data / "train-web" / "000003.tar", 0),
        "The first fault: at byte 0: it is no tar file (its checksum is wrong)",
    ),
    "padding of the tar file": (
        lambda made: flip(made.data / "train-web" / "000003.tar", 20_479),
        "The first fault: at byte 14,336: something follows the end of the tar file",
    ),
    "truncated": (
        lambda made: (made.data / "validation" / "000000.tar").write_bytes(b"x" * 9000),
        "validation/000000.tar is cut off: 9,000 bytes, the manifest says 10,240",
    ),
    "too long": (
        lambda made: (made.data / "validation" / "000000.tar").write_bytes(b"x" * 20_000),
        "validation/000000.tar is too long: 20,000 bytes",
    ),
    "missing": (
        lambda made: (made.data / "train-books" / "000000.tar").unlink(),
        "train-books/000000.tar is missing. Copy it again",
    ),
    "extra": (
        lambda made: (made.data / "train-books" / "000002.tar").write_bytes(b"x"),
        "train-books/000002.tar: no revision of",
    ),
    "swapped": (swap, "The first fault: train-web-000000008 stands where train-web-000000004 should"),
    "tokenizer": (
        lambda made: (made.folder / "tokenizer" / "tokenizer.model").write_bytes(b"another"),
        "not a SentencePiece model",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_names_what_is_wrong(made: TextDataset, run: Run, damage: str) -> None:
    spoil, told = DAMAGES[damage]
    spoil(made)
    assert told in run("verify", made.folder, "--jobs", 3).told


@pytest.mark.parametrize("jobs", [1, 2, 8])
def test_the_first_bad_shard_is_named_on_any_number_of_threads(made: TextDataset, run: Run, jobs: int) -> None:
    for name in ("train-web/000009.tar", "train-web/000004.tar", "train-books/000000.tar"):
        flip(made.data / name, 3000)
    told = run("verify", made.folder, "--jobs", jobs).told
    assert f"shard {made.data / 'train-web' / '000004.tar'} is broken" in told
    assert told.count("sha256 expected") == 1


def changed(**more: Any) -> Callable[[list[Any]], list[Any]]:
    """Changes the second block."""

    def change(blocks: list[Any]) -> list[Any]:
        block = blocks[1]
        fields = {"key": block.key, "ids": block.ids, "documents": block.documents, "meta": block.meta}
        return [blocks[0], type(block)(**fields | {name: value(block) for name, value in more.items()}), *blocks[2:]]

    return change


def with_id(place: int, token: int) -> Callable[[Any], Any]:
    def ids(block: Any) -> Any:
        return np.concatenate([block.ids[:place], [token], block.ids[place + 1 :]]).astype("<u2")

    return ids


UNSOUND: dict[str, tuple[Callable[[list[Any]], list[Any]], str]] = {
    "id past the vocabulary": (changed(ids=with_id(7, 400)), "train-web-000000005: id 400 is past the 400 pieces"),
    "padding inside": (changed(ids=with_id(7, 0)), "train-web-000000005: there is padding among its 256 tokens"),
    "other type": (changed(ids=lambda block: block.ids.astype("<u4")), "256 ids of uint32, not 256 of uint16"),
    "big-endian": (changed(ids=lambda block: block.ids.astype(">u2")), "are >u2 (256,), not one row of <u2 or <u4"),
    "other length": (changed(ids=lambda block: np.tile(block.ids, 2)), "something other than padding follows its 256"),
    "offsets that fall": (
        changed(documents=lambda block: block.documents[::-1].copy()),
        "are not rising places among its 256 tokens",
    ),
    "offsets past the end": (
        changed(documents=lambda block: np.array([5, 256], "<i4")),
        "are not rising places among its 256 tokens",
    ),
    "a start inside a document": (
        changed(documents=lambda block: block.documents + 1),
        "train-web-000000005: a document begins where none ends",
    ),
    "another first document": (
        changed(meta=lambda block: block.meta | {"first_document": 99}),
        "train-web-000000005: first_document is 99, not 16",
    ),
    "other fields": (
        changed(meta=lambda block: block.meta | {"more": 1}),
        "it has other fields than tokens, first_document, sources",
    ),
    "another key": (changed(key=lambda _: "train-web-000000008"), "stands where train-web-000000005 should"),
    "a block less": (lambda blocks: blocks[:-1], "it has 3 blocks, the manifest says 4"),
    "short inside the split": (
        changed(meta=lambda block: block.meta | {"tokens": 250}, ids=lambda block: block.ids * (np.arange(256) < 250)),
        "are not rising places|is filled up, but shards of the split follow",
    ),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_verify_looks_into_the_blocks(made: TextDataset, run: Run, name: str) -> None:
    change, told = UNSOUND[name]
    path = made.data / "train-web" / "000001.tar"
    entry = made.manifest.splits["train-web"].shards[1]
    write_shard(path, change(list(read_blocks(path))))
    content = json.loads((made.data / "manifest.json").read_text())
    for shard in content["splits"]["train-web"]["shards"]:
        if shard["name"] == entry.name:
            shard.update(sha256=hashlib.sha256(path.read_bytes()).hexdigest(), bytes=path.stat().st_size)
    (made.data / "manifest.json").write_text(json.dumps(content))
    message = run("verify", made.folder).told
    assert "train-web/000001.tar is broken: " in message
    assert any(part in message for part in told.split("|")), message


def test_shards_of_older_revisions_are_checked_too(made: TextDataset, run: Run) -> None:
    name, data = "train-web/000010.tar", made.data
    recut = data / "train-web" / "000010-r2.tar"
    entry = write_shard(recut, read_blocks(data / name))
    content = json.loads((data / "manifest.json").read_text()) | {"version": 2}
    content["splits"]["train-web"]["shards"][-1] = entry.model_dump()
    (data / "manifest.json").write_text(json.dumps(content))
    assert "15 shards" in run("verify", made.folder).out
    assert len(run("cat", made.data / "train-web").lines) == 91
    flip(data / name, 3000)
    assert f"shard {data / name} is broken" in run("verify", made.folder).told


def test_an_older_manifest_knows_the_shards_of_later_revisions(made: TextDataset, run: Run) -> None:
    data = made.data
    content = json.loads((data / "manifest.json").read_text())
    for version in (2, 3):
        recut = data / "train-web" / f"000010-r{version}.tar"
        entry = write_shard(recut, read_blocks(data / "train-web" / "000010.tar"))
        content["version"] = version
        content["splits"]["train-web"]["shards"][-1] = entry.model_dump()
        for path in (data / "manifest.json", data / "manifests" / f"{version:06d}.json"):
            path.write_text(json.dumps(content))
    for version, shards in ((1, 14), (2, 15), (3, 16)):
        assert f"{shards} shards" in run("verify", data / "manifests" / f"{version:06d}.json").out
    (data / "train-web" / "000010-r4.tar").write_bytes(b"x")
    for version in (1, 3):
        told = run("verify", data / "manifests" / f"{version:06d}.json").told
        assert "train-web/000010-r4.tar: no revision of" in told
        assert "Remove what does not belong there" in told
    (data / ".work").mkdir()
    (data / ".work" / "job.json").write_text("{}")
    told = run("verify", made.folder).told
    assert "000010-r4.tar: no revision" in told
    assert "An unfinished run of preprocessing is there" in told
    assert "Remove" not in told


# without a manifest


def test_shards_alone_are_checked_as_far_as_they_can(made: TextDataset, run: Run, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    (made.data / "train-web").rename(alone)
    done = run("verify", alone)
    assert "11 shards, 42 blocks, 215,040 bytes: sound as shards; without a manifest.json there are no" in done.out
    assert "4 blocks" in run("verify", alone / "000003.tar").out
    assert len(run("cat", alone, "--tokenizer", made.folder / "tokenizer").lines) == 91
    assert len(run("cat", alone, "--ids", "--document", 60).lines[0]["ids"]) == 2908
    (split,) = json.loads(run("ls", alone, "--json").out)["splits"].values()
    assert (split["tokens"], split["documents"]) == (10_652, 91)
    flip(alone / "000003.tar", 0)
    assert "000003.tar is broken: at byte 0: it is no tar file" in run("verify", alone).told


def other_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("notes/readme.txt")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"hello"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            lambda _: other_tar(),
            "at byte 0: 'notes/readme.txt' is no member of a shard: it is a tar file of something else",
        ),
        (lambda shard: gzip.compress(shard), "at byte 0: it is no tar file"),
        (lambda shard: shard[:5000], "at byte 5,000: it ends inside train-web-000000001.ids.npy"),
        (lambda shard: shard[:3584], "at byte 3,584: it ends without the two empty records"),
        (lambda shard: shard[:700], "at byte 700: it ends inside train-web-000000000.ids.npy"),
        (lambda _: b"", "at byte 0: it ends without the two empty records"),
        (lambda _: bytes(1024), "has no blocks"),
        (lambda shard: shard + b"more", "something follows the end of the tar file"),
    ],
)
@pytest.mark.parametrize("command", ["verify", "cat", "stat"])
def test_what_is_no_shard_is_one_message(
    made: TextDataset, run: Run, tmp_path: Path, command: str, content: Callable[[bytes], bytes], told: str
) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(content((made.data / "train-web" / "000000.tar").read_bytes()))
    if told == "has no blocks" and command == "cat":
        return  # it has no documents either
    ran = run(command, path, *(["--ids"] if command == "cat" else []))
    assert ran.code == 2
    assert f"shard {path} " in ran.err
    assert told in ran.err


# in a store


@pytest.mark.slow
def test_in_a_store(made: TextDataset, run: Run, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.base.storage import place_of, upload

    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    for path in sorted(path for path in made.folder.rglob("*") if path.is_file()):
        upload(path, place_of(f"{s3.url}/run/{path.relative_to(made.folder)}"))
    assert "14 shards, 51 blocks, 266,240 bytes: as they were written" in run("verify", f"{s3.url}/run").out
    assert len(run("cat", f"{s3.url}/run/data/train-web").lines) == 91
    assert json.loads(run("stat", f"{s3.url}/run", "--json").out)["validation"]["documents"] == 5
    broken = made.data / "train-web" / "000003.tar"
    flip(broken, 3000)
    upload(broken, place_of(f"{s3.url}/run/data/train-web/000003.tar"))
    assert f"shard {s3.url}/run/data/train-web/000003.tar is broken" in run("verify", f"{s3.url}/run").told
    place_of(f"{s3.url}/run/data/train-web/000002.tar").unlink()
    assert "000002.tar is missing" in run("verify", f"{s3.url}/run").told
