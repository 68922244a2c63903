"""What a URL names: a run, its data folder, a manifest, a split, a shard, or tar files without a manifest.

Nothing is read but the manifest and lists of names. Price: a folder of a store is listed; a web server lists nothing,
so there a manifest.json or a .tar has to be named.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline.base.errors import UserError
from pipeline.base.names import file_inside
from pipeline.base.storage import Location, is_remote, place_of, reading
from pipeline.shards.manifest import Manifest, ShardEntry, read_manifest

MANIFEST, OLDER = "manifest.json", "manifests"
UNFINISHED = ".work/job.json"
"""Of a run of preprocessing, until its manifest is there."""


@dataclass(frozen=True)
class Shard:
    """A tar file. entry, first_block, documents_before: by the manifest, None where there is none."""

    split: str
    name: str
    """Relative to the data folder."""
    place: Location
    entry: ShardEntry | None = None
    first_block: int | None = None
    documents_before: int | None = None
    ends_split: bool | None = None
    """Whether it is the last of its split, whose last block may be short."""


@dataclass(frozen=True)
class DataSet:
    """Shards in the manifest's order, and where they lie."""

    data: Location
    """The folder of the manifest; of shards without one, the folder that was named."""
    manifest: Manifest | None
    shards: tuple[Shard, ...]
    whole: bool = True
    """Whether these are all shards of the manifest."""

    @property
    def splits(self) -> list[str]:
        """Names of the splits, in order."""
        return list(dict.fromkeys(shard.split for shard in self.shards))

    def of(self, split: str | None) -> "DataSet":
        """The shards of one split, None for all. UserError where there is none of the name."""
        if split is None:
            return self
        shards = tuple(shard for shard in self.shards if shard.split == split)
        if not shards:
            raise UserError(f"{self.data} has no split {split}. Its splits: {', '.join(self.splits)}.")
        return replace(self, shards=shards, whole=False)


def find_dataset(text: str) -> DataSet:
    """The data set, or the part of one, that a path or URL names. UserError where there is none."""
    place = place_of(text)
    with reading(place):
        if place.name.endswith(".json"):
            return _whole(place)
        if place.name.endswith(".tar"):
            return _shard(place)
        if is_remote(place) and place.protocol in ("http", "https"):
            raise UserError(f"{place}: a web server lists nothing. Name a {MANIFEST}, or a .tar file.")
        for folder in (place, place / "data"):
            if (folder / MANIFEST).exists():
                return _whole(folder / MANIFEST)
        if not place.exists():
            raise UserError(f"{place} does not exist. Name a run, its data folder, a {MANIFEST}, a split or a shard.")
        if (place.parent / MANIFEST).exists():
            return _part(_whole(place.parent / MANIFEST), place.name)
        return _loose(place)


def _whole(path: Location) -> DataSet:
    manifest = read_manifest(path)  # type: ignore[arg-type]  # a UPath has the methods of a Path
    data = path.parent.parent if path.parent.name == OLDER else path.parent
    return DataSet(data, manifest, tuple(_listed(data, manifest)))


def _listed(data: Location, manifest: Manifest) -> Iterator[Shard]:
    for name, split in manifest.splits.items():
        blocks = documents = 0
        for number, entry in enumerate(split.shards, 1):
            last = number == len(split.shards)
            yield Shard(name, entry.name, file_inside(data, entry.name), entry, blocks, documents, last)
            blocks += entry.blocks
            documents += entry.documents


def _part(whole: DataSet, split: str) -> DataSet:
    if whole.manifest is not None and split not in whole.manifest.splits:
        raise UserError(
            f"{whole.data / split} is no split of {whole.data / MANIFEST}. Its splits: {', '.join(whole.splits)}."
        )
    return whole.of(split)


def _shard(place: Location) -> DataSet:
    if not place.exists():
        raise UserError(f"{place} does not exist. Name a run, its data folder, a {MANIFEST}, a split or a shard.")
    data = place.parent.parent
    if (data / MANIFEST).exists():
        whole = _whole(data / MANIFEST)
        found = tuple(shard for shard in whole.shards if shard.name == f"{place.parent.name}/{place.name}")
        if found:
            return replace(whole, shards=found, whole=len(whole.shards) == 1)
    return DataSet(place.parent, None, (Shard(place.parent.name, place.name, place),))


def _loose(folder: Location) -> DataSet:
    """Tar files without a manifest, in the folder or in folders of it or of its data/."""
    for base in (folder, folder / "data"):
        found = [*_tars(base), *(path for below in _folders(base) for path in _tars(below))]
        if found:
            shards = tuple(Shard(path.parent.name, _name(path, base), path) for path in found)
            return DataSet(base, None, shards)
    raise UserError(
        f"{folder} holds no {MANIFEST} and no shard. Name a run, its data folder, a {MANIFEST}, a split or a shard; of "
        "a run whose preprocessing is not finished there is nothing to see yet."
    )


def _name(path: Location, base: Location) -> str:
    return path.name if path.parent == base else f"{path.parent.name}/{path.name}"


def _tars(folder: Location) -> list[Location]:
    return [path for path in _entries(folder) if path.name.endswith(".tar") and path.is_file()]


def _folders(folder: Location) -> list[Location]:
    return [path for path in _entries(folder) if path.is_dir()]


def _entries(folder: Location) -> list[Location]:
    """What lies in a folder, by name; hidden names are passed over."""
    if not folder.is_dir():
        return []
    found: list[Location] = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted(found, key=lambda path: path.name)


def unlisted(data: Location, manifest: Manifest) -> list[str]:
    """Tar files of the data folder that no revision names; [] where the folder cannot be listed."""
    if is_remote(data) and data.protocol in ("http", "https"):
        return []
    named = {entry.name for known in (manifest, *_kept_manifests(data)) for _, entry in _entries_of(known)}
    with reading(data):
        found = [path for folder in _folders(data) for path in _tars(folder)]
    return [name for path in found if (name := _name(path, data)) not in named]


def _kept_manifests(data: Location) -> list[Manifest]:
    """The manifests of all revisions, whichever the data set was opened by."""
    with reading(data):
        paths = [data / MANIFEST, *(path for path in _entries(data / OLDER) if path.name.endswith(".json"))]
        return [read_manifest(path) for path in paths if path.exists()]  # type: ignore[arg-type]


def is_unfinished(data: Location) -> bool:
    """Whether a run of preprocessing that adds to the data set has begun and is not finished."""
    with reading(data):
        return (data / UNFINISHED).exists()


def older_manifests(data: Location, manifest: Manifest) -> list[Manifest]:
    """The manifests of earlier revisions that are kept, the oldest first."""
    if manifest.version == 1:
        return []
    paths = [data / OLDER / f"{number:06d}.json" for number in range(1, manifest.version)]
    with reading(data):
        return [read_manifest(path) for path in paths if path.exists()]  # type: ignore[arg-type]


def older_shards(data: Location, manifest: Manifest) -> list[Shard]:
    """Shards of earlier revisions that the newest one does not have."""
    named = {entry.name for _, entry in _entries_of(manifest)}
    found: dict[str, Shard] = {}
    for older in older_manifests(data, manifest):
        for shard in _listed(data, older):
            if shard.name not in named:
                found.setdefault(shard.name, shard)
    return list(found.values())


def _entries_of(manifest: Manifest) -> Iterator[tuple[str, ShardEntry]]:
    for name, split in manifest.splits.items():
        for entry in split.shards:
            yield name, entry
