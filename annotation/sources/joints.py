"""Joints by name, the simplest format: for people who read them off their photographs themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from annotation import records, schema
from annotation.errors import UserError
from annotation.skeletons import MPII_16, plain, to_mpii
from annotation.sources.reading import Notes, load_json, numbers


def read(path: Path, notes: Notes) -> Iterator[records.ImageRecord]:
    """{photo: {"left wrist": [x, y], …}}, or a list of such people; pixels, 0-based.

    Names are `schema.JOINT_NAMES`; a joint that is not named is missing, except that pelvis and thorax follow
    from hips and shoulders. The people given are taken for all that the photograph shows.
    """
    data = load_json(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected {{photo: {{joint: [x, y]}}}}, found {type(data).__name__}")
    for name, entry in data.items():
        people = entry if isinstance(entry, list) else [entry]
        yield records.ImageRecord(
            image_id=name,
            people=tuple(
                _person(person, f"{path}: photo {name}, person {number}")
                for number, person in enumerate(people, 1)
            ),
            source="joints",
        )


def _person(named: Any, where: str) -> records.Person:
    if not isinstance(named, dict):
        raise UserError(f"{where}: expected {{joint: [x, y]}}, found {named!r:.50}")
    points = np.full((schema.JOINT_COUNT, 2), np.nan)
    for joint, position in named.items():
        if plain(joint) not in schema.JOINT_NAMES:
            raise UserError(f"{where}: no joint {joint!r}; expected {', '.join(schema.JOINT_NAMES)}")
        points[schema.JOINT_NAMES.index(plain(joint))] = numbers(position, (2,), f"{where}, joint {joint!r}")
    return to_mpii(MPII_16, points)
