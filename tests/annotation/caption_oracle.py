"""Reads captions of the geometry describer back and checks every claim against the joints.

Written apart from the describer: it shares no code, phrase table or threshold with it. It has its own
grammar, its own body proportions and its own geometry, and it takes words at their plain meaning without
the describer's margins, with some slack where a word is vague ("near", "level with").
What it cannot read counts as wrong.
"""

import re

import numpy as np

R_ANKLE, R_KNEE, R_HIP, L_HIP, L_KNEE, L_ANKLE, PELVIS, THORAX, NECK, TOP = range(10)
R_WRIST, R_ELBOW, R_SHOULDER, L_SHOULDER, L_ELBOW, L_WRIST = range(10, 16)
JOINT = {
    "left": {
        "hip": L_HIP,
        "knee": L_KNEE,
        "foot": L_ANKLE,
        "shoulder": L_SHOULDER,
        "elbow": L_ELBOW,
        "hand": L_WRIST,
    },
    "right": {
        "hip": R_HIP,
        "knee": R_KNEE,
        "foot": R_ANKLE,
        "shoulder": R_SHOULDER,
        "elbow": R_ELBOW,
        "hand": R_WRIST,
    },
}
OTHER = {"left": "right", "right": "left"}
# Length over trunk length.
LIMBS = (
    (PELVIS, THORAX, 1.0), (NECK, TOP, 0.55), (L_SHOULDER, R_SHOULDER, 0.75), (L_SHOULDER, L_ELBOW, 0.6),
    (R_SHOULDER, R_ELBOW, 0.6), (L_ELBOW, L_WRIST, 0.5), (R_ELBOW, R_WRIST, 0.5), (L_HIP, L_KNEE, 0.85),
    (R_HIP, R_KNEE, 0.85), (L_KNEE, L_ANKLE, 0.85), (R_KNEE, R_ANKLE, 0.85),
)  # fmt: skip
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "ten": 10, "fourteen": 14}
NOWHERE = np.full(2, np.nan)


class Body:
    """One person's joints, y pointing up; NaN (and with it every comparison False) where missing."""

    def __init__(self, person):
        self.at = np.where((person.visibility > 0)[:, None], person.joints, np.nan) * (1, -1)
        lengths = np.array([np.linalg.norm(self.at[a] - self.at[b]) / n for a, b, n in LIMBS])
        lengths = lengths[np.isfinite(lengths)]
        self.largest = lengths.max(initial=0.0)
        self.median = np.median(lengths) if len(lengths) else np.nan
        known = self.at[np.isfinite(self.at).all(1)]
        self.diagonal = np.linalg.norm(np.ptp(known, axis=0)) if len(known) else 0.0
        self.hips = self._or_middle(PELVIS, L_HIP, R_HIP)
        self.chest = self._or_middle(THORAX, L_SHOULDER, R_SHOULDER)

    def _or_middle(self, joint, left, right):
        return self.at[joint] if np.isfinite(self.at[joint]).all() else (self.at[left] + self.at[right]) / 2

    def point(self, side, name):
        return self.at[JOINT[side][name]]

    def height(self, side, name):
        return self.point(side, name)[1]

    def bend(self, side, limb):
        """Degrees at knee or elbow, 180 when straight."""
        a, b, c = ("hip", "knee", "foot") if limb == "leg" else ("shoulder", "elbow", "hand")
        u, v = self.point(side, a) - self.point(side, b), self.point(side, c) - self.point(side, b)
        return np.degrees(np.arccos(np.clip(u @ v / (np.linalg.norm(u) * np.linalg.norm(v)), -1, 1)))

    def apart(self, a, b):
        return np.linalg.norm(a - b)

    def level(self, a, b):
        return abs(a - b) < 0.2 * self.largest

    def near(self, a, b):
        return self.apart(a, b) < 0.5 * self.largest

    def steep(self, a, b):
        """Degrees of the line from a to b against the vertical, 0 to 90."""
        dx, dy = np.abs(b - a)
        return np.degrees(np.arctan2(dx, dy))

    def lean(self, low, high):
        """Degrees of the way from low to high against straight up, negative to the viewer's left."""
        dx, dy = high - low
        return np.degrees(np.arctan2(dx, dy))

    @property
    def trunk(self):
        return self.lean(self.hips, self.chest)

    @property
    def head(self):
        return self.lean(self.at[NECK], self.at[TOP])


