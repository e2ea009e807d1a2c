"""Descriptions in the style of a language model, known to be true, and with one statement made false.

The measure for the validators, so nothing is shared with them or with the geometry describer: no code, no
thresholds, no phrases. Lengths are fractions of the person's height as MPII states it ("Scale" x 200 pixels),
not of a limb; bends follow from the law of cosines; everything is judged in the photograph. A statement is
*clear* where the joints leave no room for argument; only clear ones are made false.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np

INDEX = {
    ("right", "ankle"): 0, ("right", "knee"): 1, ("right", "hip"): 2, ("left", "hip"): 3, ("left", "knee"): 4,
    ("left", "ankle"): 5, ("right", "wrist"): 10, ("right", "elbow"): 11, ("right", "shoulder"): 12,
    ("left", "shoulder"): 13, ("left", "elbow"): 14, ("left", "wrist"): 15,
}  # fmt: skip
PELVIS, THORAX, NECK, TOP = 6, 7, 8, 9
OTHER = {"left": "right", "right": "left"}
OPPOSITE = {"raised": "lowered", "bent": "straight", "above": "below", "higher": "lower"}
OPPOSITE |= {false: true for true, false in OPPOSITE.items()}


class Statement(NamedTuple):
    """`part` of `side` is `says`, for "above", "below", "higher" and "lower" in relation to `than`."""

    part: str  # "arm", "elbow", "knee", "hand", "foot"
    side: str
    says: str
    than: str = ""


def statements(joints: np.ndarray, height: float) -> dict[Statement, bool]:
    """What is true of a person: joints (16, 2), NaN where missing, in pixels. Value: whether it is clear."""
    found: dict[Statement, bool] = {}
    y = -joints[:, 1] / height  # up
    trunk_up = y[THORAX] - y[PELVIS] > 0.12
    for side in ("left", "right"):
        shoulder, elbow, wrist = (INDEX[side, name] for name in ("shoulder", "elbow", "wrist"))
        hip, knee, ankle = (INDEX[side, name] for name in ("hip", "knee", "ankle"))
        rise = y[wrist] - y[shoulder]
        if trunk_up and rise > 0.03:
            found[Statement("arm", side, "raised")] = bool(rise > 0.1)
        elif trunk_up and rise < -0.06 and y[wrist] < y[elbow] < y[shoulder]:
            found[Statement("arm", side, "lowered")] = bool(rise < -0.12 and y[elbow] < y[shoulder] - 0.05)
        for joint, (a, b, c), full in (
            ("elbow", (shoulder, elbow, wrist), 0.25),
            ("knee", (hip, knee, ankle), 0.4),
        ):
            angle, span = opening(joints[a], joints[b], joints[c]), np.linalg.norm(joints[a] - joints[c])
            if angle < 150:
                found[Statement(joint, side, "bent")] = bool(angle < 120)
            elif angle > 160 and span > 0.6 * full * height:
                found[Statement(joint, side, "straight")] = bool(angle > 170 and span > 0.8 * full * height)
        pairs = [("hand", wrist, "shoulder", y[shoulder]), ("hand", wrist, "hip", y[hip])]
        pairs += [("hand", wrist, "head", max(y[TOP], y[NECK]) if rise > 0 else np.nan)]
        pairs += [("knee", knee, "hip", y[hip]), ("foot", ankle, "knee", y[knee])]
        for part, joint, than, level in pairs:
            if abs(y[joint] - level) > 0.03:
                says = "above" if y[joint] > level else "below"
                found[Statement(part, side, says, than)] = bool(abs(y[joint] - level) > 0.1)
        for part, joint in (("hand", wrist), ("foot", ankle)):
            ahead = y[joint] - y[INDEX[OTHER[side], "wrist" if part == "hand" else "ankle"]]
            if abs(ahead) > 0.04:
                says = "higher" if ahead > 0 else "lower"
                found[Statement(part, side, says, part)] = bool(abs(ahead) > 0.1)
    return found


def opening(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    """Degrees between the segments that meet in b; NaN where one is missing or hardly there."""
    ab, bc, ac = np.linalg.norm(a - b), np.linalg.norm(b - c), np.linalg.norm(a - c)
    if not min(ab, bc) > 0.25 * max(ab, bc):
        return float("nan")
    return float(np.degrees(np.arccos(np.clip((ab**2 + bc**2 - ac**2) / (2 * ab * bc), -1, 1))))


# ------------------------------------------------------------------------------------------------- wordings

PHRASES = {
    ("arm", "raised"): (
        "The {s} arm is raised",
        "Their {s} arm is lifted up",
        "The person is raising the {s} arm",
        "The {s} arm is held up in the air",
        "The {s} hand is raised, suggesting movement",
        "A raised {s} arm adds to the dynamic of the pose",
        "The person's {s} arm is extended upward",
    ),
    ("arm", "lowered"): (
        "The {s} arm is lowered",
        "Their {s} arm hangs down",
        "The {s} arm hangs loosely by the side",
        "The person's {s} arm is pointing downward",
        "The {s} arm is down by their side",
        "With the {s} arm lowered, the person seems at ease",
    ),
    ("elbow", "bent"): (
        "The {s} arm is bent at the elbow",
        "The {s} elbow is bent, bringing the forearm in",
        "The {s} arm shows a clear bend at the elbow",
        "Their {s} elbow appears flexed",
        "The person holds the {s} arm with the elbow bent",
        "The bent {s} elbow suggests that something is being held",
    ),
    ("elbow", "straight"): (
        "The {s} arm is straight",
        "The {s} elbow is straight, without any tension",
        "Their {s} arm is fully extended",
        "The {s} arm is kept straight",
        "The person keeps a straight {s} arm",
    ),
    ("knee", "bent"): (
        "The {s} leg is bent at the knee",
        "The {s} knee is bent",
        "Their {s} knee appears to be flexed",
        "The {s} leg is positioned with the knee bent",
        "The person is bending the {s} knee",
        "There is a noticeable bend in the {s} knee",
    ),
    ("knee", "straight"): (
        "The {s} leg is straight",
        "The {s} leg is fully extended",
        "Their {s} knee is straight, indicating stability",
        "The {s} leg remains straight",
        "A straight {s} leg carries the body",
    ),
    "above": (
        "The {s} {p} is above the {t}",
        "The {s} {p} is positioned higher than the {t}",
        "Their {s} {p} is located well above their {t}",
    ),
    "below": (
        "The {s} {p} is below the {t}",
        "The {s} {p} is positioned lower than the {t}",
        "Their {s} {p} rests beneath the {t}",
    ),
    "higher": ("The {s} {p} is higher than the {o} {p}", "The {s} {p} is placed above the {o} one"),
    "lower": ("The {s} {p} is lower than the {o} {p}", "The {s} {p} is placed below the {o} one"),
}
NAMES = {"hand": ("hand", "wrist"), "foot": ("foot", "ankle"), "knee": ("knee",)}
INTRODUCTIONS = (
    "Person {number} is seen here.",
    "The {ordinal} person appears to be in motion.",
    "The person {place} is seen from the front.",
)
ORDINALS = ("first", "second", "third", "fourth")
PLACES = ("on the left", "to the right of that", "in the right part of the image", "on the far right")
# Said of everybody and claiming nothing that the joints could deny, though some words sound like it.
ASIDES = (
    "The torso appears upright, which suggests balance.",
    "The head may be turned slightly to the left.",
    "They might be raising the right arm in the next moment.",
    "It is unclear whether the left knee is bent or straight in depth.",
    "The person is located towards the right side of the image.",
    "The body leans a little to the left, possibly for balance.",
    "This suggests that the right leg could be bearing more weight than the left.",
    "The overall posture indicates focus on the task at hand.",
    "The left side of the body is more visible than the right.",
    "The shoulders and hips are roughly aligned.",
    "No further details about the hands are available.",
)


class Writer:
    """Wordings drawn at random; the same seed gives the same text."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)

    def sentence(self, statement: Statement) -> str:
        part, side, says, than = statement
        phrases = PHRASES[says] if than else PHRASES[part, says]
        name = self._random.choice(NAMES.get(part, (part,)))
        text = self._random.choice(phrases).format(s=side, o=OTHER[side], p=name, t=than)
        return f"{text}."

    def description(self, of: list[list[Statement]], activity: str, count: int) -> list[str]:
        """Sentences about people, of whom `of` lists the statements; the first says how many there are."""
        sentences = [self.count(count, activity)]
        introduce = self._random.choice(INTRODUCTIONS)
        for n, person in enumerate(of):
            if len(of) > 1:
                sentences.append(introduce.format(number=n + 1, ordinal=ORDINALS[n], place=PLACES[n]))
            sentences += [self.sentence(statement) for statement in person]
            sentences.insert(self._random.randint(1, len(sentences)), self._random.choice(ASIDES))
        return sentences

    def count(self, count: int, activity: str) -> str:
        if count == 1:
            who = self._random.choice(("one person", "a person", "1 person", "a single individual"))
        else:
            who = self._random.choice(
                (f"{WORDS[count]} people", f"{count} people", f"{WORDS[count]} individuals")
            )
        be = "is" if count == 1 else "are"
        return self._random.choice(
            (
                f"There {be} {who} in the image who {be} engaged in {activity or 'some activity'}.",
                f"The image shows {who}. The activity is {activity or 'not known'}.",
                f"In the image, {who} {be} shown ({activity or 'no activity given'}).",
            )
        )

    def choice(self, options):
        return self._random.choice(options)

    def sample(self, options, count: int):
        return self._random.sample(options, min(count, len(options)))


WORDS = ("no", "one", "two", "three", "four", "five", "six")


def mutations(statement: Statement, true: dict[Statement, bool]) -> dict[str, Statement]:
    """Kind of mutation → the statement made false by it. `true` holds what is true of this person."""
    part, side, says, than = statement
    made = {}
    if true[statement]:
        kind = {"raised": "raised/lowered", "lowered": "raised/lowered", "bent": "bent/straight"}
        kind |= {"straight": "bent/straight"}
        made[kind.get(says, "above/below")] = statement._replace(says=OPPOSITE[says])
    # On the other side the opposite must clearly be true.
    other = Statement(part, OTHER[side], OPPOSITE[says], than)
    if true.get(other):
        made["left/right"] = statement._replace(side=OTHER[side])
    return made
