"""Packed files of a few megabytes, unpacked at once; a corpus is read as a stream (pipeline/corpus/streams.py)."""

import zstandard


def unzstd(data: bytes) -> bytes:
    """All frames one after the other. Raises zstandard.ZstdError, and EOFError where the last one is cut off."""
    parts = []
    while data:
        frame = zstandard.ZstdDecompressor().decompressobj()
        parts.append(frame.decompress(data))
        if not frame.eof:
            raise EOFError("the last frame is cut off")
        data = frame.unused_data
    return b"".join(parts)
