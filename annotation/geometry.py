"""What the joints of one person say about the pose, as facts that are true in the picture.

Everything is judged in the image plane. "Above" and "horizontal" are about the photograph, "left" and
"right" of a limb are the person's own, and "the viewer's left" is the left of the photograph. A fact is
stated only where it holds by a clear margin, and only from joints that are present; otherwise the
field is "" (or False). Lengths are measured in torso lengths of this person, so margins do not depend
on how large the person is drawn.

Two inferences reach beyond the plane and are sound: projection never bends a straight limb, so a limb
that looks bent is bent; and a limb that looks straight *and* has nearly its full length is straight.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from annotation.schema import MISSING

Known = tuple[float, float]
Point = Known | None

# Segment (joint, joint): its true length in torso lengths, from MPII's people seen side-on.
_PROPORTIONS = {
    (6, 7): 1.0,
    (8, 9): 0.52,
    (12, 13): 0.7,
    (2, 1): 0.83,
    (1, 0): 0.8,
    (3, 4): 0.83,
    (4, 5): 0.8,
    (12, 11): 0.57,
    (11, 10): 0.48,
    (13, 14): 0.57,
    (14, 15): 0.48,
}
_LEG_LENGTH = 1.63
_ARM_LENGTH = 1.05

BENT = ("bent", "ninety", "sharp")


class Arm(NamedTuple):
    """One arm. `wrist`, `elbow`: height of that joint; `reach`: the viewer's side it points to."""

    bend: str  # "straight", "slight", "bent", "ninety" (degrees), "sharp"
    lift: str  # "raised", "lowered": wrist clearly above or below the shoulder
    wrist: (
        str  # "above head", "head", "above shoulder", "shoulder", "between" (it and hip), "hip", "below hip"
    )
    elbow: str  # "above shoulder", "shoulder"
    direction: str  # of a nearly straight arm of full length: "down", "level", "" for others
    along: str  # of the same: "head", "hips" where it runs along the torso's line towards that end
    reach: str  # "left", "right"
    near: str  # "head", "hip", "knee": what the hand is close to; hip and knee of the same side


class Leg(NamedTuple):
    """One leg. The ankle stands for the foot."""

    bend: str  # as for Arm
    knee: str  # "above hip", "hip" (level with it), "below hip"
    thigh: str  # "horizontal", "vertical" (knee below hip)
    shin: str  # "horizontal", "vertical" (foot below knee)
    foot: str  # "above hip", "above knee", "knee" (level with it)


class Pose(NamedTuple):
    """One person. `size`: diagonal of the box around the known joints, pixels."""

    size: float
    state: str  # "standing", "low" (sitting or squatting), "kneeling", "left knee" and "right knee" (that one
    #             as low as the other foot), "hands and knees", "horizontal", "bent over", "inverted"
    torso: str  # "upright", "leaning", "horizontal", "inverted"
    torso_side: str  # the viewer's side to which the upper end of a leaning or horizontal torso points
    view: str  # "front", "back", "side": from where the trunk is seen
    head: str  # "upright", "tilted", "low" (below the hips)
    head_side: str  # the viewer's side to which a tilted head points
    head_line: str  # "straight" (in line with the torso), "bent"
    left_arm: Arm
    right_arm: Arm
    left_leg: Leg
    right_leg: Leg
    hands: str  # "together", "apart"
    feet: str  # "together", "apart"
    higher_hand: str  # "left", "right": the person's own
    higher_foot: str
    higher_shoulder: str


def read_pose(joints: list[list[float]], visibility: list[int]) -> Pose:
    """Read one person's joints: 16 [x, y] in pixels, MPII order; MISSING ones are not looked at."""
    points: list[Point] = [
        None if v == MISSING else (xy[0], xy[1]) for xy, v in zip(joints, visibility, strict=True)
    ]
    known = [p for p in points if p]
    unit = torso_length(points)
    r_ankle, r_knee, r_hip, l_hip, l_knee, l_ankle, pelvis, thorax, neck, top = points[:10]
    r_wrist, r_elbow, r_shoulder, l_shoulder, l_elbow, l_wrist = points[10:]
    hips = pelvis or _middle(l_hip, r_hip)
    chest = thorax or _middle(l_shoulder, r_shoulder)

    tilt = _tilt(hips, chest, 0.4 * unit)
    torso, torso_side = _torso(tilt)
    head, head_side, head_line = _head(neck, top, hips, tilt, unit)
    return Pose(
        size=_diagonal(known),
        state=_state(points, hips, tilt, unit),
        torso=torso,
        torso_side=torso_side,
        view=_view(points, hips, chest, unit),
        head=head,
        head_side=head_side,
        head_line=head_line,
        left_arm=_arm(l_shoulder, l_elbow, l_wrist, l_hip, l_knee, neck, top, tilt, unit),
        right_arm=_arm(r_shoulder, r_elbow, r_wrist, r_hip, r_knee, neck, top, tilt, unit),
        left_leg=_leg(l_hip, l_knee, l_ankle, unit),
        right_leg=_leg(r_hip, r_knee, r_ankle, unit),
        hands=_spacing(l_wrist, r_wrist, 0.25 * unit, 1.6 * unit),
        feet=_spacing(l_ankle, r_ankle, 0.3 * unit, 1.1 * unit),
        higher_hand=_higher(l_wrist, r_wrist, 0.4 * unit),
        higher_foot=_higher(l_ankle, r_ankle, 0.35 * unit),
        higher_shoulder=_higher(l_shoulder, r_shoulder, 0.2 * unit),
    )


