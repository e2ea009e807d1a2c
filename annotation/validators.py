"""Reasons to refuse a description that a language model wrote.

`check` reads the text alone and against its record. It is made to be right when it refuses: what is vague,
hedged, or says nothing that can be judged passes. What a text claims about limbs is read by `claims.py`
and judged by `verdicts.py`; this module holds everything else.
"""

from __future__ import annotations

import re
from collections import Counter

from annotation.describers import opening
from annotation.records import ImageRecord


def check(text: str, record: ImageRecord) -> list[str]:
    """Why `text` is no usable description of `record`; empty where it is one. Under a millisecond, no I/O."""
    if not text.strip():
        return ["empty"]
    own_words = without_label(text, record)
    return [
        *_truncated(text),
        *_refusal(own_words),
        *_template(own_words),
        *_coordinates(own_words),
        *_repetition(text, len(record.people)),
        *[f"gendered word: {word}" for word in sorted(set(gendered_words(own_words)))],
        *(_people_count(own_words, len(record.people)) if record.people_complete else ()),
    ]


def without_label(text: str, record: ImageRecord) -> str:
    """`text` with the source's own activity and category taken out: "women's gymnastics" is not the model's
    wording, nor is the "two" of "two person kayak". Only the parts between commas are taken out, as they
    stand, so that a model that rephrases answers for its words."""
    label = f"{record.category}, {record.activity}".replace("_", " ")
    parts = {part.strip(" .;()") for part in re.split(r"[,;()]", label)}
    for part in sorted(parts, key=len, reverse=True):
        # A label of one short word ("man") would hide that word everywhere.
        if len(part.split()) > 1 or len(part) > 5:
            text = re.sub(rf"\b{re.escape(part)}(?!\w)", "that", text, flags=re.IGNORECASE)
    return text


# --------------------------------------------------------------------------------------- ends and refusals

_DANGLING = re.compile(
    r"\b(?:a|an|the|of|and|or|with|to|from|at|than|their|while|which)[.!?]\W*$", re.IGNORECASE
)


def _truncated(text: str) -> list[str]:
    end = text.rstrip().rstrip("\"'”’)*_` \n")
    if not end.endswith((".", "!", "?")) or end.endswith("..") or _DANGLING.search(end):
        return [f"cut off: ends in {text.rstrip()[-20:]!r}"]
    return []


_REFUSAL = re.compile(
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b"
    r"|\bI(?:'m| am|’m) (?:(?:really|very|so|truly) )?(?:sorry|unable|not able|afraid)\b"
    r"|\bI (?:can(?:no|')?t|can’t|can not|won't|apologi[sz]e|do not have|don't have|don’t have)\b"
    r"|^\W*(?:sorry|unfortunately|my apologies)\b"
    r"|\b(?:please|could you) (?:provide|share|upload|give)\b",
    re.IGNORECASE,
)


def _refusal(text: str) -> list[str]:
    found = _REFUSAL.search(text)
    return [f"refusal: {found[0]!r}"] if found else []


# -------------------------------------------------------------------------------- templates and raw fields

_TEMPLATE = re.compile(
    r"\$\w+"  # $activity
    r"|\{[^{}]*\}?|\}"  # {placeholder}
    r"|<[^<>\n]{1,60}>"  # <limb>
    r"|\[\s*[A-Za-z][^\]\n]{0,60}\]"  # [insert activity here]
    r"|\b\w+\(\s*\)|\b\w+\([^()\n]*[_=\[][^()\n]*\)|\b(?:\w+_\w+|[a-z]+[A-Z]\w*)\("  # get_state(person)
    r"|\b[a-z]+(?:_[a-z0-9]+)+\b"  # kpts_vis
    r"|\b\w+\[\w+\]"  # people[0]
)


def _template(text: str) -> list[str]:
    found = _TEMPLATE.search(text)
    return [f"left from the template: {found[0]!r}"] if found else []


_COORDINATES = re.compile(
    r"[\[(]\s*-?\d+(?:\.\d+)?\s*,\s*-?\d+(?:\.\d+)?\s*[,\])]"  # [412, 305]
    r"|\bkpts?\b|\bjoints?\s*\[?\d+|\b(?:joint|keypoint)s? (?:number |index |indices |#)?\d+|\bindex \d+"
    r"|\b[xy]\s*[=:]\s*-?\d+|\b[xy][- ]?(?:coordinate|value|position)s?\b"
    r"|\b\d+(?:\.\d+)?\s*(?:px|pixels?)\b"
    r"|\bscale (?:of |is |factor |: ?)+\d",
    re.IGNORECASE,
)
# A number of three digits or more is a pixel position, unless it counts degrees.
_LARGE_NUMBER = re.compile(
    r"(?<![\w.,-])\d{3,}(?:\.\d+)?\b(?!\s*(?:-|–|to |and )?\s*(?:\d+\s*)?-?\s*(?:degree|°))"
)


def _coordinates(text: str) -> list[str]:
    found = _COORDINATES.search(text) or _LARGE_NUMBER.search(text)
    return [f"raw coordinates: {found[0]!r}"] if found else []


# ----------------------------------------------------------------------------------------------- repetition

_LOOP_TOKENS = 12  # the longest phrase that is looked for in a loop


