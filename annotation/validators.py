"""Reasons to refuse a description that a language model wrote.

`check` reads the text alone and against its record. It is made to be right when it refuses: what is vague,
hedged, or says nothing that can be judged passes. What a text claims about limbs is read by `claims.py`
and judged by `verdicts.py`; this module holds everything else.
"""

from __future__ import annotations

import functools
import operator
import re
from collections import Counter
from typing import NamedTuple

from annotation import verdicts
from annotation.describers import opening
from annotation.records import ImageRecord


class Review(NamedTuple):
    """reasons: why a description is refused, each one short: "KIND: what". gendered: its gendered words, in
    their order. judged: how its claims fare. sentences: their words."""

    reasons: list[str]
    gendered: list[str]
    judged: verdicts.Judged
    sentences: list[list[str]]


def check(text: str, record: ImageRecord) -> list[str]:
    """Why `text` is no usable description of `record`; empty where it is one. About a millisecond, no I/O."""
    return review(text, record).reasons


def review(text: str, record: ImageRecord) -> Review:
    judged = verdicts.judge(text, record)
    if not text.strip():
        return Review(["empty"], [], judged, [])
    own_text = without_label(text, record.category, record.activity)
    said = [words(sentence) for sentence in sentences_of(text)]
    sentences = said if own_text == text else [words(sentence) for sentence in sentences_of(own_text)]
    people = len(record.people)
    gendered = [word for sentence in sentences for word in sentence if word in _GENDERED]
    reasons = [
        *_truncated(text),
        *_refusal(own_text),
        *_chatter(own_text),
        *_template(own_text),
        *_coordinates(own_text),
        *_repetition(sentences, people),
        *[f"gendered word: {word}" for word in sorted(set(gendered))],
        *(_people_count(sentences, people) if record.people_complete else ()),
        *[f"contradicts the joints: {claim.words}" for claim in judged.contradicted],
    ]
    return Review(reasons, gendered, judged, [sentence for sentence in said if sentence])


# ---------------------------------------------------------------------------------------------------- words


def sentences_of(text: str) -> list[str]:
    """The sentences of a text without the marks between them; a line is one at least."""
    return [s for s in re.split(r"[.!?]+[\"'”’)]*\s+|\n+", text) if s.strip()]


def words(text: str) -> list[str]:
    """Lower-case words: letters and digits, with the apostrophes and hyphens inside them."""
    return re.findall(r"[a-z0-9]+(?:['-][a-z0-9]+)*", text.lower().replace("’", "'"))


def without_label(text: str, category: str, activity: str) -> str:
    """`text` with the source's own activity and category replaced by "that".

    "Women's gymnastics" is not the model's wording, and the "two" of "two person kayak" counts nobody. Only
    the parts between commas go, as they stand, so that a model that rephrases answers for its words.
    """
    label = _label_pattern(category, activity)
    return label.sub("that", text) if label else text


@functools.lru_cache(maxsize=4096)
def _label_pattern(category: str, activity: str) -> re.Pattern[str] | None:
    said = {part.strip(" .;") for part in re.split(r"[,;()]", f"{category}, {activity}")}
    # A label of one short word ("man") would hide that word everywhere.
    parts = sorted((p for p in said if len(p) > 5 or p.isdecimal()), key=len, reverse=True)
    if not parts:
        return None
    # Data sets write "riding_a_bike" and "children_s games".
    part = "|".join(re.escape(part).replace("_", "[_ '’]") for part in parts)
    return re.compile(rf"\b(?:{part})(?:[,;() ]+(?:{part}))*(?!\w)", re.IGNORECASE)


# --------------------------------------------------------------------------------------- ends and refusals

_DANGLING = re.compile(
    r"\b(?:a|an|the|of|and|or|with|to|from|at|than|their|while|which)[.!?]\W*$", re.IGNORECASE
)


def _truncated(text: str) -> list[str]:
    tail = text.rstrip()[-40:]
    end = tail.rstrip("\"'”’)*_` \n")
    if end.endswith((".", "!", "?")) and not end.endswith("..") and not _DANGLING.search(end):
        return []
    return [f"cut off: ends in {tail[-20:]!r}"]


_REFUSALS = (
    *(" i'm sorry", " i am sorry", " i'm unable", " i am unable", " i'm not able", " i am not able"),
    *(" i cannot", " i can't", " i can not", " i won't", " i apologi", " i do not have", " i don't have"),
    *("my apologies", " sorry, ", "please provide", "could you provide"),
)


def _refusal(text: str) -> list[str]:
    lower = f" {text.lower()}".replace("’", "'").replace("\n", " ")
    found = next((phrase for phrase in _REFUSALS if phrase in lower), None)
    return [f"refusal: {found.strip(' ,')!r}"] if found else []


# ------------------------------------------------------------------------------------------ talk around it