def to_side(degrees, side, low, high):
    return low < (degrees if side == "right" else -degrees) < high


BENDS = {
    "straight": (160, 181),
    "slightly bent": (145, 165),
    "a little bent": (145, 165),
    "bent": (0, 145),
    "clearly bent": (0, 145),
    "bent at about ninety degrees": (75, 105),
    "bent to about ninety degrees": (75, 105),
    "sharply bent": (0, 65),
    "tightly bent": (0, 65),
}


def bent(body, side, limb, words):
    low, high = BENDS[words]
    return low < body.bend(side, limb) < high


def head_top(body):
    return max(body.at[TOP, 1], body.at[NECK, 1]) + 0 * body.at[TOP, 1] * body.at[NECK, 1]


# ------------------------------------------------------------------------------------------- limbs


def arm(body, side, words):
    hand, shoulder = body.point(side, "hand"), body.point(side, "shoulder")
    bend = re.fullmatch(r"(.*?)(?: at the elbow)?", words).group(1)
    if bend in BENDS:
        return bent(body, side, "arm", bend)
    extended = body.bend(side, "arm") > 150
    along = abs((body.lean(shoulder, hand) - body.trunk + 180) % 360 - 180)
    if match := re.fullmatch(r"stretched out to the viewer's (left|right)", words):
        return (
            extended
            and body.steep(shoulder, hand) > 70
            and (hand - shoulder)[0] * (match[1] == "right" or -1) > 0
        )
    checks = {
        "raised above the head": lambda: hand[1] > head_top(body) and hand[1] > shoulder[1],
        "raised to head height": lambda: body.at[NECK, 1] < hand[1] < body.at[TOP, 1],
        "raised": lambda: hand[1] > shoulder[1],
        "lowered": lambda: hand[1] < shoulder[1],
        "hanging down": lambda: extended and body.steep(shoulder, hand) < 25 and hand[1] < shoulder[1],
        "pointing down": lambda: extended and body.steep(shoulder, hand) < 25 and hand[1] < shoulder[1],
        "stretched out at shoulder height": lambda: extended and body.steep(shoulder, hand) > 70,
        "stretched out past the head": lambda: extended and along < 40,
        "stretched out along the body": lambda: extended and along > 150,
    }
    return words in checks and checks[words]()


def leg(body, side, words):
    bend = re.fullmatch(r"(.*?)(?: at the knee)?", words).group(1)
    return bend in BENDS and bent(body, side, "leg", bend)


