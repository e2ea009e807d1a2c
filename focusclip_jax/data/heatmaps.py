"""Heatmaps of people, rendered directly at the output size: of ten body parts (the paper) or otherwise.

A part is a Gaussian around the bounding box of its joints. The 2023 code renders it at the full size
of the photograph and shrinks the result together with the image. A Gaussian is the product of a
profile along x and one along y, so the sum over all parts is a product of two thin matrices at the
output size, and the smoothing of the resize is a slightly wider, lower Gaussian.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from annotation import schema
from focusclip_jax.data.augment import View

_MOST = max(map(len, schema.PARTS.values()))
# (10, 6): the joints of each part, the first one repeated to fill the row.
_JOINTS = np.array([(*joints, *joints[:1] * (_MOST - len(joints))) for joints in schema.PARTS.values()])
# (16, 10): whether a joint belongs to a part.
_MEMBERS = np.array(
    [[j in joints for joints in schema.PARTS.values()] for j in range(schema.JOINT_COUNT)], np.float32
)

KINDS = ("parts", "joints", "box", "person")  # see `render`
MIN_HALF_AXIS = 0.5  # pixels of the photograph; the 2023 code divides by zero here
JOINT_SHARE = 0.05  # σ of a joint's Gaussian, of the longer side of the person's box: two σ are about a head
NUMBERS = 5  # of each Gaussian, see `gaussians`
NOTHING = (0.0, 0.0, 1.0, 1.0, 0.0)  # a Gaussian of height 0
# Exponents below it are raised to it: e^-30 is nothing, but denormal numbers are slow.
_NEGLIGIBLE = np.float32(-30)


def original_joints(joints: np.ndarray, stored: tuple[int, int], original: tuple[int, int]) -> np.ndarray:
    """Joints of the stored image in pixels of the photograph, float64 (P, 16, 2), NaN kept.

    stored, original: (height, width). Pixel centres map to pixel centres. Rounded to 1/1000 pixel,
    because the stored float32 would bring 100 back as 99.99999, which the heatmap truncates to 99.
    """
    return scaled_joints(joints, np.array([original[1] / stored[1], original[0] / stored[0]]))


def scaled_joints(joints: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """`original_joints` by factors of x and y: (2,), or (P, 1, 2) for people of several images."""
    return np.round((np.asarray(joints, np.float64) + 0.5) * scale - 0.5, 3)


def ellipses(
    joints: np.ndarray, visibility: np.ndarray, kind: str = "parts"
) -> tuple[np.ndarray, np.ndarray]:
    """Centres and half-axes, float64 (G, 2) each, x then y, of the parts with at least two visible joints.

    joints: (P, 16, 2) pixels of the photograph; visibility: (P, 16). As in the 2023 code, joints are
    truncated to whole pixels and centre and half-axes are floored; a joint may lie outside the image.
    A half-axis is at least `MIN_HALF_AXIS`.
    kind: one of `KINDS`; of "box" and "person" the only part is the whole person. Of "joints" each visible
    joint of a person with at least two, with equal half-axes.
    """
    return _ellipses(joints, visibility, kind)[:2]


def _ellipses(
    joints: np.ndarray, visibility: np.ndarray, kind: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`ellipses`, and whose each is: int (G,), rising."""
    seen = np.asarray(visibility) != schema.MISSING
    pixels = np.where(seen[..., None], np.trunc(joints), np.nan)
    if kind == "parts":
        drawn = seen.astype(np.float32) @ _MEMBERS >= 2  # (P, 10)
        pixels = pixels[:, _JOINTS]  # (P, 10, 6, 2)
    else:
        drawn = seen.sum(axis=1, keepdims=True) >= 2  # (P, 1)
        pixels = pixels[:, None]  # (P, 1, 16, 2)
    low = np.fmin.reduce(pixels, axis=2)[drawn]  # fmin and fmax pass over NaN
    high = np.fmax.reduce(pixels, axis=2)[drawn]
    if kind == "joints":
        people = drawn[:, 0]
        width = np.maximum(JOINT_SHARE * (high - low).max(axis=1), MIN_HALF_AXIS)
        half_axes = np.broadcast_to(width[:, None, None], (len(width), schema.JOINT_COUNT, 2))
        shown = seen & drawn
        return pixels[people, 0][seen[people]], half_axes[seen[people]], np.nonzero(shown)[0]
    half_axes = np.maximum(np.floor((high - low) / 2), MIN_HALF_AXIS)
    return np.floor((low + high) / 2), half_axes, np.nonzero(drawn)[0]


