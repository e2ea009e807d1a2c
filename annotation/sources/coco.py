"""COCO-style keypoints: ground truth, result lists, and a bare {image: 17 x [x, y]}."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from annotation import records, skeletons
from annotation.errors import UserError
from annotation.skeletons import COCO_17, JHMDB_15, Skeleton, to_mpii
from annotation.sources.reading import CONFIDENCE, estimated, load_json, numbers, objects

Notes = Counter[str]

# A joint is at the lower border when it is nearer to the person's lowest joint than this part of the
# vertical extent of all joints. At 0.1 the legs that overlays of Stanford 40 show cut by the frame or
# hidden behind a table are caught; standing and sitting people keep theirs.
BORDER = 0.1

_HIPS, _LEGS, _KNEE_ANKLE = [11, 12], [11, 12, 13, 14, 15, 16], ((13, 15), (14, 16))

# ----------------------------------------------------------------------------- ground truth and results


def read(
    path: Path, notes: Notes, joints: Skeleton | None = None, confidence: float = CONFIDENCE
) -> Iterator[records.ImageRecord]:
    """A COCO-style keypoint file: ground truth ({images, annotations, …}) or results (a list).

    Ground truth: v 0 is missing, 1 occluded, 2 labelled; where a file has no 2, its 1 says no more than
    labelled. The names of the joints under 'categories' tell which joint set it is. A person without any
    labelled joint is kept with all joints missing, so that the count of people is right. A crowd
    (iscrowd = 1) is no person: it is kept in the image's `extra`, and the image's people are marked
    incomplete, as they are where PoseTrack18 gives regions to ignore.

    Results: a joint of less than `confidence` is missing; a person none of whose joints reaches it is left
    out and counted. People are incomplete, since an estimator may miss some. A numeric image_id stands for
    COCO's file name, twelve digits and `.jpg`; a text one is the file name.

    joints: the joint set of a file that does not name its joints; COCO-17 where it is None.
    """
    data = load_json(path)
    if isinstance(data, list):
        return _read_results(path, data, notes, joints or COCO_17, confidence)
    if isinstance(data, dict) and {"images", "annotations"} <= set(data):
        return _read_ground_truth(path, data, notes, joints)
    raise UserError(
        f"{path}: neither COCO ground truth (an object with images and annotations) nor results (a list)"
    )


def _read_ground_truth(
    path: Path, data: dict[str, Any], notes: Notes, joints: Skeleton | None
) -> Iterator[records.ImageRecord]:
    categories = objects(data.get("categories", []), f"{path}: 'categories'")
    person_ids = {
        _id(category, "id", f"{path}: a category")
        for category in categories
        if category.get("name") == "person"
    } or {1}
    source = _joint_set(path, categories, joints)
    by_image: dict[Any, list[dict[str, Any]]] = {}
    tells_occlusion = False
    for annotation in objects(data["annotations"], f"{path}: 'annotations'"):
        where = f"{path}: annotation {annotation.get('id')}"
        if "category_id" not in annotation or _id(annotation, "category_id", where) in person_ids:
            by_image.setdefault(_id(annotation, "image_id", where), []).append(annotation)
            keypoints = annotation.get("keypoints")
            tells_occlusion |= isinstance(keypoints, list) and 2 in keypoints[2::3]
        else:
            notes["annotations of other categories than person, left out"] += 1
    for image in objects(data["images"], f"{path}: 'images'"):
        name = image.get("file_name")
        if not name or not isinstance(name, str):
            raise UserError(f"{path}: image {image.get('id')!r} has no field 'file_name'")
        for side in ("width", "height"):
            if not isinstance(image.get(side), int | None):
                raise UserError(f"{path}: image {name}, field {side!r}: expected a whole number of pixels")
        people, crowds = [], []
        for annotation in by_image.pop(_id(image, "id", f"{path}: image {name}"), []):
            if annotation.get("iscrowd"):
                crowds.append(annotation)
                continue
            where = f"{path}: image {name}, annotation {annotation.get('id')}"
            points, v = _keypoints(annotation, source, where)
            points[v == 0] = np.nan
            if source is JHMDB_15:
                points -= 1  # it counts pixels from 1, as Matlab does
            occluded = (v == 1) & tells_occlusion
            people.append(to_mpii(source, points, occluded, _without_keypoints(annotation)))
        extra = {k: val for k, val in image.items() if k not in ("file_name", "width", "height")}
        notes["crowds, kept apart from people"] += len(crowds)
        yield records.ImageRecord(
            image_id=name,
            people=tuple(people),
            width=image.get("width"),
            height=image.get("height"),
            people_complete=not crowds and not image.get("ignore_regions_x"),
            source="coco",
            extra=extra | ({"crowds": crowds} if crowds else {}),
        )
    if by_image:
        raise UserError(
            f"{path}: an annotation names image {next(iter(by_image))!r}, which 'images' does not list"
        )


def _joint_set(path: Path, categories: list[dict[str, Any]], asked: Skeleton | None) -> Skeleton:
    """The joint set that the file names, else the one asked for, else COCO-17."""
    for category in categories:
        if category.get("name") == "person" and isinstance(category.get("keypoints"), list):
            names = category["keypoints"]
            if asked is None:
                return skeletons.named(names, f"{path}: 'categories'")
            known, told = skeletons.known(names), ""
            if asked.joint_count != len(names):
                told = f"names {len(names)} joints"
            elif known and known != asked:
                told = f"is {known.name}"
            if told:
                raise UserError(f"{path}: --joints asks for {asked.name}, but the file {told}")
    return asked or COCO_17


def _read_results(
    path: Path, rows: list[Any], notes: Notes, source: Skeleton, least: float
) -> Iterator[records.ImageRecord]:
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for number, row in enumerate(objects(rows, str(path)), 1):
        by_image.setdefault(_id(row, "image_id", f"{path}, entry {number}"), []).append(row)
    for image, people_rows in by_image.items():
        people = []
        for number, row in enumerate(people_rows, 1):
            points, confidence = _keypoints(row, source, f"{path}: image {image}, person {number}")
            people += estimated(source, points, confidence, least, row | {"image_id": image}, notes)
        yield records.ImageRecord(
            image_id=f"{image:012d}.jpg" if isinstance(image, int) else str(image),
            people=tuple(people),
            people_complete=False,
            source="coco",
        )


def _id(row: dict[str, Any], field: str, where: str) -> str | int:
    if not isinstance(row.get(field), str | int):
        raise UserError(f"{where}: no field {field!r} (a number or a name)")
    return row[field]


def _keypoints(row: dict[str, Any], source: Skeleton, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions (K, 2) and the third number of each, (K,): visibility or confidence."""
    if "keypoints" not in row:
        raise UserError(f"{where}: no field 'keypoints'; expected {source.joint_count} x (x, y, v)")
    triples = numbers(
        row["keypoints"], (3 * source.joint_count,), f"{where}, field 'keypoints' ({source.name})"
    ).reshape(-1, 3)
    return triples[:, :2].copy(), triples[:, 2]


