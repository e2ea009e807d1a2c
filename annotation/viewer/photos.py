"""Photographs for the screen: found inside their folder, measured before they are decoded, made anew.

No byte of a photograph's file reaches a browser: what is served is a fresh JPEG of its pixels.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image

MAX_PIXELS = 50_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
# A page of the list asks for two dozen at once, and each may take 3 bytes a pixel while it is decoded.
_DECODING = threading.BoundedSemaphore(2)
_DAMAGE = (OSError, ValueError, SyntaxError, struct.error, EOFError)
_TOO_LARGE = (
    f"photo not shown: it has more than {MAX_PIXELS // 10**6} megapixels, the most that are decoded here"
)


class NoPhoto(Exception):
    """There is none that can be shown; the message says why."""


def path_inside(folder: Path, image_id: str) -> Path:
    """The regular file that `image_id` names inside `folder`, links followed. Raises NoPhoto."""
    try:
        root = folder.resolve(strict=True)
        path = (root / image_id).resolve(strict=True)
        if not path.is_relative_to(root):
            raise NoPhoto("photo not shown: its path leaves the image folder")
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
            raise NoPhoto("photo not shown: not a regular file")
    except (OSError, ValueError, RuntimeError):  # not there; a NUL in its name; a ring of links
        raise NoPhoto("photo not here") from None
    return path


@contextlib.contextmanager
def opened(file: Path | BinaryIO) -> Iterator[Image.Image]:
    """A photograph of at most MAX_PIXELS pixels and of a known format. Raises NoPhoto.

    Only its head is read until the block decodes it, and damage found there is NoPhoto too.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise NoPhoto(_TOO_LARGE)
            yield image
    except Image.DecompressionBombError:  # Pillow's own limit, above ours
        raise NoPhoto(_TOO_LARGE) from None
    except _DAMAGE as error:
        raise NoPhoto(
            f"photo not shown: it cannot be decoded ({str(error) or type(error).__name__})"
        ) from None


def jpeg(file: Path | BinaryIO, longest: int) -> bytes:
    """The photograph with its longer side at most `longest` pixels, as it lies in its file.

    Its EXIF orientation is dropped, because joints refer to the file's own pixels. Raises NoPhoto.
    """
    with _DECODING, opened(file) as image:
        image.draft("RGB", (longest, longest))  # a JPEG is decoded at a fraction of its size
        image = image.convert("RGB")
        image.thumbnail((longest, longest))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def size(file: Path | BinaryIO) -> tuple[int, int]:
    """(width, height) in pixels, from the file's head. Raises NoPhoto."""
    with opened(file) as image:
        return image.size