def detail(body, side, words):
    """What stands after "with": the place of one joint or the direction of one segment."""
    hip, knee, foot = (body.point(side, name) for name in ("hip", "knee", "foot"))
    shoulder, elbow, hand = (body.point(side, name) for name in ("shoulder", "elbow", "hand"))
    places = {"hip": hip[1], "knee": knee[1], "shoulder": shoulder[1], "head": head_top(body)}
    segments = {
        "thigh": (hip, knee),
        "upper leg": (hip, knee),
        "lower leg": (knee, foot),
        "shin": (knee, foot),
    }
    joints = {"hand": hand, "wrist": hand, "elbow": elbow, "knee": knee, "foot": foot}
    if match := re.fullmatch(r"the hand (?:close to|near) the (left|right) (hip|knee)", words):
        return body.near(hand, body.point(match[1], match[2]))
    if re.fullmatch(r"the hand (close to|near) the head", words):
        return body.near(hand, (body.at[TOP] + body.at[NECK]) / 2)
    if re.fullmatch(r"the wrist at head height|the hand level with the head", words):
        return body.at[NECK, 1] < hand[1] < body.at[TOP, 1]
    if re.fullmatch(
        r"the wrist between shoulder and hip height|the hand below the shoulder and above the hip", words
    ):
        return shoulder[1] > hand[1] > hip[1]
    if words == "the foot straight below the knee":
        return foot[1] < knee[1] and body.steep(foot, knee) < 20
    if match := re.fullmatch(r"the (thigh|upper leg|lower leg|shin) (.*)", words):
        a, b = segments[match[1]]
        if match[2] in ("close to horizontal", "nearly horizontal"):
            return body.steep(a, b) > 65
        return match[2] in ("close to vertical", "pointing down") and body.steep(a, b) < 20 and b[1] < a[1]
    if match := re.fullmatch(r"the (\w+) (?:raised above|above|higher than) the (\w+)", words):
        return joints.get(match[1], NOWHERE)[1] > places.get(match[2], np.nan)
    if match := re.fullmatch(r"the (\w+) (?:below|lower than) the (\w+)", words):
        return joints.get(match[1], NOWHERE)[1] < places.get(match[2], np.nan)
    match = re.fullmatch(
        r"the (\w+) (?:(?:about )?level with the (\w+)|at (\w+) height|at about the height of the (\w+))",
        words,
    )
    place = match and (match[2] or match[3] or match[4])
    return bool(match) and body.level(joints.get(match[1], NOWHERE)[1], places.get(place, np.nan))


def limb_sentence(body, text):
    match = re.fullmatch(r"(?:The|Their|The person's) (left|right) (leg|arm) (.*)", text)
    if not match or ";" in text:
        return None
    side, limb, rest = match.groups()
    said, _, details = rest.partition(" with ")
    results = []
    if said in ("is placed", "is held"):
        results.append(bool(details) and said == ("is placed" if limb == "leg" else "is held"))
    elif points := re.fullmatch(r"(?:hangs|points) (straight )?down,?", said):
        results.append(limb == "arm" and arm(body, side, "pointing down"))
        results.append(not points[1] or arm(body, side, "straight"))
    else:
        said = said.removeprefix("is ").removesuffix(",")
        said, _, reach = said.partition(", reaching to the viewer's ")
        if reach:
            dx = (body.point(side, "hand") - body.point(side, "shoulder"))[0]
            results.append(limb == "arm" and (dx > 0 if reach == "right" else dx < 0 and reach == "left"))
        results += [(arm if limb == "arm" else leg)(body, side, part) for part in said.split(" and ")]
    if details:
        results += [detail(body, side, part) for part in re.split(r" and (?=the )", details)]
    return all(results)


# ------------------------------------------------------------------------------- whole-body sentences


def stands(body):
    legs = [body.bend(side, "leg") > 150 for side in OTHER]
    return abs(body.trunk) < 30 and all(legs) and feet_below_hips(body)


def feet_below_hips(body):
    return all(body.height(side, "foot") < body.height(side, "hip") for side in OTHER)


def hips_at_knees(body):
    return all(
        abs(body.height(s, "hip") - body.height(s, "knee")) < 0.45 * body.largest for s in OTHER
    ) and all(body.height(s, "foot") < body.height(s, "knee") for s in OTHER)


def kneels_on(body, side):
    """Knee well below its hip, and the foot not below the knee but for the shin's tilt."""
    return (
        body.height(side, "knee") < body.height(side, "hip")
        and body.height(side, "foot") > body.height(side, "knee") - 0.35 * body.largest
    )


def knee_at_other_foot(body, side):
    return (
        kneels_on(body, side)
        and abs(body.height(side, "knee") - body.height(OTHER[side], "foot")) < 0.35 * body.largest
    )


