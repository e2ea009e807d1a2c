"""Bodies drawn as overlapping capsules, far parts first, in several styles.

Everything here is in canvas pixels: the canvas is larger than the image and reduced afterwards. Vertices
are whole numbers and only polygons are drawn, so the same figure gives the same pixels on every machine.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from PIL import ImageDraw

from annotation.sources.figures import body as b

Color = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Style:
    """A way to draw people.

    clothes: the palette. width: of limbs, 1 is natural. outline: colour of the contour, if any.
    dim: brightness of parts turned away from the camera. highlight: a light streak along each part.
    plain: the whole body in one colour. stick: the trunk is a spine instead of a solid.
    """

    name: str
    clothes: tuple[Color, ...]
    width: float = 1.0
    outline: Color | None = None
    dim: float = 1.0
    highlight: bool = False
    plain: bool = False
    stick: bool = False


TRAIN_STYLES = (
    Style("flat", ((190, 30, 45), (20, 60, 150), (10, 110, 80), (95, 40, 120), (225, 120, 20)), dim=0.72),
    Style(
        "outlined",
        ((235, 80, 80), (70, 120, 230), (250, 200, 60), (60, 170, 120), (240, 240, 240)),
        outline=(25, 20, 30),
    ),
    Style(
        "shaded",
        ((150, 20, 70), (30, 80, 110), (60, 60, 70), (130, 70, 20), (50, 100, 30)),
        width=1.12,
        dim=0.62,
        highlight=True,
    ),
    Style(
        "bold",
        ((255, 90, 0), (0, 70, 200), (200, 0, 90), (0, 120, 60), (40, 40, 50)),
        width=1.15,
        outline=(60, 30, 20),
        dim=0.85,
    ),
)
TEST_STYLES = (
    Style(
        "stick",
        ((170, 10, 20), (15, 30, 120), (20, 80, 30), (70, 20, 80)),
        width=0.62,
        stick=True,
    ),
    Style("silhouette", ((20, 25, 35), (50, 15, 25), (10, 40, 60), (35, 30, 15)), plain=True),
    Style(
        "haloed",
        ((210, 60, 130), (90, 60, 190), (0, 130, 140), (160, 80, 60), (110, 110, 20)),
        width=1.05,
        outline=(250, 250, 245),
        dim=0.8,
    ),
)
# Never looked at while methods are chosen.
CONFIRMATION_STYLES = (
    Style(
        "chalk",
        ((250, 245, 225), (235, 245, 250), (250, 230, 235), (240, 250, 225)),
        outline=(35, 35, 40),
        plain=True,
    ),
    Style(
        "marker",
        ((120, 0, 90), (0, 90, 110), (110, 60, 0), (30, 30, 100)),
        width=0.85,
        outline=(250, 250, 245),
        stick=True,
    ),
    Style(
        "poster",
        ((160, 190, 60), (60, 170, 200), (220, 90, 150), (240, 170, 80), (120, 120, 200)),
        width=0.92,
        outline=(20, 40, 70),
        dim=0.55,
        highlight=True,
    ),
)

_SKINS = ((250, 214, 184), (232, 184, 148), (205, 150, 110), (168, 112, 76), (124, 80, 54), (88, 56, 40))
_HAIRS = ((30, 22, 20), (74, 46, 28), (122, 78, 40), (206, 168, 96), (156, 60, 28), (150, 150, 150))
_SHOES = ((40, 35, 35), (225, 225, 225), (110, 60, 40), (150, 20, 30))


@dataclasses.dataclass(frozen=True)
class Outfit:
    """Colours and kinds of clothing. sleeves: 0 none, 1 short, 2 long. bottom: trousers, shorts or skirt."""

    skin: Color
    hair: Color
    top: Color
    legs: Color
    shoes: Color
    sleeves: int
    bottom: str
    long_hair: bool
    hat: bool


def pick(rng: np.random.Generator, options):
    return options[int(rng.random() * len(options))]


def tinted(color: Color, rng: np.random.Generator, amount: float = 18) -> Color:
    """The colour with each channel moved by up to `amount`."""
    moves = rng.random(3).tolist()
    return tuple(
        [min(255, max(0, round(c + amount * (2 * m - 1)))) for c, m in zip(color, moves, strict=True)]
    )


def random_outfit(style: Style, rng: np.random.Generator) -> Outfit:
    if style.plain:
        color = tinted(pick(rng, style.clothes), rng, 10)
        return Outfit(color, color, color, color, color, 2, pick(rng, ("trousers", "skirt")), False, False)
    first = int(rng.random() * len(style.clothes))
    second = (first + 1 + int(rng.random() * (len(style.clothes) - 1))) % len(style.clothes)
    return Outfit(
        skin=tinted(pick(rng, _SKINS), rng, 8),
        hair=tinted(pick(rng, _HAIRS), rng, 8),
        top=tinted(style.clothes[first], rng),
        legs=tinted(style.clothes[second], rng),
        shoes=tinted(pick(rng, _SHOES), rng, 8),
        sleeves=int(rng.random() * 3),
        bottom=pick(rng, ("trousers", "trousers", "shorts", "skirt")),
        long_hair=rng.random() < 0.4,
        hat=rng.random() < 0.2,
    )


class Capsule(NamedTuple):
    """A stroke from (x0, y0) to (x1, y1) with round ends of radius r0 and r1, canvas pixels."""

    x0: float
    y0: float
    x1: float
    y1: float
    r0: float
    r1: float


def stroke(start: Iterable[float], end: Iterable[float], start_radius: float, end_radius: float) -> Capsule:
    """From point to point, each (x, y)."""
    (x0, y0), (x1, y1) = start, end
    return Capsule(x0, y0, x1, y1, start_radius, end_radius)


class Part(NamedTuple):
    """Capsules, and perhaps a polygon between them, in one colour at one depth (larger is nearer)."""

    depth: float
    color: Color
    capsules: list[Capsule]
    polygon: list[list[float]] | None = None


_PHI = np.arange(5) * (np.pi / 4) - np.pi / 2
_HALF_CIRCLE = np.stack([np.cos(_PHI), np.sin(_PHI)], -1)  # around +x, from -y to +y


def outlines(capsules: np.ndarray) -> list[list[int]]:
    """Polygons [x0, y0, x1, y1 …] around N capsules, (N, 6)."""
    starts, ends, radii = capsules[:, 0:2], capsules[:, 2:4], capsules[:, 4:, None, None]
    along = ends - starts
    length = np.sqrt((along * along).sum(-1, keepdims=True))
    along = np.where(length > 1e-6, along / np.maximum(length, 1e-6), (1.0, 0.0))
    across = np.stack([-along[:, 1], along[:, 0]], -1)
    cap = _HALF_CIRCLE[:, :1] * along[:, None] + _HALF_CIRCLE[:, 1:] * across[:, None]
    ring = np.concatenate([ends[:, None] + radii[:, 1] * cap, starts[:, None] - radii[:, 0] * cap], 1)
    return np.rint(ring).astype(np.int64).reshape(len(capsules), -1).tolist()


# Capsules of a body: start point, end point, radius at each end in body heights.
_THIGHS = ((b.L_HIP, b.L_KNEE, 0.056, 0.042), (b.R_HIP, b.R_KNEE, 0.056, 0.042))
_SHINS = ((b.L_KNEE, b.L_ANKLE, 0.041, 0.028), (b.R_KNEE, b.R_ANKLE, 0.041, 0.028))
_FEET = ((b.L_ANKLE, b.L_TOE, 0.030, 0.022), (b.R_ANKLE, b.R_TOE, 0.030, 0.022))
_UPPER_ARMS = ((b.L_SHOULDER, b.L_ELBOW, 0.040, 0.031), (b.R_SHOULDER, b.R_ELBOW, 0.040, 0.031))
_LOWER_ARMS = ((b.L_ELBOW, b.L_WRIST, 0.031, 0.022), (b.R_ELBOW, b.R_WRIST, 0.031, 0.022))
_HANDS = ((b.L_WRIST, b.L_HAND, 0.026, 0.026), (b.R_WRIST, b.R_HAND, 0.026, 0.026))
_NECK = (b.THORAX, b.NECK, 0.036, 0.030)
_TRUNK = (
    (b.L_SHOULDER, b.L_HIP, 0.050, 0.058),
    (b.R_SHOULDER, b.R_HIP, 0.050, 0.058),
    (b.L_SHOULDER, b.R_SHOULDER, 0.050, 0.050),
    (b.L_HIP, b.R_HIP, 0.058, 0.058),
)
_SPINE = (
    (b.PELVIS, b.THORAX, 0.045, 0.045),
    (b.L_SHOULDER, b.R_SHOULDER, 0.040, 0.040),
    (b.L_HIP, b.R_HIP, 0.045, 0.045),
)


def body_parts(
    body: b.Body, build: b.Build, outfit: Outfit, style: Style, points: np.ndarray, unit: float
) -> list[Part]:
    """The parts of one person. points: (21, 2), the body's points on the canvas.

    unit: canvas pixels per body height.
    """
    at, depth = points.tolist(), body.points[:, 2].tolist()
    girth = unit * style.width * build.stoutness

    def capsule(start, end, start_radius, end_radius):
        return stroke(at[start], at[end], start_radius * girth, end_radius * girth)

    skin, top, legs = outfit.skin, outfit.top, outfit.legs
    limbs = (
        (_THIGHS, skin if outfit.bottom == "skirt" else legs),
        (_SHINS, legs if outfit.bottom == "trousers" else skin),
        (_FEET, outfit.shoes),
        (_UPPER_ARMS, top if outfit.sleeves > 0 else skin),
        (_LOWER_ARMS, top if outfit.sleeves > 1 else skin),
        (_HANDS, skin),
    )
    parts = [
        Part((depth[row[0]] + depth[row[1]]) / 2, color, [capsule(*row)])
        for rows, color in limbs
        for row in rows
    ]
    middle = (depth[b.THORAX] + depth[b.PELVIS]) / 2
    if style.dim < 1:
        parts = [
            p._replace(color=_dimmed(p.color, style.dim)) if p.depth < middle - 0.03 else p for p in parts
        ]
    # At equal depth the order here decides: the neck goes under the chest.
    parts.append(Part(middle, skin, [capsule(*_NECK)]))
    if style.stick:
        parts.append(Part(middle, top, [capsule(*row) for row in _SPINE]))
    else:
        chest = [at[b.L_SHOULDER], at[b.R_SHOULDER], at[b.R_HIP], at[b.L_HIP]]
        parts.append(Part(middle, top, [capsule(*row) for row in _TRUNK], chest))
    if outfit.bottom == "skirt" and not style.stick:
        thighs = sum(depth[i] for i in (b.L_HIP, b.R_HIP, b.L_KNEE, b.R_KNEE)) / 4
        parts.append(_skirt(at, girth, max(middle, thighs) + 1e-3, legs))
    return parts + _head(body, build, outfit, points, unit)


def _dimmed(color: Color, factor: float) -> Color:
    red, green, blue = (round(c * factor) for c in color)
    return red, green, blue


def _skirt(at: list[list[float]], girth: float, depth: float, color: Color) -> Part:
    """Cloth from the hips to two thirds of the thighs, and between them."""
    hips = [at[b.L_HIP], at[b.R_HIP]]
    knees = [at[b.L_KNEE], at[b.R_KNEE]]
    hem = [
        [0.35 * h + 0.65 * k for h, k in zip(*pair, strict=True)] for pair in zip(hips, knees, strict=True)
    ]
    sides = [stroke(h, k, 0.06 * girth, 0.07 * girth) for h, k in zip(hips, hem, strict=True)]
    return Part(
        depth, color, [*sides, stroke(hem[0], hem[1], 0.06 * girth, 0.06 * girth)], [*hips, *hem[::-1]]
    )


def _head(body: b.Body, build: b.Build, outfit: Outfit, points: np.ndarray, unit: float) -> list[Part]:
    """A skull in hair colour with a disc of skin where the face is, so that one sees where it looks."""
    radius = 0.5 * build.head * unit
    centre, depth = points[b.HEAD], float(body.points[b.HEAD, 2])
    look = body.facing[:2] * (radius, -radius)
    crown = points[b.HEAD_TOP] - points[b.NECK]
    up = crown * (radius / max(float(np.sqrt((crown * crown).sum())), 1e-6))
    side = np.array([-up[1], up[0]])
    faces_us = body.facing[2] > -0.35

    parts = [Part(depth, outfit.hair, [stroke(centre, centre, radius, radius)])]
    if faces_us:
        face = centre + 0.45 * look
        parts.append(Part(depth + 1e-4, outfit.skin, [stroke(face, face, 0.72 * radius, 0.72 * radius)]))
    if outfit.hat:
        brim, peak = centre + 0.45 * up, centre + 1.25 * up
        shape = np.array([brim - 1.2 * side, brim + 1.2 * side, peak + 0.6 * side, peak - 0.6 * side])
        parts.append(Part(depth + 2e-4, outfit.legs, [], shape.tolist()))
    elif outfit.long_hair:
        back = centre - 0.5 * look
        locks = stroke(back, back - 1.3 * up, 0.75 * radius, 0.6 * radius)
        parts.append(Part(depth - 1e-4 if faces_us else depth + 2e-4, outfit.hair, [locks]))
    return parts


def draw_parts(draw: ImageDraw.ImageDraw, parts: list[Part], style: Style, line: float) -> list[list[int]]:
    """Paint the parts, far ones first; return the polygons that cover what was there before.

    line: width of an outline in canvas pixels.
    """
    parts = sorted(parts, key=lambda part: part.depth)
    capsules = np.array([capsule for part in parts for capsule in part.capsules])
    bodies = iter(outlines(capsules))
    wider = np.array((0, 0, 0, 0, line, line))
    contours = iter(outlines(capsules + wider) if style.outline else ())
    streaks = iter(outlines(_streaks(capsules)) if style.highlight else ())
    painted = []
    for part in parts:
        count = len(part.capsules)
        around = list(itertools.islice(contours, count))
        inside = list(itertools.islice(bodies, count))
        if part.polygon:
            inside.append([round(v) for point in part.polygon for v in point])
        for polygon in around:
            draw.polygon(polygon, style.outline)
        for polygon in inside:
            draw.polygon(polygon, part.color)
        light = tuple([min(255, c + 45) for c in part.color])
        for polygon in itertools.islice(streaks, count):
            draw.polygon(polygon, light)
        painted += around + inside
    return painted


def _streaks(capsules: np.ndarray) -> np.ndarray:
    """Thin capsules inside these, towards a light at the upper left."""
    radius = capsules[:, 4:].mean(1, keepdims=True)
    return np.concatenate([capsules[:, :4] - 0.35 * radius, 0.35 * capsules[:, 4:]], 1)
