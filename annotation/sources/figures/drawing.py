"""Bodies drawn as overlapping capsules, far parts first, in several styles.

Everything here is in canvas pixels: the canvas is larger than the image and reduced afterwards. Vertices
are whole numbers and only polygons are drawn, so the same figure gives the same pixels on every machine.
"""

from __future__ import annotations

import dataclasses

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
        width=1.25,
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
    return tuple(min(255, max(0, round(c + d))) for c, d in zip(color, (rng.random(3) * 2 - 1) * amount, strict=True))


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


_PHI = np.arange(6) * (np.pi / 5) - np.pi / 2
_CAP = np.stack([np.cos(_PHI), np.sin(_PHI)], -1)  # half circle around +x, from -y to +y


def capsules(starts: np.ndarray, ends: np.ndarray, start_radii, end_radii) -> list[list[int]]:
    """Polygons [x0, y0, x1, y1 …] of N tapered capsules. starts, ends: (N, 2), radii: (N,), canvas pixels."""
    along = ends - starts
    length = np.sqrt((along * along).sum(-1, keepdims=True))
    along = np.where(length > 1e-6, along / np.maximum(length, 1e-6), (1.0, 0.0))
    across = np.stack([-along[:, 1], along[:, 0]], -1)
    cap = _CAP[:, :1] * along[:, None] + _CAP[:, 1:] * across[:, None]
    ring = np.concatenate(
        [
            ends[:, None] + np.asarray(end_radii)[:, None, None] * cap,
            starts[:, None] - np.asarray(start_radii)[:, None, None] * cap,
        ],
        1,
    )
    return np.rint(ring).astype(np.int64).reshape(len(starts), -1).tolist()


# Capsules of a body: start point, end point, radius at each end in body heights.
_LIMBS = (
    (b.L_HIP, b.L_KNEE, 0.056, 0.042),
    (b.R_HIP, b.R_KNEE, 0.056, 0.042),
    (b.L_KNEE, b.L_ANKLE, 0.041, 0.028),
    (b.R_KNEE, b.R_ANKLE, 0.041, 0.028),
    (b.L_ANKLE, b.L_TOE, 0.030, 0.022),
    (b.R_ANKLE, b.R_TOE, 0.030, 0.022),
    (b.L_SHOULDER, b.L_ELBOW, 0.040, 0.031),
    (b.R_SHOULDER, b.R_ELBOW, 0.040, 0.031),
    (b.L_ELBOW, b.L_WRIST, 0.031, 0.022),
    (b.R_ELBOW, b.R_WRIST, 0.031, 0.022),
    (b.L_WRIST, b.L_HAND, 0.026, 0.026),
    (b.R_WRIST, b.R_HAND, 0.026, 0.026),
)
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
_NECK = ((b.THORAX, b.HEAD, 0.034, 0.034),)


@dataclasses.dataclass(frozen=True)
class Part:
    """Polygons drawn together in one colour, at one depth (larger is nearer)."""

    depth: float
    color: Color
    polygons: list[list[int]]
    contours: list[list[int]]
    highlights: list[list[int]]


def _dimmed(color: Color, factor: float) -> Color:
    return tuple(round(c * factor) for c in color)