def is_level(body):
    """Trunk level, and both legs carry on in its direction."""
    sign = np.sign((body.chest - body.hips)[0])
    return 60 < abs(body.trunk) < 120 and all(
        body.steep(body.point(s, "hip"), body.point(s, "foot")) > 50
        and (body.point(s, "hip") - body.point(s, "foot"))[0] * sign > 0
        for s in OTHER
    )


def on_hands_and_knees(body):
    return (
        60 < abs(body.trunk) < 120
        and all(body.height(s, "knee") < body.height(s, "hip") for s in OTHER)
        and all(body.height(s, "hand") < body.height(s, "shoulder") for s in OTHER)
        and all(abs(body.height(s, "foot") - body.height(s, "knee")) < 0.45 * body.largest for s in OTHER)
    )


def bent_over(body):
    return abs(body.trunk) > 55 and feet_below_hips(body)


def upside_down(body):
    return abs(body.trunk) > 120 and all(body.height(s, "foot") > body.height(s, "hip") for s in OTHER)


STATES = {
    "in a standing pose": stands,
    "in an upright standing pose": stands,
    "in an upright pose": lambda body: abs(body.trunk) < 30,
    "in a sitting or squatting pose": hips_at_knees,
    "in a pose of sitting or squatting": hips_at_knees,
    "in a kneeling pose": lambda body: kneels_on(body, "left") and kneels_on(body, "right"),
    "in a pose as if kneeling": lambda body: kneels_on(body, "left") and kneels_on(body, "right"),
    "in a pose as if on the left knee": lambda body: knee_at_other_foot(body, "left"),
    "in a pose as if on the right knee": lambda body: knee_at_other_foot(body, "right"),
    "on hands and knees": on_hands_and_knees,
    "in a pose on hands and knees": on_hands_and_knees,
    "stretched out horizontally": is_level,
    "in a horizontal pose, stretched out": is_level,
    "bent over at the hips": bent_over,
    "in a pose bent over at the hips": bent_over,
    "upside down": upside_down,
    "in an upside-down pose": upside_down,
}
COMPACT_STATES = {
    "the hips are as low as the knees": hips_at_knees,
    "the body is kneeling": STATES["in a kneeling pose"],
    "the left knee is as low as the right foot": STATES["in a pose as if on the left knee"],
    "the right knee is as low as the left foot": STATES["in a pose as if on the right knee"],
    "the body is on hands and knees": on_hands_and_knees,
    "the body is stretched out horizontally": is_level,
    "the body is bent over at the hips": bent_over,
    "the body is upside down": upside_down,
    "the torso is upright": lambda body: abs(body.trunk) < 20,
    "the torso is horizontal": lambda body: 65 < abs(body.trunk) < 115,
    "the torso is upside down": lambda body: abs(body.trunk) > 120,
}


def spacing(body, text):
    match = re.fullmatch(r"the (hands|feet) are (close together|wide apart)", text)
    if not match:
        return None
    distance = body.apart(*(body.point(side, {"hands": "hand", "feet": "foot"}[match[1]]) for side in OTHER))
    if match[2] == "close together":
        return distance < 0.4 * body.largest
    return distance > (1.4 if match[1] == "hands" else 0.95) * body.median


def clause(body, text):
    """One clause of the compact vocabulary, without capital and full stop."""
    if text in COMPACT_STATES:
        return COMPACT_STATES[text](body)
    if (result := spacing(body, text)) is not None:
        return result
    if match := re.fullmatch(r"the torso leans to the viewer's (left|right)", text):
        return to_side(body.trunk, match[1], 15, 65)
    if match := re.fullmatch(r"the (left|right) foot is raised", text):
        return body.height(match[1], "foot") > body.height(OTHER[match[1]], "foot")
    if match := re.fullmatch(r"both (arm|hand|knee|leg)s are (.*)", text):
        sides, noun, said = (
            ("left", "right"),
            match[1],
            match[2].replace("hips", "hip").replace("knees", "knee"),
        )
    elif match := re.fullmatch(r"the (left|right) (arm|hand|knee|leg) is (.*)", text):
        sides, noun, said = (match[1],), match[2], match[3]
    else:
        return None
    return all(compact_limb(body, side, noun, said) for side in sides)


