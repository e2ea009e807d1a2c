"""What a user types and drops, checked: photo, labels, joints. A complaint is one sentence for the page."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np
import PIL.Image

from annotation import schema
from focusclip_jax.data.images import load_rgb
from focusclip_jax.errors import UserError

MAX_JOINTS_BYTES = 1_000_000
MAX_PIXELS = 60_000_000
MAX_LABELS, MAX_LABEL = 200, 400  # labels, characters of one
MAX_PEOPLE = 50


def read_photo(path: str | None) -> np.ndarray:
    """uint8 (H, W, 3) RGB, upright. Raises UserError."""
    if not path:
        raise UserError("There is no photo yet: drop one into the box at the left.")
    name = os.path.basename(path)
    try:
        with PIL.Image.open(path) as picture:  # reads the head only
            width, height = picture.size
    except PIL.Image.DecompressionBombError:
        width = height = MAX_PIXELS
    except Exception:  # whatever a damaged head makes PIL's readers raise
        raise UserError(
            f"{name} is no image that can be read here; JPEG, PNG, WebP, GIF, BMP and TIFF can."
        ) from None
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{name} has more than {MAX_PIXELS // 10**6} megapixels; please make it smaller first."
        )
    try:
        return load_rgb(path, upright=True)
    except UserError as error:
        raise UserError(f"{str(error).replace(path, name)}.") from None


def read_labels(text: str) -> list[str]:
    """The labels of a text, one a line, each once, in its order. Raises UserError."""
    labels = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not labels:
        raise UserError("There is no label yet: type some, one a line.")
    if len(labels) > MAX_LABELS:
        raise UserError(f"There are {len(labels)} labels; at most {MAX_LABELS} can be compared here.")
    for label in labels:
        if len(label) > MAX_LABEL:
            raise UserError(f"The label “{label[:40]} …” is longer than {MAX_LABEL} characters.")
    return labels


def read_joints_file(path: str) -> str:
    """What `read_joints` takes, from a file. Raises UserError where that is no text or too much."""
    name = os.path.basename(path)
    if os.path.getsize(path) > MAX_JOINTS_BYTES:
        raise UserError(f"{name} is larger than {MAX_JOINTS_BYTES // 10**6} MB; joints of a photo are not.")
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError:
        raise UserError(f"{name} is no text; expected JSON.") from None


def read_joints(text: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Joints float64 (P, 16, 2), pixels of the upright photo, NaN where missing, and visibility int (P, 16).

    text: JSON. A person is {joint's name: [x, y], …} or a list of 16, each [x, y] or null, in the order of
    `schema.JOINT_NAMES`; there may be a list of people, or {photo: people} as of `--source=joints:FILE` with
    one photo. None where the text is empty. Raises UserError naming person and joint.
    """
    if not text.strip():
        return None
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"The joints are not JSON: {error}.") from None
    if isinstance(given, dict) and len(given) == 1 and not set(given) & set(schema.JOINT_NAMES):
        (given,) = given.values()  # of one photo
    people = given if _is_people(given) else [given]
    if len(people) > MAX_PEOPLE:
        raise UserError(f"There are joints of {len(people)} people; at most {MAX_PEOPLE} are drawn here.")
    joints = np.stack([_person(person, number) for number, person in enumerate(people, 1)])
    visibility = np.where(np.isnan(joints[..., 0]), schema.MISSING, schema.LABELLED)
    for number, seen in enumerate(visibility, 1):
        if np.count_nonzero(seen) < 2:
            raise UserError(f"Joints: person {number} has fewer than two, which draw nothing.")
    return joints, visibility


def _is_people(given: Any) -> bool:
    """Rather than one person, whose joints are pairs of numbers."""
    if not isinstance(given, list) or not given:
        return False
    first = next((row for row in given if row is not None), None)
    return isinstance(first, dict) or (
        isinstance(first, list) and any(isinstance(row, list) or row is None for row in first)
    )


def _person(person: Any, number: int) -> np.ndarray:
    where = f"Joints: person {number}"
    points = np.full((schema.JOINT_COUNT, 2), np.nan)
    if isinstance(person, dict):
        for name, position in person.items():
            if name not in schema.JOINT_NAMES:
                names = ", ".join(schema.JOINT_NAMES)
                raise UserError(f"{where} has a joint “{name[:40]}”; expected some of {names}.")
            points[schema.JOINT_NAMES.index(name)] = _position(position, f"{where}, {name}")
        return points
    if not isinstance(person, list) or len(person) != schema.JOINT_COUNT:
        found = f"a list of {len(person)}" if isinstance(person, list) else json.dumps(person)[:40]
        raise UserError(
            f"{where} is {found}; expected a list of {schema.JOINT_COUNT}, each [x, y] or null, or "
            '{"left wrist": [x, y], …}.'
        )
    for joint, position in enumerate(person):
        if position is not None:
            name = schema.JOINT_NAMES[joint]
            points[joint] = _position(position, f"{where}, joint {joint} ({name})")
    return points


def _position(position: Any, where: str) -> tuple[float, float]:
    pair: list[Any] = position if isinstance(position, list) and len(position) == 2 else [None]
    if not all(type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e6 for value in pair):
        raise UserError(f"{where} is {json.dumps(position)[:40]}; expected [x, y] in pixels of the photo.")
    return tuple(pair)
