"""OpenPose BODY_25: one file of people per photograph. Layout not verified on real files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from annotation import records
from annotation.errors import UserError
from annotation.skeletons import BODY_25
from annotation.sources.reading import (
    CONFIDENCE,
    Notes,
    estimated,
    json_files,
    load_json,
    needed_size,
    numbers,
    objects,
    photos_by_stem,
)

SUFFIX = "_keypoints"


def read(
    path: Path, notes: Notes, images: Path | None = None, confidence: float = CONFIDENCE
) -> Iterator[records.ImageRecord]:
    """What `--write_json` leaves: a folder of NAME_keypoints.json, or one of them, for NAME.jpg in `images`.

    A joint that is not there is 0, 0, 0. Coordinates are pixels (`--keypoint_scale 0`); where all of a file
    lie between 0 and 1 they are parts of the photograph's last column and row (`--keypoint_scale 3`). Those
    between -1 and 1 are refused. People are incomplete, since an estimator may miss some. A file without
    its photograph is left out and counted.
    """
    photos = photos_by_stem(images, str(path))
    for file in json_files(path):
        name = photos.get(file.stem.removesuffix(SUFFIX))
        if name is None:
            notes["files without a photograph in --images, left out"] += 1
            continue
        data = load_json(file)
        if not isinstance(data, dict) or "people" not in data:
            raise UserError(f"{file}: not a file of OpenPose; expected an object with 'people'")
        rows = objects(data["people"], f"{file}: 'people'")
        triples = [_triples(row, f"{file}: person {number}") for number, row in enumerate(rows, 1)]
        scale = _scale(triples, name, images, str(file))
        people = []
        for row, values in zip(rows, triples, strict=True):
            values[values[:, 2] <= 0] = np.nan  # and NaN reaches no confidence, not even 0
            people += estimated(BODY_25, values[:, :2] * scale, values[:, 2], confidence, row, notes)
        yield records.ImageRecord(
            image_id=name,
            people=tuple(people),
            people_complete=False,
            source="openpose",
            extra={key: value for key, value in data.items() if key != "people"},
        )


def _triples(row: dict[str, Any], where: str) -> np.ndarray:
    """(25, 3): x, y, confidence. An empty list is a person of whom only the face or hands were found."""
    values = row.get("pose_keypoints_2d")
    if values == []:
        return np.zeros((BODY_25.joint_count, 3))
    where = f"{where}, field 'pose_keypoints_2d' (BODY_25)"
    return numbers(values, (3 * BODY_25.joint_count,), where).reshape(-1, 3)


def _scale(triples: list[np.ndarray], name: str, images: Path | None, where: str) -> np.ndarray:
    """(2,): what x and y are to be multiplied with to be pixels."""
    there = np.array([joint[:2] for person in triples for joint in person if joint[2] > 0])
    if not there.size or np.abs(there).max() > 1:
        return np.ones(2)
    if there.min() < 0:
        raise UserError(
            f"{where}: coordinates from -1 to 1; expected pixels or 0 to 1 (--keypoint_scale 0 or 3)"
        )
    return np.array(needed_size(name, images, where)) - 1.0