def compact_limb(body, side, noun, said):
    if noun == "arm":
        return all(arm(body, side, part) for part in said.split(" and "))
    if noun == "hand":
        if said == "near the head":
            return detail(body, side, "the hand near the head")
        return said in ("near the hip", "near the knee") and body.near(
            body.point(side, "hand"), body.point(side, said.split()[-1])
        )
    if noun == "knee" and said.startswith("raised"):
        raised = body.height(side, "knee") > body.height(side, "hip") - 0.2 * body.largest
        _, _, said = said.partition(" and ")
        return raised and (not said or leg(body, side, said))
    return leg(body, side, said) and (noun == "leg") == (said == "straight")


def torso_sentence(body, text):
    match = re.fullmatch(r"(?:The torso|The upper body|Their torso) (.*)", text)
    if not match or ";" in text:
        return None
    said, _, view = (
        match[1].rpartition("is seen from ") if "is seen from " in match[1] else (match[1], "", "")
    )
    said = said.removesuffix(" and ").strip()
    results = []
    if view:
        up = body.chest - body.hips
        across = body.at[L_SHOULDER] - body.at[R_SHOULDER]
        width = (across[0] * up[1] - across[1] * up[0]) / np.linalg.norm(
            up
        )  # > 0: left shoulder on the viewer's right
        results.append(
            {
                "the front": width > 0.2 * body.median,
                "behind": width < -0.2 * body.median,
                "the side": abs(width) < 0.3 * body.largest,
            }.get(view, False)
        )
    if said == "is upright":
        results.append(abs(body.trunk) < 20)
    elif match := re.fullmatch(r"leans to the viewer's (left|right)", said):
        results.append(to_side(body.trunk, match[1], 15, 65))
    elif match := re.fullmatch(
        r"is close to horizontal, with the shoulders towards the viewer's (left|right)", said
    ):
        results.append(to_side(body.trunk, match[1], 65, 115))
    elif said == "is upside down, with the shoulders below the hips":
        results.append(abs(body.trunk) > 120)
    elif said:
        return None
    return bool(results) and all(results)


def head_sentence(body, text):
    match = re.fullmatch(r"(?:The|Their) head (is .*)", text)
    if not match:
        return None
    results = []
    for part in re.split(r" and (?=in |out )", match[1].removeprefix("is ")):
        turn = abs((body.head - body.trunk + 180) % 360 - 180)
        if part in ("upright", "held upright"):
            results.append(abs(body.head) < 20)
        elif match := re.fullmatch(r"tilted to the viewer's (left|right)", part):
            results.append(to_side(body.head, match[1], 15, 80))
        elif part in ("below the hips", "lower than the hips"):
            results.append(body.at[TOP, 1] < body.hips[1])
        elif part == "in line with the torso":
            results.append(turn < 20)
        elif part == "out of line with the torso":
            results.append(turn > 30)
        else:
            return None
    return all(results)


def higher_sentence(body, text):
    match = re.fullmatch(r"The (left|right) (foot|hand|shoulder) is higher than the (left|right) one", text)
    return (
        match and match[1] != match[3] and body.height(match[1], match[2]) > body.height(match[3], match[2])
    )


def bent_limbs(body, limb):
    return sum(body.bend(side, limb) < 145 for side in OTHER)


def lifted(body, up):
    return sum((body.height(s, "hand") > body.height(s, "shoulder")) == up and np.isfinite(
        body.height(s, "hand") + body.height(s, "shoulder")) for s in OTHER)  # fmt: skip


