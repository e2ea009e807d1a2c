"""From (parameters, index) to an image and its record, without any other state."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools

import numpy as np
from PIL import Image, ImageDraw

from annotation import records, schema
from annotation.errors import UserError
from annotation.sources.figures import body as b
from annotation.sources.figures import drawing, scenes
from annotation.sources.figures.activities import ACTIVITIES, HELD_OUT, TRAINED, Activity, mirrored
from annotation.sources.figures.props import Prop

ACTIVITY_SETS = {"trained": TRAINED, "held-out": HELD_OUT, "all": TRAINED + HELD_OUT}
STYLE_SETS = {
    "train": drawing.TRAIN_STYLES,
    "test": drawing.TEST_STYLES,
    "all": drawing.TRAIN_STYLES + drawing.TEST_STYLES,
    "confirmation": drawing.CONFIRMATION_STYLES,
}
ZOOM = 2  # canvas pixels per image pixel: everything is drawn larger, then averaged, for smooth edges
MARGIN = 0.06  # body heights that a body reaches beyond its points: half its thickest part


@dataclasses.dataclass(frozen=True)
class Figures:
    """Parameters of a data set of procedural people. The defaults are what a first run trains on.

    seed, count: data sets with another seed share nothing; `count` images, numbered from 0.
    size: width and height of the images in pixels.
    activities: "trained", "held-out" or "all".
    people: most people in an image; 1 to `people` are drawn, all doing the image's activity.
    scale: larger side of a figure's bounding box relative to the image; each figure has 0.85 to 1 of it.
    clutter: amount of distracting shapes behind the people, 0 to 1.
    occlusion: probability that an object hides part of a person, and how much of the person, 0 to 1.
    correlation: probability that the background is the activity's own scene; otherwise any of all scenes.
    styles: "train", "test" (drawing styles and palettes that "train" never shows), "all" (these two) or
        "confirmation" (others again, for a test that is made once).
    scenes: 0 draws an image's scene and clutter from the same numbers as its people. A number from 1 draws
        them from the stream of that number, which knows the index but neither `seed` nor the people: data
        sets that differ in `scenes` and `correlation` alone show the same people in other scenes, and those
        that differ in `seed` alone show other people in the same scenes (an activity's own apart). Activities
        then take turns from number `seed` on, so that neighbouring seeds show other activities.
    """

    seed: int
    count: int
    size: int = 64
    activities: str = "trained"
    people: int = 1
    scale: float = 0.92
    clutter: float = 0.0
    occlusion: float = 0.0
    correlation: float = 0.0
    styles: str = "train"
    scenes: int = 0

    def __post_init__(self):
        _check_whole(self, "seed", 0, 2**63 - 1)
        _check_whole(self, "count", 1, 10**7)
        _check_whole(self, "size", 16, 1024)
        _check_whole(self, "people", 1, 8)
        _check_whole(self, "scenes", 0, 2**31 - 1)
        for field in ("clutter", "occlusion", "correlation"):
            _check_number(self, field, 0.0, 1.0)
        _check_number(self, "scale", 0.1, 1.0)
        _check_choice(self, "activities", ACTIVITY_SETS)
        _check_choice(self, "styles", STYLE_SETS)

    @functools.cached_property
    def digest(self) -> int:
        """64 bits that tell these parameters from all others, `seed` and `count` apart (a set can grow)."""
        numbers = (self.scale, self.clutter, self.occlusion, self.correlation)
        own = () if self.scenes == 0 else (self.scenes,)
        return _digest(self.size, self.activities, self.people, self.styles, *map(float, numbers), *own)

    @functools.cached_property
    def people_digest(self) -> int:
        """64 bits that tell the people from all others; scenes with a stream of their own do not count."""
        if self.scenes == 0:
            return self.digest
        numbers = (self.scale, self.occlusion)
        return _digest(self.size, self.activities, self.people, self.styles, *map(float, numbers))

    @functools.cached_property
    def scenes_digest(self) -> int:
        """64 bits that tell the scenes' own stream from all others."""
        return _digest("scenes", self.size)

    def image_id(self, index: int) -> str:
        return f"figures-{self.seed}-{self.activities}-{self.digest >> 40:06x}-{index:07d}.jpg"


def _digest(*parameters) -> int:
    return int.from_bytes(hashlib.sha256(repr(parameters).encode()).digest()[:8], "big")


def _check_whole(figures, field, low, high) -> None:
    value = getattr(figures, field)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise UserError(f"figures: {field} must be a whole number from {low} to {high}, not {value!r}")


def _check_number(figures, field, low, high) -> None:
    value = getattr(figures, field)
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise UserError(f"figures: {field} must be a number from {low} to {high}, not {value!r}")


def _check_choice(figures, field, options) -> None:
    value = getattr(figures, field)
    if value not in options:
        raise UserError(f"figures: {field} must be one of {', '.join(options)}, not {value!r}")


@dataclasses.dataclass(frozen=True, eq=False)
class _Placed:
    """A person on the canvas with the things used.

    points: (21, 2) canvas pixels. unit: canvas pixels per body height.
    """

    body: b.Body
    build: b.Build
    yaw: float
    points: np.ndarray
    unit: float
    things: list[drawing.Part]


def generate(figures: Figures, index: int) -> tuple[records.ImageRecord, Image.Image]:
    """Image `index` and its record: RGB (size, size), joints in its pixels, 0-based pixel centres.

    Activities take turns, so any `count` is balanced to within one. A joint is marked occluded where an
    object or a nearer person covers it; a person's own limbs are not counted. Raises UserError for an index
    outside the data set.
    """
    if not 0 <= index < figures.count:
        raise UserError(f"figures: there are images 0 to {figures.count - 1}, not {index}")
    rng = random_numbers(figures, index)
    names = ACTIVITY_SETS[figures.activities]
    first = figures.seed if figures.scenes else 0
    activity = ACTIVITIES[names[(first + index) % len(names)]]
    style = drawing.pick(rng, STYLE_SETS[figures.styles])
    behind = random_scenes(figures, index) if figures.scenes else rng
    scene = _scene(figures.correlation, activity, behind)
    side = figures.size * ZOOM
    canvas = Image.new("RGB", (side, side))
    draw = ImageDraw.Draw(canvas)
    scenes.draw_scene(draw, side, scene, behind)
    scenes.draw_clutter(draw, side, figures.clutter, behind)

    placed = _people(figures, activity, side, rng)
    covers = []  # per person, the polygons that hide people drawn before
    for person in placed:
        outfit = drawing.random_outfit(style, rng)
        parts = drawing.body_parts(person.body, person.build, outfit, style, person.points, person.unit)
        covers.append(drawing.draw_parts(draw, parts + person.things, style, line=side / 80))
    objects = [polygon for person in placed for polygon in _object(draw, figures.occlusion, person, rng)]

    people = tuple(
        _record_person(person, [*itertools.chain(*covers[i + 1 :]), *objects])
        for i, person in enumerate(placed)
    )
    record = records.ImageRecord(
        image_id=figures.image_id(index),
        people=people,
        width=figures.size,
        height=figures.size,
        activity=activity.name,
        category=activity.category,
        source="figures",
        extra={
            "synthetic": True,
            "scene": scene,
            "own_scene": scene == activity.scene,
            "style": style.name,
        },
    )
    return record, canvas.reduce(ZOOM)


def random_numbers(figures: Figures, index: int) -> np.random.Generator:
    """The generator of image `index`. Only its `random()` is used: other methods may change with numpy."""
    # The index goes into the top word of the counter: in the lowest, neighbours would share their numbers.
    key = [figures.seed, figures.people_digest]
    return np.random.Generator(np.random.Philox(counter=[0, 0, 0, index], key=key))


def random_scenes(figures: Figures, index: int) -> np.random.Generator:
    """The generator of the scene of image `index` where scenes have a stream of their own."""
    key = [figures.scenes, figures.scenes_digest]
    return np.random.Generator(np.random.Philox(counter=[0, 0, 0, index], key=key))


def image_pixels(canvas: np.ndarray) -> np.ndarray:
    """Canvas coordinates to image coordinates; pixel centres are whole numbers in both."""
    return np.round((canvas - (ZOOM - 1) / 2) / ZOOM, 3)


def contact_sheet(figures: Figures, indices, columns: int = 8) -> Image.Image:
    """Images side by side, row by row."""
    images = [generate(figures, index)[1] for index in indices]
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * figures.size, rows * figures.size), (255, 255, 255))
    for k, image in enumerate(images):
        sheet.paste(image, (k % columns * figures.size, k // columns * figures.size))
    return sheet


def _scene(correlation: float, activity: Activity, rng: np.random.Generator) -> str:
    own = rng.random() < correlation
    other = drawing.pick(rng, tuple(scenes.SCENES))
    return activity.scene if own else other


def _people(figures: Figures, activity: Activity, side: int, rng: np.random.Generator) -> list[_Placed]:
    """Everyone in the image, farthest first."""
    count = 1 + int(rng.random() * figures.people)
    camera = b.rotation(2, 8 * (rng.random() - 0.5)) @ b.rotation(0, -4 + 16 * rng.random())
    placed = [_place(figures.scale, activity, side, slot, count, camera, rng) for slot in range(count)]
    return sorted(placed, key=lambda person: person.points[:, 1].max())


def _place(scale, activity, side, slot, slots, camera, rng) -> _Placed:
    start, end = drawing.pick(rng, activity.motions)
    moment = rng.random()
    pose = start + moment * (end - start)
    if rng.random() < 0.5:
        pose = mirrored(pose)
    centre, spread = drawing.pick(rng, activity.views)
    yaw = centre + spread * (2 * rng.random() - 1)
    build = b.random_build(rng)
    nod = 30 * (rng.random() - 0.4)
    body = b.posed(b.jittered(pose, rng), build, yaw, camera, nod)

    prop = activity.prop(body)
    flat = np.concatenate([body.points, prop.starts, prop.ends])[:, :2] * (1, -1)
    low, high = flat.min(0) - MARGIN, flat.max(0) + MARGIN
    extent = high - low
    unit = scale * (0.85 + 0.15 * rng.random()) * side / extent.max()
    room = side - unit * extent
    across = (slot + rng.random()) / slots
    origin = room * (across, 0.5 + 0.5 * rng.random()) - unit * low
    # Quantised, so that the last bit of a sine cannot decide about a pixel.
    points = np.round(unit * flat + origin, 2)
    things = _things(prop, points[b.POINTS :], unit)
    return _Placed(body, build, yaw, points[: b.POINTS], unit, things)


def _things(prop: Prop, points: np.ndarray, unit: float) -> list[drawing.Part]:
    """The strokes of a prop as parts to draw; points: (2K, 2), their starts and then their ends."""
    starts, ends = points.reshape(2, -1, 2)
    depths = (prop.starts[:, 2] + prop.ends[:, 2]) / 2
    radius = prop.radius * unit
    return [
        drawing.Part(depth, prop.color, [drawing.stroke(start, end, radius, radius)])
        for depth, start, end in zip(depths.tolist(), starts, ends, strict=True)
    ]


def _object(draw, occlusion: float, person: _Placed, rng: np.random.Generator) -> list[list[int]]:
    """Maybe put a post or a table in front of the person; return what covers it."""
    hidden, upright, at, thickness = rng.random(4)
    color = tuple(int(60 + 140 * c) for c in rng.random(3))
    if hidden >= occlusion:
        return []
    low, high = person.points.min(0), person.points.max(0)
    axis = 0 if upright < 0.5 else 1
    width = (high - low)[axis] * (0.2 + 0.35 * occlusion * thickness)
    start = low[axis] + at * (high[axis] - low[axis] - width)
    low[axis], high[axis] = start, start + width
    low[1 - axis] -= 0.05 * person.unit
    high[1 - axis] += 0.05 * person.unit
    x0, y0, x1, y1 = (int(v) for v in np.rint([*low, *high]))
    polygon = [x0, y0, x1, y0, x1, y1, x0, y1]
    draw.polygon(polygon, color)
    return [polygon]


def _inside(polygon: list[int], points: np.ndarray) -> np.ndarray:
    """Which of (N, 2) points lie in the polygon: those with an odd number of edges to their right."""
    x0, y0 = np.array(polygon, np.float64).reshape(-1, 2).T
    x1, y1 = np.roll(x0, -1), np.roll(y0, -1)
    x, y = points[:, :1], points[:, 1:]
    level = (y0 > y) != (y1 > y)
    crossing = x0 + (y - y0) * (x1 - x0) / np.where(y0 == y1, 1, y1 - y0)
    return (level & (x < crossing)).sum(-1) % 2 == 1


def _record_person(person: _Placed, covers: list[list[int]]) -> records.Person:
    joints = person.points[: schema.JOINT_COUNT]
    occluded = np.zeros(schema.JOINT_COUNT, bool)
    for polygon in covers:
        occluded |= _inside(polygon, joints)
    return records.person(image_pixels(joints), occluded=occluded, extra={"yaw": round(person.yaw, 1)})