def torso_length(points: list[Point]) -> float:
    """Projection only shortens, so the longest segment tells the size; where several are known, the second
    longest forgives one limb that reaches towards the camera. 0 where no segment is known."""
    lengths = sorted(
        math.dist(start, end) / length
        for (a, b), length in _PROPORTIONS.items()
        if (start := points[a]) and (end := points[b])
    )
    return lengths[-2] if len(lengths) > 3 else lengths[-1] if lengths else 0.0


def _middle(a: Point, b: Point) -> Point:
    return ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) if a and b else None


def _diagonal(known: list[Known]) -> float:
    if not known:
        return 0.0
    xs, ys = zip(*known, strict=True)
    return math.hypot(max(xs) - min(xs), max(ys) - min(ys))


def _tilt(low: Point, high: Point, shortest: float) -> float | None:
    """Degrees from straight up, positive to the viewer's right; None where missing or foreshortened."""
    if not (low and high) or math.dist(low, high) <= shortest:
        return None
    return math.degrees(math.atan2(high[0] - low[0], low[1] - high[1]))


def _angle(a: Known, b: Known, c: Known) -> float:
    """Degrees at b, 180 where a, b, c lie on a line."""
    ux, uy, vx, vy = a[0] - b[0], a[1] - b[1], c[0] - b[0], c[1] - b[1]
    return math.degrees(math.atan2(abs(ux * vy - uy * vx), ux * vx + uy * vy))


def _side(dx: float, margin: float) -> str:
    return "right" if dx > margin else "left" if dx < -margin else ""


def _higher(left: Point, right: Point, margin: float) -> str:
    """Which of the person's two joints is higher in the image."""
    return _side(left[1] - right[1], margin) if left and right and margin else ""


def _spacing(left: Point, right: Point, together: float, apart: float) -> str:
    if not (left and right):
        return ""
    distance = math.dist(left, right)
    return "together" if distance < together else "apart" if distance > apart > 0 else ""


def _torso(tilt: float | None) -> tuple[str, str]:
    if tilt is None:
        return "", ""
    size, side = abs(tilt), _side(tilt, 0)
    if size < 12:
        return "upright", ""
    if 20 < size < 60:
        return "leaning", side
    if 72 < size < 108:
        return "horizontal", side
    if size > 130:
        return "inverted", ""
    return "", ""


def _head(
    neck: Point, top: Point, hips: Point, torso_tilt: float | None, unit: float
) -> tuple[str, str, str]:
    tilt = _tilt(neck, top, 0.25 * unit)
    if tilt is None:
        return "", "", ""
    line = ""
    if torso_tilt is not None:
        turn = abs((tilt - torso_tilt + 180) % 360 - 180)
        line = "straight" if turn < 15 else "bent" if turn > 35 else ""
    if hips and top and top[1] > hips[1] + 0.25 * unit:
        return "low", "", line
    if abs(tilt) < 12:
        return "upright", "", line
    if 22 < abs(tilt) < 75:
        return "tilted", _side(tilt, 0), line
    return "", "", line


def _view(points: list[Point], hips: Point, chest: Point, unit: float) -> str:
    """Left and right are known, so the order of the shoulders tells chest from back."""
    right, left = points[12], points[13]
    if not (right and left and hips and chest) or math.dist(hips, chest) < 0.6 * unit or unit == 0:
        return ""
    up_x, up_y = chest[0] - hips[0], chest[1] - hips[1]
    length = math.hypot(up_x, up_y)

    def across(a: Known, b: Known) -> float:
        """Extent from a to b across the spine, towards the right of someone looking along it."""
        return ((b[1] - a[1]) * up_x - (b[0] - a[0]) * up_y) / length

    shoulders = across(right, left)
    hip_width = across(points[2], points[3]) if points[2] and points[3] else None
    if abs(shoulders) < 0.18 * unit:
        return "side" if hip_width is not None and abs(hip_width) < 0.15 * unit else ""
    if abs(shoulders) < 0.35 * unit or (hip_width is not None and hip_width * shoulders < 0):
        return ""
    return "front" if shoulders > 0 else "back"


