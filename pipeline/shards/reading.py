"""Blocks of a whole shard, in order, as they were written: for a shard that is cut anew when its data set grows."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.base.errors import UserError
from pipeline.shards.block import Block


def read_blocks(path: Path) -> Iterator[Block]:
    """Every block of the shard; holds one. UserError where it is damaged."""
    try:
        with path.open("rb") as raw, tarfile.open(fileobj=raw, mode="r|") as tar:
            members: dict[str, bytes] = {}
            for member in tar:
                key, _, field = member.name.partition(".")
                file = tar.extractfile(member)
                members[field] = file.read() if file is not None else b""
                if len(members) == 3:
                    yield _block(key, members)
                    members = {}
    except (tarfile.TarError, KeyError, ValueError, EOFError) as error:
        raise UserError(
            f"shard {path} cannot be read: {error}. Copy it again from where the data was made, or make the data set "
            "anew with --fresh."
        ) from None


def _block(key: str, members: dict[str, bytes]) -> Block:
    def array(field: str) -> np.ndarray[Any, Any]:
        return np.load(io.BytesIO(members[field]), allow_pickle=False)

    return Block(key, array("ids.npy"), array("documents.npy"), json.loads(members["meta.json"]))
