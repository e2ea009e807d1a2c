"""What a validator must refuse and, as important, what it must let pass."""

import dataclasses
import itertools
import json
from collections import Counter

import numpy as np
import pytest

from annotation import claims, records, validators, verdicts
from annotation.describers import geometry
from annotation.sources import mpii
from benchmarks import validators as measured

# A person who stands facing the camera, so that the own right side is on the left of the image: right arm up
# and straight, left arm down and bent to a right angle, left leg straight, right foot drawn up behind.
# fmt: off
STANDING = {
    "right ankle": (88, 290), "right knee": (80, 340), "right hip": (90, 260), "left hip": (130, 260),
    "left knee": (132, 340), "left ankle": (134, 420), "pelvis": (110, 260), "thorax": (110, 160),
    "upper neck": (110, 145), "head top": (110, 90), "right wrist": (60, 60), "right elbow": (68, 110),
    "right shoulder": (75, 160), "left shoulder": (145, 160), "left elbow": (152, 215),
    "left wrist": (102, 220),
}
# fmt: on


def person(**moved):
    """STANDING with some joints elsewhere: left_wrist=(x, y), or None where it is missing."""
    joints = STANDING | {name.replace("_", " "): place for name, place in moved.items()}
    return records.person([joints[name] or (np.nan, np.nan) for name in records.schema.JOINT_NAMES])


def mirrored(one):
    """The same person seen in a mirror: sides change, and left is right."""
    return records.person((one.joints * (-1, 1) + (400, 0))[list(records.schema.MIRRORED)])


def record(*people, **fields):
    return records.ImageRecord("a.jpg", people or (person(),), **fields)


def kinds(text, of=None):
    return [reason.partition(":")[0] for reason in validators.check(text, of or record())]


FINE = "There is one person in the image. The left leg is straight."


def test_a_plain_description_passes():
    assert validators.check(FINE, record()) == []


# ------------------------------------------------------------------------------------------ the text alone


@pytest.mark.parametrize("text", ["", "  \n"])
def test_empty(text):
    assert kinds(text) == ["empty"]


@pytest.mark.parametrize(
    "end", ["The left leg is", "The left leg,", "It is bent at the.", "And so on...", "The leg:"]
)
def test_cut_off(end):
    assert kinds(f"{FINE} {end}") == ["cut off"]


@pytest.mark.parametrize("end", ['They say "go!"', "A jump!", "It is bent (at the knee).", "*Bent.*"])
def test_other_ends_of_sentences_are_no_cut(end):
    assert kinds(f"{FINE} {end}") == []


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't describe people.",
        "I’m sorry, I cannot help with that.",
        "As an AI language model, I cannot see the image.",
        "The pose is unclear. Please provide the keypoints.",
    ],
)
def test_refusal(text):
    assert "refusal" in kinds(text)


@pytest.mark.parametrize(
    "before",
    [
        "Sure! Here's a description of the pose:\n\n",
        "Sure, here is the description based on the given template: ",
        "Certainly! Below is a detailed description of the image. ",
        "Of course. ",
        "Absolutely, ",
        "Okay, let's break this down. ",
        "Here is a gender-neutral description of the person's pose: ",
        "Here’s the caption:\n",
        "The following is a concise description. ",
        "Thank you for the keypoints. ",
        "I'd be happy to help! ",
        "Let me describe the scene. ",
        "**Description:** ",
        "### Pose Description:\n",
        "Final answer: ",
        "As an AI language model, I see no image, only joints. ",
        "Based on the keypoints you provided, this is what is seen. ",
        "As requested, no gendered words are used. ",
    ],
)
def test_talk_before_the_caption(before):
    assert kinds(before + FINE) == ["chatter"]


@pytest.mark.parametrize(
    "behind",
    [
        " I hope this helps!",
        "\n\nI hope this description meets your requirements.",
        "\n\nLet me know if you would like me to add anything.",
        " Feel free to ask for more details.",
        " Please don't hesitate to reach out.",
        " Is there anything else?",
        " Would you like a shorter version?",
        " If you have any further questions, ask.",
        "\n\n(Word count: about 90 words.)",
        " Note that this description is based on the joints alone.",
        " Please note that the provided coordinates are approximate.",
        " This description avoids any mention of gender.",
        " Overall, the description follows your template.",
    ],
)
def test_talk_after_the_caption(behind):
    assert kinds(FINE + behind) == ["chatter"]


