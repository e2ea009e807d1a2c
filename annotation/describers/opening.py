"""The first sentence of a caption: how many people do what.

Data sets spell activities in many ways ("riding_a_bike", "bicycling, mountain", "yoga, Power", "cook,
chef"); a form of a verb continues "someone is …", anything else is named as a label.
"""

from __future__ import annotations

import functools
import re

from annotation.records import ImageRecord

# Phrases that start or end like a verb form but name a thing: "marching band", "cooking or food preparation".
_NAMES = ("activities", "activity", "band", "meetings", "preparation", "tasks", "worker")
_NOT_VERBS = ("king", "ring", "spring", "string", "thing", "wing")
_MODIFIERS = ("general", "ethnic", "cultural")
_EMPTY_REMARKS = ("general", "miscellaneous")
_MPII_LONGEST = 100


@functools.lru_cache(maxsize=4096)
def words(activity: str) -> tuple[str, str, str]:
    """Split an activity into (verb, name, remark); exactly one of verb and name is set, unless all are "".

    "bicycling, mountain" → ("bicycling", "", "mountain"); "yoga, Power" → ("", "yoga", "Power");
    "riding_a_bike" → ("riding a bike", "", ""). Left out are remarks in round brackets, which MPII often
    cuts short, repeated parts ("running, running, marathon") and remarks that say nothing ("general").
    """
    text = re.sub(r"(\w)_s\b", r"\1's", activity).replace("_", " ")
    text = re.sub(r"\([^)]*(\)|$)", " ", text)
    parts = [" ".join(part.split()).rstrip(".;: ") for part in re.split(r"[,;]", text)]
    parts = list(dict.fromkeys(part for part in parts if part))
    if len(activity) >= _MPII_LONGEST and text.endswith(activity[-1]):  # MPII cuts names here, in mid-word
        parts = parts[:-1] or parts
    if not parts:
        return "", "", ""
    verbs = 0
    while verbs < len(parts) and _is_verb(parts[verbs]):
        verbs += 1
    remark = ", ".join(part for part in parts[max(verbs, 1) :] if part not in _EMPTY_REMARKS)
    return (", ".join(parts[:verbs]), "", remark) if verbs else ("", parts[0], remark)


def _is_verb(part: str) -> bool:
    """Whether "someone is …" can go before it: "riding a bike", "rock climbing", "or canoeing"."""
    tokens = part.split()
    if tokens[0] == "or":
        tokens = tokens[1:] or tokens
    if tokens[-1] in _NAMES or tokens[0] in _MODIFIERS:
        return False
    first, last = tokens[0], tokens[-1]
    return _is_ing(first) or (len(tokens) <= 3 and _is_ing(last))


def _is_ing(word: str) -> bool:
    return word.endswith("ing") and word not in _NOT_VERBS and len(word) > 4


# fmt: off
_TO_NINETEEN = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
# fmt: on
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")

# One form per wording, so that no two wordings of an image are equal.
_FULL_OPENINGS = {
    "verb": (
        "There {be} {who} in the image who {be} {activity}.",
        "{Who} {be} shown {activity}.",
        "{Who} in the image {be} {activity}.",
        "The image shows {who} who {be} {activity}.",
    ),
    "name": (
        "There {be} {who} in the image, and the activity is labelled {activity}.",
        "{Who} {be} shown; the activity is labelled {activity}.",
        "{Who} {be} seen in the image; the activity is labelled {activity}.",
        "The image shows {who}, and the activity is labelled {activity}.",
    ),
    "": (
        "There {be} {who} in the image.",
        "{Who} {be} shown.",
        "{Who} {be} seen in the image.",
        "The image shows {who}.",
    ),
    "nobody": (
        "The activity is labelled {activity}.",
        "The activity shown is labelled {activity}.",
        "The activity in the image is labelled {activity}.",
        "The image shows an activity labelled {activity}.",
    ),
}
_SHORT_OPENINGS = _FULL_OPENINGS | {
    "verb": (
        "{Who} {be} {activity}.",
        "{Who} {be} shown {activity}.",
        "The image shows {who} {activity}.",
        "There {be} {who} {activity}.",
    ),
    "name": (
        "{Who} {be} shown; the activity is labelled {activity}.",
        "The activity of {who} is labelled {activity}.",
        "The image shows {who}; the activity is labelled {activity}.",
        "There {be} {who}; the activity is labelled {activity}.",
    ),
}
_LONGEST_SHORT_ACTIVITY = 6  # words


def number(n: int) -> str:
    """A count in words: 3 → "three", 42 → "forty-two"; from 100 on in digits."""
    if n < 20:
        return _TO_NINETEEN[n]
    if n >= 100:
        return str(n)
    tens = _TENS[n // 10 - 2]
    return f"{tens}-{_TO_NINETEEN[n % 10]}" if n % 10 else tens


def sentence(record: ImageRecord, detail: str, wording: int) -> str:
    """How many people do what. No count where the annotation may miss people."""
    verb, name, remark = words(record.activity)
    doing = verb or name
    if remark:
        doing = f"{doing} ({remark})"
    if detail == "short" and len(doing.split()) > _LONGEST_SHORT_ACTIVITY:
        doing = (verb or name).split(",")[0]
    count = len(record.people)
    if count == 1:
        who = "one person" if record.people_complete else "a person"
    else:
        who = f"{number(count)} people" if record.people_complete else "people"
    kind = "nobody" if not count else "verb" if verb else "name" if name else ""
    forms = _SHORT_OPENINGS if detail == "short" else _FULL_OPENINGS
    return forms[kind][wording].format(
        who=who, Who=who[0].upper() + who[1:], be="is" if count == 1 else "are", activity=doing
    )
