"""Joint orders of other formats and how they become the 16 joints of MPII.

A format is the list of its joints' names in order. A joint that is called as in MPII is that joint; `same`
names the MPII joint for those that are called differently and lie in the same place. The others (eyes,
hands, feet …) only stay in the source's own numbers.

A missing joint, because the format lacks it or because this person's was not found, is derived from its
neighbours, and only where all of them are present:

- pelvis = middle of the hips, thorax = middle of the shoulders. MPII's own labels are within 1 px
  of these for 99 % of about 17,000 people.
- With S the middle of the shoulders and E the middle of the ears: upper neck = S + 0.25 (E - S),
  head top = S + 1.8 (E - S).

"right" and "left" are the person's own sides throughout.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

from annotation import records, schema
from annotation.errors import UserError

R_HIP, L_HIP, PELVIS, THORAX, NECK, HEAD_TOP, R_SHOULDER, L_SHOULDER = 2, 3, 6, 7, 8, 9, 12, 13


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """One format's joint order; `mpii[i]` is the place of MPII joint i in it, None where it has none.

    names: as the format spells them, in lower case with spaces. ears: their places, right and left.
    """

    name: str
    names: tuple[str, ...]
    mpii: tuple[int | None, ...]
    ears: tuple[int, int] | None

    @property
    def joint_count(self) -> int:
        return len(self.names)


def skeleton(name: str, names: str, same: dict[str, str] | None = None) -> Skeleton:
    """names: in the format's order, separated by commas. same: {the format's name: MPII's name}."""
    ordered = tuple(plain(joint) for joint in names.split(","))
    place = {(same or {}).get(joint, joint): index for index, joint in enumerate(ordered)}
    ears = (place["right ear"], place["left ear"]) if "right ear" in place else None
    return Skeleton(name, ordered, tuple(place.get(joint) for joint in schema.JOINT_NAMES), ears)


def plain(name: str) -> str:
    """A joint's name in lower case with single spaces: "Left_Shoulder " is "left shoulder"."""
    return " ".join(re.split(r"[\s_]+", name.strip().lower()))


_COCO = (
    "nose, left eye, right eye, left ear, right ear, left shoulder, right shoulder, left elbow, right elbow, "
    "left wrist, right wrist, left hip, right hip, left knee, right knee, left ankle, right ankle"
)

MPII_16 = skeleton("MPII", ",".join(schema.JOINT_NAMES))

COCO_17 = skeleton("COCO-17", _COCO)

HALPE_26 = skeleton(
    "Halpe-26",
    _COCO + ", head, neck, hip, left big toe, right big toe, left small toe, right small toe, left heel, "
    "right heel",
    same={"head": "head top", "neck": "upper neck", "hip": "pelvis"},
)

# OpenPose's "neck" is the middle of the shoulders.
BODY_25 = skeleton(
    "OpenPose BODY_25",
    "nose, neck, right shoulder, right elbow, right wrist, left shoulder, left elbow, left wrist, mid hip, "
    "right hip, right knee, right ankle, left hip, left knee, left ankle, right eye, left eye, right ear, "
    "left ear, left big toe, left small toe, left heel, right big toe, right small toe, right heel",
    same={"neck": "thorax", "mid hip": "pelvis"},
)

MEDIAPIPE_33 = skeleton(
    "MediaPipe",
    "nose, left eye inner, left eye, left eye outer, right eye inner, right eye, right eye outer, left ear, "
    "right ear, mouth left, mouth right, left shoulder, right shoulder, left elbow, right elbow, left wrist, "
    "right wrist, left pinky, right pinky, left index, right index, left thumb, right thumb, left hip, "
    "right hip, left knee, right knee, left ankle, right ankle, left heel, right heel, left foot index, "
    "right foot index",
)

# The place of the neck between the middle of the shoulders (0) and the head's top (1) is 0.17 in the median
# of 17,313 people of MPII; in the few sample people at hand it is 0.24 in AIC, 0.20 in CrowdPose and 0.22 in
# PoseTrack18, and the head reaches as high over the torso: the same joints.
AIC_14 = skeleton(
    "AI Challenger",
    "right shoulder, right elbow, right wrist, left shoulder, left elbow, left wrist, right hip, right knee, "
    "right ankle, left hip, left knee, left ankle, head top, neck",
    same={"neck": "upper neck"},
)

CROWDPOSE_14 = skeleton(
    "CrowdPose",
    "left shoulder, right shoulder, left elbow, right elbow, left wrist, right wrist, left hip, right hip, "
    "left knee, right knee, left ankle, right ankle, head, neck",
    same={"head": "head top", "neck": "upper neck"},
)

