"""Writes a checkpoint, by all ranks side by side: each puts its ranges of bytes into the three files of tensors.

Aside, fsynced, digests by up to three ranks, manifest last, then the rename (or the upload), `latest`, `best`, pruning;
the first rank's part. Ranks that do not see the first one's folder send it their parts. One rank's error (a full disk)
is everyone's, and leaves nothing behind. Price: below run_dir there must be room for one checkpoint more than are kept.
"""

import json
import os
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from pipeline.base.config import dump_config
from pipeline.base.errors import UserError
from pipeline.base.files import put_folder
from pipeline.base.lease import check_lease
from pipeline.base.run_folder import RunFolder
from pipeline.base.storage import is_remote
from pipeline.training.agreement import Agreement, briefly
from pipeline.training.checkpoint import (
    BEST,
    TrainState,
    checkpoint_name,
    local_checkpoints,
    move_latest,
    upload_checkpoint,
    write_manifest,
)
from pipeline.training.engine import Engine
from pipeline.training.engine_state import KINDS
from pipeline.training.keep import prune, remove_asides
from pipeline.training.origin import Origin
from pipeline.training.snapshot import Snapshot, bytes_of
from pipeline.training.tensor_file import ELEMENT, Piece, check_cover, create, digest, write_piece


@dataclass(frozen=True)
class Content:
    """What a checkpoint says beside its tensors."""

    state: TrainState
    scaler: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    """What else the manifest keeps."""
    best: bool = False
    """Whether `best` is to name it."""


