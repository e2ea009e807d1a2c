"""Ultralytics' pose results, saved under the photographs' names. Layout not verified on real files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from annotation import records
from annotation.errors import UserError
from annotation.skeletons import COCO_17
from annotation.sources.reading import CONFIDENCE, Notes, estimated, load_json, needed_size, numbers


def read(
    path: Path, notes: Notes, images: Path | None = None, confidence: float = CONFIDENCE
) -> Iterator[records.ImageRecord]:
    """{photo: people}, each person a row of `summary()` (or `to_json()`), or 17 x [x, y, confidence].

    The latter are what `keypoints.data` holds. A joint at (0, 0) is missing, and so is one of less than
    `confidence`; where a file gives no confidences the zeros alone tell. Coordinates are pixels; where all of
    a photo lie between 0 and 1 (`normalize=True`) they are parts of its width and height, which `images` must
    then tell. People are incomplete.
    """
    data = load_json(path)
    if not isinstance(data, dict):
        raise UserError(
            f"{path}: found {type(data).__name__}, which does not tell the photographs' names; expected "
            "{photo: people}, people being the list that summary() gives or 17 x [x, y, confidence] of each"
        )
    for name, rows in data.items():
        where = f"{path}: photo {name}"
        if not isinstance(rows, list):
            raise UserError(f"{where}: expected a list of people, found {type(rows).__name__}")
        triples = [_triples(row, f"{where}, person {number}") for number, row in enumerate(rows, 1)]
        there = np.array([joint[:2] for person in triples for joint in person if joint[:2].any()])
        normalised = there.size and np.abs(there).max() <= 1
        scale = needed_size(name, images, where) if normalised else (1, 1)
        people = []
        for row, values in zip(rows, triples, strict=True):
            values[(values[:, :2] == 0).all(1)] = np.nan
            extra = row if isinstance(row, dict) else {"keypoints": row}
            people += estimated(COCO_17, values[:, :2] * scale, values[:, 2], confidence, extra, notes)
        yield records.ImageRecord(
            image_id=name, people=tuple(people), people_complete=False, source="ultralytics"
        )


def _triples(row: Any, where: str) -> np.ndarray:
    """(17, 3): x, y and confidence, which is 1 where the file gives none."""
    if isinstance(row, dict):
        keypoints = row.get("keypoints")
        if not isinstance(keypoints, dict) or not {"x", "y"} <= set(keypoints):
            raise UserError(f"{where}: no 'keypoints' with x and y; was it a pose model?")
        columns = [keypoints["x"], keypoints["y"]] + (
            [keypoints["visible"]] if keypoints.get("visible") is not None else []
        )
        shape = (len(columns), COCO_17.joint_count)
        values = numbers(columns, shape, f"{where}, field 'keypoints' (COCO order)").T
    else:
        pairs = isinstance(row, list) and all(isinstance(joint, list) and len(joint) == 2 for joint in row)
        values = numbers(row, (COCO_17.joint_count, 2 if pairs else 3), f"{where} (COCO order)")
    if values.shape[1] == 2:
        values = np.column_stack([values, np.ones(len(values))])
    return values.copy()