def _repetition(text: str, people: int) -> list[str]:
    """A phrase said three times on end, or a sentence said more often than there are people."""
    sentences = [" ".join(words(s)) for s in sentences_of(text)]
    counted = Counter(s for s in sentences if s.count(" ") >= 3)
    if counted:
        sentence, times = counted.most_common(1)[0]
        if times > max(1, people):
            return [f"said {times} times: {sentence[:60]!r}"]
    tokens = words(text)
    for period in range(1, _LOOP_TOKENS + 1):
        run = 0
        for at in range(period, len(tokens)):
            run = run + 1 if tokens[at] == tokens[at - period] else 0
            if run == 2 * period:
                return [f"said three times on end: {' '.join(tokens[at - period + 1 : at + 1])!r}"]
    return []


def words(text: str) -> list[str]:
    """Lower-case words: letters and digits, with the apostrophes and hyphens inside them."""
    return re.findall(r"[a-z0-9]+(?:['’-][a-z0-9]+)*", text.lower())


def sentences_of(text: str) -> list[str]:
    return [s for s in re.split(r"(?<=[.!?])[\"'”’)]*\s+|\n+", text) if s.strip()]


# --------------------------------------------------------------------------------------------------- gender

_GENDERED = re.compile(
    r"\b(?:s?he|him|his|hers?|himself|herself|(?:wo)?m[ae]n|(?:wo)?man's|(?:wo)?men's|m[ae]n’s|boys?|girls?|males?"
    r"|females?|lad(?:y|ies)|gentlem[ae]n|guys?|mothers?|fathers?|moms?|dads?|sons?|daughters?|brothers?"
    r"|sisters?|husbands?|wi(?:fe|ves)|masculine|feminine|\w*sportsm[ae]n|\w*sportswom[ae]n)\b"
    r"|\b(?:fisher|fire|sales|police|camera|stunt|horse|crafts|bats)(?:wo)?m[ae]n\b",
    re.IGNORECASE,
)


def gendered_words(text: str) -> list[str]:
    """Every word that gives a person a gender, in lower case. A bare "fisherman" of the label was masked."""
    return [found[0].lower() for found in _GENDERED.finditer(text)]


# -------------------------------------------------------------------------------------------- people counted

_NUMBERS = {opening.number(n): n for n in range(100)}
_NUMBERS |= {"no": 0, "a": 1, "an": 1, "single": 1, "a single": 1, "both": 2, "couple of": 2, "pair of": 2}
_SINGULAR = r"person|individual|human(?: being)?|human figure|figure|subject|participant|player|athlete"
_PLURAL = r"people|persons|individuals|humans|human beings|(?:human )?figures|subjects|participants|players"
_PLURAL += r"|athletes|performers|dancers|riders|cyclists|runners|adults|children|kids|friends|workers"
_COUNT = "|".join(sorted(_NUMBERS, key=len, reverse=True)) + r"|\d{1,3}"
_PEOPLE = re.compile(
    rf"\b(?P<least>at least |more than )?(?P<number>{_COUNT})(?: \(\d+\))?(?P<other> other| more)?"
    rf"(?: (?!(?:of|the|in|on|and|or|is|are|to|with|leg|arm)\b)[a-z]+){{0,2}}?"
    rf" (?P<noun>{_PLURAL}|{_SINGULAR})\b(?!['’])",
    re.IGNORECASE,
)
_MANY = re.compile(
    rf"\b(?:several|multiple|various|numerous|many|a group of|a crowd of|some)(?: [a-z]+)? (?:{_PLURAL})\b",
    re.IGNORECASE,
)
_STATED = re.compile(
    r"(?:\bthere (?:is|are|'s)|\b(?:image|photo(?:graph)?|picture|scene|frame)(?: \w+)?"
    r" (?:shows?|depicts?|contains?|features?|includes?|has|captures?|displays?|presents?|of)|\bwe see"
    r"|\b(?:shows?|depicts?|features?) )(?: (?:exactly|only|a total of|a group of))?\s*$",
    re.IGNORECASE,
)
_FIGURE = re.compile(
    r"\b(?:number of people|people count|count)(?: in the \w+)?(?: is| are|:| =)+ (\d+)", re.I
)
_OF_ONE_AMONG_OTHERS = re.compile(r"^\s*(?:of|in the (?:fore|back)ground|on the|to the)\b", re.IGNORECASE)


def _people_count(text: str, people: int) -> list[str]:
    """The first sentence and sentences that begin "there are" say how many are there; any other number may
    speak of some of them, but not of more than there are."""
    if (found := _FIGURE.search(text)) and int(found[1]) != people:
        return [f"{found[0]!r}, but the record has {people} people"]
    if (found := _MANY.search(text)) and people < 2:
        return [f"{found[0]!r}, but the record has {people} {'person' if people == 1 else 'people'}"]
    sentences = sentences_of(text)
    for position, sentence in enumerate(sentences):
        stated = False  # one sentence states the total once: "There are two people, one person …"
        for found in _PEOPLE.finditer(sentence):
            word = found["number"].lower()
            number = int(word) if word.isdigit() else _NUMBERS[word]
            plural = re.fullmatch(_PLURAL, found["noun"], re.IGNORECASE)
            if word in ("a", "an", "single", "a single", "no") and bool(plural) != (word == "no"):
                continue  # "a people"
            total = not stated and (
                _STATED.search(sentence[: found.start()])
                or (position == 0 and (plural or sentence[: found.start()].strip() in ("", "In the image,")))
            )
            stated = stated or bool(total)
            if found["least"] or found["other"]:
                wrong = number > people - bool(found["other"])
            elif total and not _OF_ONE_AMONG_OTHERS.match(sentence[found.end() :]):
                wrong = number != people
            else:
                wrong = number > people
            if wrong:
                said = " ".join(found[0].split())
                return [f"{said!r}, but the record has {people} {'person' if people == 1 else 'people'}"]
    return []
