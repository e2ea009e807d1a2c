"""MPII Human Pose: the official .mat, the mmpose JSON and the CSV that circulates.

All three hold pixels in the 1-based Matlab convention (mmpose subtracts 1 while loading, too); records
are 0-based, so 1 is subtracted here. `extra` keeps the source's numbers as they stand in the file.
"""

from __future__ import annotations

import csv
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from annotation import records, schema
from annotation.errors import UserError
from annotation.sources.reading import load_json, numbers, objects

Notes = Counter[str]

# ------------------------------------------------------------------------------------------------ .mat


def read_mat(path: Path, notes: Notes) -> Iterator[records.ImageRecord]:
    """The official `mpii_human_pose_v1_u12_1.mat`. Layout not verified on the real file.

    Fields vary from person to person: a person without joints is kept (so that the count is right) with
    all joints missing; a joint without `is_visible` is not called occluded.
    """
    import scipy.io.matlab  # 0.3 s, and only this format needs it

    try:
        release = scipy.io.loadmat(str(path), struct_as_record=False, squeeze_me=True)["RELEASE"]
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        NotImplementedError,
        zlib.error,
        scipy.io.matlab.MatReadError,
    ) as error:
        raise UserError(f"{path}: not MPII's .mat file ({error}); expected a Matlab struct RELEASE") from None
    annotations = _list(getattr(release, "annolist", None))
    activities = _list(getattr(release, "act", None))
    img_train = np.atleast_1d(getattr(release, "img_train", []))
    single_person = _list(getattr(release, "single_person", None))
    videos = _list(getattr(release, "video_list", None))
    for i, annotation in enumerate(annotations):
        name = _text(getattr(getattr(annotation, "image", None), "name", ""))
        if not name:
            raise UserError(f"{path}: entry {i + 1} of annolist has no image.name")
        activity = activities[i] if i < len(activities) else None
        extra = _fields(annotation, without={"image", "annorect"})
        if i < len(img_train):
            extra["img_train"] = int(img_train[i])
        if i < len(single_person):
            extra["single_person"] = _json(np.atleast_1d(single_person[i]))
        if (act_id := _json(getattr(activity, "act_id", None))) not in (None, [], -1):
            extra["act_id"] = act_id
        video = extra.get("vididx")
        if isinstance(video, int) and 1 <= video <= len(videos):
            extra["video"] = _json(videos[video - 1])
        yield records.ImageRecord(
            image_id=name,
            people=tuple(
                _mat_person(person, f"{path}: image {name}")
                for person in _list(getattr(annotation, "annorect", None))
            ),
            activity=_text(getattr(activity, "act_name", "")),
            category=_text(getattr(activity, "cat_name", "")),
            source="mpii-mat",
            extra=extra,
        )


def _mat_person(person: Any, where: str) -> records.Person:
    joints = np.full((schema.JOINT_COUNT, 2), np.nan)
    occluded = np.zeros(schema.JOINT_COUNT, bool)
    for point in _list(getattr(getattr(person, "annopoints", None), "point", None)):
        joint, position = _json(getattr(point, "id", None)), (_json(point.x), _json(point.y))
        if joint not in range(schema.JOINT_COUNT):
            raise UserError(f"{where}: joint id {joint!r}; expected 0 to 15")
        if not all(isinstance(value, int | float) for value in position):
            raise UserError(f"{where}: joint {joint} is at {position!r}; expected two numbers")
        joints[joint] = position
        occluded[joint] = str(_json(getattr(point, "is_visible", ""))) == "0"
    return records.person(joints - 1, occluded=occluded, extra=_fields(person, without={"annopoints"}))


def _list(value: Any) -> list[Any]:
    """Matlab's 0, 1 or many, as scipy squeezes them."""
    return [] if value is None else list(np.atleast_1d(value))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""  # Matlab's empty field arrives as an empty array


def _fields(struct: Any, without: set[str]) -> dict[str, Any]:
    """The struct's fields as JSON values; empty ones are left out."""
    fields = {name: _json(getattr(struct, name)) for name in getattr(struct, "_fieldnames", [])}
    return {
        name: value for name, value in fields.items() if name not in without and value not in (None, [], "")
    }


def _json(value: Any) -> Any:
    if hasattr(value, "_fieldnames"):
        return _fields(value, without=set())
    if isinstance(value, np.ndarray):
        return [_json(item) for item in value.tolist()]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


# ------------------------------------------------------------------------------------------------ JSON