class CheckpointFiles:
    """The checkpoints of one run, from this rank's side. Making one and `write` are collective."""

    def __init__(self, engine: Engine, folder: RunFolder, origin: Origin) -> None:
        self.engine, self.folder, self.origin = engine, folder, origin
        self.snapshot = Snapshot(engine)
        self.first = engine.ranks.rank == 0
        self.pieces: list[dict[str, list[Piece]]] = []
        self.moved = 0
        """Counts pieces and files written and read, so that others can tell slow from stuck."""
        self.meet()

    def meet(self) -> None:
        """Makes the group of the ranks' threads, and tells all what each rank writes. In the main thread."""
        self.agreement = Agreement(self.engine.ranks)
        own = {kind: [asdict(piece) for piece in pieces] for kind, pieces in self.snapshot.pieces().items()}
        found = self.agreement.each(lambda: own)
        self.pieces = [{kind: [Piece(**piece) for piece in one[kind]] for kind in KINDS} for one in found]
        for kind in KINDS:
            check_cover(self.snapshot.layout, [piece for one in self.pieces for piece in one[kind]])

    def write(self, content: Content) -> Path:
        """Writes the snapshot; in any thread, one at a time. UserError, but of the last part on the first rank only."""
        path = self.folder.checkpoints / checkpoint_name(content.state.step)
        name = f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.aside"
        aside = local_checkpoints(self.folder) / self.agreement.each(lambda: name)[0]
        try:
            self.agreement.each(lambda: self._begin(aside) if self.first else None)
            seen = all(self.agreement.each(lambda: all(_file(aside, kind).is_file() for kind in KINDS)))
            checksums = self.agreement.each(lambda: self._put(aside)) if seen else self._through_first(aside)
            digests = self._digests(aside, checksums, self.engine.ranks.world if seen else 1)
            if self.first:
                with _told(path):
                    self._complete(aside, path, content, digests)
        finally:
            if self.first:
                shutil.rmtree(aside, ignore_errors=True)
        return path

    def _begin(self, aside: Path) -> None:
        remove_asides(self.folder)
        aside.mkdir(parents=True)
        for kind in KINDS:
            create(_file(aside, kind), self.snapshot.layout)

    def _put(self, aside: Path) -> dict[str, list[int]]:
        """This rank's ranges into the files; their checksums."""
        checksums: dict[str, list[int]] = {}
        for kind, held in self.snapshot.held.items():
            with _told(_file(aside, kind)), open(_file(aside, kind), "r+b") as file:
                checksums[kind] = []
                for place in held:
                    checksums[kind].append(write_piece(file.fileno(), place.piece, place.content))
                    self.moved += 1
                os.fsync(file.fileno())
        return checksums

    def _through_first(self, aside: Path) -> list[dict[str, list[int]]]:
        """The same where only the first rank sees the folder: it receives the others' parts one by one."""
        own = {kind: [zlib.crc32(place.content) for place in held] for kind, held in self.snapshot.held.items()}
        checksums: list[dict[str, list[int]]] = self.agreement.each(lambda: own)
        if not self.first:
            for held in self.snapshot.held.values():
                for place in held:
                    self.agreement.send(place.values)
                    self.moved += 1
            self.agreement.each(lambda: None)
            return checksums
        refused: list[UserError] = []
        for kind in KINDS:
            with _told(_file(aside, kind), refused):
                self._put_one(aside, kind)
        for source, pieces in enumerate(self.pieces[1:], 1):
            self._receive(aside, source, pieces, refused)
        self.agreement.each(lambda: _raise_first(refused))
        return checksums

    def _put_one(self, aside: Path, kind: str) -> None:
        with open(_file(aside, kind), "r+b") as file:
            for place in self.snapshot.held[kind]:
                write_piece(file.fileno(), place.piece, place.content)
            os.fsync(file.fileno())

    def _receive(self, aside: Path, source: int, pieces: dict[str, list[Piece]], refused: list[UserError]) -> None:
        """One rank's parts into the files; once the disk refuses, only taken off the sender's hands."""
        largest = max((piece.size for kind in KINDS for piece in pieces[kind]), default=0)
        buffer = torch.empty(largest // ELEMENT)
        for kind in KINDS:
            with open(_file(aside, kind), "r+b") as file:
                for piece in pieces[kind]:
                    values = buffer[: piece.size // ELEMENT]
                    self.agreement.receive(values, source)
                    self.moved += 1
                    with _told(_file(aside, kind), refused):
                        if not refused:
                            write_piece(file.fileno(), piece, bytes_of(values))
                with _told(_file(aside, kind), refused):
                    os.fsync(file.fileno())

    def _digests(self, aside: Path, checksums: list[dict[str, list[int]]], readers: int) -> dict[str, str]:
        """sha256 of each file by its kind, each read by one of so many ranks."""

        def read() -> dict[str, str]:
            found = {}
            for number, kind in enumerate(KINDS):
                if number % readers == self.engine.ranks.rank:
                    self.moved += 1
                    with _told(_file(aside, kind)):
                        found[kind] = digest(_file(aside, kind), self.snapshot.layout, self._of_all(kind, checksums))
            return found

        return {kind: value for one in self.agreement.each(read) for kind, value in one.items()}

    def _of_all(self, kind: str, checksums: list[dict[str, list[int]]]) -> dict[Piece, int]:
        by_rank = zip(self.pieces, checksums, strict=True)
        return {piece: crc for own, sums in by_rank for piece, crc in zip(own[kind], sums[kind], strict=True)}

    def _complete(self, aside: Path, path: Path, content: Content, digests: dict[str, str]) -> None:
        """The small files, the manifest, and the checkpoint into its place."""
        written = {"state.json": _json(asdict(content.state) | {"loss_scale": content.scaler})}
        written["config.yaml"] = dump_config(self.engine.config).encode()
        written["config.json"] = _json(yaml.safe_load(written["config.yaml"]))
        if self.folder.init.is_file():
            written[self.folder.init.name] = self.folder.init.read_bytes()
        if self.origin.tokenizer_file.is_file():
            written[f"tokenizer/{self.origin.tokenizer_file.name}"] = self.origin.tokenizer_file.read_bytes()
        for name, data in written.items():
            (aside / name).parent.mkdir(exist_ok=True)
            (aside / name).write_bytes(data)
        facts = {"step": content.state.step, "vocab_size": self.origin.vocab_size, **self.origin.digests()}
        known = {_file(aside, kind).name: value for kind, value in digests.items()}
        write_manifest(aside, facts | content.facts, known)
        check_lease(self.folder.store)
        put(aside, path, self._count)
        check_lease(self.folder.store)
        move_latest(self.folder, path.name)
        if content.best:
            move_latest(self.folder, path.name, BEST)
        train = self.engine.config.train
        prune(self.folder, content.state.step, train.keep_last, train.keep_every)

    def _count(self) -> None:
        self.moved += 1
        check_lease(self.folder.store)


def save_checkpoint(
    engine: Engine, folder: RunFolder, state: TrainState, origin: Origin, facts: dict[str, Any]
) -> Path:
    """Saves at state.step and waits for it. Collective. Raises UserError on every rank.

    facts: what else the checkpoint's manifest keeps.
    """
    files = CheckpointFiles(engine, folder, origin)
    files.snapshot.take()
    with engine.ranks.together():
        return files.write(Content(state, engine.scaler(), facts))


def put(aside: Path, path: Path, uploaded: Callable[[], None] = lambda: None) -> None:
    """A checkpoint that is complete aside takes its place, by a rename or an upload; `uploaded`: after each file."""
    if is_remote(path):
        upload_checkpoint(aside, path, uploaded)
    else:
        put_folder(aside, path)


def _file(aside: Path, kind: str) -> Path:
    return aside / f"{kind}.safetensors"


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


@contextmanager
def _told(path: Path, refused: list[UserError] | None = None) -> Iterator[None]:
    """The system's refusals to write `path` as a UserError, raised or added to a list."""
    try:
        with briefly(path):
            yield
    except UserError as error:
        if refused is None:
            raise
        refused.append(error)


def _raise_first(refused: list[UserError]) -> None:
    if refused:
        raise refused[0]
