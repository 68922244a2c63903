"""docs/data.md is enough to write a reader: its own, and one from its words, give what the project's reader gives."""

import json
import re
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.shards.dataset import find_dataset
from pipeline.shards.text import documents_of
from tests.pipeline.shards.text_dataset import BLOCK, TextDataset

PAGE = Path(__file__).resolve().parents[3] / "docs" / "data.md"
PAD, SEP = 0, 3


def numbers(npy: bytes) -> tuple[str, list[int]]:
    """A .npy file by "A shard": its magic, the length of its header, a header that is fixed text, the array."""
    assert npy[:8] == bytes.fromhex("93 4E 55 4D 50 59 01 00")
    (length,) = struct.unpack_from("<H", npy, 8)
    header = npy[10 : 10 + length].decode()
    found = re.fullmatch(r"\{'descr': '(<u2|<u4|<i4)', 'fortran_order': False, 'shape': \((\d+),\), \} *\n", header)
    assert found is not None
    code = {"<u2": "H", "<u4": "I", "<i4": "i"}[found[1]]
    return found[1], list(struct.unpack(f"<{found[2]}{code}", npy[10 + length :]))


class Split:
    """A split by the page's words, every one of them checked."""

    def __init__(self, data: Path, name: str) -> None:
        manifest = json.loads((data / "manifest.json").read_bytes())
        self.name, self.length, self.kind = name, manifest["block_tokens"], manifest["dtype"]
        self.vocabulary = manifest["tokenizer"]["vocab_size"]
        self.stream: list[int] = []
        self.begins: list[int] = []
        self.blocks = 0
        entry = manifest["splits"][name]
        for shard in entry["shards"]:
            before = (self.blocks, len(self.stream), len(self.begins))
            self._read(data / shard["name"])
            after = (self.blocks, len(self.stream), len(self.begins))
            counted = [new - old for old, new in zip(before, after, strict=True)]
            assert counted == [shard["blocks"], shard["tokens"], shard["documents"]]
            assert (data / shard["name"]).stat().st_size == shard["bytes"]
        assert [self.blocks, len(self.stream), len(self.begins)] == [
            entry[total] for total in ("blocks", "tokens", "documents")
        ]
        assert self.blocks == -(-len(self.stream) // self.length)
        assert all(place == 0 or self.stream[place - 1] == SEP for place in self.begins)
        assert self.stream[-1] == SEP

    def _read(self, path: Path) -> None:
        with tarfile.open(path, "r:") as tar:
            members = [self._member(tar, member) for member in tar]
        assert path.stat().st_size % 10_240 == 0
        for first in range(0, len(members), 3):
            (name, ids), (_, places), (_, meta) = members[first : first + 3]
            key = f"{self.name}-{self.blocks:09d}"
            assert name == f"{key}.ids.npy"
            assert [part for part, _ in members[first + 1 : first + 3]] == [f"{key}.documents.npy", f"{key}.meta.json"]
            self._block(ids, places, json.loads(meta))

    @staticmethod
    def _member(tar: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[str, bytes]:
        assert (member.mtime, member.uid, member.gid, member.uname, member.gname, member.mode) == (
            0,
            0,
            0,
            "",
            "",
            0o644,
        )
        file = tar.extractfile(member)
        assert file is not None
        return member.name, file.read()

    def _block(self, ids_npy: bytes, places_npy: bytes, meta: dict[str, Any]) -> None:
        kind, ids = numbers(ids_npy)
        assert kind == {"uint16": "<u2", "uint32": "<u4"}[self.kind]
        assert len(ids) == self.length
        assert max(ids) < self.vocabulary
        assert set(ids[meta["tokens"] :]) <= {PAD}
        assert not {0, 2, 4} & set(ids[: meta["tokens"]])
        place_kind, places = numbers(places_npy)
        assert place_kind == "<i4"
        goes_on = not places or places[0] > 0
        assert meta["first_document"] == len(self.begins) - goes_on
        assert len(meta["sources"]) == 2
        self.begins += [len(self.stream) + place for place in places]
        self.stream += ids[: meta["tokens"]]
        self.blocks += 1

    @property
    def documents(self) -> list[list[int]]:
        stops = [*self.begins[1:], len(self.stream)]
        return [self.stream[begin:stop] for begin, stop in zip(self.begins, stops, strict=True)]


def from_the_page() -> dict[str, Any]:
    """What the page's own reader defines; it may import the standard library alone."""
    code = next(block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "struct" in block)
    assert re.findall(r"^(?:import|from) .*", code, re.MULTILINE) == ["import json, struct, tarfile"]
    names: dict[str, Any] = {}
    exec(code, names)
    return names


@pytest.fixture(params=["train-web", "train-books", "validation"])
def split(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def project(made: TextDataset, split: str) -> Iterator[list[int]]:
    for document in documents_of(find_dataset(str(made.folder)).of(split).shards):
        yield document.ids.tolist()


def test_a_reader_from_the_words(made: TextDataset, split: str) -> None:
    read = Split(made.data, split)
    assert read.length == BLOCK
    assert read.documents == list(project(made, split))
    assert read.documents == [[*ids, SEP] for _, ids in made.documents[split]]


def test_the_reader_on_the_page(made: TextDataset, split: str) -> None:
    assert list(from_the_page()["documents"](made.data, split)) == list(project(made, split))


def test_the_page_names_every_field_of_the_manifest(made: TextDataset) -> None:
    page = PAGE.read_text()
    content = json.loads((made.data / "manifest.json").read_text())
    shard = content["splits"]["validation"]["shards"][0]
    for name in (*content, *content["tokenizer"], *content["corpus"], *content["splits"]["validation"], *shard):
        assert re.search(rf"[`.]{name}[`.]", page), name
