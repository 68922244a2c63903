"""NumPy arrays to files through Python's own writing: NumPy's loses bytes on a full disk without an error number."""

import io
from pathlib import Path
from typing import IO, Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def npy_bytes(array: Array) -> bytes:
    """The array as a .npy file, without pickle."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def save_array(path: Path, array: Array) -> None:
    """Writes a .npy file."""
    path.write_bytes(npy_bytes(array))


def append(file: IO[bytes], array: Array) -> None:
    """Appends the array's bytes to the file."""
    file.write(array.tobytes())
