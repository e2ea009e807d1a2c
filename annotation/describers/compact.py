"""A pose in a small fixed vocabulary, for short captions and for one of several people.

The same state of a limb is always told in the same words, so that a text tower trained from scratch can
learn them and an unseen activity can be described to it.
"""

from __future__ import annotations

from typing import NamedTuple

from annotation.geometry import Arm, Leg, Pose


class Clause(NamedTuple):
    """One claim, the part of the body it is about, and how much it tells this pose from others."""

    part: str  # "state", "legs", "arms", "torso"
    telling: int
    text: str


_STATE_CLAUSES = {
    "low": "the hips are as low as the knees",
    "kneeling": "the body is kneeling",
    "left knee": "the left knee is as low as the right foot",
    "right knee": "the right knee is as low as the left foot",
    "hands and knees": "the body is on hands and knees",
    "horizontal": "the body is stretched out horizontally",
    "bent over": "the body is bent over at the hips",
    "inverted": "the body is upside down",
}
_RAISED = {"above head": "raised above the head", "head": "raised to head height", "above shoulder": "raised"}
_ELBOWS = {"straight": "straight", "bent": "bent", "ninety": "bent", "sharp": "bent"}
_RAISED_KNEES = ("hip", "above hip")
_KNEES = {"slight": "slightly bent", "bent": "bent", "ninety": "bent", "sharp": "sharply bent"}


def clauses(pose: Pose) -> list[Clause]:
    """The pose in a small vocabulary: what both limbs share is said of both, the rest of each."""
    clauses = []
    if pose.state in _STATE_CLAUSES:
        clauses.append(Clause("state", 5, _STATE_CLAUSES[pose.state]))

    level = pose.torso in ("horizontal", "inverted")
    left_arm, right_arm = pose.left_arm, pose.right_arm
    clauses += _of_both("arms", "arm", _arm_words(left_arm, level), _arm_words(right_arm, level))
    clauses += _of_both("arms", "hand", _hand_words(left_arm), _hand_words(right_arm))
    if pose.hands == "together":
        clauses.append(Clause("arms", 2, "the hands are close together"))

    left, right = pose.left_leg, pose.right_leg
    # A knee at the height of the hips is raised where the body is up, and says nothing where it sits or lies.
    up = pose.torso in ("upright", "leaning") and pose.state != "low"
    clauses += _of_both("legs", "knee", _knee_words(left, up), _knee_words(right, up))
    clauses += _of_both("legs", "leg", _straight_words(left), _straight_words(right))
    higher = {"left": left, "right": right}.get(pose.higher_foot)
    if up and higher and higher.knee not in _RAISED_KNEES:
        clauses.append(Clause("legs", 3, f"the {pose.higher_foot} foot is raised"))
    if pose.feet == "apart":
        clauses.append(Clause("legs", 2 if pose.higher_foot else 3, "the feet are wide apart"))
    elif pose.feet == "together":
        clauses.append(Clause("legs", 1, "the feet are close together"))

    if pose.torso == "leaning":
        clauses.append(Clause("torso", 3, f"the torso leans to the viewer's {pose.torso_side}"))
    elif pose.torso == "upright":
        clauses.append(Clause("torso", 1, "the torso is upright"))
    elif pose.torso == "horizontal" and pose.state not in ("horizontal", "bent over"):
        clauses.append(Clause("torso", 4, "the torso is horizontal"))
    elif pose.torso == "inverted" and pose.state != "inverted":
        clauses.append(Clause("torso", 4, "the torso is upside down"))
    return clauses


def _of_both(part: str, noun: str, left: tuple[int, str], right: tuple[int, str]) -> list[Clause]:
    """One clause where both sides are alike, else one for each side that has words."""
    if left[1] and left == right:
        words = left[1] + ("s" if left[1].endswith(("near the hip", "near the knee")) else "")
        return [Clause(part, left[0], f"both {noun}s are {words}")]
    sides = (("left", left), ("right", right))
    return [
        Clause(part, telling, f"the {side} {noun} is {words}") for side, (telling, words) in sides if words
    ]


def _arm_words(arm: Arm, level: bool) -> tuple[int, str]:
    """`level`: whether the torso is horizontal or upside down, so that the arm is seen against its line."""
    if level and arm.along == "head":
        return 4, "stretched out past the head"
    if level and arm.along == "hips":
        return 2, "stretched out along the body"
    if arm.direction == "down":
        return 2, "pointing down" if level else "hanging down"
    if arm.direction == "level" and not level:
        return 4, "stretched out at shoulder height"
    height = _RAISED[arm.wrist] if arm.lift == "raised" else arm.lift
    bend = _ELBOWS.get(arm.bend, "")
    return 4 if arm.lift == "raised" else 2, f"{height} and {bend}" if height and bend else height or bend


def _hand_words(arm: Arm) -> tuple[int, str]:
    # A hand beside the hip goes without saying where the arm is straight.
    return 3, f"near the {arm.near}" if arm.near and not (arm.direction and arm.near == "hip") else ""


def _knee_words(leg: Leg, up: bool) -> tuple[int, str]:
    bend = _KNEES.get(leg.bend, "")
    if up and leg.knee in _RAISED_KNEES:
        return 4, f"raised and {bend}" if bend else "raised"
    return 3, bend


def _straight_words(leg: Leg) -> tuple[int, str]:
    return 2, "straight" if leg.bend == "straight" else ""
