"""Turn an activity as data sets spell it into words that fit a sentence."""

from __future__ import annotations

import functools
import re

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
