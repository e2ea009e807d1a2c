"""Crop, scale and mirror an image, its joints and the words of its captions by the same view.

Every random number is a pure function of (seed, position), so a batch never depends on which
thread, worker or process made it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from annotation import schema
from focusclip_jax.data import images


class View(NamedTuple):
    """A rectangle of the stored image that becomes the whole output, mirrored or not.

    left, top, width, height: pixels of the stored image, measured from its edges (pixel i spans i to i + 1).
    """

    left: float
    top: float
    width: float
    height: float
    mirrored: bool = False


def whole(height: int, width: int) -> View:
    """The view that keeps everything: resize without crop, as the 2023 code does."""
    return View(0.0, 0.0, float(width), float(height))


def fitted(height: int, width: int, size: tuple[int, int], fit: str) -> View:
    """What `images.model_input` shows of an image of height x width pixels; it becomes `size` (H, W)."""
    resized, (top, left) = images.placement((height, width), size, fit)
    return View(
        left=left * width / resized[1],
        top=top * height / resized[0],
        width=size[1] * width / resized[1],
        height=size[0] * height / resized[0],
    )


def scale_view(view: View, vertical: float, horizontal: float) -> View:
    """The same rectangle in the pixels of a copy of the image whose sides are that many times as long."""
    return View(
        view.left * horizontal,
        view.top * vertical,
        view.width * horizontal,
        view.height * vertical,
        view.mirrored,
    )


RANDOMS_PER_VIEW = 5


def random_view(
    randoms: np.ndarray,
    height: int,
    width: int,
    area: tuple[float, float],
    aspect: float,
    flip: float,
    largest: View | None = None,
) -> View:
    """A random rectangle inside an image of height x width pixels.

    randoms: (5,) in [0, 1). area: smallest and largest share of `largest` that is kept.
    aspect: the width-to-height ratio is changed by a factor between 1 / aspect and aspect (log-uniform)
    relative to that of `largest`.
    flip: probability of mirroring.
    largest: what evaluation would show, by default the whole image. Its place does not matter: a square
    of it is anywhere in the image.
    """
    largest = largest or whole(height, width)
    kept = area[0] + (area[1] - area[0]) * randoms[0]
    stretch = aspect ** (2 * randoms[1] - 1)
    view_width = min(width, largest.width * (kept * stretch) ** 0.5)
    view_height = min(height, largest.height * (kept / stretch) ** 0.5)
    return View(
        left=float((width - view_width) * randoms[2]),
        top=float((height - view_height) * randoms[3]),
        width=float(view_width),
        height=float(view_height),
        mirrored=bool(is_mirrored(randoms, flip)),
    )


def is_mirrored(randoms: np.ndarray, flip: float) -> np.ndarray:
    """Whether `random_view` mirrors, for randoms (..., 5): captions need it before the image is read."""
    return randoms[..., 4] < flip


def view_joints(
    joints: np.ndarray, visibility: np.ndarray, view: View, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Where the joints of a stored image lie in the output, and their visibility.

    joints: (P, 16, 2) pixels of the stored image, NaN where missing. visibility: (P, 16).
    size: (H, W) of the output. A mirrored person's left ankle is the right ankle of the person.
    """
    scale = np.array([size[1] / view.width, size[0] / view.height])
    moved = (np.asarray(joints, np.float64) + 0.5 - (view.left, view.top)) * scale - 0.5
    if not view.mirrored:
        return moved, visibility
    moved[..., 0] = size[1] - 1 - moved[..., 0]
    return moved[:, schema.MIRRORED], visibility[:, schema.MIRRORED]


# "right angle" has no side. "right away", "left out", "left behind" have none either, unless an article
# makes the word a noun ("to the right behind the body"). Both words get the same rule, so that mirroring
# twice always gives the text back.
_SIDE = re.compile(
    r"\b(?P<noun>(?i:the|its|his|her|their)\s+)?(?P<side>left|right|Left|Right|LEFT|RIGHT)\b"
    r"(?=(?P<angle>[\s-]+(?i:angle))|(?P<idiom>[\s-]+(?i:away|out|behind)\b)|)"
)
_OTHER = {
    "left": "right",
    "Left": "Right",
    "LEFT": "RIGHT",
    "right": "left",
    "Right": "Left",
    "RIGHT": "LEFT",
}


def mirror_text(text: str) -> str:
    """Swap the words left and right, keeping their case, as a mirrored image needs. Its own inverse."""
    return _SIDE.sub(_mirror_side, text)


def _mirror_side(match: re.Match) -> str:
    if match["angle"] or (match["idiom"] and not match["noun"]):
        return match[0]
    return (match["noun"] or "") + _OTHER[match["side"]]


def uniforms(seed: int, positions: np.ndarray, columns: int) -> np.ndarray:
    """Random numbers float64 (N, columns) in [0, 1): entry (n, c) is a function of seed, positions[n] and c.

    The counter-based generator is SplitMix64's output function, applied to each of the three in turn.
    """
    key = _mix(np.array([seed], np.uint64))
    rows = _mix(key + np.asarray(positions).astype(np.uint64))
    cells = _mix(rows[:, None] + np.arange(columns, dtype=np.uint64))
    return (cells >> np.uint64(11)) * 2.0**-53


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
