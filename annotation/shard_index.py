"""Where each record of a shard lies: a small file beside the shard, so that records are read at random.

It is an `.npz` of the arrays of `Index`, for anybody's `numpy.load`. Its zip comment is the CRC32C of all
bytes before the comment, so that damage is found in every byte, those that no reader uses among them.
"""

from __future__ import annotations

import io
import zipfile
from typing import NamedTuple

import google_crc32c
import numpy as np

_DIGITS = 8  # hexadecimal, of the checksum at the end


class Index(NamedTuple):
    """offset: uint64 (N,), where each record's length field starts in the shard. length: uint32 (N,), bytes
    of its payload. checksum: uint32 (N,), of the payload, as stored behind it. size: of the shard, bytes.
    """

    offset: np.ndarray
    length: np.ndarray
    checksum: np.ndarray
    size: int


def to_bytes(index: Index) -> bytes:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        offset=index.offset.astype(np.uint64),
        length=index.length.astype(np.uint32),
        checksum=index.checksum.astype(np.uint32),
        size=np.uint64(index.size),
    )
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = bytes(_DIGITS)
    data = buffer.getvalue()[:-_DIGITS]
    return data + _checksum(data)


def from_bytes(data: bytes) -> Index:
    """Raises ValueError, with the reason, for anything but the bytes that were written."""
    if data[-_DIGITS:] != _checksum(data[:-_DIGITS]):
        raise ValueError("damaged, cut off, or of an early version: its checksum is not that of its bytes")
    try:
        with np.load(io.BytesIO(data)) as arrays:
            return Index(arrays["offset"], arrays["length"], arrays["checksum"], int(arrays["size"]))
    except (KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(str(error)) from None


def _checksum(data: bytes) -> bytes:
    return f"{google_crc32c.value(data):0{_DIGITS}x}".encode()