_WORKS = "description|caption|paragraph|summary|answer|response|analysis|breakdown|overview|version|output"
_WORK = f"(?:{_WORKS})"
# What a model says before the caption: that it will, that it does, or what the caption is.
_OPENING = re.compile(
    r"\W*(?:"
    r"(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|alright|got it|understood|great|no problem"
    r"|hello|hi|thanks|thank you)\b(?=[ ]?[!,.:–—-]| (?:for|here|i|let|to)\b)"
    r"|(?:here(?:'s| is| are)|below (?:is|are)|the following (?:is|are)|this is)"
    rf"(?: (?!(?:person|people|individual|figure|some(?:one|body))s? )[\w'-]+){{0,6}}? {_WORK}s?\b"
    r"|let(?:'s| me| us)\b|i(?:'ll|'d| will| would)\b"
    rf"|(?:#+ )?(?:[a-z-]+ ){{0,3}}{_WORK}\W{{0,3}}:"
    r")"
)
# What it says behind or in between: of itself, of its text, and to whoever asked.
_ASIDE = re.compile(
    r"\bas an ai\b|\bas an? (?:\w+ )?language model\b|\bas an artificial\b"
    r"|\b(?:i )?hope (?:this|that|it|these|my)\b|\blet me know\b|\bfeel free\b|\bhesitate to\b"
    r"|\bhappy to (?:help|assist|adjust|refine|revise|provide)\b|\banything else\b"
    r"|\b(?:would|do) you (?:like|want|need)\b"
    r"|\bif you(?:'d| would|'ve| have)? (?:like|need|want|any|more|provide)"
    r"|\byou(?:'ve| have)? (?:provided?|gave|given|supplied|asked|requested|shared)\b"
    r"|\byour (?:request|question|prompt|instructions?|input|data|template)\b|\bas (?:requested|instructed)\b"
    rf"|\b(?:this|my|the above|the) {_WORK} (?:is|was|captures?|provides?|aims?|follows?|adheres?|avoids?"
    r"|includes?|contains?|uses?|does|should|above|below|has|assumes?|focus(?:es)?)\b"
    r"|\bnote that (?:this|these|the|my|i) (?:\w+ )?(?:description|caption|data|coordinate|keypoint)s?\b"
    r"|\bword count\b"
)

# Every aside holds one of these. Looking for them first takes a hundredth of the time.
_IN_ASIDES = (
    *("you", "hope", "let me know", "feel free", "hesitate", "happy to", "anything else", "as an", "as a "),
    *("as requested", "as instructed", "note that", "word count"),
    *_WORKS.split("|"),
)


def _chatter(text: str) -> list[str]:
    """ "Sure, here is a description:", "I hope this helps!": a text encoder would learn it like the rest."""
    lower = text.lower().replace("’", "'")
    found = _OPENING.match(lower)
    if not found and any(word in lower for word in _IN_ASIDES):
        found = _ASIDE.search(lower)
    return [f"chatter: {' '.join(found[0].split()).strip(' ,:*#')[:60]!r}"] if found else []


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
    if not any(mark in text for mark in "${}<[(_"):
        return []
    found = _TEMPLATE.search(text)
    return [f"template: {found[0]!r}"] if found else []


_COORDINATES = re.compile(
    r"[\[(]\s*-?\d+(?:\.\d+)?\s*,\s*-?\d+(?:\.\d+)?\s*[,\])]"  # [412, 305]
    r"|\bkpts?\b|\b(?:joint|keypoint)s?\s?\[?(?:number |index |indices |#)?\d+|\bindex \d+"
    r"|\b[xy]\s*[=:]\s*-?\d+|\b[xy][- ](?:coordinate|value|position)s?\b"
    r"|\b\d+(?:\.\d+)?\s*(?:px|pixels?)\b"
    r"|\bscale (?:of |is |factor |: ?)+\d"
    # A number of three digits or more is a pixel position, unless it counts degrees.
    r"|(?<![\w.,-])\d{3,}(?:\.\d+)?\b(?!\s*(?:-|–|to |and )?\s*(?:\d+\s*)?-?\s*(?:degree|°))",
    re.IGNORECASE,
)


def _coordinates(text: str) -> list[str]:
    if not re.search(r"\d|kpt|[xyXY][- ](?:coord|val|pos)", text):
        return []
    found = _COORDINATES.search(text)
    return [f"raw coordinates: {found[0]!r}"] if found else []


# ----------------------------------------------------------------------------------------------- repetition

_LONGEST_LOOP = 12  # words
_LOOP = re.compile(rf"(.{{1,{_LONGEST_LOOP}}})\1\1", re.DOTALL)  # where a word is one character