TRAITS = {
    "upright torso": COMPACT_STATES["the torso is upright"],
    "nearly horizontal torso": COMPACT_STATES["the torso is horizontal"],
    "upside-down torso": COMPACT_STATES["the torso is upside down"],
    "leaning torso": lambda body: 15 < abs(body.trunk) < 65,
    "bent knees": lambda body: bent_limbs(body, "leg") == 2,
    "a bent knee": lambda body: bent_limbs(body, "leg") >= 1,
    "one bent leg": lambda body: bent_limbs(body, "leg") == 1,
    "one straight leg": lambda body: any(body.bend(side, "leg") > 160 for side in OTHER),
    "straight legs": lambda body: all(body.bend(side, "leg") > 160 for side in OTHER),
    "bent elbows": lambda body: bent_limbs(body, "arm") == 2,
    "a bent elbow": lambda body: bent_limbs(body, "arm") >= 1,
    "raised arms": lambda body: lifted(body, True) == 2,
    "lowered arms": lambda body: lifted(body, False) == 2,
    "one raised arm": lambda body: lifted(body, True) == 1,
    "a raised arm": lambda body: lifted(body, True) >= 1,
}


def trait(body, words):
    """ "two bent knees", "an upright torso"."""
    return TRAITS.get(words, TRAITS.get(re.sub(r"^(an?|two) ", "", words), lambda body: False))(body)


def traits_sentence(body, text):
    match = re.fullmatch(
        r"(?:The pose (?:is characterised by|is marked by|shows)|As seen here, the activity goes with"
        r"|The activity is characterised here by) (.*)",
        text,
    )
    if not match:
        return None
    return all(trait(body, part) for part in re.split(r", | and ", match[1]))


def place(record, person, words):
    """Where the middle of the joints in the image lies."""
    if not (record.width and record.height):
        return False
    size = np.array([record.width, record.height], float)
    at = person.joints[person.visibility > 0]
    at = (at[((at >= 0) & (at <= size - 1)).all(1)] + 0.5) / size
    x, y = (at.min(0) + at.max(0)) / 2
    match = re.fullmatch(
        r"in the centre of the image|in the middle of the (?P<row>upper|lower) part of the image"
        r"|slightly to the (?P<off>left|right) of the centre of the image"
        r"|on the (?P<side>left|right) side of the image"
        r"|in the (?P<row2>upper|lower) (?P<side2>left|right) part of the image",
        words,
    )
    if not match:
        return False
    row, side, off = match["row"] or match["row2"], match["side"] or match["side2"], match["off"]
    results = [y < 0.4 if row == "upper" else y > 0.6] if row else []
    if side:
        results.append(x < 0.4 if side == "left" else x > 0.6)
    elif off:
        results.append(0.2 < x < 0.5 if off == "left" else 0.5 < x < 0.8)
    else:
        results.append(0.4 < x < 0.6)
    return all(results)


PLACE = r"(?:[io]n the|slightly to the) [^,;]*? of the (?:centre of the )?image|in the centre of the image"


def person_sentence(record, person, body, text):
    match = re.fullmatch(r"(?:The|In) (?:(?:first|second|third|fourth) )?person(.*)", text)
    if not match:
        return None
    rest, results = match[1], []
    if rest == " is described next":
        return True
    if found := re.search(PLACE, rest):
        results.append(place(record, person, found[0]))
        rest = rest.replace(found[0], "", 1)
    rest = re.sub(r"^[, ]*is[, ]*|[, ]*$", "", rest)
    if rest:
        results.append(rest in STATES and STATES[rest](body))
    return bool(results) and all(results)


# -------------------------------------------------------------------------------------------- captions