@pytest.mark.parametrize(
    "text",
    [
        "There is one person in the image, who gives the answer to a call.",
        "In this image, one person is standing. Here the left leg is straight, and there the right is bent.",
        "Great balance is needed: one person stands on the left leg.",
        "One person is reading a description aloud.",
        "One person lets the right arm rise. This is a certain sign of effort, and of course of strain.",
        "Below the knee of the one person shown, the left leg is straight.",
        "The following person is shown: one person with the left leg straight.",
        "The analysis of data is done by one person.",
        "You can see one person. If the torso leans at all, it does so slightly.",
        "Okayama is where one person stands.",
        "Person 1: the left leg is straight.",
        "**Left leg:** straight. One person is shown.",
    ],
)
def test_what_only_looks_like_talk_passes(text):
    assert kinds(text) == []


@pytest.mark.parametrize(
    "left",
    [
        "$state",
        "{activity}",
        "<limb>",
        "[insert activity]",
        "get_state(kpts)",
        "position()",
        "kpts_vis",
        "people[0]",
    ],
)
def test_template(left):
    assert "template" in kinds(f"{FINE} The person is {left} here.")


@pytest.mark.parametrize(
    "left",
    [
        "[412, 305]",
        "(412,305)",
        "(12.5, 8)",
        "x = 40",
        "the y-coordinate",
        "joint 12",
        "keypoint 3",
        "345",
        "40 pixels",
    ],
)
def test_coordinates(left):
    assert "raw coordinates" in kinds(f"{FINE} The hand is at {left} here.")


@pytest.mark.parametrize(
    "said",
    [
        "an angle of about 120 degrees",
        "a 135-degree angle",
        "between 100 and 120 degrees",
        'marked by the "-1" value',  # the paper's own sample says so
        "two (2) times",
        "up(ward)",
    ],
)
def test_numbers_and_brackets_of_prose_are_no_coordinates(said):
    assert kinds(f"{FINE} There is {said} here.") == []


@pytest.mark.parametrize(
    "text",
    [
        "The torso is upright and calm. The torso is upright and calm.",
        "The left hand the left hand the left hand is there.",
        "It is very very very calm.",
    ],
)
def test_repetition(text):
    assert "repetition" in kinds(f"{FINE} {text}")


def test_what_is_said_of_each_person_is_no_repetition():
    two = record(person(), person())
    text = "There are two people in the image. The torso is upright and calm. The torso is upright and calm."
    assert kinds(text, two) == []
    assert kinds(f"{text} The torso is upright and calm.", two) == ["repetition"]


@pytest.mark.parametrize("word", ["He", "Her", "The woman's", "A man", "The girl"])
def test_gendered_words(word):
    assert "gendered word" in kinds(f"{FINE} {word} left leg is straight.")


def test_gendered_words_of_the_label_are_not_the_models():
    gymnast = record(activity="women's gymnastics", category="sports")
    assert kinds("One person is doing women's gymnastics.", gymnast) == []
    assert kinds("One person is doing Women's Gymnastics, and she jumps.", gymnast) == ["gendered word"]
    assert kinds("One person, a woman, is doing gymnastics.", gymnast) == ["gendered word"]


def test_the_label_may_be_copied_as_it_stands():
    label = "children_s games, swimming (Taylor Codes 280, 295), two person kayak"
    assert kinds(f"One person: {label}.", record(activity=label)) == []


# ------------------------------------------------------------------------------------------ people counted

TWO = "There are two people in the image."