def _bend(a: Point, b: Point, c: Point, full_length: float, unit: float) -> str:
    """How far the middle joint b is bent; "" where a half is too foreshortened to tell."""
    if not (a and b and c) or min(math.dist(a, b), math.dist(b, c)) <= 0.2 * unit:
        return ""
    angle = _angle(a, b, c)
    if angle < 60:
        return "sharp"
    if 78 < angle < 102:
        return "ninety"
    if angle < 140:
        return "bent"
    if 150 < angle < 162:
        return "slight"
    if angle > 167 and math.dist(a, c) > 0.7 * full_length * unit:
        return "straight"
    return ""


def _segment(a: Point, b: Point, shortest: float) -> str:
    """Whether the segment from a to b is close to horizontal, or to vertical with b below a."""
    if not (a and b) or math.dist(a, b) <= shortest:
        return ""
    dx, dy = abs(b[0] - a[0]), b[1] - a[1]
    if abs(dy) < 0.36 * dx:
        return "horizontal"
    return "vertical" if dx < 0.27 * dy else ""


def _arm(
    shoulder: Point,
    elbow: Point,
    wrist: Point,
    hip: Point,
    knee: Point,
    neck: Point,
    top: Point,
    torso_tilt: float | None,
    unit: float,
) -> Arm:
    bend = _bend(shoulder, elbow, wrist, _ARM_LENGTH, unit)
    elbow_height = ""
    if shoulder and elbow and unit:
        rise = shoulder[1] - elbow[1]
        elbow_height = "above shoulder" if rise > 0.2 * unit else "shoulder" if abs(rise) < 0.1 * unit else ""
    if not (shoulder and wrist and unit):
        return Arm(bend, "", "", elbow_height, "", "", "", _near(wrist, neck, top, hip, knee, unit))

    dx, drop = wrist[0] - shoulder[0], wrist[1] - shoulder[1]
    direction = along = ""
    is_full = math.hypot(dx, drop) > 0.7 * _ARM_LENGTH * unit
    if is_full and elbow and _angle(shoulder, elbow, wrist) > 155:
        direction = "level" if abs(drop) < 0.27 * abs(dx) else "down" if abs(dx) < 0.36 * drop else ""
        tilt = _tilt(shoulder, wrist, 0)
        if tilt is not None and torso_tilt is not None:
            turn = abs((tilt - torso_tilt + 180) % 360 - 180)
            along = "head" if turn < 35 else "hips" if turn > 155 else ""
    lift = "lowered" if drop > 0.3 * unit else "raised" if drop < -0.25 * unit else ""
    if torso_tilt is not None and abs(torso_tilt) > 120:
        lift = ""  # not words for someone upside down
    return Arm(
        bend=bend,
        lift=lift,
        wrist=_wrist(wrist, shoulder, hip, neck, top, unit),
        elbow=elbow_height,
        direction=direction,
        along=along,
        reach=_side(dx, 0.6 * unit),
        near=_near(wrist, neck, top, hip, knee, unit),
    )


def _wrist(wrist: Known, shoulder: Known, hip: Point, neck: Point, top: Point, unit: float) -> str:
    y = wrist[1]
    rise = shoulder[1] - y
    if rise > 0.25 * unit:
        if top and neck and y < min(top[1], neck[1]) - 0.1 * unit:
            return "above head"
        if top and neck and top[1] + 0.05 * unit < y < neck[1] - 0.05 * unit:
            return "head"
        return "above shoulder"
    if abs(rise) < 0.12 * unit:
        return "shoulder"
    if hip:
        if y > hip[1] + 0.2 * unit and hip[1] > shoulder[1]:
            return "below hip"
        if abs(y - hip[1]) < 0.12 * unit:
            return "hip"
        if shoulder[1] + 0.2 * unit < y < hip[1] - 0.2 * unit:
            return "between"
    return ""


def _near(wrist: Point, neck: Point, top: Point, hip: Point, knee: Point, unit: float) -> str:
    """What the hand is close to in the image. A hand reaches about 0.3 torso lengths beyond the wrist."""
    if not wrist:
        return ""
    middle = _middle(neck, top)
    if middle and math.dist(wrist, middle) < 0.4 * unit:
        return "head"
    if hip and math.dist(wrist, hip) < 0.3 * unit:
        return "hip"
    if knee and math.dist(wrist, knee) < 0.3 * unit:
        return "knee"
    return ""