def render(
    joints: np.ndarray,
    visibility: np.ndarray,
    view: View,
    size: tuple[int, int],
    kind: str = "parts",
    scale: float = 1.0,
) -> np.ndarray:
    """The heatmap of all people seen through `view`, float32 (H, W) in [0, 1].

    joints: (P, 16, 2) and view: in pixels of the photograph; see `original_joints`. size: (H, W).
    kind: "parts" is the 2023 code's heatmap resized with the image: sum of the Gaussians of ten parts a
    person, clipped to [0, 1]. "joints" has a Gaussian around each joint instead, "box" one around all joints
    of a person. "person" has a filled ellipse: 1 up to the half-axes of that box, and fading evenly to 0 half
    as far again. scale: of all half-axes.
    """
    if kind == "person":
        centres, half_axes = ellipses(joints, visibility, kind)
        return _filled(centres, scale * half_axes, view, size)
    views = np.broadcast_to(np.array(view, np.float64), (len(joints), len(view)))
    drawn, _ = gaussians(joints, visibility, views, size, kind, scale)
    heatmap = np.empty((1, *size), np.float32)
    draw(drawn, [len(drawn)], heatmap)
    return heatmap[0]


def gaussians(
    joints: np.ndarray,
    visibility: np.ndarray,
    views: np.ndarray,
    size: tuple[int, int],
    kind: str = "parts",
    scale: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """What a heatmap is the sum of, for the people of any number of images at once, and whose each is.

    joints, visibility, size, kind, scale: see `render`; not for "person". views: (P, 5), a `View` of each
    person's photograph. Returns float64 (G, 5): x, y, σ along x, σ along y (all in pixels of the output) and
    height of each Gaussian; and the number of its person, int (G,), rising.

    A bilinear resize by a factor s averages with a triangle of half-width max(s, 1) photograph pixels,
    whose variance is max(s, 1)² / 6: variances add, and the peak falls so that the area stays.
    """
    centres, half_axes, person = _ellipses(joints, visibility, kind)
    half_axes = scale * half_axes
    across = np.array([size[1], size[0]])
    start, extent, mirrored = views[person, :2], views[person, 2:4], views[person, 4]
    step = extent / across
    sigma = np.sqrt(half_axes**2 + np.maximum(step, 1.0) ** 2 / 6)
    middle = (centres + 0.5 - start) / step - 0.5
    middle[:, 0] += mirrored * (size[1] - 1 - 2 * middle[:, 0])
    height = (half_axes / sigma).prod(axis=1, keepdims=True)
    return np.concatenate([middle, sigma / step, height], axis=1), person


def draw(drawn: np.ndarray, counts: Sequence[int] | np.ndarray, heatmaps: np.ndarray) -> None:
    """Fill `heatmaps`, float32 (N, H, W), each with the sum of its Gaussians, at most 1.

    drawn: (G, 5), see `gaussians`. counts: (N,), how many of them are of each image, in order.
    `models.focusclip.drawn` is the same on a device.
    """
    columns = _profiles(drawn[:, 0], drawn[:, 2], heatmaps.shape[2])
    rows = _profiles(drawn[:, 1], drawn[:, 3], heatmaps.shape[1]) * drawn[:, 4:].astype(np.float32)
    end = 0
    for heatmap, count in zip(heatmaps, counts, strict=True):
        begin, end = end, end + count
        _product(rows[begin:end], columns[begin:end], heatmap)
        np.minimum(heatmap, 1, out=heatmap)


def _filled(centres: np.ndarray, half_axes: np.ndarray, view: View, size: tuple[int, int]) -> np.ndarray:
    pixel = np.array([view.width / size[1], view.height / size[0]])
    half_axes = np.maximum(half_axes, pixel / 2)  # so that nobody falls between the pixels
    x = view.left + (np.arange(size[1]) + 0.5) * view.width / size[1] - 0.5
    y = view.top + (np.arange(size[0]) + 0.5) * view.height / size[0] - 0.5
    heatmap = np.zeros(size, np.float32)
    for (centre_x, centre_y), (across, down) in zip(centres, half_axes, strict=True):
        radius = np.hypot((x - centre_x) / across, ((y - centre_y) / down)[:, None])
        heatmap = np.maximum(heatmap, np.clip(3 - 2 * radius, 0, 1).astype(np.float32))
    return heatmap[:, ::-1] if view.mirrored else heatmap


# OpenBLAS starts threads above 2^18 multiplications, and they wait by spinning: beside a busy training
# step a product of 0.1 ms was measured to take 15 ms on average. Smaller pieces stay on this thread.
_PIECE = 2**17


def _product(rows: np.ndarray, columns: np.ndarray, out: np.ndarray) -> None:
    """rows.T @ columns piece by piece: (G, H) and (G, W) → (H, W)."""
    step = max(1, _PIECE // max(1, columns.size))
    for start in range(0, len(out), step):
        piece = slice(start, start + step)
        np.matmul(rows[:, piece].T, columns, out=out[piece])


def _profiles(middles: np.ndarray, sigmas: np.ndarray, count: int) -> np.ndarray:
    """Gaussians of height 1 at `count` pixel centres of an axis, float32 (G, count). Two (G,) in pixels."""
    distances = ((np.arange(count) - middles[:, None]) / (np.sqrt(2) * sigmas[:, None])).astype(np.float32)
    return np.exp(np.maximum(-distances * distances, _NEGLIGIBLE))
