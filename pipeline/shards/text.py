"""`cat`: documents out of shards again, joined where they go on over blocks and shards, and decoded by the tokenizer.

Only shards that hold what was asked for are read, from their beginning. Price: one document of a shard of 64 MB costs
reading up to there.
"""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from model.config import SEP_ID
from pipeline.base.errors import UserError
from pipeline.base.run_folder import tokenizer_file
from pipeline.base.storage import reading
from pipeline.shards.block import Array
from pipeline.shards.dataset import DataSet, Shard
from pipeline.shards.manifest import check_tokenizer
from pipeline.shards.scan import ReadBlock
from pipeline.shards.sound import blocks_of

if TYPE_CHECKING:
    from pipeline.vocabulary.codec import Codec


@dataclass
class Document:
    """Tokens of a document, in parts. number: within its split, from 0; block: where it begins, or is first seen."""

    split: str
    number: int
    block: int
    begun: bool
    """Whether its beginning is here."""
    parts: list[Array] = field(default_factory=list)

    @property
    def ids(self) -> Array:
        """All its tokens here, with the [SEP] that ends it."""
        return np.concatenate(self.parts)

    @property
    def ended(self) -> bool:
        """Whether its end is here."""
        return bool(self.parts[-1][-1] == SEP_ID)


def documents_of(shards: Sequence[Shard]) -> Iterator[Document]:
    """The documents of shards that follow one another, in order; what is cut at either end is given as far as it is."""
    current: Document | None = None
    last: ReadBlock | None = None
    for block in (block for shard in shards for block in blocks_of(shard)):
        if current is not None and last is not None and (block.split, block.number) != (last.split, last.number + 1):
            yield current
            current = None
        last = block
        starts = block.documents.tolist()
        if not starts or starts[0] > 0:
            current = current or Document(block.split, block.first_document, block.number, begun=False)
            current.parts.append(block.ids[: starts[0]] if starts else block.ids)
        number = block.first_document + bool(not starts or starts[0] > 0)
        for start, stop in itertools.pairwise([*starts, len(block.ids)]):
            if current is not None:
                yield current
            current = Document(block.split, number, block.number, True, [block.ids[start:stop]])
            number += 1
        if current is not None and current.ended:
            yield current
            current = None
    if current is not None:
        yield current


def chosen(dataset: DataSet, split: str | None, block: str | None, number: int | None) -> Iterator[Document]:
    """Documents of all splits or one; those with a token in a block, by number or key; the one of a number."""
    if block is not None and (found := re.fullmatch(r"(.+)-(\d{9,})", block)):
        split, block = found[1], found[2]
    if block is not None and not block.isdecimal():
        raise UserError(f"--block {block}: give a block's number, or its key, such as train-000000012.")
    part = dataset.of(split)
    if block is None and number is None:
        for name in part.splits:
            yield from documents_of(part.of(name).shards)
        return
    if split is None and len(part.splits) > 1:
        raise UserError(
            f"blocks and documents are numbered within a split: add --split, one of {', '.join(part.splits)}."
        )
    first = last = number if number is not None else 0
    if block is not None:
        first, last = _documents_in(part, int(block))
    yield from _numbered(part, first, last)


def _documents_in(part: DataSet, number: int) -> tuple[int, int]:
    """Numbers of the first and the last document with a token in the block."""
    known = [shard for shard in part.shards if shard.first_block is not None and shard.first_block <= number]
    for block in (block for shard in known[-1:] or part.shards for block in blocks_of(shard)):
        if block.number == number:
            continues = block.documents.size == 0 or block.documents[0] > 0
            return block.first_document, block.first_document + len(block.documents) - (0 if continues else 1)
    raise UserError(f"{part.data}: {part.splits[0]} has no block {number:,} here. Blocks are numbered from 0.")


def _numbered(part: DataSet, first: int, last: int) -> Iterator[Document]:
    begun = 0
    for place, shard in enumerate(part.shards):
        if shard.documents_before is not None and shard.documents_before <= first:
            begun = place
    found = False
    for document in documents_of(part.shards[begun:]):
        if first <= document.number <= last:
            found = True
            yield document
        if document.number >= last:
            break
    if not found:
        raise UserError(f"{part.data}: {part.splits[0]} has no document {first:,} here. Documents are numbered from 0.")


def find_codec(dataset: DataSet, path: str | None) -> "Codec":
    """The tokenizer given, or the one beside the data. UserError where there is none, or it is not the data's."""
    from pipeline.vocabulary.reading import given_codec, load_codec  # late: heavy

    if path is not None:
        codec, what = given_codec(path), path
    else:
        file = tokenizer_file(dataset.data.parent)  # type: ignore[arg-type]  # a UPath has the methods of a Path
        with reading(file):
            if not file.exists():
                raise UserError(
                    f"there is no tokenizer at {file.parent}. Name one by --tokenizer, or print numbers by --ids."
                )
        codec, what = load_codec(file), str(file)
    if dataset.manifest is not None:
        check_tokenizer(dataset.manifest, codec.sha256, codec.vocab_size, what)
    return codec


def as_json(document: Document, codec: "Codec | None") -> str:
    """One line: ids without a codec, else text."""
    ids = document.ids.tolist()
    line: dict[str, Any] = {
        "split": document.split,
        "document": document.number,
        "block": document.block,
        "tokens": len(ids),
    }
    if not (document.begun and document.ended):
        line["whole"] = False
    line |= {"ids": ids} if codec is None else {"text": codec.decode([ids])[0]}
    return json.dumps(line, ensure_ascii=False)


def as_text(document: Document, codec: "Codec | None") -> str:
    """The text, or the ids, and an empty line."""
    ids = document.ids.tolist()
    return (" ".join(map(str, ids)) if codec is None else codec.decode([ids])[0]) + "\n"
