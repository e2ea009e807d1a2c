"""What a language model is asked: one system message, and the joints and activity of one image as JSON.

A version never changes once it was used: its text is hashed into the provenance of every caption
(`digest`), and `tests/annotation/golden` holds the bytes of a request.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from annotation import geometry, schema
from annotation.records import ImageRecord, Person

# The order of the paper's prompt: role, joints, coordinates, what to write, template, style. Our words.
_PAPER = """\
You are an expert on human activities and body poses in the MPII Human Pose data set.

You receive JSON about one image: the activity, the count of people, and for each person an id, the \
center in pixels, the scale (the person's height divided by 200 pixels) and kpts, 16 joints as [x, y] in \
this order:
0 right ankle, 1 right knee, 2 right hip, 3 left hip, 4 left knee, 5 left ankle, 6 pelvis, 7 thorax, \
8 upper neck, 9 head top, 10 right wrist, 11 right elbow, 12 right shoulder, 13 left shoulder, \
14 left elbow, 15 left wrist.

Coordinates are pixels of the image; the origin is its upper left corner, x grows to the right and y \
grows downwards. [-1, -1] marks a joint that is not visible.

Describe the pose: where each limb lies relative to the other limbs.

Fill in this template. The functions in braces stand for words that you choose from the JSON:
{how_many(count)} {is_or_are(count)} {doing(activity)}.
{general_traits(activity): what usually marks a body during this activity, in terms of the joints}.
Then for each person:
The person {place(center): where in the image} is {state(kpts): standing, sitting, lying, bending …}.
The left leg is {relation(left leg, other limbs)}, {bend(left knee)}.
The right leg is {relation(right leg, other limbs)}, {bend(right knee)}.
The left arm is {relation(left arm, other limbs)}, {bend(left elbow)}.
The right arm is {relation(right arm, other limbs)}, {bend(right elbow)}.
The torso is {relation(torso, other limbs)}, {bend(torso)}.
The head is {relation(head, torso)}, {bend(neck)}.

Answer with the finished description alone, without braces, function names, coordinates or joint numbers. \
Write concise, precise and gender-neutral English."""

SYSTEM = {"paper": _PAPER}
VERSIONS = tuple(SYSTEM)


def messages(record: ImageRecord, version: str) -> list[dict[str, str]]:
    """The chat messages for one image. They hold no pixel, no image name and no path."""
    return [
        {"role": "system", "content": SYSTEM[version]},
        {"role": "user", "content": json.dumps(content(record), ensure_ascii=False)},
    ]


def digest(version: str) -> str:
    """sha256 of the version's fixed text."""
    return hashlib.sha256(SYSTEM[version].encode()).hexdigest()


def content(record: ImageRecord) -> dict[str, Any]:
    """What is said of one image: the paper's fields, in its order.

    activity is "CATEGORY, ACTIVITY", the activity alone where the category is unknown, and "unknown" where
    both are. People are numbered from 1 in the order of the record.
    """
    known = [text for text in (record.category, record.activity) if text]
    return {
        "activity": ", ".join(known) or "unknown",
        "count": len(record.people),
        "people": [_person(person, number) for number, person in enumerate(record.people, 1)],
    }


def _person(person: Person, number: int) -> dict[str, Any]:
    kpts = [
        [-1, -1] if v == schema.MISSING else [round(x), round(y)]
        for (x, y), v in zip(person.joints.tolist(), person.visibility.tolist(), strict=True)
    ]
    return {"id": number, "center": _center(person), "scale": _scale(person), "kpts": kpts}


def _center(person: Person) -> list[int]:
    """The source's, or the middle of the box around the joints; [-1, -1] for a person without a joint."""
    found = person.extra.get("center", person.extra.get("objpos"))
    if isinstance(found, dict):
        found = [found.get("x"), found.get("y")]
    if isinstance(found, list) and len(found) == 2 and all(isinstance(n, int | float) for n in found):
        return [round(n) for n in found]
    known = [xy for xy, v in zip(person.joints.tolist(), person.visibility.tolist(), strict=True) if v]
    return [round((min(axis) + max(axis)) / 2) for axis in zip(*known, strict=True)] or [-1, -1]


# MPII's scale is the height over 200 px. Over the 17,372 people of its CSV this many torso lengths give
# that height in the median; half of them lie within 10 % of it.
_TORSOS = 3.1


def _scale(person: Person) -> float:
    """The source's, or what the length of the person's torso suggests; 0 where no limb is known."""
    for name in ("scale", "scale_provided", "Scale"):
        try:
            return float(person.extra[name])
        except (KeyError, TypeError, ValueError):
            continue  # absent, or something else of the same name
    points = [
        None if v == schema.MISSING else (x, y)
        for (x, y), v in zip(person.joints.tolist(), person.visibility.tolist(), strict=True)
    ]
    return round(_TORSOS * geometry.torso_length(points) / 200, 2)