def _leg(hip: Point, knee: Point, ankle: Point, unit: float) -> Leg:
    knee_height = foot = ""
    if hip and knee and unit:
        drop = knee[1] - hip[1]
        knee_height = "above hip" if drop < -0.15 * unit else "hip" if abs(drop) < 0.12 * unit else ""
        knee_height = "below hip" if drop > 0.4 * unit else knee_height
    if knee and ankle and unit:
        drop = ankle[1] - knee[1]
        foot = "above knee" if drop < -0.15 * unit else "knee" if abs(drop) < 0.12 * unit else ""
        if hip and foot == "above knee" and ankle[1] < hip[1] - 0.15 * unit:
            foot = "above hip"
    return Leg(
        bend=_bend(hip, knee, ankle, _LEG_LENGTH, unit),
        knee=knee_height,
        thigh=_segment(hip, knee, 0.5 * unit),
        shin=_segment(knee, ankle, 0.5 * unit),
        foot=foot,
    )


def _state(points: list[Point], hips: Point, tilt: float | None, unit: float) -> str:
    """The state of the whole body. It needs the torso and both legs, so that no hidden leg can belie it."""
    r_ankle, r_knee, r_hip, l_hip, l_knee, l_ankle = points[:6]
    if tilt is None or not (r_ankle and r_knee and r_hip and l_hip and l_knee and l_ankle and hips):
        return ""
    legs = (r_ankle, r_knee, r_hip, l_hip, l_knee, l_ankle)
    lean = abs(tilt)
    knee_drops = ((r_knee[1] - r_hip[1]) / unit, (l_knee[1] - l_hip[1]) / unit)
    foot_drops = ((r_ankle[1] - r_knee[1]) / unit, (l_ankle[1] - l_knee[1]) / unit)
    leg_drops = ((r_ankle[1] - r_hip[1]) / unit, (l_ankle[1] - l_hip[1]) / unit)
    if lean > 130 and max(leg_drops) < -0.4:
        return "inverted"
    if lean < 25:
        return _upright_state(legs, knee_drops, foot_drops, leg_drops, unit)
    if 65 < lean < 115:
        side = 1 if tilt > 0 else -1
        if max(map(abs, leg_drops)) < 0.55 and all(
            (hip[0] - ankle[0]) * side > 0.9 * unit for hip, ankle in ((r_hip, r_ankle), (l_hip, l_ankle))
        ):
            return "horizontal"
        knees = (r_knee[1] + l_knee[1]) / 2
        if _hands_down(points, knees, unit) and min(knee_drops) > 0.4 and max(map(abs, foot_drops)) < 0.35:
            return "hands and knees"
    if lean > 60 and min(leg_drops) > 1.0:
        return "bent over"
    return ""


def _upright_state(
    legs: tuple[Known, ...],
    knee_drops: tuple[float, float],
    foot_drops: tuple[float, float],
    leg_drops: tuple[float, float],
    unit: float,
) -> str:
    r_ankle, r_knee, r_hip, l_hip, l_knee, l_ankle = legs
    angles = (_angle(r_hip, r_knee, r_ankle), _angle(l_hip, l_knee, l_ankle))
    if min(angles) > 155 and min(leg_drops) > 1.2 and abs(leg_drops[0] - leg_drops[1]) < 0.3:
        return "standing"
    if max(map(abs, knee_drops)) < 0.35 and min(foot_drops) > 0.4:
        return "low"
    kneeling = [drop > 0.45 and foot < 0.25 for drop, foot in zip(knee_drops, foot_drops, strict=True)]
    if all(kneeling) and max(angles) < 130:
        return "kneeling"
    # On one knee: a runner's rear knee is well above the other foot.
    for side, knee, foot, down, other_drop in (
        ("right", r_knee, l_ankle, kneeling[0], knee_drops[1]),
        ("left", l_knee, r_ankle, kneeling[1], knee_drops[0]),
    ):
        if down and abs(other_drop) < 0.35 and abs(knee[1] - foot[1]) < 0.25 * unit:
            return f"{side} knee"
    return ""


def _hands_down(points: list[Point], knees: float, unit: float) -> bool:
    """Both wrists well below the shoulders and about as low as the knees, whose mean y is `knees`."""
    r_wrist, r_shoulder, l_shoulder, l_wrist = points[10], points[12], points[13], points[15]
    if not (r_wrist and r_shoulder and l_shoulder and l_wrist):
        return False
    return all(
        wrist[1] - shoulder[1] > 0.5 * unit and abs(wrist[1] - knees) < 0.4 * unit
        for wrist, shoulder in ((r_wrist, r_shoulder), (l_wrist, l_shoulder))
    )
