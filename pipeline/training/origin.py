"""What a run is trained on: the data set and its tokenizer, checked before anything is built on them."""

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from pipeline.base.config import RunConfig
from pipeline.base.errors import UserError
from pipeline.base.files import sha256_file
from pipeline.base.log import get_logger
from pipeline.base.run_folder import RunFolder
from pipeline.base.storage import facts_of, is_remote, reading
from pipeline.base.tracking import read_run_id
from pipeline.shards.manifest import Manifest, all_shards, check_tokenizer, manifest_path, read_manifest
from pipeline.stream.bad import BadShard
from pipeline.stream.cache import Cache, Remote, RemoteFile, open_cache
from pipeline.stream.check import bad_shards
from pipeline.stream.corpora import find_shares
from pipeline.stream.loader import TokenStream
from pipeline.training.ranks import Ranks
from pipeline.vocabulary.reading import given_digest, given_file

MEET_SECONDS = 10.0
"""Between two meetings of the ranks that check shards."""


@dataclass(frozen=True)
class Origin:
    """The data of a run, by path and digest."""

    folder: RunFolder
    """The run folder that holds data/ and tokenizer/: data.path, or the run's own."""
    manifest: Manifest
    manifest_sha256: str
    preprocess_run_id: str | None
    tokenizer_copy: tuple[Cache, Remote] | None = None
    """What is copied of the tokenizer, and where to; None where it lies on this machine."""

    @property
    def tokenizer_file(self) -> Path:
        """The vocabulary, on this machine: tokenizer.model or tokenizer.json. Raises UserError."""
        if self.tokenizer_copy is None:
            return self.folder.tokenizer
        cache, remote = self.tokenizer_copy
        copy = cache.hold(remote)
        if copy is None:
            raise RuntimeError("a cache that waits gives a copy")
        return copy / remote.files[0].name

    @property
    def vocab_size(self) -> int:
        """Pieces of the tokenizer, and rows of the embedding."""
        return self.manifest.tokenizer.vocab_size

    def digests(self) -> dict[str, str]:
        """What a checkpoint and an MLflow run keep of the data."""
        return {"tokenizer_sha256": self.manifest.tokenizer.sha256, "data_manifest_sha256": self.manifest_sha256}


def find_origin(config: RunConfig) -> Origin:
    """Reads the manifest and compares it with the config and the tokenizer file. Raises UserError."""
    folder = RunFolder.with_data(config)
    with reading(folder.data):
        return _checked(config, folder)


def _checked(config: RunConfig, folder: RunFolder) -> Origin:
    path = manifest_path(folder.data, config.data.revision)
    manifest = read_manifest(path)
    pieces = manifest.tokenizer.vocab_size
    if config.tokenizer.path is None and config.tokenizer.vocab_size != pieces:
        raise UserError(
            f"{path} was made with a tokenizer of {pieces} pieces, but tokenizer.vocab_size makes the "
            f"model's vocabulary {config.tokenizer.vocab_size}. Set tokenizer.vocab_size to {pieces}, or "
            "preprocess the corpus again into a new run_dir."
        )
    given = config.tokenizer.path
    if given is not None and given_file(given).is_file():  # it need not be on a machine that only trains
        check_tokenizer(manifest, given_digest(given), pieces, f"tokenizer.path {given}")
    file = folder.tokenizer
    if not file.is_file():
        raise UserError(
            f"{file} is missing: the data in {folder.data} was made with it. Copy it from where the data "
            "was made, or run pipeline/preprocess.py again."
        )
    check_tokenizer(manifest, sha256_file(file), pieces, str(file))
    if manifest.block_tokens < config.data.sequence_length:
        raise UserError(
            f"data.sequence_length {config.data.sequence_length} is longer than the blocks of {folder.data} "
            f"({manifest.block_tokens} tokens). Shorten it, or preprocess with larger data.block_tokens."
        )
    own = config.data.path is None or not is_remote(folder.data)
    run_id = read_run_id(folder, "preprocess") if own else None  # another run's tracking.json is not in its store
    return Origin(folder, manifest, sha256_file(path), run_id, _copied(config, folder, manifest))


def _copied(config: RunConfig, folder: RunFolder, manifest: Manifest) -> tuple[Cache, Remote] | None:
    """Origin.tokenizer_copy."""
    file = folder.tokenizer
    if not is_remote(file):
        return None
    known = RemoteFile(file.name, facts_of(file).size, manifest.tokenizer.sha256)
    return open_cache(config.data), Remote(file.parent, (known,))


def training_stream(config: RunConfig, origin: Origin) -> TokenStream:
    """The training split, a mixture's corpora in the shares of the config. Raises UserError."""
    shares = find_shares(origin.manifest, origin.folder.data, config.corpus)
    return TokenStream(origin.folder.data, "train", config.data, config.seed, shares=shares)


def verify_data(origin: Origin, ranks: Ranks, on_bad_shard: str = "stop") -> list[str]:
    """All shards as `check_shards` does, each by one rank, again where one seems broken. Collective.

    A broken one is every rank's UserError; with `skip` a warning, and one of the names that all ranks get. However many
    there are, only one that takes too long counts as a hang: the ranks meet now and then.
    """
    left = deque(all_shards(origin.manifest)[ranks.rank :: ranks.world])
    found: list[BadShard] = []
    done = 0
    while not done:
        with ranks.together():
            until = time.monotonic() + MEET_SECONDS
            while left and time.monotonic() < until:
                ranks.watch.start(f"the start: checks {left[0].name}")
                for error in bad_shards(origin.folder.data, [left.popleft()]):
                    if on_bad_shard == "stop":
                        raise error
                    found.append(error)
            ranks.watch.start("the start: waits for the ranks that check other shards")
        done = ranks.least(int(not left))
    for error in found:
        get_logger().warning(f"{error} It is left out.")
    return sorted(name for one in ranks.gather([error.shard for error in found]) for name in one)
