"""The Hugging Face Hub, for reading: hf://datasets/OWNER/NAME[@REVISION]/PATH. HF_TOKEN where one is needed.

The library asks a few times again itself; longer waits are those of faults.py. What it remembers of a repository's
files is kept: a revision does not change, and a process lives short.
"""

import logging
from typing import Any

from huggingface_hub import HfFileSystem

from pipeline.base.stores.patient import is_absent, patient

logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)  # it logs each of its waits


@patient
class HubStore(HfFileSystem):
    """hf://, read-only."""

    def _kind(self, path: str) -> str | None:
        try:
            return str(self.info(path)["type"])
        except FileNotFoundError as error:
            if is_absent(error):
                return None
            raise

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Whether there is a file or folder of that name."""
        return self._kind(path) is not None

    def isdir(self, path: str) -> bool:
        """Whether it is a folder."""
        return self._kind(path) == "directory"

    def isfile(self, path: str) -> bool:
        """Whether it is a file."""
        return self._kind(path) == "file"

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        """Bytes [start, end) and no more: a file opened plainly reads ahead."""
        return bytes(super().cat_file(path, start, end, **kwargs, cache_type="none"))
