"""Bytes and text of a file, decompressed by its suffix: UTF-8 or a UserError that names file and line.

Price: the file is held in memory as a whole, since fine-tuning holds its examples anyway.
"""

import gzip
import zlib
from pathlib import Path

import zstandard

from pipeline.base.errors import UserError

BOM = b"\xef\xbb\xbf"
COMPRESSED = (".gz", ".zst")


def read_bytes(path: Path) -> bytes:
    """The file's content, decompressed by its suffix; several members or frames are joined. Raises UserError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    suffix = path.suffix.lower()
    try:
        if suffix == ".gz":
            return gzip.decompress(data)
        return _unzstd(data) if suffix == ".zst" else data
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise UserError(f"{path} is not a whole {suffix} file ({error}). Copy or compress it again.") from None


def read_text(path: Path) -> str:
    """The file as text, without a BOM, line ends as they are. Raises UserError for what is not UTF-8."""
    data = read_bytes(path).removeprefix(BOM)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 ({error.reason}). {utf8_advice(data)}") from None


def utf8_advice(data: bytes) -> str:
    """What to do about a file that is not UTF-8."""
    kind = "It begins as UTF-16 does. " if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
    return f"{kind}Save it as UTF-8."


def bare_suffix(path: Path) -> str:
    """The suffix that tells the format: in small letters, that of the compression taken off."""
    name = Path(path.stem) if path.suffix.lower() in COMPRESSED else path
    return name.suffix.lower()


def _unzstd(data: bytes) -> bytes:
    parts = []
    while data:
        frame = zstandard.ZstdDecompressor().decompressobj()
        parts.append(frame.decompress(data))
        if not frame.eof:
            raise EOFError("the last frame is cut off")
        data = frame.unused_data
    return b"".join(parts)
