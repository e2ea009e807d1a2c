"""What a description in free prose claims about arms and legs.

The reader knows how descriptions are usually worded ("The left arm is bent at the elbow, with the wrist
above the shoulder", "both knees slightly bent", "a raised right hand") and reads nothing into the rest:
hedged ("might be bent"), negated and comparative statements are no claims, nor is anything said of a limb
that it cannot tell from the other. It does not look at joints; `verdicts.py` does.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

LEFT, RIGHT, BOTH, ONE = "left", "right", "both", "one"  # ONE: of the two, the text does not say which


class Part(NamedTuple):
    """A part of the body with its side (LEFT, RIGHT, BOTH, ONE; "" for the head and other middles)."""

    side: str
    name: str  # "arm", "elbow", "hand", "leg", "knee", "foot", "shoulder", "hip", "head", …


class Claim(NamedTuple):
    """`part` is `says` (`than`, for a relation to another part).

    says: "bent", "slightly bent", "sharply bent", "bent at N" (degrees), "straight", "nearly straight",
        "extended", "raised", "lowered", "carries the weight", and the relations to `than`: "above", "below",
        "level with", "near".
    person: None where the text does not say of whom it speaks.
    words: the claim in plain words.
    """

    person: Person | None
    part: Part
    says: str
    than: Part | None
    words: str


class Person(NamedTuple):
    """Of whom a text speaks, counted from 1.

    how: "id" ("person 2", as the data may number them), "ordinal" ("the second person") or "turn" ("the
        person in the centre", where the text comes to its second person).
    """

    number: int
    how: str


# ------------------------------------------------------------------------------------------------ vocabulary

_PARTS = {
    **dict.fromkeys(("arm", "arms"), "arm"),
    **dict.fromkeys(("elbow", "elbows"), "elbow"),
    **dict.fromkeys(("hand", "hands", "wrist", "wrists"), "hand"),
    **dict.fromkeys(("leg", "legs"), "leg"),
    **dict.fromkeys(("knee", "knees"), "knee"),
    **dict.fromkeys(("foot", "feet", "ankle", "ankles"), "foot"),
    **dict.fromkeys(("shoulder", "shoulders"), "shoulder"),
    **dict.fromkeys(("hip", "hips"), "hip"),
    **dict.fromkeys(("head", "face"), "head"),
    **dict.fromkeys(("waist", "waistline"), "waist"),
    **dict.fromkeys(("chest",), "chest"),
}
# Nothing is claimed of these, but what follows them is about them and not about the limb named before.
_OTHERS = (
    r"(?:upper|lower) (?:arm|leg|body|limb)s?|forearms?|thighs?|shins?|calf|calves|torso|trunk|body|bodies"
    r"|necks?|backs?|spines?|pelvis|heels?|toes?|fingers?|chins?|eyes?|gaze|posture|stance|pose|persons?"
    r"|individuals?|people|subjects?|they|movement|position"
)
_LIMB_OF = dict.fromkeys(("arm", "elbow", "hand"), "arm") | dict.fromkeys(("leg", "knee", "foot"), "leg")
_PLURALS = ("arms", "elbows", "hands", "wrists", "legs", "knees", "feet", "ankles", "shoulders", "hips")

_NAMES = "|".join(sorted(_PARTS, key=len, reverse=True))
_SIDES = (
    r"both(?: of)?(?: the(?:ir)?)?(?: left and right)?|left and right|left|right"
    r"|two|one|each|either|other|opposite"
)
_ADJECTIVES = {
    "bent": "bent",
    "straight": "straight",
    "extended": "extended",
    "outstretched": "extended",
    "raised": "raised",
    "lifted": "raised",
    "lowered": "lowered",
}
_WHO = r"(?:person|individual|figure|player|subject)"
_MANY = r"(?:person|individual|figure|player)s?|people"
_PERSON = (
    rf"(?P<ordinal>first|second|third|fourth|fifth|sixth) (?:{_WHO}|one)\b"
    rf"|{_WHO} #?(?P<number>\d+|one|two|three|four|five|six)\b"
    rf"|(?:one|another|others?|each|every|both|all|two|last|these|some) (?:of the )?(?:\w+ )?(?:{_MANY})\b"
    r"|everyone\b|everybody\b|(?P<place>(?:person|individual) (?:located |positioned |standing |sitting )?"
    r"(?:on|in|at|to|near|closest|nearest|furthest|behind|slightly))\b"
)
# "the right is bent", "than the left one"; not "to the right".
_ALONE = (
    r"(?<=the )(?<!to the )(?<!on the )(?<!at the )(?<!from the )(?<!wards the )(?<!toward the )"
    r"(?P<alone>left|right)(?: one\b|(?=[,.;]|$| (?:is|are|remains?|appears?|seems?|hangs?|stays?|being|also"
    r"|slightly|bent|straight|raised|lowered)\b))"
)
_MENTION = (
    rf"(?:(?P<side>{_SIDES}) )?(?:(?:(?P<adjective>{'|'.join(_ADJECTIVES)}) )?(?P<name>{_NAMES})\b(?!-| side)"
    rf"(?P<height> (?:height|level))?|(?P<ignored>{_OTHERS})\b)|{_ALONE}"
)
_RELATION = (
    r"(?:above|higher than|below|beneath|underneath|lower than|near|close to|next to|on|touching|level with"
    r"|in line with|at the same (?:height|level) as|at (?:about )?the (?:height|level) of)\b"
)
_RELATIONS = {"above": "above", "higher than": "above", "lower than": "below"}
_RELATIONS |= dict.fromkeys(("below", "beneath", "underneath"), "below")
_RELATIONS |= dict.fromkeys(("near", "close to", "next to", "on", "touching"), "near")
# How far, which way, at which joint: "bent at a sharp angle", "bent to about 90 degrees", "bent at the knee".
_BENT = (
    r"(?:bent|flexed|bend|bends|bending|folded)\b(?:[ -](?:at|to|in|by|into|with|about|an?|almost|around"
    r"|approximately|roughly|sharp|acute|right(?=[ -]angle)|obtuse|wide|slight|deep|tight|angles?|close"
    r"|nearly|near|\d+°?|ninety|degrees?|\w+ly"
    r"|(?:the |their |its )?(?:elbow|knee|joint)s?(?= (?:at|to|with an?|in an?) ))(?![a-z]))*"
)
_STRAIGHT = (
    r"(?:straight(?:ened)?(?! (?:up|down|ahead|forward|out|line|back|above|below|into|toward|from|in)\w*)"
    r"|(?:fully|completely) (?:extended|stretched)(?! (?:up|down)))\b"
)
_REACHES = (
    r"(?:points?|pointing|exten(?:ds?|ded|ding)|reach(?:es|ing)|stretch(?:es|ed)|straight|held|held straight)"
)
_LOWERED = (
    rf"(?:lower(?:ed|s|ing)|hang(?:ing|s)?|dangl(?:ing|es)|{_REACHES} down(?:ward)?s?|(?<=is )down"
    r"|(?<=are )down|down (?:by|at|along)|(?:at|by|along) (?:the|their|its)(?: respective)? sides?(?! of))\b"
)
_RAISED = (
    rf"(?:rais(?:ed?|es|ing)|lift(?:ed|s|ing)?|elevated|upraised|overhead|{_REACHES} up(?:ward)?s?"
    r"|(?<=is )up|(?<=are )up|held high|(?:high|up) in the air)\b"
)
_EXTENDED = r"(?:exten(?:d|ds|ded|ding)|outstretched|stretch(?:es|ed|ing)(?: out)?)\b"
_ITEM = re.compile(
    rf"(?P<person>{_PERSON})|(?P<relation>{_RELATION})|(?P<mention>{_MENTION})|(?P<bent>{_BENT})"
    rf"|(?P<straight>{_STRAIGHT})|(?P<lowered>{_LOWERED})|(?P<raised>{_RAISED})|(?P<extended>{_EXTENDED})"
)
# Every word that an item can begin with. The pattern is tried there only, which reads several times as fast.
_WORD = re.compile(r"[a-z]+")
# fmt: off
_BEGINNINGS = frozenset(_PARTS) | {
    "first", "second", "third", "fourth", "fifth", "sixth", "person", "individual", "figure", "player",
    "subject", "one", "another", "other", "others", "each", "every", "both", "all", "two", "last", "these",
    "some", "everyone", "everybody", "left", "right", "either", "opposite", "above", "higher", "below",
    "beneath", "underneath", "lower", "near", "close", "next", "on", "touching", "level", "in", "at",
    "upper", "bent", "flexed", "bend", "bends", "bending", "folded", "straight", "straightened", "fully",
    "completely", "lowered", "lowers", "lowering", "hang", "hanging", "hangs", "dangling", "dangles",
    "point", "points", "pointing", "extend", "extends", "extended", "extending", "reaches", "reaching",
    "stretch", "stretches", "stretched", "held", "down", "by", "along", "raise", "raised", "raises",
    "raising", "lift", "lifted", "lifts", "lifting", "elevated", "upraised", "overhead", "up", "high",
    "outstretched", "stretching", "forearm", "forearms", "thigh", "thighs", "shin", "shins", "calf",
    "calves", "torso", "trunk", "body", "bodies", "neck", "necks", "back", "backs", "spine", "spines",
    "pelvis", "heel", "heels", "toe", "toes", "finger", "fingers", "chin", "chins", "eye", "eyes", "gaze",
    "posture", "stance", "pose", "persons", "individuals", "people", "subjects", "they", "movement",
    "position",
}
# fmt: on
_WEIGHT = re.compile(
    r"\b(?:stand|balanc|support|weight|hopp?)\w*(?: \w+){0,4}? (?:on|by) (?:the |their |its )?(left|right)"
    r" (?:leg|foot)\b"
)
# Of which parts a word is understood. A raised elbow or a straight wrist is left alone.
_SAID_OF = {
    **dict.fromkeys(("bent", "straight", "extended"), ("arm", "elbow", "leg", "knee")),
    "raised": ("arm", "hand", "leg", "knee", "foot"),
    "lowered": ("arm", "hand", "leg", "foot"),
}

# What stands before a word and takes it back, and what stands between two words that belong together.
_NOT_SAID = re.compile(
    r"\b(?:not|no|nor|never|neither|without|may|might|could|can|would|should|possibly|perhaps|maybe|or|if"
    r"|likely|potentially|probably|presumably|unclear|whether|barely|hardly|more|less|about to|ready to"
    r"|(?<!appear )(?<!appears )(?<!seem )(?<!seems )to be)\b|n't\b"
)
_CLAUSE_STARTS = (",", ":", "(", " but ", " while ")
_ARTICLES = ("the", "their", "its", "same", "a", "an")
# fmt: off
_PREPOSITIONS = {
    "at", "from", "of", "on", "onto", "to", "toward", "towards", "against", "around", "behind", "between",
    "as", "than", "by", "across", "past", "beyond", "along", "beside", "through", "upon", "into", "off",
    "outside", "inside",
}
# fmt: on
_AT = re.compile(r"\b(?:at|to)(?: about| around| roughly)?(?: the| their)? $")
_GOES_ON = re.compile(r",? (?:which|that) ")
_TO_OBJECT = re.compile(r"^ ?(?:(?:the|their|its|level of|height of|that of|person's|respective|same) )*$")
_IN_LIST = re.compile(r"^(?:,? and|,| as well as)(?: the| their)? $")
_TO_NEXT = re.compile(r"^ (?:the |their |its |an? )?$")
_BEND_TO_NEXT = re.compile(r"^ (?:(?:in|at|of|to) )?(?:the |their |its |an? )?$")
_NOT_HIGH = re.compile(
    r"(?: up)?(?: slightly| partially)"
    r"|(?: up)?(?: \w+)? (?:to|at|in front|forward|towards?|near|close|across)\b"
)
_NEARLY = re.compile(r"almost|near|most|fair|relative|somewhat|quite|slight")
_DIGITS = re.compile(r"\d+")
_RIGHT_ANGLE = re.compile(r"\bright[ -]angle|\bninety")
_SLIGHTLY = re.compile(r"slight|little|a bit|gentl|soft|somewhat|wide|obtuse|partial|small")
_SHARPLY = re.compile(r"sharp|acute|tight|deep")
_SENTENCE_END = re.compile(r"[.!?;]+\s+|\n+")
_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6}


# --------------------------------------------------------------------------------------------------- reading


def read(text: str) -> list[Claim]:
    """All claims of a text, in its order."""
    claims: list[Claim] = []
    person, turns = None, 0
    for sentence in _SENTENCE_END.split(_plain(text)):
        read, person, turns = _read_sentence(sentence, person, turns)
        claims += read
    return claims


@functools.lru_cache(maxsize=16384)  # captions of templates, and those of one image, repeat sentences
def _read_sentence(
    sentence: str, person: Person | None, turns: int
) -> tuple[tuple[Claim, ...], Person | None, int]:
    """Its claims; then whom, and how many people, the text has come to by its end."""
    reader = _SentenceReader(sentence, person, turns)
    read = () if "respectively" in sentence else tuple(reader.read())
    return read, reader.person, reader.turns


def _plain(text: str) -> str:
    """Lower case, one kind of apostrophe, and "their" for "the person's"."""
    text = text.lower().replace("’", "'").replace("*", "").replace("'s own ", "'s ")
    for owner in ("person", "individual", "subject"):
        text = text.replace(f"the {owner}'s ", "their ")
    return text


def _items(sentence: str) -> list[re.Match[str]]:
    """What the sentence says that matters here, in its order and without overlaps."""
    items: list[re.Match[str]] = []
    end = 0
    for word in _WORD.finditer(sentence):
        if word.start() >= end and word[0] in _BEGINNINGS:
            item = _ITEM.match(sentence, word.start())
            if item:
                items.append(item)
                end = item.end()
    return items


class _SentenceReader:
    """One pass over a sentence's items: parts become subjects, and what is said is said of them."""

    def __init__(self, sentence: str, person: Person | None, turns: int):
        self.sentence = sentence
        self.person = person
        self.turns = turns  # how many people the text has come to by their place
        self._items = _items(sentence)
        self._subjects: list[Part] = []
        self._subject_item = -1  # the item that named the last subject
        self._sided: dict[str, str] = {}  # limb → side it was last named with, for "with the elbow bent"
        self._last_name = ""
        self._claims: list[Claim] = []

    def read(self) -> list[Claim]:
        for found in _WEIGHT.finditer(self.sentence):
            self._claim(Part(found[1], "leg"), "carries the weight", None, found)
        skip = -1
        for n, item in enumerate(self._items):
            if n == skip:
                continue
            kind = item.lastgroup or ""  # every alternative of the pattern is a group
            if kind == "person":
                self.person = self._whose_turn(item) if item["place"] else _which_person(item)
                self._subjects = []
            elif kind == "relation":
                skip = self._relation(n)
            elif kind == "mention":
                self._mention(n)
            else:
                self._predicate(n, kind)
        return self._claims

    def _whose_turn(self, item: re.Match[str]) -> Person | None:
        """ "The person in the centre" at the start of a sentence introduces the next; elsewhere, anybody."""
        if self.sentence[: item.start()].strip() not in ("the", "another", "one"):
            return None
        self.turns += 1
        return Person(self.turns, "turn")

    def _relation(self, n: int) -> int:
        """ "… above the head": claims it of the subjects. Returns the item that was its object, or -1."""
        if n + 1 == len(self._items):
            return -1
        item, other = self._items[n : n + 2]
        if not other["mention"] or not _TO_OBJECT.match(self._gap(n + 1)):
            return -1
        than = self._object(other)
        for subject in self._subjects:
            if than and (item[0] != "on" or subject.name == "hand"):
                self._claim(subject, _RELATIONS.get(item[0], "level with"), than, item)
        return n + 1

    def _mention(self, n: int) -> None:
        item = self._items[n]
        before = self.sentence[max(0, item.start() - 40) : item.start()]
        if item["height"]:  # "at shoulder height"; "between shoulder and hip height" says nothing here
            for subject in self._subjects if _AT.search(before) else ():
                self._claim(subject, "level with", Part("", _PARTS[item["name"]]), item)
            return
        in_list = bool(self._subjects) and n - 1 == self._subject_item and _IN_LIST.match(self._gap(n))
        goes_on = _GOES_ON.match(self.sentence, item.end())
        preposition = _preposition(before)
        if preposition == "of" and n - 1 == self._subject_item and item["side"] in (LEFT, RIGHT):
            self._subjects[-1:] = [Part(item["side"], part.name) for part in self._subjects[-1:]]
            return  # "the elbow of the left arm"
        if preposition and not goes_on and not in_list:
            return
        part = self._part(item)
        self._subjects = [*(self._subjects if in_list else ()), *([part] if part else ())]
        self._subject_item = n
        if part and item["adjective"]:
            self._state(part, _ADJECTIVES[item["adjective"]], item)

    def _predicate(self, n: int, kind: str) -> None:
        item = self._items[n]
        if kind in ("raised", "lowered") and _NOT_HIGH.match(self.sentence, item.end()):
            return
        follows = self._items[n + 1] if n + 1 < len(self._items) else None
        gap = _BEND_TO_NEXT if kind == "bent" else _TO_NEXT
        if follows and follows["mention"] and not follows["height"] and gap.match(self._gap(n + 1)):
            part = self._part(follows)
            if part and part.name in _SAID_OF[kind]:
                self._state(part, kind, item)
                return
        for subject in self._subjects:
            self._state(subject, kind, item)

    def _state(self, part: Part, kind: str, item: re.Match[str]) -> None:
        """Claim one of bent, straight, extended, raised and lowered, as strong as the words around say."""
        if part.name not in _SAID_OF[kind]:
            return
        if (
            kind == "raised"
            and _LIMB_OF[part.name] == "leg"
            and self.sentence.startswith(" above", item.end())
        ):
            return  # how high, the relation says
        before = self.sentence[max(0, item.start() - 30) : item.start()]
        adverbs = before.rpartition(",")[2].split()[-2:]
        words = " ".join((*adverbs, item[0]))
        if kind == "bent":
            self._claim(part, _how_bent(words), None, item)
        elif kind == "straight" and _NEARLY.search(words):
            self._claim(part, "nearly straight", None, item)
        elif "slightly" not in words and "partial" not in words:
            self._claim(part, kind, None, item)

    def _claim(self, part: Part, says: str, than: Part | None, item: re.Match[str]) -> None:
        clause = self.sentence[max(0, item.start() - 60) : item.start()]
        for mark in _CLAUSE_STARTS:
            clause = clause.rpartition(mark)[2]
        is_taken_back = _NOT_SAID.search(clause + item[0]) or self.sentence.startswith(" or ", item.end())
        if not is_taken_back:
            name = part.name if part.side != BOTH else "feet" if part.name == "foot" else f"{part.name}s"
            words = " ".join(word for word in (part.side, name, says, *(than or ())) if word)
            claim = Claim(self.person, part, says, than, words)
            if claim not in self._claims:
                self._claims.append(claim)

    def _gap(self, n: int) -> str:
        return self.sentence[self._items[n - 1].end() if n else 0 : self._items[n].start()]

    def _object(self, item: re.Match[str]) -> Part | None:
        """The part that a relation leads to; its side is "" unless the text says it."""
        if item["alone"]:
            return Part(item["alone"], self._last_name) if self._last_name else None
        side = item["side"] if item["side"] in (LEFT, RIGHT) else ""
        return Part(side, _PARTS[item["name"]]) if item["name"] else None

    def _part(self, item: re.Match[str]) -> Part | None:
        """The part that may become a subject; None where nothing can be claimed of it."""
        if item["alone"]:
            return Part(item["alone"], self._last_name) if self._last_name else None
        if not item["name"]:
            return None
        name, said = _PARTS[item["name"]], item["side"]
        limb = _LIMB_OF.get(name, name)
        self._last_name = name
        if said in (LEFT, RIGHT):
            side = said
        elif said in ("other", "opposite", "either"):
            side = {LEFT: RIGHT, RIGHT: LEFT}.get(self._sided.get(limb, "")) if said != "either" else None
        elif item["name"] in _PLURALS or said == "each":
            side = BOTH
        else:
            side = ONE if said else self._sided.get(limb, ONE)
        if side is None:
            return None
        if side != ONE:
            self._sided[limb] = side
        return Part(side, name)


def _preposition(before: str) -> str:
    """The preposition that `before` ends in, but for articles; "" where there is none."""
    words = before.split()[-4:]
    while words and words[-1] in _ARTICLES:
        words.pop()
    return words[-1] if words and words[-1] in _PREPOSITIONS else ""


def _which_person(item: re.Match[str]) -> Person | None:
    if item["number"]:
        number = item["number"]
        return Person(_NUMBERS.get(number) or int(number), "id")
    if item["ordinal"]:
        ordinal = item["ordinal"]
        return Person(_ORDINALS[ordinal], "ordinal")
    return None


def _how_bent(words: str) -> str:
    if degrees := _DIGITS.search(words):
        return f"bent at {degrees[0]}"
    if _RIGHT_ANGLE.search(words):
        return "bent at 90"
    if _SLIGHTLY.search(words):
        return "slightly bent"
    return "sharply bent" if _SHARPLY.search(words) else "bent"
