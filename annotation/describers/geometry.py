"""The offline describer: English from joint geometry alone, without a key, a network or a model.

`describe` follows the answer template of the paper's prompt: how many people do what; what marks the
pose; then each person's place and state, legs, arms, torso and head. Every claim comes from
`annotation.geometry`, which states only what is clear from the joints that are present, so a caption
is right about its picture and silent about the rest.

The words "left" and "right" occur only as sides, so a mirrored image is described by the same caption
with the two words swapped. A limb's side is the person's own; "the viewer's left" is the photograph's.

detail="full": 60 to 200 words for one person with all joints. Of several people, the largest
`PEOPLE_DESCRIBED` in shorter form, largest first; of the others, only how many they are.

detail="short": at most `SHORT_WORDS` words (more only where the activity alone has more), in the small
fixed vocabulary of compact.py, for text towers trained from scratch. Wordings 0 to 2 name the activity;
wording 3 says the pose only, so that pose words are learned for themselves and can describe an activity
that was never named in training.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from annotation import geometry
from annotation.describers import compact, opening
from annotation.errors import UserError
from annotation.geometry import BENT, Arm, Leg, Pose
from annotation.records import Description, ImageRecord, Person

VERSION = "1"
WORDINGS = 4
PEOPLE_DESCRIBED = 4
SHORT_WORDS = 30
SHORT_CLAUSES = 4

Pick = Callable[[Sequence[str]], str]


def describe(record: ImageRecord, detail: str = "full") -> list[Description]:
    """Write `WORDINGS` descriptions of one image. The same record always gives the same text.

    Raises UserError where the record has neither people nor an activity: there is nothing to say.
    """
    if detail not in ("full", "short"):
        raise UserError(f"detail is {detail!r}; expected 'full' or 'short'")
    if not record.people and not any(opening.words(record.activity)):
        raise UserError(f"record {record.image_id}: neither people nor an activity; nothing to describe")
    readings = sorted((_read(person, record) for person in record.people), key=lambda r: -r.pose.size)
    write = _full if detail == "full" else _short
    return [
        Description(record.image_id, write(record, readings, wording), f"geometry-{VERSION}/{wording}")
        for wording in range(WORDINGS)
    ]


class _Reading(NamedTuple):
    pose: Pose
    place: str  # "in the centre of the image", or ""


def _read(person: Person, record: ImageRecord) -> _Reading:
    joints = person.joints.tolist()
    pose = geometry.read_pose(joints, person.visibility.tolist())
    return _Reading(pose, _place(joints, record.width, record.height))


def _place(joints: list[list[float]], width: int | None, height: int | None) -> str:
    """Where the middle of the joints inside the image lies. A missing joint is NaN and so never inside."""
    if not (width and height):
        return ""
    inside = [(x, y) for x, y in joints if 0 <= x <= width - 1 and 0 <= y <= height - 1]
    if not inside:
        return ""
    xs, ys = zip(*inside, strict=True)
    x = ((min(xs) + max(xs)) / 2 + 0.5) / width
    y = ((min(ys) + max(ys)) / 2 + 0.5) / height
    row = "upper" if y < 0.3 else "lower" if y > 0.7 else ""
    if 0.43 < x < 0.57:
        return f"in the middle of the {row} part of the image" if row else "in the centre of the image"
    side = "left" if x < 0.5 else "right"
    if 0.3 < x < 0.7:
        return f"slightly to the {side} of the centre of the image"
    return f"in the {row} {side} part of the image" if row else f"on the {side} side of the image"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _and(phrases: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


# One order per wording; the first is the template's.
_PART_ORDERS = (
    ("state", "legs", "arms", "torso"),
    ("state", "arms", "legs", "torso"),
    ("torso", "state", "arms", "legs"),
    ("arms", "torso", "legs", "state"),
)


def _short(record: ImageRecord, readings: list[_Reading], wording: int) -> str:
    clauses = compact.clauses(readings[0].pose) if readings else []
    pose_only = bool(clauses) and wording == WORDINGS - 1
    first = "" if pose_only else opening.sentence(record, "short", wording)
    lead = "for the person shown largest, " if len(readings) > 1 else ""
    room = SHORT_WORDS - len(first.split()) - len(lead.split())
    chosen: list[compact.Clause] = []
    for clause in sorted(clauses, key=lambda clause: -clause.telling):
        length = len(clause.text.split())
        if length <= room and len(chosen) < SHORT_CLAUSES:
            room -= length
            chosen.append(clause)
    if not chosen:
        return first
    chosen.sort(key=lambda clause: _PART_ORDERS[wording].index(clause.part))
    pose = _capital(lead + "; ".join(clause.text for clause in chosen)) + "."
    return f"{first} {pose}" if first else pose


# -------------------------------------------------------------------------------- the full description

_ORDINALS = ("first", "second", "third", "fourth")
_STATES = {
    "standing": ("in a standing pose", "in an upright standing pose"),
    "low": ("in a sitting or squatting pose", "in a pose of sitting or squatting"),
    "kneeling": ("in a kneeling pose", "in a pose as if kneeling"),
    "left knee": ("in a pose as if on the left knee",),
    "right knee": ("in a pose as if on the right knee",),
    "hands and knees": ("on hands and knees", "in a pose on hands and knees"),
    "horizontal": ("stretched out horizontally", "in a horizontal pose, stretched out"),
    "bent over": ("bent over at the hips", "in a pose bent over at the hips"),
    "inverted": ("upside down", "in an upside-down pose"),
}
# First letters of activities in which straight legs below an upright torso are not standing.
_NOT_STANDING = (
    *("div", "fall", "float", "fly", "hang", "jump", "kneel"),
    *("leap", "lying", "riding", "sit", "skydiv", "swim", "tramp"),
)

_BENDS = {
    "straight": ("straight",),
    "slight": ("slightly bent at the {}", "a little bent at the {}"),
    "bent": ("bent at the {}", "clearly bent at the {}"),
    "ninety": ("bent at about ninety degrees at the {}", "bent to about ninety degrees at the {}"),
    "sharp": ("sharply bent at the {}", "tightly bent at the {}"),
}
_KNEE_DETAILS = {
    "above hip": ("the knee raised above the hip", "the knee higher than the hip"),
    "hip": ("the knee about level with the hip", "the knee at about the height of the hip"),
    "below hip": ("the knee below the hip", "the knee lower than the hip"),
}
_THIGH_DETAILS = {
    "horizontal": ("the thigh close to horizontal", "the upper leg nearly horizontal"),
    "vertical": ("the thigh close to vertical", "the upper leg pointing down"),
}
_SHIN_DETAILS = {
    "horizontal": ("the lower leg close to horizontal", "the shin nearly horizontal"),
    "vertical": ("the lower leg close to vertical", "the foot straight below the knee"),
}
_FOOT_DETAILS = {
    "above hip": ("the foot raised above the hip", "the foot higher than the hip"),
    "above knee": ("the foot raised above the knee", "the foot higher than the knee"),
    "knee": ("the foot about level with the knee", "the foot at about the height of the knee"),
}
_WRIST_DETAILS = {
    "above head": ("the wrist above the head", "the hand higher than the head"),
    "head": ("the wrist at head height", "the hand level with the head"),
    "above shoulder": ("the wrist above the shoulder", "the hand higher than the shoulder"),
    "shoulder": ("the wrist at shoulder height", "the hand about level with the shoulder"),
    "between": ("the wrist between shoulder and hip height", "the hand below the shoulder and above the hip"),
    "hip": ("the wrist at hip height", "the hand about level with the hip"),
    "below hip": ("the wrist below the hip", "the hand lower than the hip"),
}
_ELBOW_DETAILS = {
    "above shoulder": ("the elbow above the shoulder", "the elbow higher than the shoulder"),
    "shoulder": ("the elbow at shoulder height", "the elbow about level with the shoulder"),
}
_VIEWS = {"front": "from the front", "back": "from behind", "side": "from the side"}


def _full(record: ImageRecord, readings: list[_Reading], wording: int) -> str:
    # Phrases depend on nothing but the image and the wording, and on no particular Python version.
    draw = random.Random(zlib.crc32(f"{record.image_id}/{wording}".encode())).random

    def pick(phrases: Sequence[str]) -> str:
        return phrases[int(draw() * len(phrases))]

    sentences = [opening.sentence(record, "full", wording)]
    described = readings[:PEOPLE_DESCRIBED]
    if len(readings) == 1:
        sentences += _traits(described[0].pose, bool(record.activity), pick)
        sentences += _person(described[0], "the person", record.activity, pick)
        parts = {
            "legs": _legs(described[0].pose, pick),
            "arms": _arms(described[0].pose, pick),
            "torso": [*_torso(described[0].pose, pick), *_head(described[0].pose, pick)],
        }
        for part in _PART_ORDERS[wording]:
            sentences += parts.get(part, [])
        return " ".join(sentences)

    sentences += _shared_traits([reading.pose for reading in described], pick)
    for ordinal, reading in zip(_ORDINALS, described, strict=False):
        sentences += _person_briefly(reading, f"the {ordinal} person", record.activity, wording, pick)
    others = len(readings) - len(described)
    if others and record.people_complete:
        sentences.append(
            pick(("{} more {} in the image.", "{} other {} in the image.")).format(
                _capital(opening.number(others)), "person is" if others == 1 else "people are"
            )
        )
    return " ".join(sentences)


def _traits(pose: Pose, has_activity: bool, pick: Pick) -> list[str]:
    """One sentence on what marks the pose, named by the joints."""
    traits = []
    torsos = {
        "leaning": "leaning",
        "horizontal": "nearly horizontal",
        "inverted": "upside-down",
        "upright": "upright",
    }
    if pose.torso:
        word = torsos[pose.torso]
        traits.append(f"{'an' if word[0] in 'aeiou' else 'a'} {word} torso")
    knees = (pose.left_leg.bend, pose.right_leg.bend)
    bent_knees = sum(bend in BENT for bend in knees)
    if bent_knees == 2:
        traits.append(pick(("bent knees", "two bent knees")))
    elif bent_knees == 1 and "straight" in knees:
        traits += ["one bent leg", "one straight leg"]
    elif bent_knees == 1:
        traits.append("a bent knee")
    elif knees == ("straight", "straight"):
        traits.append(pick(("straight legs", "two straight legs")))
    lifts = (pose.left_arm.lift, pose.right_arm.lift)
    if lifts == ("raised", "raised"):
        traits.append(pick(("raised arms", "two raised arms")))
    elif "raised" in lifts:
        traits.append("one raised arm" if "lowered" in lifts else "a raised arm")
    elif pose.left_arm.bend in BENT and pose.right_arm.bend in BENT:
        traits.append(pick(("bent elbows", "two bent elbows")))
    elif lifts == ("lowered", "lowered"):
        traits.append(pick(("lowered arms", "two lowered arms")))
    if not traits:
        return []
    forms = ["The pose is characterised by {}.", "The pose is marked by {}.", "The pose shows {}."]
    if has_activity:
        forms += ("As seen here, the activity goes with {}.", "The activity is characterised here by {}.")
    return [pick(forms).format(_and(traits))]


def _shared_traits(poses: list[Pose], pick: Pick) -> list[str]:
    """One sentence on what the people described have in common."""
    counts = {
        "an upright torso": sum(pose.torso == "upright" for pose in poses),
        "a bent knee": sum(pose.left_leg.bend in BENT or pose.right_leg.bend in BENT for pose in poses),
        "a bent elbow": sum(pose.left_arm.bend in BENT or pose.right_arm.bend in BENT for pose in poses),
        "a raised arm": sum("raised" in (pose.left_arm.lift, pose.right_arm.lift) for pose in poses),
    }
    common = [trait for trait, count in counts.items() if count == len(poses)]
    if common:
        forms = ("Each of the people described here has {}.", "Everyone described here has {}.")
        return [pick(forms).format(_and(common))]
    trait, count = max(counts.items(), key=lambda item: item[1])
    # "At least": a joint that is not annotated may hide the same trait in someone else.
    return (
        [f"At least {opening.number(count)} of the people described here have {trait}."] if count > 1 else []
    )


def _person(reading: _Reading, subject: str, activity: str, pick: Pick) -> list[str]:
    """Where in the image the person is, and in which state."""
    state = ""
    if reading.pose.state:
        state = pick(_STATES[reading.pose.state])
        words = activity.lower().replace("_", " ").split()
        if reading.pose.state == "standing" and any(word.startswith(_NOT_STANDING) for word in words):
            state = "in an upright pose"
    if reading.place and state:
        forms = ("{0} is {1}, {2}.", "{0}, {1}, is {2}.", "{0} is {2}, {1}.")
        return [pick(forms).format(_capital(subject), reading.place, state)]
    if reading.place or state:
        return [f"{_capital(subject)} is {reading.place or state}."]
    return []


def _person_briefly(reading: _Reading, subject: str, activity: str, wording: int, pick: Pick) -> list[str]:
    """One of several people: place and state, then the compact claims, a sentence for each part."""
    clauses = [clause for clause in compact.clauses(reading.pose) if clause.part != "state"]
    sentences = _person(reading, subject, activity, pick)
    if not sentences and (clauses or reading.pose.head or reading.pose.head_line):
        sentences = [f"{_capital(subject)} is described next."]
    for part in _PART_ORDERS[wording]:
        texts = [clause.text for clause in clauses if clause.part == part]
        if texts:
            sentences.append(_capital("; ".join(texts)) + ".")
        if part == "torso":
            sentences += _head(reading.pose, pick)
    return sentences


def _legs(pose: Pose, pick: Pick) -> list[str]:
    sentences = _leg("left", pose.left_leg, pick) + _leg("right", pose.right_leg, pick)
    if pose.higher_foot:
        sentences.append(_higher(pose.higher_foot, "foot"))
    if pose.feet:
        sentences.append(_spacing("feet", pose.feet))
    return sentences


def _arms(pose: Pose, pick: Pick) -> list[str]:
    down = "points" if pose.torso in ("horizontal", "inverted") else "hangs"
    sentences = _arm("left", pose.left_arm, down, pick) + _arm("right", pose.right_arm, down, pick)
    if pose.higher_hand:
        sentences.append(_higher(pose.higher_hand, "hand"))
    if pose.hands:
        sentences.append(_spacing("hands", pose.hands))
    return sentences


def _higher(side: str, noun: str) -> str:
    return f"The {side} {noun} is higher than the {'right' if side == 'left' else 'left'} one."


def _spacing(nouns: str, spacing: str) -> str:
    return f"The {nouns} are {'close together' if spacing == 'together' else 'wide apart'}."


def _leg(side: str, leg: Leg, pick: Pick) -> list[str]:
    details = []
    if leg.knee in ("above hip", "hip") or not leg.thigh:
        details += [pick(_KNEE_DETAILS[leg.knee])] if leg.knee else []
    else:
        details.append(pick(_THIGH_DETAILS[leg.thigh]))
    if leg.bend == "straight" and details:
        pass  # the thigh has said where the whole leg points
    elif leg.foot:
        details.append(pick(_FOOT_DETAILS[leg.foot]))
    elif leg.shin:
        details.append(pick(_SHIN_DETAILS[leg.shin]))
    if not leg.bend:
        return [f"{_subject(side, 'leg', pick)} is placed with {_and(details)}."] if details else []
    return [f"{_subject(side, 'leg', pick)} is {pick(_BENDS[leg.bend]).format('knee')}{_with(details)}."]


def _arm(side: str, arm: Arm, down: str, pick: Pick) -> list[str]:
    bend = pick(_BENDS[arm.bend]).format("elbow") if arm.bend else ""
    if arm.along == "head" and arm.lift != "raised":
        does = "is stretched out past the head"
    elif arm.direction == "level":
        does = f"is stretched out to the viewer's {arm.reach}"
    elif arm.direction == "down":
        does = f"{down} straight down" if arm.bend == "straight" else f"{down} down"
    else:
        does = "is " + _and([word for word in (arm.lift, bend) if word]) if arm.lift or bend else ""
        if does and arm.reach:
            does += f", reaching to the viewer's {arm.reach}"

    details = []
    if arm.near:
        place = "head" if arm.near == "head" else f"{side} {arm.near}"
        details.append(pick(("the hand close to the {}", "the hand near the {}")).format(place))
    elif arm.wrist:
        details.append(pick(_WRIST_DETAILS[arm.wrist]))
    if arm.elbow and arm.direction != "level":
        details.append(pick(_ELBOW_DETAILS[arm.elbow]))
    if not does:
        return [f"{_subject(side, 'arm', pick)} is held with {_and(details)}."] if details else []
    return [f"{_subject(side, 'arm', pick)} {does}{_with(details)}."]


def _subject(side: str, limb: str, pick: Pick) -> str:
    owner = pick(("The", "Their", "The person's"))
    return f"{owner} {side} {limb}"


def _with(details: list[str]) -> str:
    return f", with {_and(details)}" if details else ""


def _torso(pose: Pose, pick: Pick) -> list[str]:
    torso = pick(("The torso", "The upper body", "Their torso"))
    view = f"seen {_VIEWS[pose.view]}" if pose.view else ""
    if pose.torso == "leaning":
        text = f"{torso} leans to the viewer's {pose.torso_side}"
    elif pose.torso == "horizontal":
        text = f"{torso} is close to horizontal, with the shoulders towards the viewer's {pose.torso_side}"
    elif pose.torso == "inverted":
        text = f"{torso} is upside down, with the shoulders below the hips"
    elif pose.torso == "upright":
        text = f"{torso} is upright"
    else:
        text = ""
    sentences = []
    if text and view:
        sentences.append(f"{text} and is {view}.")
    elif text or view:
        sentences.append(f"{text or f'{torso} is {view}'}.")
    if pose.higher_shoulder and pose.torso != "horizontal":
        sentences.append(_higher(pose.higher_shoulder, "shoulder"))
    return sentences


def _head(pose: Pose, pick: Pick) -> list[str]:
    head = pick(("The head", "Their head"))
    states = {
        "upright": pick(("is upright", "is held upright")),
        "tilted": f"is tilted to the viewer's {pose.head_side}",
        "low": pick(("is below the hips", "is lower than the hips")),
    }
    lines = {"straight": "in line with the torso", "bent": "out of line with the torso"}
    if pose.head and pose.head_line:
        return [f"{head} {states[pose.head]} and {lines[pose.head_line]}."]
    if pose.head:
        return [f"{head} {states[pose.head]}."]
    return [f"{head} is {lines[pose.head_line]}."] if pose.head_line else []