def opening(record, text):
    """Whether the sentence states the people and the activity as recorded; None if it is no opening."""
    who = r"(?P<who>one person|a person|people|[a-z-]+ people)"
    label = r"(?:, and|;) the activity is labelled (?P<label>.*)"
    forms = (
        rf"There (?P<be>is|are) {who}(?: in the image)?(?: who (?P<be2>is|are) (?P<doing>.*)|{label})?",
        rf"There (?P<be>is|are) {who} (?P<doing>\w.*)",
        rf"The image shows {who}(?: (?:who (?P<be>is|are) )?(?P<doing>.*)|{label})?",
        rf"{who}(?: in the image)? (?P<be>is|are)(?: shown| seen in the image)?(?: (?P<doing>.*)|{label})?",
        rf"The activity of {who} is labelled (?P<label>.*)",
        r"The (?:activity(?: shown| in the image)? is|image shows an activity) labelled (?P<label>.*)",
    )
    for form in forms:
        match = re.fullmatch(form, text) or re.fullmatch(form, text[0].lower() + text[1:])
        if match:
            break
    else:
        return None
    found = match.groupdict()
    people = found.get("who")
    if people in ("a person", "people"):
        right = len(record.people) == 1 if people == "a person" else len(record.people) != 1
        right = right and not record.people_complete
    elif people:
        right = NUMBERS.get(people.split()[0]) == len(record.people) and record.people_complete
    else:
        right = not record.people
    plural = "are" if len(record.people) != 1 else "is"
    right = right and all(found.get(be) in (None, plural) for be in ("be", "be2"))
    said = (found.get("doing") or found.get("label") or "").lower()
    recorded = words(record.activity.replace("_s ", "'s ").replace("_", " "))
    if not said and recorded:
        return False
    return right and words(said) <= recorded


def words(text):
    return set(re.findall(r"[\w'/>-]+", text.lower()))


def sentences(caption):
    return re.split(r"(?<=\.) (?=[A-Z])", caption)


ORDINALS = ("first", "second", "third", "fourth")


class Oracle:
    """Reads captions of one record."""

    def __init__(self, record):
        self.record = record
        people = [(Body(person), person) for person in record.people]
        self.people = sorted(people, key=lambda pair: -pair[0].diagonal)
        self._known = {}

    def wrong(self, caption):
        """Every sentence of the caption that is false or that cannot be read."""
        failures = []
        current = 0
        for index, sentence in enumerate(sentences(caption)):
            if ordinal := re.match(rf"The ({'|'.join(ORDINALS)}) person\b", sentence):
                current = ORDINALS.index(ordinal[1])
            key = (index == 0, current, sentence)
            if key not in self._known:
                self._known[key] = sentence.endswith(".") and self._true(*key)
            if not self._known[key]:
                failures.append(sentence)
        return failures

    def _true(self, first, current, sentence):
        text = sentence.removesuffix(".")
        result = opening(self.record, text) if first else None
        if result is None:
            result = self._all_people(text)
        if result is None and current < len(self.people):
            body, person = self.people[current]
            result = _about(self.record, person, body, text)
        return bool(result)

    def _all_people(self, text):
        described = [body for body, _ in self.people[:4]]
        if match := re.fullmatch(r"(?:Each of the people|Everyone) described here has (.*)", text):
            return all(trait(body, part) for body in described for part in re.split(r", | and ", match[1]))
        if match := re.fullmatch(r"At least (\w+) of the people described here have (.*)", text):
            return 1 < NUMBERS.get(match[1], 0) <= sum(bool(trait(body, match[2])) for body in described)
        if match := re.fullmatch(r"(\S+) (?:more|other) (person is|people are) in the image", text):
            others = len(self.people) - 4
            return (
                self.record.people_complete
                and NUMBERS.get(match[1].lower()) == others
                and (others == 1) == (match[2] == "person is")
            )
        return None


def _about(record, person, body, text):
    text = text.removeprefix("For the person shown largest, ")
    for read in (limb_sentence, torso_sentence, head_sentence, higher_sentence, traits_sentence):
        if (result := read(body, text)) is not None:
            return result
    if (result := person_sentence(record, person, body, text)) is not None:
        return result
    clauses = (text[0].lower() + text[1:]).split("; ")
    return all(clause(body, part) for part in clauses)