def read_json(path: Path, notes: Notes) -> Iterator[records.ImageRecord]:
    """mmpose's list of people {image, joints, joints_vis, center, scale}; no activity.

    The older list of the same people, {img_paths, joint_self 16 x [x, y, visible], …}, is read too. There a
    joint at (0, 0) is missing and any other with visible = 0 is occluded. In mmpose's form joints_vis = 0
    means missing: training there gives it no weight.
    People of one image are grouped, in the order of the file. mmpose lists only people with joints (two of
    its five sample photographs show somebody else), so people are incomplete, unless the older form's
    numOtherPeople says that all are there.
    """
    people: dict[str, list[dict[str, Any]]] = {}
    for number, row in enumerate(objects(load_json(path), str(path)), 1):
        image = row.get("image", row.get("img_paths"))
        if not isinstance(image, str) or not image:
            raise UserError(f"{path}, entry {number}: no field 'image' (the image's file name)")
        people.setdefault(image, []).append(row)
    for image, rows in people.items():
        first = rows[0]
        yield records.ImageRecord(
            image_id=image,
            people=tuple(
                _json_person(row, f"{path}: image {image}, person {n}") for n, row in enumerate(rows, 1)
            ),
            width=_size(first.get("img_width")),
            height=_size(first.get("img_height")),
            people_complete=first.get("numOtherPeople") == len(rows) - 1,
            source="mpii-json",
        )


def _json_person(row: dict[str, Any], where: str) -> records.Person:
    extra = {k: v for k, v in row.items() if k not in ("image", "joints", "joints_vis", "joint_self")}
    if "joint_self" in row:
        triples = numbers(row["joint_self"], (schema.JOINT_COUNT, 3), f"{where}, field 'joint_self'")
        joints, visible = triples[:, :2], triples[:, 2] > 0
        joints[(joints == 0).all(1)] = np.nan
        return records.person(joints - 1, occluded=~visible, extra=extra)
    joints = numbers(row.get("joints"), (schema.JOINT_COUNT, 2), f"{where}, field 'joints'")
    joints[numbers(row.get("joints_vis"), (schema.JOINT_COUNT,), f"{where}, field 'joints_vis'") == 0] = (
        np.nan
    )
    return records.person(joints - 1, extra=extra)


def _size(value: Any) -> int | None:
    return int(value) if value else None


# ------------------------------------------------------------------------------------------------- CSV

CSV_JOINTS = (
    "r ankle",
    "r knee",
    "r hip",
    "l hip",
    "l knee",
    "l ankle",
    "pelvis",
    "thorax",
    "upper neck",
    "head top",
    "r wrist",
    "r elbow",
    "r shoulder",
    "l shoulder",
    "l elbow",
    "l wrist",
)


def read_csv(path: Path, notes: Notes) -> Iterator[records.ImageRecord]:
    """The circulating CSV: ID, NAME, x and y of 16 joints, Scale, Activity, Category.

    (-1, -1) is a missing joint; other negative numbers are real positions outside the image. It holds one
    person per image although a third of the images show several, so `people_complete` is False, and it
    gives no image size. "NA" is no activity.
    """
    positions = [f"{joint}_{axis}" for joint in CSV_JOINTS for axis in "XY"]
    expected = ["NAME", *positions, "Activity", "Category"]
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            absent = [name for name in expected if name not in (rows.fieldnames or ())]
            if absent:
                raise UserError(
                    f"{path}: no column {absent[0]!r}; expected the columns {', '.join(expected)}"
                )
            for row in rows:
                where = f"{path}: line {rows.line_num}"
                try:
                    joints = np.array([row[name] for name in positions], np.float64).reshape(-1, 2)
                    finite = bool(np.isfinite(joints).all())
                except (TypeError, ValueError):
                    finite = False
                if not finite:
                    raise UserError(f"{where}: a joint's position is not a number; expected 16 x and y")
                joints[(joints == -1).all(1)] = np.nan
                kept = {k: v for k, v in row.items() if k not in expected and k is not None}
                yield records.ImageRecord(
                    image_id=row["NAME"],
                    people=(records.person(joints - 1, extra=kept),),
                    people_complete=False,
                    activity=_not_na(row["Activity"]),
                    category=_not_na(row["Category"]),
                    source="mpii-csv",
                )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as CSV ({error})") from None


def _not_na(text: str | None) -> str:
    return "" if text in (None, "NA") else text
