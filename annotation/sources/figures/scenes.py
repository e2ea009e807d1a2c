"""Backgrounds: each activity has a scene of its own, a wall or sky, a ground and a few motifs.

Scenes are drawn in canvas pixels with random horizon, tint and places, so that no two are equal while
each stays recognisable. Colours are paler than clothes, so that people stand out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from PIL import ImageDraw

from annotation.sources.figures.drawing import Color, pick, tinted

# A motif draws on a canvas of n × n pixels with the horizon at row h, in one colour.
Motif = Callable[[ImageDraw.ImageDraw, int, int, Color, np.random.Generator], None]


def _box(draw, x0, y0, x1, y1, color) -> None:
    if x1 >= x0 and y1 >= y0:
        draw.rectangle((round(x0), round(y0), round(x1), round(y1)), color)


def _shape(draw, points, color) -> None:
    draw.polygon([round(v) for point in points for v in point], color)


def _disc(draw, x, y, radius, color) -> None:
    r, d = radius, 0.7 * radius
    corners = ((-r, 0), (-d, -d), (0, -r), (d, -d), (r, 0), (d, d), (0, r), (-d, d))
    _shape(draw, [(x + dx, y + dy) for dx, dy in corners], color)


def sun(draw, n, h, color, rng):
    _disc(draw, n * (0.1 + 0.8 * rng.random()), h * (0.15 + 0.3 * rng.random()), n * 0.09, color)


def clouds(draw, n, h, color, rng):
    for _ in range(3):
        x, y = n * rng.random(), h * (0.1 + 0.4 * rng.random())
        _disc(draw, x, y, n * 0.06, color)
        _disc(draw, x + n * 0.07, y + n * 0.01, n * 0.05, color)


def hills(draw, n, h, color, rng):
    for x in (0.0, 0.45, 0.9):
        x = n * (x + 0.2 * (rng.random() - 0.5))
        w, top = n * 0.4, n * (0.1 + 0.08 * rng.random())
        _shape(
            draw,
            [(x - w, h), (x - w / 2, h - top * 0.8), (x, h - top), (x + w / 2, h - top * 0.8), (x + w, h)],
            color,
        )


def mountains(draw, n, h, color, rng):
    for x in (0.1, 0.5, 0.9):
        x, top = n * (x + 0.2 * (rng.random() - 0.5)), n * (0.3 + 0.2 * rng.random())
        _shape(draw, [(x - n * 0.3, h), (x, h - top), (x + n * 0.3, h)], color)
        _shape(
            draw,
            [(x - n * 0.07, h - top * 0.77), (x, h - top), (x + n * 0.07, h - top * 0.77)],
            (245, 248, 250),
        )


def pines(draw, n, h, color, rng):
    for x in (0.08, 0.3, 0.52, 0.74, 0.96):
        x, top = n * (x + 0.1 * (rng.random() - 0.5)), n * (0.3 + 0.2 * rng.random())
        _shape(draw, [(x - n * 0.1, h + n * 0.03), (x, h - top), (x + n * 0.1, h + n * 0.03)], color)


def buildings(draw, n, h, color, rng):
    for x in (0.0, 0.26, 0.52, 0.78):
        x, top = n * x, n * (0.25 + 0.3 * rng.random())
        _box(draw, x, h - top, x + n * 0.2, h, color)
        for row in (0.2, 0.55):
            _box(
                draw,
                x + n * 0.04,
                h - top * (1 - row),
                x + n * 0.16,
                h - top * (1 - row) + n * 0.05,
                (250, 240, 190),
            )


def windows(draw, n, h, color, rng):
    offset = rng.random() * 0.3
    for x in (-0.3, 0.1, 0.5, 0.9):
        x = n * (x + offset)
        _box(draw, x, h * 0.2, x + n * 0.25, h * 0.65, color)


def arches(draw, n, h, color, rng):
    offset = rng.random() * 0.3
    for x in (-0.2, 0.2, 0.6, 1.0):
        x = n * (x + offset)
        _disc(draw, x, h * 0.3, n * 0.08, color)
        _box(draw, x - n * 0.08, h * 0.3, x + n * 0.08, h * 0.8, color)


def shelves(draw, n, h, color, rng):
    left = n * rng.random() * 0.6
    for row in (0.25, 0.5, 0.75):
        _box(draw, left, h * row, left + n * 0.45, h * row + n * 0.02, color)
        for book in range(4):
            x = left + n * (0.02 + 0.1 * book)
            top = h * row - n * (0.05 + 0.05 * rng.random())
            _box(draw, x, top, x + n * 0.06, h * row - 1, pick(rng, ((190, 120, 110), (120, 150, 180))))


def stripes(draw, n, h, color, rng):
    offset = rng.random() * 0.2
    for k in range(6):
        x = n * (k * 0.2 - 0.2 + offset)
        _box(draw, x, 0, x + n * 0.1, h, color)


def curtains(draw, n, h, color, rng):
    width = n * (0.2 + 0.1 * rng.random())
    for x, fold in ((0, width), (n, n - width)):
        _shape(draw, [(x, 0), (fold, 0), ((x + fold) / 2, h), (x, h)], color)
    _box(draw, 0, 0, n, n * 0.08, color)


def bricks(draw, n, h, color, rng):
    pitch = n * 0.12
    for row in range(int(h / pitch) + 1):
        _box(draw, 0, row * pitch, n, row * pitch + n * 0.015, color)
        for k in range(5):
            x = n * (k * 0.25 + 0.125 * (row % 2))
            _box(draw, x, row * pitch, x + n * 0.012, min((row + 1) * pitch, h), color)


def tiles(draw, n, h, color, rng):
    pitch, offset = n * 0.14, n * 0.14 * rng.random()
    for k in range(8):
        _box(draw, k * pitch - offset, 0, k * pitch - offset + n * 0.015, h, color)
        if k * pitch < h:
            _box(draw, 0, k * pitch, n, k * pitch + n * 0.015, color)


def bars(draw, n, h, color, rng):
    left = n * rng.random() * 0.5
    for k in range(6):
        _box(draw, left, h * (0.15 + 0.14 * k), left + n * 0.4, h * (0.15 + 0.14 * k) + n * 0.02, color)
    for x in (left, left + n * 0.4):
        _box(draw, x, h * 0.05, x + n * 0.025, h, color)


def lockers(draw, n, h, color, rng):
    offset = n * 0.18 * rng.random()
    for k in range(7):
        x = k * n * 0.18 - offset
        _box(draw, x, 0, x + n * 0.02, h, color)
        _box(draw, x + n * 0.06, h * 0.2, x + n * 0.14, h * 0.2 + n * 0.02, color)
        _box(draw, x + n * 0.06, h * 0.3, x + n * 0.14, h * 0.3 + n * 0.02, color)


def door(draw, n, h, color, rng):
    x = n * rng.random() * 0.7
    _box(draw, x, h * 0.15, x + n * 0.28, h, color)
    _box(draw, x + n * 0.22, h * 0.55, x + n * 0.25, h * 0.6, (240, 220, 120))


def mirror(draw, n, h, color, rng):
    x = n * rng.random() * 0.4
    _box(draw, x, h * 0.1, x + n * 0.6, h * 0.85, color)


def crowd(draw, n, h, color, rng):
    shades = [tinted(color, rng, 45) for _ in range(4)]
    for row in (0, 1, 2):
        y = h * (0.3 + 0.22 * row)
        for k in range(8):
            x = n * (k + 0.5 * (row % 2)) / 8
            _box(draw, x, y, x + n * 0.08, y + h * 0.15, pick(rng, shades))


def bunting(draw, n, h, color, rng):
    y = n * (0.04 + 0.08 * rng.random())
    for k in range(7):
        x = n * k / 7
        shade = pick(rng, (color, (120, 180, 220), (240, 210, 120)))
        _shape(draw, [(x, y), (x + n * 0.12, y), (x + n * 0.06, y + n * 0.12)], shade)


def fence(draw, n, h, color, rng):
    offset = n * 0.1 * rng.random()
    for k in range(11):
        x = k * n * 0.1 - offset
        _box(draw, x, h - n * 0.18, x + n * 0.045, h, color)
    _box(draw, 0, h - n * 0.12, n, h - n * 0.09, color)


def sea(draw, n, h, color, rng):
    _box(draw, 0, h - n * 0.16, n, h, color)


def waves(draw, n, h, color, rng):
    for row in range(4):
        y = h + (n - h) * (0.15 + 0.22 * row)
        offset = n * 0.25 * rng.random()
        for k in range(5):
            x = k * n * 0.25 - offset
            _shape(
                draw,
                [(x, y), (x + n * 0.07, y - n * 0.03), (x + n * 0.14, y), (x + n * 0.07, y + n * 0.015)],
                color,
            )


def lanes(draw, n, h, color, rng):
    vanish = n * (0.3 + 0.4 * rng.random())
    for k in (-1.0, -0.4, 0.0, 0.4, 1.0):
        foot = vanish + k * n * 1.4
        _shape(draw, [(vanish + k * n * 0.2, h), (foot, n), (foot + n * 0.05, n)], color)


def court(draw, n, h, color, rng):
    x, w = n * (0.1 + 0.3 * rng.random()), n * 0.022
    y = h + (n - h) * 0.3
    _box(draw, 0, y, n, y + w, color)
    _shape(draw, [(x, y), (x + w * 1.5, y), (x - n * 0.2, n), (x - n * 0.2 - w * 1.5, n)], color)
    _box(draw, x + n * 0.1, h - n * 0.22, x + n * 0.12, h, color)
    _box(draw, x + n * 0.5, h - n * 0.22, x + n * 0.52, h, color)
    _box(draw, x + n * 0.1, h - n * 0.22, x + n * 0.52, h - n * 0.2, color)


def planks(draw, n, h, color, rng):
    for k in range(1, 5):
        y = h + (n - h) * k * k / 20
        _box(draw, 0, y, n, y + n * 0.012, color)


def flowers(draw, n, h, color, rng):
    for x, y in rng.random((12, 2)):
        _disc(draw, n * x, h + (n - h) * y, n * 0.018, pick(rng, (color, (250, 250, 240), (245, 215, 90))))


def flakes(draw, n, h, color, rng):
    for x, y in rng.random((14, 2)):
        _disc(draw, n * x, n * y, n * 0.014, color)


def cacti(draw, n, h, color, rng):
    for x in (0.12, 0.8):
        x = n * (x + 0.15 * (rng.random() - 0.5))
        _box(draw, x, h - n * 0.3, x + n * 0.05, h + n * 0.02, color)
        _box(draw, x - n * 0.07, h - n * 0.2, x + n * 0.12, h - n * 0.16, color)
        _box(draw, x - n * 0.07, h - n * 0.26, x - n * 0.035, h - n * 0.16, color)


def mat(draw, n, h, color, rng):
    y, x = h + (n - h) * 0.35, n * 0.15 * rng.random()
    _shape(
        draw, [(x + n * 0.1, y), (x + n * 0.75, y), (x + n * 0.9, n * 0.96), (x - n * 0.05, n * 0.96)], color
    )


@dataclasses.dataclass(frozen=True)
class Scene:
    """wall: colour above the horizon; ground: below it; horizon: its height, 0 top to 1 bottom."""

    wall: Color
    ground: Color
    horizon: float
    motifs: tuple[tuple[Motif, Color], ...]


WHITE = (246, 246, 242)
SCENES = {
    "hallway": Scene((232, 218, 190), (176, 150, 122), 0.72, ((door, (170, 130, 100)),)),
    "street": Scene((196, 214, 230), (150, 150, 155), 0.68, ((buildings, (150, 165, 190)),)),
    "stadium": Scene((190, 190, 205), (120, 190, 120), 0.6, ((crowd, (190, 160, 160)),)),
    "beach": Scene((180, 220, 245), (238, 222, 170), 0.62, ((sun, (250, 225, 110)), (sea, (90, 170, 205)))),
    "track": Scene((190, 222, 240), (208, 120, 96), 0.5, ((clouds, WHITE), (lanes, WHITE))),
    "chapel": Scene((168, 150, 190), (140, 125, 130), 0.7, ((arches, (250, 222, 140)),)),
    "gym": Scene((222, 222, 214), (196, 160, 110), 0.66, ((bars, (165, 120, 75)), (mat, (110, 160, 205)))),
    "office": Scene((222, 232, 226), (160, 165, 170), 0.74, ((shelves, (150, 120, 95)),)),
    "meadow": Scene((185, 225, 240), (150, 205, 110), 0.35, ((clouds, WHITE), (flowers, (235, 130, 160)))),
    "circus": Scene((250, 226, 170), (222, 196, 140), 0.75, ((stripes, (228, 130, 120)),)),
    "stage": Scene(
        (120, 110, 130), (190, 150, 105), 0.76, ((curtains, (196, 90, 95)), (planks, (150, 112, 75)))
    ),
    "garden": Scene((200, 230, 235), (130, 190, 120), 0.55, ((fence, WHITE), (flowers, (220, 110, 140)))),
    "mountains": Scene((205, 225, 245), (165, 190, 140), 0.7, ((mountains, (140, 150, 170)),)),
    "pitch": Scene((195, 220, 235), (105, 180, 95), 0.45, ((court, WHITE),)),
    "locker room": Scene((150, 180, 195), (205, 205, 200), 0.78, ((lockers, (105, 140, 160)),)),
    "forest": Scene((165, 200, 160), (140, 130, 90), 0.62, ((pines, (85, 135, 95)),)),
    "playground": Scene(
        (190, 226, 246), (232, 196, 140), 0.66, ((bunting, (235, 130, 120)), (hills, (140, 200, 130)))
    ),
    "desert": Scene(
        (250, 214, 160), (236, 180, 110), 0.6, ((hills, (226, 165, 100)), (cacti, (120, 165, 100)))
    ),
    "train": Scene((206, 190, 200), (130, 120, 135), 0.8, ((windows, (170, 215, 235)),)),
    "studio": Scene(
        (238, 228, 232), (214, 176, 130), 0.7, ((mirror, (200, 220, 230)), (planks, (186, 146, 100)))
    ),
    "garage": Scene((206, 140, 115), (170, 170, 170), 0.74, ((bricks, (228, 205, 190)),)),
    "lakeside": Scene((222, 212, 240), (120, 180, 205), 0.55, ((hills, (150, 185, 150)), (waves, WHITE))),
    "snow": Scene((188, 205, 225), (242, 246, 250), 0.58, ((pines, (120, 160, 150)), (flakes, WHITE))),
    "pool": Scene((200, 236, 236), (95, 190, 225), 0.6, ((tiles, (150, 205, 215)), (waves, WHITE))),
}


def draw_scene(draw: ImageDraw.ImageDraw, n: int, name: str, rng: np.random.Generator) -> None:
    """Fill a canvas of n × n pixels with the scene."""
    scene = SCENES[name]
    h = round(n * (scene.horizon + 0.16 * (rng.random() - 0.5)))
    draw.rectangle((0, 0, n, h), tinted(scene.wall, rng))
    draw.rectangle((0, h, n, n), tinted(scene.ground, rng))
    for motif, color in scene.motifs:
        motif(draw, n, h, tinted(color, rng), rng)


def draw_clutter(draw: ImageDraw.ImageDraw, n: int, amount: float, rng: np.random.Generator) -> None:
    """Up to 16 distracting shapes of any colour, some of them as slender as limbs. amount: 0 to 1."""
    for _ in range(round(16 * amount)):
        x, y, w, t, kind = rng.random(5)
        x, y, w, t = n * x, n * y, n * (0.06 + 0.22 * w), n * (0.03 + 0.05 * t)
        color = tuple(int(40 + 200 * c) for c in rng.random(3))
        if kind < 0.3:
            _disc(draw, x, y, w / 2, color)
        elif kind < 0.6:
            _box(draw, x, y, x + w, y + t, color)
        elif kind < 0.8:
            _box(draw, x, y, x + t, y + w, color)
        else:
            _shape(draw, [(x, y), (x + w, y + w * 0.8), (x + w - t, y + w * 0.8 + t), (x - t, y + t)], color)
