"""JPEG bytes and files to uint8 RGB pixels, and from there to the size that a model takes."""

from __future__ import annotations

import io
import os
import threading

import numpy as np
import PIL.Image
import PIL.ImageOps
import simplejpeg

from focusclip_jax.errors import UserError

# Both average over all pixels that fall into one of the output.
FILTERS = {"bilinear": PIL.Image.Resampling.BILINEAR, "bicubic": PIL.Image.Resampling.BICUBIC}


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


_thread = threading.local()
_KEPT = 2**25  # bytes of memory that each thread keeps for the next image; larger ones get their own


def decode_view(
    jpeg: bytes,
    where: str,
    min_size: tuple[float, float],
    view: tuple[float, float, float, float],
    mirrored: bool,
    interpolation: str,
    out: np.ndarray,
) -> None:
    """Decode a JPEG and resize a part of it into `out`, uint8 (H, W, 3); the pixels of `decode` and `resize`.

    min_size, where: see `decode`. view: left, top, right, bottom as shares of the whole image's sides.
    It costs less than the two: nothing is copied on the way, and memory is used again. (Four bytes a pixel
    are what PIL works on; anything else it has to repack first.)
    """
    size = out.shape[:2]
    least = {"min_height": int(np.ceil(min_size[0])), "min_width": int(np.ceil(min_size[1]))}
    try:
        height, width = simplejpeg.decode_jpeg_header(jpeg, **least)[:2]
        if (height, width) == size and view == (0, 0, 1, 1) and not mirrored:
            simplejpeg.decode_jpeg(jpeg, "RGB", buffer=out, **least)
            return
        pixels = simplejpeg.decode_jpeg(jpeg, "RGBX", buffer=_memory(4 * height * width), **least)
    except ValueError as error:
        raise UserError(f"{where}: not a readable JPEG ({error})") from None
    picture = PIL.Image.frombuffer("RGBX", (width, height), pixels, "raw", "RGBX", 0, 1)
    left, top, right, bottom = view
    box = left * width, top * height, right * width, bottom * height
    picture = picture.resize(size[::-1], FILTERS[interpolation], box=box)
    if mirrored:
        picture = picture.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
    out[...] = np.frombuffer(picture.tobytes("raw", "RGB"), np.uint8).reshape(out.shape)


def _memory(size: int) -> np.ndarray:
    """At least `size` bytes that this thread has for itself until it asks again: uint8 (≥ size,)."""
    kept: np.ndarray | None = getattr(_thread, "memory", None)
    if kept is None or kept.size < size:
        kept = np.empty(size, np.uint8)
        if size <= _KEPT:
            _thread.memory = kept
    return kept


def resize(
    image: np.ndarray,
    box: tuple[float, float, float, float],
    size: tuple[int, int],
    interpolation: str = "bilinear",
) -> np.ndarray:
    """Antialiased resize of a part of uint8 (H, W, 3) to size (height, width).

    box: left, top, right, bottom in pixels of `image`, measured from its edges; fractions count.
    interpolation: of `FILTERS`.
    """
    if size == image.shape[:2] and tuple(box) == (0, 0, size[1], size[0]):
        return image
    picture = PIL.Image.fromarray(image)
    resized = picture.resize((size[1], size[0]), FILTERS[interpolation], box=box)
    return np.asarray(resized)


def model_input(image: np.ndarray, size: tuple[int, int], fit: str, interpolation: str) -> np.ndarray:
    """A whole image, uint8 (H, W, 3) of any size, as the model takes it: uint8 (height, width, 3) of `size`.

    fit: "stretch" gives up the aspect ratio (the 2023 code); "crop" resizes the image until it covers
    `size` and cuts out the middle (CLIP). With "crop" and bicubic the pixels are those of
    CLIPImageProcessorPil of transformers; see `placement` for the others' corner of the cut.
    interpolation: of `FILTERS`.
    """
    (height, width), (top, left) = placement(image.shape[:2], size, fit)
    resized = resize(image, (0, 0, image.shape[1], image.shape[0]), (height, width), interpolation)
    return resized[top : top + size[0], left : left + size[1]]


def placement(
    whole: tuple[int, int], size: tuple[int, int], fit: str
) -> tuple[tuple[int, int], tuple[int, int]]:
    """What a whole image (height, width) is resized to, and the corner (top, left) in there of what is kept.

    Whole numbers, rounded down, as in transformers. OpenAI's code and open_clip round the corner to the
    nearest even number instead: one pixel further where 3, 7, 11, … pixels are too many.
    """
    if fit == "stretch":
        return size, (0, 0)
    if whole[0] * size[1] <= whole[1] * size[0]:  # too wide, or just right
        resized = size[0], whole[1] * size[0] // whole[0]
    else:
        resized = whole[0] * size[1] // whole[1], size[1]
    return resized, ((resized[0] - size[0]) // 2, (resized[1] - size[1]) // 2)


def load_rgb(source: str | os.PathLike | bytes | PIL.Image.Image, upright: bool = False) -> np.ndarray:
    """Read an image of any kind PIL knows, from a file, its bytes or PIL, to uint8 (H, W, 3) RGB.

    upright: turn the image as its EXIF orientation says. The 2023 code does not, so evaluation does not.
    What is transparent shows the colour below it. Raises UserError naming the file.
    """
    where = os.fspath(source) if isinstance(source, str | os.PathLike) else "image"
    try:
        if isinstance(source, PIL.Image.Image):
            return _rgb(source, upright)
        if not isinstance(source, bytes):
            with open(source, "rb") as file:
                source = file.read()
        with PIL.Image.open(io.BytesIO(source)) as picture:
            return _rgb(picture, upright)
    except Exception as error:  # damaged files make PIL's decoders raise whatever they stumble over
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{where}: not a readable image ({reason})") from None


def _rgb(picture: PIL.Image.Image, upright: bool) -> np.ndarray:
    if picture.mode.startswith(("I", "F")):  # PIL would make everything above 255 white
        raise ValueError(f"its pixels are of PIL's mode {picture.mode}, expected 8 bits a channel")
    if upright:
        picture = PIL.ImageOps.exif_transpose(picture)
    return np.asarray(picture.convert("RGB"))
