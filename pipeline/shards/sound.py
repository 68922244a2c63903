"""Whether a shard is what docs/data.md says: its digest, and every block by itself and beside the ones before it.

Price: a shard is read once; a core checks some 400 MB a second.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from model.config import PAD_ID, SEP_ID
from pipeline.base.errors import UserError
from pipeline.base.storage import facts_of, reading
from pipeline.shards.dataset import MANIFEST, DataSet, Shard
from pipeline.shards.manifest import Manifest
from pipeline.shards.scan import Fault, ReadBlock, Seen, ShardBytes, read_shard


@dataclass(frozen=True)
class ShardSums:
    """What a sound shard holds."""

    blocks: int
    tokens: int
    documents: int
    bytes: int
    sha256: str


def check_shard(shard: Shard, dataset: DataSet, seen: Seen = lambda _: None) -> ShardSums:
    """Reads the shard to its end. UserError where it is missing, cut off, changed, or no shard of this data set."""
    remedy = _remedy(dataset)
    with reading(shard.place):
        if not shard.place.exists():
            raise UserError(f"shard {shard.place} is missing. {remedy}")
    size = facts_of(shard.place).size
    if shard.entry is not None and size != shard.entry.bytes:
        what = "is cut off" if size < shard.entry.bytes else "is too long"
        raise UserError(
            f"shard {shard.place} {what}: {size:,} bytes, the manifest says {shard.entry.bytes:,}. {remedy}"
        )
    fault = ""
    course = _Course(shard, dataset.manifest)
    with ShardBytes(shard.place, seen) as data:
        try:
            for block in read_shard(data):
                course.check(block)
            course.check_end()
        except Fault as error:
            fault = str(error)
            data.drain()
    found = data.digest.hexdigest()
    if shard.entry is not None and found != shard.entry.sha256:
        where = f" The first fault: {fault}." if fault else " As a shard it is sound."
        raise UserError(
            f"shard {shard.place} is broken: its bytes are not those that were written.{where}\n"
            f"  sha256 expected: {shard.entry.sha256}\n  sha256 found:    {found}\n{remedy}"
        )
    if fault:
        raise UserError(f"shard {shard.place} is broken: {fault}. {remedy}")
    return ShardSums(course.blocks, course.tokens, course.documents, data.size, found)


def blocks_of(shard: Shard, seen: Seen = lambda _: None) -> Iterator[ReadBlock]:
    """The blocks of a shard, in order. UserError where it cannot be read or is none."""
    with ShardBytes(shard.place, seen) as data:
        try:
            yield from read_shard(data)
        except Fault as fault:
            raise UserError(
                f"shard {shard.place} cannot be read: {fault}. Copy it again from where the data was made."
            ) from None


def _remedy(dataset: DataSet) -> str:
    if dataset.manifest is None:
        return "Copy it again from where it was made."
    manifest = dataset.data / MANIFEST
    return f"Copy it again from where the data was made, or delete {manifest} and run pipeline/preprocess.py again."


class _Course:
    """What is known of a shard's blocks up to one, and what the next has to be."""

    def __init__(self, shard: Shard, manifest: Manifest | None) -> None:
        self.shard, self.manifest = shard, manifest
        self.blocks = self.tokens = self.documents = 0
        self.last: ReadBlock | None = None
        self.before = shard.documents_before
        """Documents of the split that begin before the next block."""

    def check(self, block: ReadBlock) -> None:
        """Raises Fault where the block is not the next one."""
        self._check_key(block)
        self._check_ids(block)
        self._check_documents(block)
        self.blocks += 1
        self.tokens += len(block.ids)
        self.documents += len(block.documents)
        self.last = block

    def check_end(self) -> None:
        """Raises Fault where the shard has other sums than the manifest says, or a split ends within a document."""
        if self.last is None:
            raise Fault("it has no blocks")
        entry = self.shard.entry
        if entry is None:
            return
        for name in ("blocks", "tokens", "documents"):
            found, told = getattr(self, name), getattr(entry, name)
            if found != told:
                raise Fault(f"it has {found:,} {name}, the manifest says {told:,}")
        if self.shard.ends_split and self.last.ids[-1] != SEP_ID:
            raise Fault(f"{self.last.key} ends the split, but no document")

    def _check_key(self, block: ReadBlock) -> None:
        if self.last is not None:
            split, number = self.last.split, self.last.number + 1
        else:
            listed = self.manifest is not None
            split = self.shard.split if listed else block.split
            number = block.number if self.shard.first_block is None else self.shard.first_block
        if (block.split, block.number) != (split, number):
            raise Fault(f"{block.key} stands where {split}-{number:09d} should")

    def _check_ids(self, block: ReadBlock) -> None:
        like, manifest = self.last, self.manifest
        length, kind = len(block.ids) + block.padding, block.ids.dtype.name
        if manifest is not None:
            wanted = (manifest.block_tokens, manifest.dtype)
            most = int(block.ids.max())
            if most >= manifest.tokenizer.vocab_size:
                raise Fault(f"{block.key}: id {most} is past the {manifest.tokenizer.vocab_size:,} pieces")
        else:
            wanted = (len(like.ids), like.ids.dtype.name) if like is not None else (length, kind)
        if (length, kind) != wanted:
            raise Fault(f"{block.key}: {length:,} ids of {kind}, not {wanted[0]:,} of {wanted[1]}")
        if like is not None and like.padding:
            raise Fault(f"{like.key} is filled up, but blocks follow")
        if block.padding and self.shard.ends_split is False:
            raise Fault(f"{block.key} is filled up, but shards of the split follow")
        if (block.ids == PAD_ID).any():
            raise Fault(f"{block.key}: there is padding among its {len(block.ids):,} tokens")

    def _check_documents(self, block: ReadBlock) -> None:
        starts = block.documents
        continues = starts.size == 0 or starts[0] > 0
        first = block.number == 0 or (self.last is not None and self.last.ids[-1] == SEP_ID)
        if continues == first and (block.number == 0 or self.last is not None):
            raise Fault(f"{block.key}: its first token {'begins no' if continues else 'begins a'} document")
        inner = starts[starts > 0]
        if (block.ids[inner - 1] != SEP_ID).any():
            raise Fault(f"{block.key}: a document begins where none ends")
        before = self.before if self.before is not None else block.first_document + int(continues)
        if block.first_document != before - int(continues):
            raise Fault(f"{block.key}: first_document is {block.first_document:,}, not {before - int(continues):,}")
        self.before = before + len(starts)