@pytest.mark.parametrize(
    ("text", "people"),
    [
        ("There is one person.", 1),
        ("A person is shown. One leg is bent, both arms are there and two hands meet.", 1),
        ("There are three (3) people in the image.", 3),
        ("There are two people. One person stands, the other person sits.", 2),
        ("The image shows one person on the left and one person on the right.", 2),
        ("A group of four people is dancing.", 4),
        ("Several people are dancing.", 3),
        (
            "Three people are here. At least two of the people have an arm up. One other person is far off.",
            3,
        ),
        ("There are 12 individuals in the image.", 12),
        ("In the image, twenty-one people are seen.", 21),
        ("Both individuals are standing.", 2),
    ],
)
def test_right_counts_pass(text, people):
    assert validators.check(text, record(*[person()] * people)) == []


@pytest.mark.parametrize(
    ("text", "people"),
    [
        ("There is one person.", 2),
        ("A person is shown.", 2),
        ("In the image, a single individual is shown.", 2),
        (TWO, 1),
        (TWO, 3),
        ("The image shows 2 people.", 1),
        ("The image depicts three young athletes.", 2),
        ("Several people are dancing.", 1),
        ("There is one person. Three people are behind.", 2),
        ("There are two people. Two other people are behind.", 2),
        ("There are no people.", 1),
        ("Both individuals are standing.", 1),
    ],
)
def test_wrong_counts_are_refused(text, people):
    assert kinds(text, record(*[person()] * people)) == ["people miscounted"]


def test_counts_pass_where_not_everybody_is_annotated():
    assert kinds(TWO, record(people_complete=False)) == []


# ------------------------------------------------------------------------------------- what a text claims


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The left arm is raised above the head.", ["left arm raised", "left arm above head"]),
        ("The left leg is straight while the right is bent.", ["left leg straight", "right leg bent"]),
        ("They lift a bent right arm.", ["right arm bent"]),
        ("With both knees slightly bent, the person leans.", ["both knees slightly bent"]),
        ("The elbow of the right arm is bent at an acute angle.", ["right elbow sharply bent"]),
        ("The right arm is bent, with the wrist near the head.", ["right arm bent", "right hand near head"]),
        ("Left arm: hanging by the side.", ["left arm lowered"]),
        ("The knees are bent at a right angle.", ["both knees bent at 90"]),
        ("There is a slight bend in the left elbow.", ["left elbow slightly bent"]),
        ("The right hand is higher than the left one.", ["right hand above left hand"]),
        ("Both arms and legs are straight.", ["both arms straight", "both legs straight"]),
        ("One arm is raised and the other is lowered.", ["one arm raised"]),
        ("The wrist is at shoulder height.", ["one hand level with shoulder"]),
        ("The person is standing on the left leg.", ["left leg carries the weight"]),
        ("The right arm is bent at a 45-degree angle.", ["right arm bent at 45"]),
    ],
)
def test_claims_are_read(text, expected):
    found = [claim.words for claim in claims.read(text)]
    assert [words for words in expected if words not in found] == []
    assert len(found) <= len(expected) + 1


@pytest.mark.parametrize(
    "text",
    [
        "The right arm might be raised.",
        "The left arm is not bent.",
        "It is unclear whether the left knee is bent or straight.",
        "The right knee is more bent than the left.",
        "The torso is straight and leans to the right.",
        "The person is bent forward, facing left.",
        "The left side of the image shows a raised platform.",
        "The left and right arms are raised and lowered respectively.",
    ],
)
def test_no_claim_is_read_into_this(text):
    assert claims.read(text) == []


def test_several_people_are_told_apart():
    text = (
        "Person 2's left arm is raised. The first person has a bent right knee. Everyone's arms are straight."
    )
    assert [claim.person for claim in claims.read(text)] == [
        claims.Person(2, "id"),
        claims.Person(1, "ordinal"),
        None,
    ]


def test_items_are_looked_for_wherever_they_can_begin():
    """The list of beginnings only makes reading fast: it must leave nothing out."""
    for text in [FINE, *measured_texts(40)]:
        for sentence in claims._plain(text).split(". "):
            everywhere = [item.span() for item in claims._items(sentence)]
            at, found = 0, []
            for word in claims._WORD.finditer(sentence):
                item = claims._ITEM.match(sentence, word.start()) if word.start() >= at else None
                if item:
                    found.append(item.span())
                    at = item.end()
            assert everywhere == found