def body_parts(
    body: b.Body, build: b.Build, outfit: Outfit, style: Style, points: np.ndarray, unit: float, line: float
) -> list[Part]:
    """The parts of one person, far ones first.

    points: (21, 2), the body's points on the canvas. unit: canvas pixels per body height.
    line: width of a contour in canvas pixels.
    """
    trunk = _SPINE if style.stick else _TRUNK
    table = (*_LIMBS, *_NECK, *trunk)
    starts = points[[row[0] for row in table]]
    ends = points[[row[1] for row in table]]
    girth = unit * style.width * build.stoutness
    radii = np.array([row[2:] for row in table]) * girth
    depth = body.points[:, 2]
    skirt = outfit.bottom == "skirt" and not style.stick
    if skirt:
        hem = points[[b.L_HIP, b.R_HIP]] * 0.35 + points[[b.L_KNEE, b.R_KNEE]] * 0.65
        starts = np.concatenate([starts, points[[b.L_HIP, b.R_HIP]], hem[:1]])
        ends = np.concatenate([ends, hem, hem[1:]])
        radii = np.concatenate([radii, np.array([(0.06, 0.07), (0.06, 0.07), (0.06, 0.06)]) * girth])
    # The head: skull, then hair pushed away from the face, both discs.
    head, radius = points[b.HEAD], 0.5 * build.head * unit
    look = np.array([body.facing[0], -body.facing[1]])
    discs = np.stack([head, head + look * (0.45 * radius)])
    disc_radii = np.array([1.0, 0.8 if style.stick else 0.72]) * radius
    starts, ends = np.concatenate([starts, discs]), np.concatenate([ends, discs])
    radii = np.concatenate([radii, np.stack([disc_radii, disc_radii], -1)])

    polygons = capsules(starts, ends, radii[:, 0], radii[:, 1])
    contours = highlights = [[] for _ in polygons]
    if style.outline:
        contours = capsules(starts, ends, radii[:, 0] + line, radii[:, 1] + line)
    if style.highlight:
        shift = -0.35 * radii.mean(1, keepdims=True)
        highlights = capsules(starts + shift, ends + shift, radii[:, 0] * 0.35, radii[:, 1] * 0.35)

    skin, top, legs = outfit.skin, outfit.top, outfit.legs
    colors = (
        [skin if skirt else legs] * 2
        + [legs if outfit.bottom == "trousers" else skin] * 2
        + [outfit.shoes] * 2
        + [top if outfit.sleeves else skin] * 2
        + [top if outfit.sleeves == 2 else skin] * 2
        + [skin] * 2
    )
    middle = (depth[b.THORAX] + depth[b.PELVIS]) / 2

    def part(at: float, color: Color, rows: list[int], extra: list[list[int]] = []) -> Part:
        dim = style.dim if at < middle - 0.03 else 1.0
        return Part(
            at,
            _dimmed(color, dim),
            [polygons[i] for i in rows] + extra,
            [contours[i] for i in rows],
            [highlights[i] for i in rows],
        )

    parts = [
        part((depth[table[i][0]] + depth[table[i][1]]) / 2, color, [i]) for i, color in enumerate(colors)
    ]
    n = len(_LIMBS)
    quad = points[[b.L_SHOULDER, b.R_SHOULDER, b.R_HIP, b.L_HIP]]
    chest = [] if style.stick else [np.rint(quad).astype(np.int64).ravel().tolist()]
    parts.append(part(middle, skin, [n]))  # the neck, under the chest that follows at equal depth
    parts.append(part(middle, top, list(range(n + 1, n + 1 + len(trunk))), chest))
    after = n + 1 + len(trunk)
    if skirt:
        quad = np.concatenate([points[[b.L_HIP, b.R_HIP]], hem[::-1]])
        knees = max(middle, (depth[b.L_KNEE] + depth[b.R_KNEE] + depth[b.L_HIP] + depth[b.R_HIP]) / 4)
        cloth = [np.rint(quad).astype(np.int64).ravel().tolist()]
        parts.append(part(knees + 1e-3, legs, list(range(after, after + 3)), cloth))
        after += 3
    return sorted([*parts, *_head(body, outfit, polygons, contours, after, points, radius)], key=_depth)


def _depth(part: Part) -> float:
    return part.depth


def _head(body, outfit, polygons, contours, first, points, radius) -> list[Part]:
    """Skull in hair colour with a disc of skin towards where the head looks; nothing of it from behind."""
    at = body.points[b.HEAD, 2]
    parts = [Part(at, outfit.hair, [polygons[first]], [contours[first]], [])]
    if body.facing[2] > -0.35:
        parts.append(Part(at + 1e-4, outfit.skin, [polygons[first + 1]], [], []))
    crown, chin = points[b.HEAD_TOP], points[b.NECK]
    up = (crown - chin) / max(np.sqrt(((crown - chin) ** 2).sum()), 1e-6)
    side = np.array([-up[1], up[0]]) * radius
    if outfit.hat:
        brim = points[b.HEAD] + up * (0.45 * radius)
        peak = points[b.HEAD] + up * (1.25 * radius)
        shape = np.array([brim - side * 1.2, brim + side * 1.2, peak + side * 0.6, peak - side * 0.6])
        parts.append(Part(at + 2e-4, outfit.legs, [np.rint(shape).astype(np.int64).ravel().tolist()], [], []))
    elif outfit.long_hair:
        nape = points[b.HEAD] - up * (1.3 * radius)
        away = np.array([body.facing[0], -body.facing[1]]) * (-0.5 * radius)
        locks = capsules((points[b.HEAD] + away)[None], (nape + away)[None], [radius * 0.75], [radius * 0.6])
        depth = at - 1e-4 if body.facing[2] > -0.35 else at + 2e-4
        parts.append(Part(depth, outfit.hair, locks, [], []))
    return parts


def draw_parts(draw: ImageDraw.ImageDraw, parts: list[Part], style: Style) -> None:
    """Paint the parts in the order given."""
    for part in parts:
        for polygon in part.contours:
            if polygon:
                draw.polygon(polygon, style.outline)
        for polygon in part.polygons:
            draw.polygon(polygon, part.color)
        if style.highlight:
            light = tuple(min(255, c + 45) for c in part.color)
            for polygon in part.highlights:
                draw.polygon(polygon, light)
