"""JPEG bytes and files to uint8 RGB pixels, and antialiased resizing of a part of them."""

from __future__ import annotations

import io
import os

import numpy as np
import PIL.Image
import simplejpeg

from focusclip_jax.errors import UserError


def decode(jpeg: bytes, where: str = "image", min_size: tuple[float, float] = (0, 0)) -> np.ndarray:
    """Decode a JPEG to uint8 (H, W, 3) RGB.

    min_size: (height, width) that is enough. The decoder then works at the smallest multiple of 1/8
    of the full size that still has it, which costs a third of a full decode at a quarter of the area.
    Raises UserError beginning with `where` when the bytes are not a complete JPEG.
    """
    height, width = (int(np.ceil(side)) for side in min_size)
    try:
        return simplejpeg.decode_jpeg(jpeg, "RGB", min_height=height, min_width=width)
    except ValueError as error:
        raise UserError(f"{where}: not a readable JPEG ({error})") from None


def resize(image: np.ndarray, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    """Antialiased bilinear resize of a part of uint8 (H, W, 3) to size (height, width).

    box: left, top, right, bottom in pixels of `image`, measured from its edges; fractions count.
    """
    if size == image.shape[:2] and tuple(box) == (0, 0, size[1], size[0]):
        return image
    picture = PIL.Image.fromarray(image)
    resized = picture.resize((size[1], size[0]), PIL.Image.Resampling.BILINEAR, box=box)
    return np.asarray(resized)


def load_rgb(source: str | os.PathLike | bytes) -> np.ndarray:
    """Read an image file, or its bytes, of any kind PIL knows to uint8 (H, W, 3) RGB.

    EXIF orientation is not applied, as in the 2023 code. Raises UserError naming the file.
    """
    where = "image" if isinstance(source, bytes) else os.fspath(source)
    try:
        if not isinstance(source, bytes):
            with open(source, "rb") as file:
                source = file.read()
        with PIL.Image.open(io.BytesIO(source)) as picture:
            return np.asarray(picture.convert("RGB"))
    except OSError as error:
        raise UserError(f"{where}: not a readable image ({error.strerror or error})") from None