def measured_texts(count):
    rng = np.random.default_rng(0)
    for n in range(count):
        writer = measured.Writer(n)
        joints = person().joints + rng.normal(0, 15, (16, 2))
        yield " ".join(writer.description([sorted(measured.pose_prose.statements(joints, 330))], "yoga", 1))


# ---------------------------------------------------------------------------------- claims and the joints

TRUE = [
    "The right arm is raised.",
    "The right arm is straight.",
    "The right hand is above the head.",
    "The left arm is lowered.",
    "The left elbow is bent at about 90 degrees.",
    "The left arm is bent at a right angle.",
    "The right knee is sharply bent.",
    "The left leg is straight.",
    "The person stands on the left leg.",
    "The right foot is higher than the left foot.",
    "The right leg is raised.",
    "One arm is raised.",
    "The left wrist is below the shoulder.",
]
FALSE = [
    "The left arm is raised.",
    "The left arm is straight.",
    "The left hand is above the head.",
    "The right arm is lowered.",
    "The right elbow is bent.",
    "The right knee is straight.",
    "The left knee is bent.",
    "The person stands on the right leg.",
    "The left foot is higher than the right foot.",
    "Both arms are raised.",
    "Both legs are straight.",
    "The left wrist is above the shoulder.",
    "The right hand rests on the right hip.",
    "The right wrist is at hip level.",
]
SWAPPED = {"left": "right", "right": "left"}


def swap_sides(text):
    return " ".join(SWAPPED.get(word, word) for word in text.split(" "))


@pytest.mark.parametrize("text", TRUE)
def test_true_claims_are_confirmed(text):
    judged = verdicts.judge(text, record())
    assert judged.contradicted == ()
    assert judged.confirmed == 1


@pytest.mark.parametrize("text", FALSE)
def test_false_claims_are_contradicted(text):
    assert len(verdicts.judge(text, record()).contradicted) == 1
    assert kinds(text) == ["contradicts the joints"]


@pytest.mark.parametrize("text", [t for t in TRUE + FALSE if "right angle" not in t])
def test_sides_are_the_persons_own(text):
    seen = verdicts.judge(text, record())
    in_a_mirror = verdicts.judge(swap_sides(text), record(mirrored(person())))
    assert (seen.confirmed, len(seen.contradicted)) == (in_a_mirror.confirmed, len(in_a_mirror.contradicted))


@pytest.mark.parametrize("text", TRUE + FALSE)
def test_size_and_place_do_not_matter(text):
    small = records.person(person().joints * 0.05 - 300)
    assert verdicts.judge(text, record(small)).contradicted == verdicts.judge(text, record()).contradicted


@pytest.mark.parametrize("text", TRUE + FALSE)
def test_missing_joints_decide_nothing(text):
    nobody = record(records.person(np.full((16, 2), np.nan)))
    assert verdicts.judge(text, nobody) == verdicts.Judged(0, (), 1)


def test_what_the_joints_leave_open_is_undecided():
    nearly_straight = record(person(left_ankle=(100, 415)))  # 156 degrees at the knee
    for text in ("The left knee is bent.", "The left leg is straight.", "The left knee is slightly bent."):
        assert verdicts.judge(text, nearly_straight).contradicted == ()


def test_raised_may_be_meant_along_the_body():
    lying = record(records.person(person().joints[:, ::-1] * (-1, 1)))  # the head to the right
    assert verdicts.judge("The right arm is raised.", lying).contradicted == ()
    assert verdicts.judge("The right hand is above the head.", lying).contradicted == ()


def test_of_several_people_the_one_spoken_of_counts():
    other = mirrored(person())
    two = record(person(), other)
    opposite = "The left arm is raised and the right arm is lowered."
    assert (
        kinds(f"{TWO} Person 1 is standing. {swap_sides(opposite)} Person 2 is standing. {opposite}", two)
        == []
    )
    assert kinds(f"{TWO} Person 1 is standing. {opposite}", two) == ["contradicts the joints"] * 2
    # Nobody in particular: one of them does.
    assert kinds(f"{TWO} {opposite}", two) == []
    assert kinds(f"{TWO} The left leg is bent.", record(person(), person())) == ["contradicts the joints"]


