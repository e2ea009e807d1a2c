"""MediaPipe's 33 landmarks: what tools/mediapipe_joints.py writes, and what people dump themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from annotation import records
from annotation.errors import UserError
from annotation.skeletons import MEDIAPIPE_33
from annotation.sources.reading import (
    CONFIDENCE,
    Notes,
    estimated,
    image_size,
    load_json,
    needed_size,
    numbers,
    objects,
)

_EXPECTED = (
    "expected {photo: {width, height, people}} or {photo: people}, people being lists of 33 landmarks "
    "{x, y, z, visibility}"
)


def read(
    path: Path, notes: Notes, images: Path | None = None, confidence: float = CONFIDENCE
) -> Iterator[records.ImageRecord]:
    """{photo: {width, height, people, …}} or {photo: people}, where people is a list of people or one person.

    A person is 33 x {x, y, visibility, …}, x and y as parts of the photo's width and height; they may leave
    it, since MediaPipe also guesses what the frame cuts off. A joint whose visibility is below `confidence`
    is missing. `images` is the photographs' folder, for the sizes where the file does not give them. People
    are incomplete: MediaPipe finds one of them unless it is told to look for more.
    """
    data = load_json(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: found {type(data).__name__}; {_EXPECTED}")
    for name, entry in data.items():
        where = f"{path}: photo {name}"
        fields = entry if isinstance(entry, dict) else {"people": entry}
        people = fields.get("people")
        if not isinstance(people, list):
            raise UserError(f"{where}: no list of people; {_EXPECTED}")
        if people and isinstance(people[0], dict):  # the 33 landmarks of one person
            people = [people]
        size = _size(fields, name, images, where) if people else (None, None)
        found = []
        for number, landmarks in enumerate(people, 1):
            points, visible = _points(landmarks, f"{where}, person {number}")
            # MediaPipe counts from the photo's edge, records from the centre of its first pixel.
            points = points * size - 0.5
            found += estimated(MEDIAPIPE_33, points, visible, confidence, {"landmarks": landmarks}, notes)
        yield records.ImageRecord(
            image_id=name,
            people=tuple(found),
            width=size[0],
            height=size[1],
            people_complete=False,
            source="mediapipe",
            extra={k: v for k, v in fields.items() if k not in ("width", "height", "people")},
        )


def _size(fields: dict[str, Any], name: str, images: Path | None, where: str) -> tuple[int, int]:
    if "width" not in fields or "height" not in fields:
        return needed_size(name, images, where)
    size = fields["width"], fields["height"]
    if not all(isinstance(side, int) and side > 0 for side in size):
        raise UserError(
            f"{where}: width {size[0]!r} and height {size[1]!r}; expected whole numbers of pixels"
        )
    actual = None if images is None else image_size(images / name)
    if actual not in (None, size):
        raise UserError(
            f"{where}: its joints are of {size[0]} x {size[1]} pixels, but the photograph in {images} has "
            f"{actual[0]} x {actual[1]}"
        )
    return size


def _points(landmarks: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions (33, 2) as parts of width and height, and visibility (33,)."""
    marks = objects(landmarks, where)
    values = [[mark.get(key) for key in ("x", "y", "visibility")] for mark in marks]
    triples = numbers(values, (MEDIAPIPE_33.joint_count, 3), f"{where}, fields x, y and visibility")
    if np.median(np.abs(triples[:, :2])) > 10:
        raise UserError(f"{where}: x and y look like pixels; expected parts of the photo's width and height")
    return triples[:, :2], triples[:, 2]
