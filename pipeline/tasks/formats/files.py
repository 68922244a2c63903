"""Bytes and text of a file, decompressed by its suffix: UTF-8 or a UserError that names file and line.

Price: the file is held in memory as a whole, since fine-tuning holds its examples anyway.
"""

import gzip
import zlib
from pathlib import Path

import zstandard

from pipeline.base.errors import UserError
from pipeline.base.packing import unzstd

BOM = b"\xef\xbb\xbf"
COMPRESSED = (".gz", ".zst")
PARQUET = b"PAR1"
"""At both ends of such a file; a text may begin so."""
_SAVE = "Save what it holds as .csv or as JSON lines"
_COMPRESS = "Decompress it, or compress it by gzip or zstd"
BINARY = {
    b"\x1f\x8b": "compressed by gzip. Let its name end in .gz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd. Let its name end in .zst",
    b"\xfd7zXZ\0": f"compressed by xz. {_COMPRESS}",
    b"PK\x03\x04": f"a zip archive, such as a spreadsheet (.xlsx) is. {_SAVE}",
    b"\xd0\xcf\x11\xe0": f"a file of an office program. {_SAVE}",
    PARQUET: f"a Parquet file. {_SAVE}",
} | dict.fromkeys((b"BZh%d1AY&SY" % level for level in range(1, 10)), f"compressed by bzip2. {_COMPRESS}")
"""How files begin that are no text, what they are and what to do."""


def read_bytes(path: Path) -> bytes:
    """The file's content, decompressed by its suffix; several members or frames are joined. Raises UserError.

    Also for what is plainly no text, such as a spreadsheet.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    suffix = path.suffix.lower()
    try:
        if suffix in COMPRESSED:
            data = gzip.decompress(data) if suffix == ".gz" else unzstd(data)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise UserError(f"{path} is not a whole {suffix} file ({error}). Copy or compress it again.") from None
    for begin, kind in BINARY.items():
        if data.startswith(begin) and data.endswith(PARQUET if begin == PARQUET else b""):
            raise UserError(f"{path} is {kind}.")
    return data


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
