"""mmpose's results: a file per photograph, or one file with all. Layout not verified on real files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from annotation import records, skeletons
from annotation.errors import UserError
from annotation.skeletons import Skeleton
from annotation.sources.reading import (
    CONFIDENCE,
    Notes,
    estimated,
    json_files,
    load_json,
    numbers,
    objects,
    photos_by_stem,
)

# What `topdown_demo --save-predictions` puts before a photograph's name.
PREFIX = "results_"


def read(
    path: Path,
    notes: Notes,
    images: Path | None = None,
    joints: Skeleton | None = None,
    confidence: float = CONFIDENCE,
) -> Iterator[records.ImageRecord]:
    """Rows {keypoints: K x [x, y], keypoint_scores, bbox, bbox_score}, a list of them per photograph.

    Three layouts: a folder of NAME.json as the inferencer's `pred_out_dir` leaves it, or one of these files,
    for NAME.jpg in `images`; the same as an object {meta_info, instance_info} from the demos; one object
    {photo: rows}. Rows do not name their joints. `joints` says which set it is; else meta_info's names do,
    else the number of joints where only one set has so many. People are incomplete.
    """
    data = None if path.is_dir() else load_json(path)
    if isinstance(data, dict) and "instance_info" not in data:
        for name, rows in data.items():
            yield _record(name, rows, f"{path}: photo {name}", joints, confidence, notes)
        return
    photos = photos_by_stem(images, str(path))
    for file in json_files(path):
        rows, source, stem = load_json(file), joints, file.stem
        if isinstance(rows, dict):
            source = joints or _named(rows.get("meta_info"), str(file))
            rows, stem = rows.get("instance_info"), stem.removeprefix(PREFIX)
        if stem not in photos:
            notes["files without a photograph in --images, left out"] += 1
            continue
        yield _record(photos[stem], rows, str(file), source, confidence, notes)


def _record(
    name: str, rows: Any, where: str, source: Skeleton | None, least: float, notes: Notes
) -> records.ImageRecord:
    people = []
    for number, row in enumerate(objects(rows, where), 1):
        here = f"{where}, person {number}"
        if "instances" in row:
            raise UserError(f"{where}: the frames of a video; expected the people of one photograph")
        if not isinstance(row.get("keypoints"), list):
            raise UserError(f"{here}: no list 'keypoints'; expected K x [x, y]")
        source = source or skeletons.counted(len(row["keypoints"]), here)
        points = numbers(
            row["keypoints"], (source.joint_count, 2), f"{here}, field 'keypoints' ({source.name})"
        )
        scores = numbers(
            row.get("keypoint_scores"), (source.joint_count,), f"{here}, field 'keypoint_scores'"
        )
        people += estimated(source, points, scores, least, row, notes)
    return records.ImageRecord(image_id=name, people=tuple(people), people_complete=False, source="mmpose")


def _named(meta: Any, where: str) -> Skeleton | None:
    """The joint set of meta_info's names, {"0": "nose", …}; None where it holds none."""
    names = meta.get("keypoint_id2name") if isinstance(meta, dict) else None
    if not isinstance(names, dict):
        return None
    return skeletons.named([names.get(str(index)) for index in range(len(names))], f"{where}: 'meta_info'")