def _repetition(sentences: list[list[str]], people: int) -> list[str]:
    """A phrase said three times on end, or a sentence said more often than there are people."""
    counted = Counter(tuple(sentence) for sentence in sentences if len(sentence) >= 4)
    for sentence, times in counted.most_common(1):
        if times > max(1, people):
            return [f"repetition: {times} times {' '.join(sentence)[:60]!r}"]
    tokens = [word for sentence in sentences for word in sentence]
    numbers: dict[str, int] = {}
    if not _LOOP.search("".join([chr(256 + numbers.setdefault(word, len(numbers))) for word in tokens])):
        return []
    for period in range(1, _LONGEST_LOOP + 1):
        again = list(map(operator.eq, tokens, tokens[period:]))
        if sum(again) < 2 * period:
            continue
        run = 0
        for at, same in enumerate(again):
            run = run + 1 if same else 0
            if run == 2 * period:
                return [f"repetition: three times on end {' '.join(tokens[at + 1 : at + 1 + period])!r}"]
    return []


# --------------------------------------------------------------------------------------------------- gender

# fmt: off
_GENDERED = {
    "he", "she", "him", "his", "her", "hers", "himself", "herself", "man", "men", "woman", "women", "boy",
    "boys", "girl", "girls", "male", "males", "female", "females", "lady", "ladies", "gentleman",
    "gentlemen", "guy", "guys", "mother", "mothers", "father", "fathers", "mom", "dad", "son", "sons",
    "daughter", "daughters", "brother", "brothers", "sister", "sisters", "husband", "wife", "masculine",
    "feminine", "fisherman", "fireman", "salesman", "policeman", "cameraman", "horseman", "craftsman",
    "batsman", "sportsman", "sportswoman",
}
# fmt: on
_GENDERED |= {f"{word}'s" for word in _GENDERED}


# -------------------------------------------------------------------------------------------- people counted

_SINGULAR = {"person", "individual", "human", "figure", "subject", "participant", "player", "athlete"}
# fmt: off
_PLURAL = {
    "people", "persons", "individuals", "humans", "figures", "subjects", "participants", "players",
    "athletes", "performers", "dancers", "riders", "cyclists", "runners", "adults", "children", "kids",
    "friends", "workers",
}
# fmt: on
_NUMBERS = {opening.number(n): n for n in range(100)}
_NUMBERS |= {"no": 0, "a": 1, "an": 1, "single": 1, "both": 2, "couple": 2, "pair": 2, "trio": 3}
_SEVERAL = {"several", "multiple", "various", "numerous", "many", "group", "crowd"}
_NOT_ADJECTIVES = {"the", "in", "on", "and", "or", "is", "are", "to", "with", "leg", "arm", "this", "that"}
_OTHERS = {"other", "others", "more", "additional", "another"}
_SHOWS = {"there", "shows", "depicts", "contains", "features", "includes", "has", "captures", "displays"}
_SHOWS |= {"presents", "see", "show", "depict"}
_BETWEEN = {"is", "are", "exactly", "only", "just", "total", "of", "a", "group", "totally", "visible", "s"}


def _people_count(sentences: list[list[str]], people: int) -> list[str]:
    """The first sentence, and any that begins "there are", says how many are there; another number may be
    about some of them, but not about more than there are."""
    for position, sentence in enumerate(sentences):
        stated = False  # a sentence states the total once: "There are two people, one person …"
        for at, noun in enumerate(sentence):
            if noun not in _PLURAL and noun not in _SINGULAR:
                continue
            start = _count_before(sentence, at)
            if start is None:
                continue
            before, said = sentence[:start], sentence[start : at + 1]
            if said[0] in _SEVERAL:
                wrong = people < 2
            else:
                number = int(said[0]) if said[0].isdecimal() else _NUMBERS[said[0]]
                if number > 1 if noun in _SINGULAR else said[0] in ("a", "an"):
                    continue  # "two person kayak", "a few people"
                total = not stated and (
                    _says_there_are(before)
                    or (position == 0 and (noun in _PLURAL or before in ([], ["in", "the", "image"])))
                )
                stated |= total
                if _OTHERS & set(said):
                    wrong = number > people - 1
                elif before[-2:] in (["at", "least"], ["more", "than"]) or not total:
                    wrong = number > people
                else:
                    wrong = number != people and not _is_one_among_others(number, sentence[at + 1 :])
            if wrong:
                counted = "1 person" if people == 1 else f"{people} people"
                return [f"people miscounted: {' '.join(said)!r}, but the record has {counted}"]
    return []


def _count_before(sentence: list[str], at: int) -> int | None:
    """Where the number is that counts the noun at `at`: "two (2) young people", "a couple of people"."""
    for start in range(at - 1, max(at - 4, -1), -1):
        word = sentence[start]
        if word in _NUMBERS or word in _SEVERAL or word.isdecimal():
            is_a_single = start > 0 and sentence[start - 1] in ("a", "an")
            return start - is_a_single
        if word in _NOT_ADJECTIVES:
            return None
    return None


def _says_there_are(before: list[str]) -> bool:
    at = len(before)
    while at and before[at - 1] in _BETWEEN:
        at -= 1
    return bool(at) and (before[at - 1] in _SHOWS or before[at - 1] == "there's")


def _is_one_among_others(number: int, after: list[str]) -> bool:
    """ "There is one person on the left and …" """
    return number == 1 and (after[:1] in (["of"], ["on"]) or after[2:3] in (["foreground"], ["background"]))
