"""Whether the joints bear out what a description claims.

A claim is contradicted only where the joints clearly say the opposite, and confirmed only where they clearly
agree; between the two, and where a joint is missing, there is no verdict. Whoever wrote the text saw these
joints and not the photograph, so everything is judged in the image plane, in units of this person's torso.

"Raised" may be meant against the photograph or, of someone who bends over or lies, along the body, and so
may "above the head": they are not contradicted if either reading bears them out. Which hand is above the
other, and where hips, knees and feet are, is read in the photograph.

Nothing here is shared with `geometry.py`, whose facts the offline describer states: the one must be able to
catch the other's mistakes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from annotation import claims, schema
from annotation.claims import BOTH, LEFT, RIGHT, Claim, Part
from annotation.records import ImageRecord, Person

Point = tuple[float, float]
Verdict = bool | None  # True: confirmed, False: contradicted, None: undecided

_OTHER = {LEFT: RIGHT, RIGHT: LEFT}
_MIDDLES = ("head", "chest", "waist")
# Segments, and their lengths in torso lengths of people seen from the side.
_LENGTHS = {
    ("pelvis", "thorax"): 1.0,
    ("left hip", "left knee"): 0.85,
    ("right hip", "right knee"): 0.85,
    ("left knee", "left ankle"): 0.8,
    ("right knee", "right ankle"): 0.8,
    ("left shoulder", "left elbow"): 0.55,
    ("right shoulder", "right elbow"): 0.55,
    ("left elbow", "left wrist"): 0.5,
    ("right elbow", "right wrist"): 0.5,
    ("upper neck", "head top"): 0.55,
}
_LIMBS = {"arm": ("shoulder", "elbow", "wrist"), "leg": ("hip", "knee", "ankle")}
_LIMB_OF = {"arm": "arm", "elbow": "arm", "hand": "arm", "leg": "leg", "knee": "leg", "foot": "leg"}
_JOINT_OF = {"arm": "wrist", "hand": "wrist", "leg": "ankle", "foot": "ankle"}  # others are joints themselves
_FULL_LENGTH = {"arm": 1.05, "leg": 1.65}


class Judged(NamedTuple):
    """How the claims of one text fare."""

    confirmed: int
    contradicted: tuple[Claim, ...]
    undecided: int


def judge(text: str, record: ImageRecord) -> Judged:
    """Hold every claim of `text` against the people of `record`.

    A claim about "person 2" is held against that person. Of "the second person", or the second whose place a
    text names, it is not known in which order the writer went (as listed, largest first, from the left), so
    the order counts that makes most sense of the text. A claim about nobody in particular is contradicted if
    it is so for everybody.
    """
    bodies = [_body(person) for person in record.people]
    said = claims.read(text)
    turns = max((c.person.number for c in said if c.person and c.person.how == "turn"), default=0)
    if turns != len(bodies):  # it names places of some, or of one more than once: anybody's guess whose
        said = [claim._replace(person=None) if _how(claim) == "turn" else claim for claim in said]
    if len(bodies) < 2 or not any(_how(claim) in ("ordinal", "turn") for claim in said):
        verdicts = _all_verdicts(said, bodies, range(len(bodies)))
    else:
        tried = [_all_verdicts(said, bodies, order) for order in _orders(bodies)]
        verdicts = max(tried, key=lambda verdicts: verdicts.count(True) - 3 * verdicts.count(False))
    contradicted = tuple(claim for claim, verdict in zip(said, verdicts, strict=True) if verdict is False)
    return Judged(verdicts.count(True), contradicted, verdicts.count(None))


def _how(claim: Claim) -> str:
    return claim.person.how if claim.person else ""


def _all_verdicts(said: Sequence[Claim], bodies: Sequence[_Body], order: Sequence[int]) -> list[Verdict]:
    return [_of_whom(claim, bodies, order) for claim in said]


def _orders(bodies: Sequence[_Body]) -> Iterable[Sequence[int]]:
    people = range(len(bodies))
    yield people
    yield sorted(people, key=lambda n: -bodies[n].extent)
    yield sorted(people, key=lambda n: bodies[n].centre)


def _of_whom(claim: Claim, bodies: Sequence[_Body], order: Sequence[int]) -> Verdict:
    if not claim.person:
        return _any_of([_verdict(claim, body) for body in bodies])
    place = claim.person.number - 1
    if not 0 <= place < len(bodies):
        return None
    return _verdict(claim, bodies[place if claim.person.how == "id" else order[place]])


def _any_of(verdicts: Sequence[Verdict]) -> Verdict:
    """Of a statement about one of several, without saying which."""
    if True in verdicts:
        return True
    return False if verdicts and None not in verdicts else None


def _all_of(verdicts: Sequence[Verdict]) -> Verdict:
    if False in verdicts:
        return False
    return True if verdicts and None not in verdicts else None


class _Body:
    """One person's joints by name, and what is measured with them."""

    def __init__(self, person: Person):
        self.joints: dict[str, Point] = {
            name: (x, y)
            for name, (x, y), visible in zip(
                schema.JOINT_NAMES, person.joints.tolist(), person.visibility.tolist(), strict=True
            )
            if visible != schema.MISSING
        }
        lengths = sorted(
            math.dist(self.joints[a], self.joints[b]) / length
            for (a, b), length in _LENGTHS.items()
            if a in self.joints and b in self.joints
        )
        # Projection shortens, so the true size shows in the longest segments; the very longest may be a limb
        # that comes towards the camera.
        self.unit = lengths[-2] if len(lengths) > 2 else lengths[-1] if lengths else 0.0
        hips, shoulders = self._middle("hip"), self._middle("shoulder")
        self.middles: dict[str, Point] = {}
        if hips and shoulders:
            self.middles["chest"] = _between(shoulders, hips, 0.3)
            self.middles["waist"] = _between(hips, shoulders, 0.15)
        elif hips:
            self.middles["waist"] = hips
        if "upper neck" in self.joints and "head top" in self.joints:
            self.middles["head"] = _between(self.joints["upper neck"], self.joints["head top"], 0.5)
        self.ups = [(0.0, -1.0)]
        if hips and shoulders and math.dist(hips, shoulders) > 0.4 * self.unit > 0:
            length = math.dist(hips, shoulders)
            up = ((shoulders[0] - hips[0]) / length, (shoulders[1] - hips[1]) / length)
            if up[1] > -0.7:  # leans by more than 45 degrees
                self.ups.append(up)
        xs, ys = zip(*self.joints.values(), strict=True) if self.joints else ((0.0,), (0.0,))
        self.extent = math.hypot(max(xs) - min(xs), max(ys) - min(ys))
        self.centre = (max(xs) + min(xs)) / 2

    def _middle(self, pair: str) -> Point | None:
        middle = self.joints.get("pelvis" if pair == "hip" else "thorax")
        left, right = self.joints.get(f"left {pair}"), self.joints.get(f"right {pair}")
        return middle or (_between(left, right, 0.5) if left and right else None)

    def at(self, side: str, name: str) -> Point | None:
        """A named part's place: a middle, or the joint of that side."""
        if name in _MIDDLES:
            return self.middles.get(name)
        return self.joints.get(f"{side} {_JOINT_OF.get(name, name)}")