POSETRACK_17 = skeleton(
    "PoseTrack18",
    "nose, head bottom, head top, left ear, right ear, left shoulder, right shoulder, left elbow, "
    "right elbow, left wrist, right wrist, left hip, right hip, left knee, right knee, left ankle, "
    "right ankle",
    same={"head bottom": "upper neck"},
)

# Its "head" is not the head's top and its "neck" lies twice as high (0.44): neither is a joint of MPII.
JHMDB_15 = skeleton(
    "JHMDB",
    "neck, belly, head, right shoulder, left shoulder, right hip, left hip, right elbow, left elbow, "
    "right knee, left knee, right wrist, left wrist, right ankle, left ankle",
)

# What --joints may say, where a file may hold one of several joint sets.
JOINT_SETS = {
    "coco17": COCO_17,
    "mpii16": MPII_16,
    "halpe26": HALPE_26,
    "aic14": AIC_14,
    "crowdpose14": CROWDPOSE_14,
    "posetrack17": POSETRACK_17,
    "jhmdb15": JHMDB_15,
}


def known(names: list[Any]) -> Skeleton | None:
    """The joint set whose joints have these names, in this order."""
    wanted = tuple(plain(str(name)) for name in names)
    return next((found for found in JOINT_SETS.values() if found.names == wanted), None)


def named(names: list[Any], where: str) -> Skeleton:
    """The joint set whose joints have these names. Raises UserError where none has."""
    found = known(names)
    if found is None:
        raise UserError(
            f"{where}: {len(names)} joints ({', '.join(map(str, names[:3]))} …) in an order that is none of "
            f"{', '.join(JOINT_SETS)}; if it is one of them, say which with --joints"
        )
    return found


def counted(joint_count: int, where: str) -> Skeleton:
    """The only joint set of that many joints. Raises UserError where there are several, or none."""
    fitting = {key: found for key, found in JOINT_SETS.items() if found.joint_count == joint_count}
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    if fitting:
        choices = " or ".join(f"--joints={key}" for key in fitting)
        raise UserError(f"{where}: {joint_count} joints without names may be of several sets; add {choices}")
    raise UserError(f"{where}: {joint_count} joints; expected those of {', '.join(JOINT_SETS)}")


def to_mpii(
    source: Skeleton,
    points: np.ndarray,
    occluded: np.ndarray | None = None,
    extra: dict[str, Any] | None = None,
) -> records.Person:
    """One person in MPII order.

    points: (K, 2) pixels of the original image in the order of `source`, NaN where missing.
    occluded: (K,) bool, by default nowhere. A derived joint counts as occluded where all its parents are.
    extra: the source's other fields, kept as they are.
    """
    points = np.asarray(points, np.float64)
    hidden = np.zeros(len(points), bool) if occluded is None else np.asarray(occluded, bool)
    joints = np.full((schema.JOINT_COUNT, 2), np.nan)
    visibility = np.full(schema.JOINT_COUNT, schema.MISSING, np.uint8)
    occlusion = np.zeros(schema.JOINT_COUNT, bool)
    present = np.isfinite(points).all(1).tolist()
    for joint, index in enumerate(source.mpii):
        if index is not None and present[index]:
            joints[joint], visibility[joint], occlusion[joint] = points[index], schema.LABELLED, hidden[index]

    # A position is NaN as soon as one parent is missing.
    s = (joints[R_SHOULDER] + joints[L_SHOULDER]) / 2
    shoulders_hidden = _both(occlusion, R_SHOULDER, L_SHOULDER)
    derived = {
        PELVIS: ((joints[R_HIP] + joints[L_HIP]) / 2, _both(occlusion, R_HIP, L_HIP)),
        THORAX: (s, shoulders_hidden),
    }
    if source.ears:
        right, left = source.ears
        e = (points[right] + points[left]) / 2
        head_hidden = shoulders_hidden and _both(hidden, right, left)
        derived[NECK] = s + 0.25 * (e - s), head_hidden
        derived[HEAD_TOP] = s + 1.8 * (e - s), head_hidden
    for joint, (position, is_hidden) in derived.items():
        if visibility[joint] == schema.MISSING and np.isfinite(position).all():
            joints[joint], visibility[joint], occlusion[joint] = position, schema.DERIVED, is_hidden
    return records.person(joints, visibility, occlusion, extra)


def _both(flags: np.ndarray, one: int, other: int) -> bool:
    return bool(flags[one] and flags[other])
