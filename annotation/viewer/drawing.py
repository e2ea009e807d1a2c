"""What is drawn over a photograph: skeletons, the ten ellipses of every person, and their heatmap.

All coordinates are pixels of the original photograph. A whole number is the centre of a pixel, which in SVG
lies half a unit further right and down.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from annotation import schema
from annotation.records import ImageRecord, Person
from pages.markup import Markup, element

BONES = (
    *((0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5)),
    *((6, 7), (7, 8), (8, 9)),
    *((10, 11), (11, 12), (12, 7), (7, 13), (13, 14), (14, 15)),
)
MIN_HALF_AXIS = 0.5  # pixels of the photograph: a part without extent would be divided by zero
# Heat from 0 to 1 as red, green, blue and opacity.
_STOPS = np.array([(80, 20, 140, 0), (220, 50, 90, 85), (255, 150, 30, 170), (255, 240, 130, 255)])
_PALETTE = np.stack(
    [np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, len(_STOPS)), channel) for channel in _STOPS.T], -1
)


def frame(record: ImageRecord) -> tuple[float, float]:
    """(width, height) in which the joints lie: the photograph's, or where that is unknown, enough for all."""
    if record.width and record.height:
        return record.width, record.height
    points = np.concatenate([np.zeros((1, 2)), *(person.joints for person in record.people)])
    width, height = np.nanmax(points, axis=0) * 1.1 + 20
    return round(width), round(height)


def ellipses(person: Person) -> list[tuple[str, float, float, float, float]]:
    """(part, centre x, centre y, half-axis x, half-axis y) of the parts with at least two visible joints.

    As the 2023 code computes them: joints truncated to whole pixels, centre and half-axes floored.
    """
    found = []
    for part, members in schema.PARTS.items():
        joints = [j for j in members if person.visibility[j] != schema.MISSING]
        if len(joints) >= 2:
            points = np.trunc(person.joints[joints])
            low, high = points.min(0), points.max(0)
            centre = np.floor((low + high) / 2)
            axes = np.maximum(np.floor((high - low) / 2), MIN_HALF_AXIS)
            (x, y), (half_x, half_y) = centre.tolist(), axes.tolist()
            found.append((part, x, y, half_x, half_y))
    return found


def heatmap(people: Sequence[Person], frame: tuple[float, float], size: tuple[int, int]) -> np.ndarray:
    """The sum of all parts' Gaussians, clipped to [0, 1]: float32 (H, W).

    frame: (width, height) of the photograph; size: (W, H) of the picture that shows it.
    """
    parts = np.array([axes for person in people for _, *axes in ellipses(person)]).reshape(-1, 4)
    profiles = []
    for axis in (0, 1):
        step = frame[axis] / size[axis]
        at = (np.arange(size[axis]) + 0.5) * step - 0.5
        distance = (at - parts[:, axis, None]) / parts[:, axis + 2, None]
        profiles.append(np.exp(-(distance**2) / 2).astype(np.float32))
    columns, rows = profiles
    return np.clip(rows.T @ columns, 0, 1)


def heatmap_png(record: ImageRecord, longest: int) -> bytes:
    """The heatmap as a PNG to lay over the photograph, its longer side at most `longest` pixels."""
    width, height = frame(record)
    scale = min(1, longest / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    heat = heatmap(record.people, (width, height), size)
    picture = Image.fromarray((255 * heat).round().astype(np.uint8)).convert("P")
    picture.putpalette(_PALETTE.round().astype(np.uint8).tobytes(), "RGBA")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def overlay(record: ImageRecord, *below: Markup) -> Markup:
    """An SVG of the photograph's shape: what lies `below`, then ellipses and skeletons of everybody."""
    unit = max(frame(record)) / 320  # lines look the same whatever the photograph's size
    ovals = [_ellipse(part) for person in record.people for part in ellipses(person)]
    skeletons = [_skeleton(number, person, unit) for number, person in enumerate(record.people, 1)]
    layers = element("g", *ovals, class_="ellipses"), element("g", *skeletons, class_="skeletons")
    return _svg(record, unit, *below, element("g", *layers, transform="translate(0.5 0.5)"))


def sketch(record: ImageRecord, *below: Markup) -> Markup:
    """A small SVG of the same shape: skeletons in three strokes, because a list holds many."""
    moves: dict[str, list[str]] = {"right": [], "left": [], "middle": []}
    for person in record.people:
        points = person.joints.round().tolist()
        there = person.visibility != schema.MISSING
        for a, b in BONES:
            if there[a] and there[b]:
                (x1, y1), (x2, y2) = points[a], points[b]
                moves[_side(a, b)].append(f"M{x1:.0f} {y1:.0f}L{x2:.0f} {y2:.0f}")
    paths = [element("path", d="".join(strokes), class_=side) for side, strokes in moves.items()]
    width, height = frame(record)
    return _svg(record, max(width / 135, height / 84), *below, *paths)  # two pixels in a card of the list


def _svg(record: ImageRecord, unit: float, *layers: Markup) -> Markup:
    width, height = frame(record)
    return element(
        "svg",
        *layers,
        viewBox=f"0 0 {width} {height}",
        class_="overlay",
        role="img",
        aria_label=f"skeletons of {len(record.people)} people",
        stroke_width=round(unit, 2),
    )


def _ellipse(ellipse: tuple[str, float, float, float, float]) -> Markup:
    part, cx, cy, rx, ry = ellipse
    return element("ellipse", element("title", part), cx=cx, cy=cy, rx=rx, ry=ry)


def _skeleton(number: int, person: Person, unit: float) -> Markup:
    there = person.visibility != schema.MISSING
    bones = [_bone(person, a, b) for a, b in BONES if there[a] and there[b]]
    joints = [_joint(number, person, j, unit) for j in np.flatnonzero(there).tolist()]
    return element("g", *bones, *joints, class_="person")


def _bone(person: Person, a: int, b: int) -> Markup:
    (x1, y1), (x2, y2) = person.joints[[a, b]].round(1).tolist()
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=_side(a, b))


def _joint(number: int, person: Person, j: int, unit: float) -> Markup:
    x, y = person.joints[j].round(1).tolist()
    derived, hidden = person.visibility[j] == schema.DERIVED, bool(person.occluded[j])
    title = f"person {number}: {schema.JOINT_NAMES[j]} ({x:g}, {y:g})"
    title += (", derived from other joints" if derived else "") + (", hidden" if hidden else "")
    kind = _side(j) + (" derived" if derived else "") + (" hidden" if hidden else "")
    return element("circle", element("title", title), cx=x, cy=y, r=round(1.8 * unit, 2), class_=kind)


def _side(*joints: int) -> str:
    """The side "right" or "left" where one of the joints lies there, else "middle"."""
    sides = {schema.JOINT_NAMES[j].split()[0] for j in joints} & {"left", "right"}
    return sides.pop() if sides else "middle"
