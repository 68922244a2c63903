"""The manifest: what a data set is made of, with digests. Written last; without it there is no data set.

Reading it checks its shape and sums; `verify_shards` checks the files. Price: verifying reads every byte once (about
1 GB/s a core).
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from pipeline.base.errors import Damaged, UserError
from pipeline.base.files import is_remote, read_json, sha256_file, write_json
from pipeline.base.names import file_inside, inside
from pipeline.base.storage import Location, facts_of

REQUESTS = 16
"""To a store at a time."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ShardEntry(_Record):
    """One tar file; name is relative to the data folder. Tokens are real ones, documents those that begin in it."""

    name: Annotated[str, AfterValidator(inside)]
    blocks: int = Field(ge=0)
    tokens: int = Field(ge=0)
    documents: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str


class SplitEntry(_Record):
    """A split's totals and its shards, in order."""

    blocks: int = Field(ge=0)
    tokens: int = Field(ge=0)
    documents: int = Field(ge=0)
    shards: tuple[ShardEntry, ...]


class TokenizerEntry(_Record):
    """Digest of tokenizer/tokenizer.model (or .json), and its number of pieces."""

    sha256: str
    vocab_size: int = Field(ge=1)


class CorpusEntry(_Record):
    """Fingerprint of the input and what became of it."""

    sha256: str
    documents: int = Field(ge=0)
    quarantined: int = Field(ge=0)


class Manifest(_Record):
    """data/manifest.json, field by field (docs/interface.md)."""

    version: int = Field(default=1, ge=1)
    """The revision: 1, and one more each time that files were added; data/manifests/ keeps them all."""
    block_tokens: int = Field(ge=1)
    dtype: str = Field(pattern="^uint(16|32)$")
    tokenizer: TokenizerEntry
    corpus: CorpusEntry
    splits: dict[str, SplitEntry]
    config: dict[str, Any]


def split_entry(shards: Iterable[ShardEntry]) -> SplitEntry:
    """The split's entry from its shards', in order."""
    entries = tuple(shards)
    return SplitEntry(
        blocks=sum(entry.blocks for entry in entries),
        tokens=sum(entry.tokens for entry in entries),
        documents=sum(entry.documents for entry in entries),
        shards=entries,
    )


def all_shards(manifest: Manifest) -> list[ShardEntry]:
    """Every shard of every split."""
    return [entry for split in manifest.splits.values() for entry in split.shards]


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Writes data/manifest.json, whole or not at all; call it last."""
    write_json(path, manifest.model_dump(mode="json"))


def manifest_path(data: Path, revision: int | None = None) -> Path:
    """The manifest of a revision of the data set in `data`, by default of the newest. UserError when there is none."""
    if revision is None:
        return data / "manifest.json"
    path = data / "manifests" / f"{revision:06d}.json"
    if not path.is_file():
        known = ", ".join(str(number) for number, _ in _revisions(data)) or "none"
        raise UserError(
            f"data.revision {revision}: there is no {path}; revisions of {data}: {known}. Take one of them, or leave "
            "data.revision out for the newest."
        )
    return path


def find_revision(data: Path, sha256: str) -> int | None:
    """The revision of the data set in `data` whose manifest has this digest; None where none has."""
    return next((number for number, path in _revisions(data) if sha256_file(path) == sha256), None)


def _revisions(data: Path) -> list[tuple[int, Path]]:
    """Numbers and manifests of all revisions that are kept, rising."""
    folder = data / "manifests"
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((int(path.stem), path) for path in found if path.suffix == ".json" and path.stem.isdigit())


def read_manifest(path: Path) -> Manifest:
    """The manifest at `path`; UserError when it is missing, broken, of another version, or at odds with itself."""
    if not path.is_file():
        raise UserError(
            f"there is no data set in {path.parent}: {path.name} is missing (it is written last). "
            "Run pipeline/preprocess.py with the same config, or set data.path to the run folder that holds the data."
        )
    content = read_json(path)
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise UserError(
            f"{path} is not a valid manifest: {where}: {first['msg']}. Delete it and run pipeline/preprocess.py again."
        ) from None
    for name, split in manifest.splits.items():
        if split != split_entry(split.shards) or split.blocks != -(-split.tokens // manifest.block_tokens):
            raise UserError(
                f"{path}: the totals of split {name} do not fit its shards: the file was changed after it was "
                "written. Restore it from a backup, or delete it and run pipeline/preprocess.py again."
            )
    return manifest


def check_sizes(data: Location, entries: Iterable[ShardEntry]) -> None:
    """Existence and size of each shard; UserError for the first that differs. data: the manifest's folder."""
    entries = list(entries)
    if is_remote(data):
        with ThreadPoolExecutor(REQUESTS) as pool:
            sizes = list(pool.map(lambda entry: facts_of(data / entry.name).size, entries))
    else:
        places = [file_inside(Path(data), entry.name) for entry in entries]
        sizes = [place.stat().st_size if place.is_file() else -1 for place in places]
    for entry, size in zip(entries, sizes, strict=True):
        path = data / entry.name
        if size < 0:
            raise Damaged(f"shard {path} is missing. {_remedy(data, entry)}")
        if size != entry.bytes:
            told = f"{size:,} bytes, the manifest says {entry.bytes:,}"
            raise Damaged(f"shard {path} is broken: {told}. {_remedy(data, entry)}")


def verify_shards(data: Location, entries: Iterable[ShardEntry]) -> None:
    """Existence, size and sha256 of each shard; UserError for the first that differs.

    data: the manifest's folder. For all splits: `verify_shards(data, all_shards(manifest))`.
    """
    for entry in entries:
        check_sizes(data, [entry])
        path = data / entry.name
        found = sha256_file(path)
        if found != entry.sha256:
            raise Damaged(
                f"shard {path} is broken: its bytes are not those that were written.\n"
                f"  sha256 expected: {entry.sha256}\n  sha256 found:    {found}\n{_remedy(data, entry)}"
            )


def _remedy(data: Location, entry: ShardEntry) -> str:
    return (
        f"Copy {entry.name} again from where the data was made, or delete {data / 'manifest.json'} "
        "and run pipeline/preprocess.py again."
    )


def check_tokenizer(manifest: Manifest, sha256: str, vocab_size: int, what: str) -> None:
    """UserError when the data was made with another tokenizer than `what` (a path or a name) with these figures."""
    data = manifest.tokenizer
    if (data.sha256, data.vocab_size) != (sha256, vocab_size):
        raise UserError(
            f"the data was made with another tokenizer than {what}: ids would mean other pieces.\n"
            f"  the data's:  {data.vocab_size:,} pieces, sha256 {data.sha256}\n"
            f"  {what}: {vocab_size:,} pieces, sha256 {sha256}\n"
            "Use the tokenizer and the data of one run (data.path), or preprocess the corpus again into a new run_dir."
        )
