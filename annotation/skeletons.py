"""Joint orders of other formats and how they become the 16 joints of MPII.

A format is one row: for each MPII joint the index it has there, or None where the format lacks it.
A lacking joint is derived from its neighbours, and only where all of them are present:

- pelvis = middle of the hips, thorax = middle of the shoulders. MPII's own labels are within 1 px
  of these for 99 % of about 17,000 people.
- With S the middle of the shoulders and E the middle of the ears: upper neck = S + 0.25 (E - S),
  head top = S + 1.8 (E - S).

"right" and "left" are the person's own sides throughout.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from annotation import records, schema

R_HIP, L_HIP, PELVIS, THORAX, NECK, HEAD_TOP, R_SHOULDER, L_SHOULDER = 2, 3, 6, 7, 8, 9, 12, 13


@dataclasses.dataclass(frozen=True)
class Skeleton:
    """One format's joint order; `mpii[i]` is the place of MPII joint i in it, None where it is derived."""

    name: str
    joint_count: int
    mpii: tuple[int | None, ...]
    ears: tuple[int, int]


COCO_17 = Skeleton(
    name="COCO-17",
    joint_count=17,
    mpii=(16, 14, 12, 11, 13, 15, None, None, None, None, 10, 8, 6, 5, 7, 9),
    ears=(3, 4),
)


def to_mpii(
    skeleton: Skeleton,
    points: np.ndarray,
    occluded: np.ndarray | None = None,
    extra: dict[str, Any] | None = None,
) -> records.Person:
    """One person in MPII order.

    points: (K, 2) pixels of the original image in the order of `skeleton`, NaN where missing.
    occluded: (K,) bool, by default nowhere. A derived joint counts as occluded where all its parents are.
    extra: the source's other fields, kept as they are.
    """
    points = np.asarray(points, np.float64)
    hidden = np.zeros(len(points), bool) if occluded is None else np.asarray(occluded, bool)
    joints = np.full((schema.JOINT_COUNT, 2), np.nan)
    visibility = np.full(schema.JOINT_COUNT, schema.MISSING, np.uint8)
    occlusion = np.zeros(schema.JOINT_COUNT, bool)
    for joint, index in enumerate(skeleton.mpii):
        if index is not None and np.isfinite(points[index]).all():
            joints[joint], visibility[joint], occlusion[joint] = points[index], schema.LABELLED, hidden[index]

    ears = list(skeleton.ears)
    hips, shoulders = [R_HIP, L_HIP], [R_SHOULDER, L_SHOULDER]
    s, e = joints[shoulders].mean(0), points[ears].mean(0)  # NaN as soon as one parent is missing
    head_hidden = occlusion[shoulders].all() and hidden[ears].all()
    derived = {
        PELVIS: (joints[hips].mean(0), occlusion[hips].all()),
        THORAX: (s, occlusion[shoulders].all()),
        NECK: (s + 0.25 * (e - s), head_hidden),
        HEAD_TOP: (s + 1.8 * (e - s), head_hidden),
    }
    for joint, (position, is_hidden) in derived.items():
        if skeleton.mpii[joint] is None and np.isfinite(position).all():
            joints[joint], visibility[joint], occlusion[joint] = position, schema.DERIVED, is_hidden
    return records.person(joints, visibility, occlusion, extra)
