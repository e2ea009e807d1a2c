"""What `--source=FORMAT:PATH` reads: one row per format."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from annotation import records, skeletons
from annotation.errors import UserError
from annotation.sources import captions, coco, halpe, joints, mediapipe, mmpose, mpii, openpose, ultralytics
from annotation.sources.reading import CONFIDENCE, image_size


class Format(NamedTuple):
    """A format's reader: read(path, notes), and by name those of images, joints and confidence it takes."""

    help: str
    read: Callable[..., Iterator[records.ImageRecord]]
    takes: tuple[str, ...] = ()
    folder: bool = False  # PATH may be a folder with a file per photograph


FORMATS = {
    "mpii-mat": Format("MPII's official .mat; activities included", mpii.read_mat),
    "mpii-json": Format("mmpose's list of people; no activities", mpii.read_json),
    "mpii-csv": Format("the CSV that circulates; activities included", mpii.read_csv),
    "coco": Format("COCO-style ground truth or result list", coco.read, ("joints", "confidence")),
    "coco-dict": Format("{photo: 17 x [x, y]}, estimates without confidence", coco.read_dict),
    "openpose": Format(
        "BODY_25, NAME_keypoints.json per photo", openpose.read, ("images", "confidence"), folder=True
    ),
    "mediapipe": Format(
        "33 landmarks, by tools/mediapipe_joints.py or your own", mediapipe.read, ("images", "confidence")
    ),
    "ultralytics": Format("{photo: summary() or keypoints.data}", ultralytics.read, ("images", "confidence")),
    "halpe": Format("Halpe-26, AlphaPose's result file", halpe.read, ("confidence",)),
    "mmpose": Format(
        "the inferencer's NAME.json per photo", mmpose.read, ("images", "joints", "confidence"), folder=True
    ),
    "captions": Format("rows of MPII Pose Descriptions, to be described anew", captions.read),
    "joints": Format("{photo: {joint name: [x, y]}}, clicked by hand", joints.read),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that only some formats take."""
    parser.add_argument(
        "--joints",
        choices=skeletons.JOINT_SETS,
        metavar="SET",
        help=f"which joints a file holds that does not name them: {', '.join(skeletons.JOINT_SETS)}",
    )
    parser.add_argument(
        "--confidence",
        type=_confidence,
        metavar="C",
        help=f"an estimator's joints of less confidence are missing (default {CONFIDENCE})",
    )


def _confidence(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:  # some estimators' confidences go beyond 1
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return value


def read(
    name: str,
    path: Path,
    notes: Counter[str],
    images: Path | None = None,
    joints: str | None = None,
    confidence: float | None = None,
) -> Iterator[records.ImageRecord]:
    """The records of `path` in format `name`; `notes` counts what was converted or left out.

    images: the photographs' folder, for their sizes where the source does not give them. joints: a key of
    `skeletons.JOINT_SETS`. Raises UserError where `path` is not what the format reads, and for a flag that
    the format would ignore.
    """
    format_ = FORMATS[name]
    if not path.is_file() and not (format_.folder and path.is_dir()):
        raise UserError(f"--source={name}:{path}: {path} is not a file{' or folder' * format_.folder}")
    joint_set = skeletons.JOINT_SETS[joints] if joints else None
    flags: dict[str, Any] = {"joints": joint_set, "confidence": confidence}
    given = {flag: value for flag, value in flags.items() if value is not None}
    for flag in given:
        if flag not in format_.takes:
            raise UserError(f"--{flag}: the format {name} does not use it")
    if "images" in format_.takes:
        given["images"] = images
    found = format_.read(path, notes, **given)
    return found if images is None else _with_sizes(found, images)


def _with_sizes(found: Iterator[records.ImageRecord], images: Path) -> Iterator[records.ImageRecord]:
    """Records whose source gives no size get that of their photograph, where it is there."""
    for record in found:
        size = image_size(images / record.image_id) if record.width is None else None
        yield dataclasses.replace(record, width=size[0], height=size[1]) if size else record


def help_lines() -> str:
    """One line per format, for the end of `--help`."""
    return "\n".join(
        f"  {name + (':PATH' if format_.folder else ':FILE'):<19} {format_.help}"
        for name, format_ in FORMATS.items()
    )