@pytest.mark.parametrize("of", ["The {} person is seen.", "The person {} is seen."])
def test_people_may_come_in_another_order(of):
    """The offline describer begins with the largest."""
    two = record(records.person(person().joints * 0.5), mirrored(person()))
    first, second = of.format("first"), of.format("second")
    if "The person" in of:
        first, second = of.format("on the left"), of.format("on the right")
    true = f"{TWO} {first} The left arm is raised. {second} The right arm is raised."
    assert kinds(true, two) == []
    wrong = (
        f"{TWO} {first} The left arm is raised. The right arm is raised. {second} The right arm is raised."
    )
    assert kinds(wrong, two) == ["contradicts the joints"]


# ------------------------------------------------------------------------------------------------ real data


def test_the_papers_two_samples_pass(shared_data):
    """Joints made up to fit what the paper's figure shows: the statue of David and the Mona Lisa."""
    # fmt: off
    david = records.person([
        (190, 560), (170, 450), (185, 330), (245, 335), (262, 440), (250, 560), (215, 333), (210, 170),
        (212, 155), (225, 85), (215, 275), (140, 255), (155, 175), (262, 172), (292, 255), (268, 165),
    ])
    nan = (np.nan, np.nan)
    mona_lisa = records.person([
        nan, nan, (150, 420), (270, 420), nan, nan, (210, 420), (205, 230), (205, 200), (200, 90), (170, 400),
        (120, 350), (135, 240), (275, 240), (320, 340), (250, 405),
    ])
    # fmt: on
    samples = json.loads((shared_data / "paper" / "sample_descriptions.json").read_text("utf-8"))
    for sample, who in zip(samples, (david, mona_lisa), strict=True):
        of = record(who, activity=sample["activity"])
        text = "\n\n".join(sample["description"])
        assert validators.check(text, of) == []
        assert verdicts.judge(text, of).confirmed >= 3
    david_in_a_mirror = record(mirrored(david), activity=samples[0]["activity"])
    assert "contradicts the joints" in kinds("\n\n".join(samples[0]["description"]), david_in_a_mirror)


@pytest.fixture(scope="module")
def mpii_csv_file(shared_data):
    return shared_data / "mpii" / "mpii_human_pose.csv"


def test_the_rates_hold_on_held_out_joints(mpii_csv_file):
    """A small part of `benchmarks/validators.py`."""
    tallies, _ = measured.measure(list(itertools.islice(measured.singles(mpii_csv_file), 150)))
    texts, refused = Counter(), Counter()
    for kind, tally in tallies.items():
        texts[kind.partition(",")[0]] += tally.texts
        refused[kind.partition(",")[0]] += tally.refused
    assert min(texts.values()) > 80
    assert refused.pop("true") <= 0.01 * texts.pop("true")
    assert {kind for kind in texts if refused[kind] < 0.95 * texts[kind]} == set()


def test_the_measure_is_not_vacuous(mpii_csv_file, monkeypatch):
    """Validators that accept everything catch nothing, and ones that refuse everything let nothing pass."""
    people = list(itertools.islice(measured.singles(mpii_csv_file), 20))
    for reasons in ([], ["no"]):
        monkeypatch.setattr(validators, "check", lambda text, of, reasons=reasons: reasons)
        tallies, _ = measured.measure(people)
        assert {tally.refused / tally.texts for tally in tallies.values()} == {float(bool(reasons))}


def test_the_offline_describers_captions_pass(mpii_csv_file):
    """It states only what is clear, with margins of its own."""
    for of in itertools.islice(mpii.read_csv(mpii_csv_file, {}), 0, 4000, 50):
        everybody = dataclasses.replace(of, people_complete=True)
        for detail in ("full", "short"):
            for caption in geometry.describe(everybody, detail):
                assert validators.check(caption.text, everybody) == [], caption.text