@functools.lru_cache(maxsize=64)
def _body(person: Person) -> _Body:
    """Captions of one image come one after the other."""
    return _Body(person)


def _between(a: Point, b: Point, share: float) -> Point:
    return (a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]))


def _verdict(claim: Claim, body: _Body) -> Verdict:
    if not body.unit:
        return None
    if claim.part.name in _MIDDLES:
        return None
    if claim.part.side in (LEFT, RIGHT):
        return _of_side(claim, claim.part.side, body)
    both = [_of_side(claim, side, body) for side in (LEFT, RIGHT)]
    return _all_of(both) if claim.part.side == BOTH else _any_of(both)


def _of_side(claim: Claim, side: str, body: _Body) -> Verdict:
    name, says = claim.part.name, claim.says
    if claim.than:
        return _relation(body, side, name, says, claim.than)
    limb = _LIMB_OF[name]
    if says == "carries the weight":
        return _scale(_higher(body, body.at(_OTHER[side], "foot"), body.at(side, "foot")), -0.45, 0.2)
    if says in ("raised", "lowered"):
        if limb == "arm":
            return _raised_arm(body, side) if says == "raised" else _lowered_arm(body, side)
        if claim.part.side == BOTH:
            return None  # a leg is raised against the other
        return _raised_leg(body, side, name) if says == "raised" else _lowered_leg(body, side)
    return _bend(body, side, limb, says)


def _scale(value: Sequence[float] | None, contradicted: float, confirmed: float) -> Verdict:
    """Verdict on a quantity that grows with truth, in the photograph and maybe in a second reading: confirmed
    if above the one threshold in either, otherwise contradicted if below the other in the photograph."""
    if not value:
        return None
    if max(value) > confirmed:
        return True
    return False if value[0] < contradicted else None


# --------------------------------------------------------------------------------------------------- heights


def _higher(body: _Body, a: Point | None, b: Point | None) -> list[float] | None:
    """How much higher `a` is than `b`, in torso lengths; for one who leans, along the body, too."""
    if not (a and b):
        return None
    return [((a[0] - b[0]) * x + (a[1] - b[1]) * y) / body.unit for x, y in body.ups]


