"""What the procedural people do: 16 trained and 8 held-out activities, as limb angles in degrees.

A limb is four angles: raise and azimuth of its upper part, then of its lower part, both measured
in the trunk's frame (chest for arms, pelvis for legs), not relative to each other.
  raise    0 points to the feet, 90 straight away from the trunk, 180 to the head
  azimuth  0 to the limb's own side, 90 forward, 180 across to the other side, -90 backward
Because azimuth is counted from a limb's own side, a mirrored pose only swaps its limbs.

Held-out activities recombine limb states of the trained ones (arms of one, legs or trunk of another),
so a model that learned what "both arms are raised" looks like can recognise them by description.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from annotation.sources.figures.body import Body
from annotation.sources.figures.props import Prop, ball, chair, nothing

Limb = tuple[float, float, float, float]

LIMBS = ("left arm", "right arm", "left leg", "right leg")

ARM_DOWN = (10, 0, 8, 40)
ARM_UP = (166, 0, 172, 0)
ARM_OUT = (88, 0, 90, 0)
ARM_FORWARD = (86, 84, 88, 88)
ARM_BACK = (35, -80, 35, -80)
ARM_ON_HIP = (48, -15, 52, 165)
ARM_FLEXED = (88, 5, 168, 5)
ARM_ON_THIGH = (28, 70, 62, 95)
ARM_BEHIND_HEAD = (140, 10, 120, 178)

LEG_STRAIGHT = (3, 0, 2, 0)
LEG_SPREAD = (32, 0, 32, 0)
LEG_KNEELING = (6, 60, 86, -90)
LEG_SQUATTING = (96, 55, 18, -60)
LEG_SEATED = (84, 80, 4, 90)
LEG_LUNGE_FRONT = (76, 88, 2, 90)
LEG_LUNGE_BACK = (28, -88, 62, -88)
LEG_KNEE_UP = (96, 40, 20, -120)


def _pose(
    left_arm: Limb,
    right_arm: Limb,
    left_leg: Limb,
    right_leg: Limb,
    bend: float = 0,
    lean: float = 0,
    pitch: float = 0,
    roll: float = 0,
) -> np.ndarray:
    """float64 (20,): 16 limb angles in the order of `LIMBS`, then four angles of the trunk.

    bend, lean: of the chest against the pelvis, forward and to the own right.
    pitch, roll: of the whole body, forward and to the own right; 180 is upside down.
    """
    return np.array([*left_arm, *right_arm, *left_leg, *right_leg, bend, lean, pitch, roll], np.float64)


def mirrored(pose: np.ndarray) -> np.ndarray:
    """The pose with left and right swapped."""
    limbs = pose[:16].reshape(4, 4)[[1, 0, 3, 2]].ravel()
    return np.concatenate([limbs, pose[16:] * (1, -1, 1, -1)])


# Directions the person may face: degrees from facing the camera, positive to the image's right.
# Each is (centre, half range), for poses that are readable from there.
FRONT_OR_BACK = ((0, 40), (0, 40), (180, 40))
SIDEWAYS = ((90, 30), (-90, 30))
OBLIQUE = ((60, 30), (-60, 30), (120, 25), (-120, 25))
OBLIQUE_FRONT = ((45, 30), (-45, 30))
ANY = ((0, 180),)


@dataclasses.dataclass(frozen=True, eq=False)
class Activity:
    """One activity.

    name: completes "A person is …". category: its group. scene: the name of its own background.
    pose: what sets it apart, in one sentence that names limbs only; the class description for
        zero-shot classification of held-out activities.
    views: directions the person may face, see `FRONT_OR_BACK`.
    motions: variants, each a pair of poses; a person is drawn at a random moment between the two.
    prop: what it is done with, built to fit a body.
    """

    name: str
    category: str
    scene: str
    pose: str
    views: tuple[tuple[float, float], ...]
    motions: tuple[tuple[np.ndarray, np.ndarray], ...]
    prop: Callable[[Body], Prop] = nothing


def _still(
    left_arm: Limb, right_arm: Limb, left_leg: Limb, right_leg: Limb, **trunk: float
) -> tuple[np.ndarray, np.ndarray]:
    pose = _pose(left_arm, right_arm, left_leg, right_leg, **trunk)
    return pose, pose


def _arms(arm: Limb) -> tuple[Limb, Limb]:
    return arm, arm


STRAIGHT_LEGS = (LEG_STRAIGHT, LEG_STRAIGHT)
SPREAD_LEGS = (LEG_SPREAD, LEG_SPREAD)
KNEELING_LEGS = (LEG_KNEELING, LEG_KNEELING)
SQUATTING_LEGS = (LEG_SQUATTING, LEG_SQUATTING)
SEATED_LEGS = (LEG_SEATED, LEG_SEATED)
LUNGING_LEGS = (LEG_LUNGE_FRONT, LEG_LUNGE_BACK)
ONE_KNEE_UP = (LEG_KNEE_UP, LEG_STRAIGHT)
WAVING_ARMS = ((162, 0, 160, 0), ARM_DOWN)
WAVING_ARMS_END = ((150, 0, 180, 0), ARM_DOWN)

_TRAINED = (
    Activity(
        "standing still",
        "posture",
        "hallway",
        "Both arms hang down beside the body and both legs are straight and close together.",
        ANY,
        (_still(ARM_DOWN, ARM_DOWN, *STRAIGHT_LEGS),),
    ),
    Activity(
        "waving with one hand",
        "gesture",
        "street",
        "One arm is raised above the head, the other hangs down, and both legs are straight.",
        FRONT_OR_BACK,
        ((_pose(*WAVING_ARMS, *STRAIGHT_LEGS), _pose(*WAVING_ARMS_END, *STRAIGHT_LEGS)),),
    ),
    Activity(
        "cheering",
        "gesture",
        "stadium",
        "Both arms are raised above the head and both legs are straight and close together.",
        FRONT_OR_BACK,
        (
            (
                _pose(*_arms(ARM_UP), *STRAIGHT_LEGS),
                _pose(*_arms((152, 0, 156, 0)), *STRAIGHT_LEGS),
            ),
        ),
    ),
    Activity(
        "standing with arms and legs apart",
        "stretching",
        "beach",
        "Both arms are stretched out to the sides and the legs are spread apart.",
        FRONT_OR_BACK,
        (_still(*_arms(ARM_OUT), *SPREAD_LEGS),),
    ),
    Activity(
        "running",
        "sports",
        "track",
        "The elbows are bent and the legs are far apart in a stride, one knee in front and one foot behind.",
        SIDEWAYS,
        (
            (
                _pose(
                    (50, -80, 45, 75),
                    (40, 80, 125, 100),
                    (68, 90, 20, -90),
                    (30, -90, 80, -90),
                    bend=14,
                ),
                _pose(
                    (30, -80, 55, 80),
                    (25, 80, 110, 100),
                    (40, 90, 10, 90),
                    (12, -90, 98, -90),
                    bend=10,
                ),
            ),
        ),
    ),
    Activity(
        "kneeling",
        "posture",
        "chapel",
        "Both knees are on the ground with the lower legs behind, and both hands are below the head.",
        OBLIQUE,
        (
            _still(*_arms(ARM_DOWN), *KNEELING_LEGS),
            _still(*_arms(ARM_ON_HIP), *KNEELING_LEGS),
            _still(*_arms(ARM_FORWARD), *KNEELING_LEGS),
        ),
    ),
    Activity(
        "squatting",
        "exercise",
        "gym",
        "Both knees are deeply bent, the hips are low, and both hands are below the head.",
        OBLIQUE,
        (
            _still(*_arms(ARM_FORWARD), *SQUATTING_LEGS, bend=25),
            _still(*_arms(ARM_ON_HIP), *SQUATTING_LEGS, bend=18),
        ),
    ),
    Activity(
        "sitting on a chair",
        "posture",
        "office",
        "The thighs are level, the knees are bent at right angles, and both hands are below the head.",
        OBLIQUE,
        (
            _still(*_arms(ARM_ON_THIGH), *SEATED_LEGS),
            _still(*_arms(ARM_DOWN), *SEATED_LEGS),
            _still(*_arms(ARM_FORWARD), *SEATED_LEGS),
        ),
        chair,
    ),
    Activity(
        "lying on the back",
        "posture",
        "meadow",
        "The whole body is level, with straight legs and the arms along the body.",
        SIDEWAYS,
        (
            _still(*_arms(ARM_DOWN), *STRAIGHT_LEGS, pitch=-90),
            _still(*_arms(ARM_BACK), *STRAIGHT_LEGS, pitch=-86),
        ),
    ),
    Activity(
        "doing a handstand",
        "gymnastics",
        "circus",
        "The body is upside down on straight arms and the legs are close together above the head.",
        ANY,
        (_still(*_arms(ARM_UP), *STRAIGHT_LEGS, pitch=180),),
    ),
    Activity(
        "bowing",
        "gesture",
        "stage",
        "The torso is bent forward, the legs are straight, and the hands are below or behind the torso.",
        SIDEWAYS,
        (
            (
                _pose(*_arms((60, 90, 60, 90)), *STRAIGHT_LEGS, bend=62),
                _pose(*_arms((88, 90, 88, 90)), *STRAIGHT_LEGS, bend=95),
            ),
            _still(*_arms(ARM_ON_HIP), *STRAIGHT_LEGS, bend=72),
            _still(*_arms(ARM_DOWN), *STRAIGHT_LEGS, bend=78),
        ),
    ),
    Activity(
        "lunging",
        "exercise",
        "garden",
        "One knee is bent in front, the other leg reaches back, and both hands are low.",
        SIDEWAYS,
        (
            _still(*_arms(ARM_ON_HIP), *LUNGING_LEGS),
            _still(*_arms(ARM_DOWN), *LUNGING_LEGS),
        ),
    ),
    Activity(
        "balancing on one leg",
        "exercise",
        "mountains",
        "One knee is raised, the other leg is straight, and both hands are below the head.",
        FRONT_OR_BACK,
        (
            _still(*_arms(ARM_OUT), *ONE_KNEE_UP),
            _still(*_arms(ARM_OUT), *ONE_KNEE_UP),
            _still(*_arms(ARM_ON_HIP), *ONE_KNEE_UP),
        ),
    ),
    Activity(
        "kicking a ball",
        "sports",
        "pitch",
        "One straight leg is swung up in front, the other leg stands, and one arm is out.",
        SIDEWAYS,
        (
            (
                _pose((45, 20, 60, 30), (55, -60, 50, -30), LEG_STRAIGHT, (55, 88, 50, 90), bend=-8),
                _pose((60, 60, 70, 70), (60, -60, 60, -60), (6, -90, 8, -90), (88, 88, 84, 90), bend=-18),
            ),
        ),
        ball,
    ),
    Activity(
        "flexing both arms",
        "gesture",
        "locker room",
        "Both upper arms are level with the elbows bent and the hands beside the head.",
        FRONT_OR_BACK,
        (
            _still(*_arms(ARM_FLEXED), *STRAIGHT_LEGS),
            _still(*_arms(ARM_FLEXED), *SPREAD_LEGS),
        ),
    ),
    Activity(
        "doing push-ups",
        "exercise",
        "forest",
        "The straight body is level above the ground on both hands and the toes.",
        SIDEWAYS,
        (
            (
                _pose(*_arms((74, 90, 74, 90)), *STRAIGHT_LEGS, pitch=70),
                _pose(*_arms((18, 40, 86, 92)), *STRAIGHT_LEGS, pitch=80),
            ),
        ),
    ),
)

_HELD_OUT = (
    Activity(
        "doing jumping jacks",
        "exercise",
        "playground",
        "Both arms are raised above the head and the legs are spread apart.",
        FRONT_OR_BACK,
        (_still(*_arms(ARM_UP), *SPREAD_LEGS),),
    ),
    Activity(
        "kneeling with both arms raised",
        "gesture",
        "desert",
        "Both knees are on the ground with the lower legs behind, and both arms are raised above the head.",
        OBLIQUE,
        (_still(*_arms(ARM_UP), *KNEELING_LEGS),),
    ),
    Activity(
        "waving from a chair",
        "gesture",
        "train",
        "The thighs are level, the knees are bent at right angles, and one arm is raised above the head.",
        OBLIQUE_FRONT,
        ((_pose(*WAVING_ARMS, *SEATED_LEGS), _pose(*WAVING_ARMS_END, *SEATED_LEGS)),),
        chair,
    ),
    Activity(
        "doing a lunge with the arms up",
        "exercise",
        "studio",
        "One knee is bent in front, the other leg reaches back, and both arms are raised above the head.",
        SIDEWAYS,
        (_still(*_arms(ARM_UP), *LUNGING_LEGS),),
    ),
    Activity(
        "doing an overhead squat",
        "exercise",
        "garage",
        "Both knees are deeply bent, the hips are low, and both arms are raised above the head.",
        OBLIQUE,
        (_still(*_arms(ARM_UP), *SQUATTING_LEGS, bend=14),),
    ),
    Activity(
        "doing the tree pose",
        "exercise",
        "lakeside",
        "One knee is raised, the other leg is straight, and both arms are raised above the head.",
        FRONT_OR_BACK,
        (_still(*_arms(ARM_UP), *ONE_KNEE_UP),),
    ),
    Activity(
        "doing a cartwheel",
        "gymnastics",
        "snow",
        "The body is upside down on straight arms and the legs are spread apart above the head.",
        FRONT_OR_BACK,
        (_still(*_arms((158, 0, 162, 0)), *_arms((38, 0, 38, 0)), roll=180),),
    ),
    Activity(
        "preparing to dive",
        "sports",
        "pool",
        "The torso is bent forward, the legs are straight, and both arms reach past the head.",
        SIDEWAYS,
        (_still(*_arms(ARM_UP), *STRAIGHT_LEGS, bend=80),),
    ),
)

ACTIVITIES = {activity.name: activity for activity in _TRAINED + _HELD_OUT}
TRAINED = tuple(activity.name for activity in _TRAINED)
HELD_OUT = tuple(activity.name for activity in _HELD_OUT)
