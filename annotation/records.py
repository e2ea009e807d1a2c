"""The data that flows through annotation: people, images and their descriptions."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np

from annotation import schema
from annotation.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Person:
    """One annotated person.

    joints: float64 (16, 2), pixels of the original image, 0-based, x then y, MPII order; NaN where missing.
        A joint may lie outside the image.
    visibility: uint8 (16,), `schema.MISSING`, `DERIVED` (computed from other joints) or `LABELLED`.
    occluded: bool (16,), True where the source says that the joint is there but hidden.
    extra: every other field of the source (person id, centre, scale, box …), as JSON values.
    """

    joints: np.ndarray
    visibility: np.ndarray
    occluded: np.ndarray
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class ImageRecord:
    """One image with its people and what they do.

    image_id: unique in the source: the image's path relative to its folder, with forward slashes.
    width, height: of the original image in pixels; None where the source does not say.
    people_complete: True where every person in the image is annotated, so that a count may be stated.
    activity, category: as the source spells them; "" where unknown.
    source: the format it was read from ("mpii-csv").
    extra: every other field of the source, as JSON values.
    """

    image_id: str
    people: tuple[Person, ...]
    width: int | None = None
    height: int | None = None
    people_complete: bool = True
    activity: str = ""
    category: str = ""
    source: str = ""
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Description:
    """One caption of one image and who wrote it ("geometry-1/0", "gpt-4-0613")."""

    image_id: str
    text: str
    source: str


def person(joints, visibility=None, occluded=None, extra=None) -> Person:
    """Build a consistent `Person`: NaN exactly where visibility is MISSING.

    joints: (16, 2) numbers, NaN where missing. visibility: (16,), by default LABELLED where finite.
    Raises ValueError for another shape.
    """
    joints = np.array(joints, np.float64)
    if joints.shape != (schema.JOINT_COUNT, 2):
        raise ValueError(f"joints of shape {joints.shape}; expected {(schema.JOINT_COUNT, 2)}")
    finite = np.isfinite(joints).all(-1)
    if visibility is None:
        visibility = np.where(finite, schema.LABELLED, schema.MISSING)
    visibility = np.where(finite, visibility, schema.MISSING).astype(np.uint8)
    joints[visibility == schema.MISSING] = np.nan
    occluded = np.zeros(schema.JOINT_COUNT, bool) if occluded is None else np.array(occluded, bool)
    return Person(joints, visibility, occluded & (visibility != schema.MISSING), dict(extra or {}))


def to_row(record: ImageRecord) -> dict[str, Any]:
    """A record as JSON values. Missing joints are null; floats keep their exact value."""
    return {
        "image_id": record.image_id,
        "width": record.width,
        "height": record.height,
        "people": [
            {
                "joints": [
                    None if v == schema.MISSING else [float(x), float(y)]
                    for (x, y), v in zip(p.joints, p.visibility, strict=True)
                ],
                "visibility": p.visibility.tolist(),
                "occluded": p.occluded.astype(int).tolist(),
                "extra": p.extra,
            }
            for p in record.people
        ],
        "people_complete": record.people_complete,
        "activity": record.activity,
        "category": record.category,
        "source": record.source,
        "extra": record.extra,
    }


def to_json(record: ImageRecord) -> str:
    """One line of `records.jsonl`."""
    return json.dumps(to_row(record), ensure_ascii=False, allow_nan=False)


def from_json(line: str | bytes, where: str) -> ImageRecord:
    """Inverse of `to_json`. `where` names the file and line in the `UserError` for a damaged row."""
    try:
        row = json.loads(line)
        people = tuple(
            person(
                [(np.nan, np.nan) if j is None else j for j in p["joints"]],
                p["visibility"],
                p["occluded"],
                p["extra"],
            )
            for p in row.pop("people")
        )
        return ImageRecord(people=people, **row)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{where}: not a record ({error}); expected one JSON object per line") from None