def _raised_arm(body: _Body, side: str) -> Verdict:
    """A forearm that points up, or an elbow at shoulder height, is not a lowered arm."""
    shoulder, elbow, wrist = (body.joints.get(f"{side} {name}") for name in _LIMBS["arm"])
    hand = _higher(body, wrist, shoulder)
    if hand is None:
        return None
    if max(hand) > 0.1:
        return True
    upper, fore = _higher(body, elbow, shoulder), _higher(body, wrist, elbow)
    if upper is None or fore is None:
        return False if hand[0] < -0.5 else None
    return False if hand[0] < -0.2 and upper[0] < -0.05 and fore[0] < 0.05 else None


def _lowered_arm(body: _Body, side: str) -> Verdict:
    shoulder, wrist = body.at(side, "shoulder"), body.at(side, "hand")
    return _scale(_higher(body, shoulder, wrist), -0.15, 0.25)


def _raised_leg(body: _Body, side: str, name: str) -> Verdict:
    """Raised is a leg whose foot is above the other, or whose thigh is drawn up."""
    foot = _higher(body, body.at(side, "foot"), body.at(_OTHER[side], "foot"))
    thigh = _higher(body, body.at(side, "knee"), body.at(side, "hip"))
    knee = _higher(body, body.at(side, "knee"), body.at(_OTHER[side], "knee"))
    if foot is None or thigh is None or knee is None:
        return None
    if max(foot) > 0.25 or max(thigh) > -0.2:
        return True
    down = knee[0] < -0.1 if name == "knee" else foot[0] < -0.15
    return False if down and thigh[0] < -0.4 else None


def _lowered_leg(body: _Body, side: str) -> Verdict:
    return _scale(_higher(body, body.at(_OTHER[side], "foot"), body.at(side, "foot")), -0.4, 0.0)


def _relation(body: _Body, side: str, name: str, says: str, than: Part) -> Verdict:
    to_side = than.side or (_OTHER[side] if than.name == name else side)
    here, there = body.at(side, name), body.at(to_side, than.name)
    if here is None or there is None or here == there:
        return None
    along_body = name in ("hand", "elbow") and than.name in ("head", "shoulder", "chest")
    ups = body.ups if along_body else body.ups[:1]
    blur = 0.2 if than.name in ("chest", "waist") else 0.0  # where these end is nobody's joint
    if says == "near":
        reach = math.dist(here, there) / body.unit
        return False if reach > 1.0 + blur else True if reach < 0.5 else None
    if says == "level with":
        apart = [-abs(rise) for rise in _higher(body, here, there) or ()]
        return _scale(apart[: len(ups)], -0.5 - blur, -0.25)
    if than.name == "head":  # the highest point of it, wherever it is turned
        there = min((body.joints["upper neck"], body.joints["head top"]), key=lambda end: end[1])
    low, high = (here, there) if says == "below" else (there, here)
    return _scale((_higher(body, high, low) or [])[: len(ups)], -0.2 - blur, 0.1)


# ----------------------------------------------------------------------------------------------------- bends

# Degrees at elbow or knee, 180 when straight: contradicted outside the first range, confirmed in the second.
_BENDS = {
    "bent": ((0, 166), (0, 152)),
    "slightly bent": ((85, 178), (120, 172)),
    "sharply bent": ((0, 120), (0, 85)),
    "straight": ((142, 181), (160, 181)),
    "nearly straight": ((128, 181), (150, 181)),
}
# An arm that reaches out is called extended, bent elbow or not.
_EXTENDED = {"arm": ((70, 181), (150, 181)), "leg": ((125, 181), (155, 181))}


def _bend(body: _Body, side: str, limb: str, says: str) -> Verdict:
    a, b, c = (body.joints.get(f"{side} {name}") for name in _LIMBS[limb])
    if not (a and b and c) or min(math.dist(a, b), math.dist(b, c)) < 0.15 * body.unit:
        return None
    ux, uy, vx, vy = a[0] - b[0], a[1] - b[1], c[0] - b[0], c[1] - b[1]
    angle = math.degrees(math.atan2(abs(ux * vy - uy * vx), ux * vx + uy * vy))
    if says.startswith("bent at "):
        degrees = float(says.removeprefix("bent at "))
        # Some count from straight, some from folded.
        off = min(abs(angle - degrees), abs(180 - angle - degrees))
        return False if off > 40 else True if off < 20 else None
    possible, clear = _EXTENDED[limb] if says == "extended" else _BENDS[says]
    if not possible[0] <= angle <= possible[1]:
        # A short limb may be bent towards the camera, however straight it looks.
        foreshortened = math.dist(a, c) < 0.6 * _FULL_LENGTH[limb] * body.unit
        return None if foreshortened and angle > possible[1] else False
    return True if clear[0] <= angle <= clear[1] else None