def _without_keypoints(annotation: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in annotation.items() if k != "keypoints"}


# ------------------------------------------------------------------------------------------- bare joints


def read_dict(path: Path, notes: Notes) -> Iterator[records.ImageRecord]:
    """{image: 17 x [x, y]}: one estimated person per image, without confidence.

    An estimator without a "not there" answer piles the legs that it cannot see up at the lower border of
    the person's box; `piled_up` finds them and they become missing. People are incomplete. An empty list is
    an image where nobody was found.
    """
    data = load_json(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected an object {{image: 17 x [x, y]}}, found {type(data).__name__}")
    for name, value in data.items():
        people: tuple[records.Person, ...] = ()
        if value:
            points = numbers(value, (COCO_17.joint_count, 2), f"{path}: image {name}")
            missing = piled_up(points)
            notes["people with leg joints piled up at the lower border"] += bool(missing.any())
            notes["leg joints piled up at the lower border, set to missing"] += int(missing.sum())
            extra = (
                {"keypoints": value} if missing.any() else {}
            )  # what the source said, before we overruled it
            people = (to_mpii(COCO_17, np.where(missing[:, None], np.nan, points), extra=extra),)
        yield records.ImageRecord(image_id=name, people=people, people_complete=False, source="coco-dict")


def piled_up(points: np.ndarray) -> np.ndarray:
    """Which joints (17,) of one estimated person (17, 2) are legs that were guessed at the lower border.

    A hip at the border means that the legs lie below it: both legs are guesses. A knee at the border means
    the same for its ankle. Ankles at the border are where they belong. It errs on the side of leaving
    out: somebody kneeling loses the ankles, somebody lying flat or sitting on the floor the legs.
    """
    y = points[:, 1]
    at_border = y > y.max() - BORDER * np.ptp(y)
    missing = np.zeros(len(points), bool)
    if at_border[_HIPS].any():
        missing[_LEGS] = True
    for knee, ankle in _KNEE_ANKLE:
        missing[ankle] |= at_border[knee]
    return missing
