"""Articulated bodies in three dimensions, and their orthographic projection.

Axes of a person and of the camera alike: x to the person's left (image right), y up, z forward (towards
the camera). A person at yaw 0 faces the camera, so the own left is at image right. Unit: body heights.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

# Rows of a Body's points. The first 16 are the MPII joints in schema order.
R_ANKLE, R_KNEE, R_HIP, L_HIP, L_KNEE, L_ANKLE, PELVIS, THORAX, NECK, HEAD_TOP = range(10)
R_WRIST, R_ELBOW, R_SHOULDER, L_SHOULDER, L_ELBOW, L_WRIST = range(10, 16)
L_HAND, R_HAND, L_TOE, R_TOE, HEAD = range(16, 21)
POINTS = 21

# Where the four limbs (left arm, right arm, left leg, right leg) start, bend, end and point to.
_LIMBS = [
    *(L_SHOULDER, R_SHOULDER, L_HIP, R_HIP),
    *(L_ELBOW, R_ELBOW, L_KNEE, R_KNEE),
    *(L_WRIST, R_WRIST, L_ANKLE, R_ANKLE),
    *(L_HAND, R_HAND, L_TOE, R_TOE),
]
_TRUNK = [PELVIS, THORAX, NECK, HEAD_TOP, HEAD]
_SIDES = np.array([[1.0], [-1.0], [1.0], [-1.0]])  # x of "to its own side"
_LOWER_TO_UPPER = np.array([[0.92], [0.92], [1.0], [1.0]])


@dataclasses.dataclass(frozen=True)
class Build:
    """Lengths of one person's parts in body heights, and how stout the person is (1 is average)."""

    spine: float = 0.30  # mid hips to mid shoulders
    neck: float = 0.045  # mid shoulders to upper neck
    head: float = 0.155  # upper neck to top of head
    shoulders: float = 0.105  # half width
    hips: float = 0.06  # half width
    arm: float = 0.16  # upper; the lower is 0.92 of it
    leg: float = 0.235  # upper and lower
    stoutness: float = 1.0


def random_build(rng: np.random.Generator) -> Build:
    """A person between a large-headed child and a tall adult."""
    u = rng.random(7)
    return Build(
        spine=0.30 * (0.92 + 0.16 * u[0]),
        head=0.155 * (0.9 + 0.35 * u[1]),
        shoulders=0.105 * (0.85 + 0.35 * u[2]),
        hips=0.06 * (0.9 + 0.4 * u[3]),
        arm=0.16 * (0.93 + 0.17 * u[4]),
        leg=0.235 * (0.88 + 0.2 * u[5]),
        stoutness=0.85 + 0.5 * u[6],
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Body:
    """points: float64 (21, 3), body heights in camera axes; facing: (3,), where the head looks.

    upright: (3, 3), from the axes of the ground the person is on to camera axes, for props.
    """

    points: np.ndarray
    facing: np.ndarray
    upright: np.ndarray


def rotation(axis: int, degrees: float) -> np.ndarray:
    """Right-handed rotation about x (0), y (1) or z (2)."""
    angle = math.radians(degrees)
    c, s = math.cos(angle), math.sin(angle)
    if axis == 0:
        return np.array([(1, 0, 0), (0, c, -s), (0, s, c)])
    if axis == 1:
        return np.array([(c, 0, s), (0, 1, 0), (-s, 0, c)])
    return np.array([(c, -s, 0), (s, c, 0), (0, 0, 1)])


def jittered(pose: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Natural variation: a limb swings as a whole, its lower part a little more, the trunk least."""
    limbs = (rng.random((4, 2, 2)) * 2 - 1) * ((9, 12), (6, 8))
    limbs[:, 1] += limbs[:, 0]
    trunk = (rng.random(4) * 2 - 1) * (5, 5, 4, 3)
    return pose + np.concatenate([limbs.ravel(), trunk])


def posed(pose: np.ndarray, build: Build, yaw: float, camera: np.ndarray, nod: float = 0.0) -> Body:
    """Forward kinematics.

    pose: (20,) as in activities. yaw: degrees, 0 faces the camera, 90 image right. camera: (3, 3) rotation.
    nod: degrees the head is bent forward against the chest.
    """
    angles = np.deg2rad(pose[:16]).reshape(4, 2, 2)
    sine, cosine = np.sin(angles), np.cos(angles)
    away = sine[..., 0]
    directions = np.stack(
        [_SIDES * cosine[..., 1] * away, -cosine[..., 0], sine[..., 1] * away], -1
    )  # limb, part, xyz
    bend, lean, pitch, roll = pose[16:].tolist()
    upright = camera @ rotation(1, yaw)
    pelvis = upright @ rotation(0, pitch) @ rotation(2, roll)
    chest = pelvis @ rotation(0, bend) @ rotation(2, lean)
    head = chest @ rotation(0, nod)
    arms = directions[:2] @ chest.T
    legs = directions[2:] @ pelvis.T

    neck = build.spine + build.neck
    trunk = chest @ np.array(
        [
            (0, 0, build.shoulders, -build.shoulders),
            (build.spine, neck, build.spine, build.spine),
            (0, 0, 0, 0),
        ]
    )
    hip = build.hips * pelvis[:, 0]
    up = build.head * head[:, 1]
    lengths = np.array([[build.arm], [build.arm], [build.leg], [build.leg]])
    starts = np.stack([trunk[:, 2], trunk[:, 3], hip, -hip])
    upper, lower = np.concatenate([arms, legs]).transpose(1, 0, 2)
    middles = starts + lengths * upper
    ends = middles + lengths * _LOWER_TO_UPPER * lower
    # A foot points forward as far as its shin allows; with the shin level (kneeling) it is stretched.
    forward, shins = pelvis[:, 2], lower[2:]
    feet = forward - (shins @ forward)[:, None] * shins + 0.35 * shins
    tips = ends + np.concatenate([0.05 * lower[:2], 0.085 * feet])

    points = np.empty((POINTS, 3))
    points[_TRUNK] = np.stack(
        [np.zeros(3), trunk[:, 0], trunk[:, 1], trunk[:, 1] + up, trunk[:, 1] + 0.53 * up]
    )
    points[_LIMBS] = np.concatenate([starts, middles, ends, tips])
    return Body(points, head[:, 2], upright)
