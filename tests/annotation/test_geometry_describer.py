"""Captions from joints are true, readable, varied and reproducible.

Truth is judged by `caption_oracle`, which shares nothing with the describer.
"""

import csv
import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from caption_oracle import Oracle, sentences

from annotation import schema
from annotation.describers import opening
from annotation.describers.geometry import SHORT_WORDS, WORDINGS, describe
from annotation.errors import UserError
from annotation.records import ImageRecord, person
from annotation.sources.figures import Figures, generate

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the oracle divides by lengths of zero

WIDTH, HEIGHT = 300, 260
ACTIVITIES = ("", "jumping", "waving one hand", "yoga, Power", "riding_a_bike", "bicycling, mountain")
GENDERED = re.compile(r"\b(he|she|him|her|his|hers|himself|herself|(wo)?m[ae]n|boys?|girls?|fe?male)\b", re.I)
SIDE = re.compile(
    r"\b(left|right)\b(?= (arm|leg|hand|foot|knee|hip|shoulder|one|side of the image|part of the image))"
    r"|\bto the (left|right) of the centre\b|\bthe viewer's (left|right)\b"
)


def skeleton(rng) -> np.ndarray:
    """(16, 2): a jointed body at any angle, or once in four times sixteen points anywhere."""
    if rng.random() < 0.25:
        return rng.uniform(-20, 320, (16, 2))

    def step(start, length, degrees):
        length = length * rng.uniform(0.5, 1.05)  # foreshortened
        return start + length * np.array([np.sin(np.radians(degrees)), -np.cos(np.radians(degrees))])

    def limb(start, upper, lower):
        middle = step(start, upper, rng.integers(8) * 45 + rng.normal(0, 15))
        return middle, step(middle, lower, rng.integers(8) * 45 + rng.normal(0, 15))

    up = rng.choice([0, 0, 0, 90, -90, 180, rng.uniform(-180, 180)]) + rng.normal(0, 10)
    across = np.array([np.cos(np.radians(up)), np.sin(np.radians(up))]) * rng.uniform(-1, 1)
    pelvis = rng.uniform(50, 250, 2)
    thorax = step(pelvis, 60, up)
    neck = step(thorax, 10, up)
    top = step(neck, 30, up + rng.normal(0, 20))
    right_hip, left_hip = pelvis - 10 * across, pelvis + 10 * across
    right_shoulder, left_shoulder = thorax - 21 * across, thorax + 21 * across
    right_knee, right_ankle = limb(right_hip, 50, 48)
    left_knee, left_ankle = limb(left_hip, 50, 48)
    right_elbow, right_wrist = limb(right_shoulder, 34, 29)
    left_elbow, left_wrist = limb(left_shoulder, 34, 29)
    legs = (right_ankle, right_knee, right_hip, left_hip, left_knee, left_ankle)
    arms = (right_wrist, right_elbow, right_shoulder, left_shoulder, left_elbow, left_wrist)
    return np.array([*legs, pelvis, thorax, neck, top, *arms])


def random_record(seed: int, people: int | None = None) -> ImageRecord:
    rng = np.random.default_rng(seed)

    def one():
        joints = skeleton(rng)
        joints[rng.random(16) < rng.choice([0, 0, 0.1, 0.5, 0.9])] = np.nan
        return person(joints)

    count = people or int(rng.choice([1, 1, 1, 2, 3, 4, 5, 6, 14]))
    size = (WIDTH, HEIGHT) if rng.random() < 0.5 else (None, None)
    return ImageRecord(
        image_id=f"{seed:06d}.jpg",
        people=tuple(one() for _ in range(count)),
        width=size[0],
        height=size[1],
        people_complete=bool(rng.random() < 0.7),
        activity=str(rng.choice(ACTIVITIES)),
    )


# Seen from the front, so the left arm is on the viewer's right: left arm up, right arm down, left knee up.
ASYMMETRIC = [
    (135, 230), (135, 182), (138, 132), (162, 132), (190, 125), (188, 172), (150, 132), (150, 72), (150, 62),
    (150, 30), (126, 134), (128, 104), (128, 72), (172, 72), (190, 42), (188, 10),
]  # fmt: skip


def record(joints=ASYMMETRIC, **fields) -> ImageRecord:
    fields = {"image_id": "photo.jpg", "width": WIDTH, "height": HEIGHT, "activity": "jumping"} | fields
    return ImageRecord(people=(person(joints),), **fields)


def texts(image: ImageRecord, detail: str = "full") -> list[str]:
    return [description.text for description in describe(image, detail)]


def all_texts(image: ImageRecord) -> list[str]:
    return texts(image, "full") + texts(image, "short")


def swap(text: str, a: str, b: str) -> str:
    return re.sub(rf"\b({a}|{b})\b", lambda match: b if match[1] == a else a, text)


def mpii_rows(shared_data: Path) -> list[ImageRecord]:
    """The CSV, read by other code than the project's reader."""
    with open(shared_data / "mpii" / "mpii_human_pose.csv", newline="") as file:
        rows = list(csv.reader(file))[1:]
    images = []
    for row in rows:
        joints = np.array(row[2:34], float).reshape(16, 2)
        joints[(joints == -1).all(1)] = np.nan
        name = "" if row[35] == "NA" else row[35]
        images.append(ImageRecord(row[1], (person(joints - 1),), people_complete=False, activity=name))
    return images


def assert_true(images) -> int:
    count = 0
    for image in images:
        oracle = Oracle(image)
        for text in all_texts(image):
            assert oracle.wrong(text) == [], f"{image.image_id}: {text}"
            count += 1
    return count


# --------------------------------------------------------------------------------------------- truth


def test_every_claim_about_random_skeletons_holds():
    assert assert_true(random_record(seed) for seed in range(400)) == 3200


@pytest.mark.parametrize("options", [{}, {"people": 4, "scale": 0.4, "occlusion": 0.6}])
def test_every_claim_about_figures_holds(options):
    figures = Figures(seed=5, count=72, activities="all", **options)
    assert assert_true(generate(figures, index)[0] for index in range(figures.count)) == 8 * figures.count


def test_every_claim_about_real_people_holds(shared_data):
    assert assert_true(mpii_rows(shared_data)[::40]) == 8 * 435


@pytest.mark.slow
def test_every_claim_about_all_real_people_holds(shared_data):
    assert assert_true(mpii_rows(shared_data)) == 8 * 17_372


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("raised", "lowered"), ("above", "below"), ("higher", "lower"), ("bent", "straight"),
        ("sharply", "slightly"), ("upright", "upside down"), ("horizontal", "vertical"),
        ("the front", "behind"), ("close together", "wide apart"), ("in line", "out of line"),
        ("one person", "two people"), ("is", "are"),
    ],
)  # fmt: skip
def test_the_oracle_catches_every_false_word(a, b):
    """So that "no wrong claim" means something. Each sentence is falsified on its own."""
    caught = 0
    for seed in range(150):
        image = random_record(seed)
        oracle = Oracle(image)
        for text in all_texts(image):
            told = sentences(text)
            for index in range(1) if a in ("one person", "is") else range(1, len(told)):
                false = swap(told[index], a, b)
                one_way = not (re.search(rf"\b{a}\b", told[index]) and re.search(rf"\b{b}\b", told[index]))
                if false != told[index] and one_way:
                    assert oracle.wrong(" ".join([*told[:index], false, *told[index + 1 :]])), false
                    caught += 1
    assert caught > 20


def test_the_oracle_catches_swapped_sides():
    image = record()
    for text in all_texts(image):
        assert Oracle(image).wrong(swap(text, "left", "right")), text


def test_the_oracle_rejects_what_it_cannot_read():
    assert Oracle(record()).wrong("One person is jumping. The left arm is remarkable.")
    assert Oracle(record()).wrong("One person is jumping. The left arm is raised")


def test_a_mirrored_image_has_the_caption_with_the_sides_swapped():
    """What the loader relies on when it flips an image."""
    for seed in range(300):
        image = dataclasses.replace(random_record(seed), width=WIDTH, height=HEIGHT)
        people = tuple(
            person((p.joints * (-1, 1) + (WIDTH - 1, 0))[list(schema.MIRRORED)]) for p in image.people
        )
        mirrored = Oracle(dataclasses.replace(image, people=people))
        for text in all_texts(image):
            assert mirrored.wrong(swap(text, "left", "right")) == [], text


def test_left_and_right_are_only_ever_sides():
    for seed in range(300):
        for text in all_texts(random_record(seed)):
            assert len(re.findall(r"\b(?:left|right)\b", text)) == len(SIDE.findall(text)), text


# ------------------------------------------------------------------------------------ what must be said


def test_a_clear_pose_is_told():
    for text in texts(record()):
        for fact in (
            "left arm is raised",
            "right arm hangs",
            r"left leg is (\w+ )?bent",
            "right leg is straight",
        ):
            assert re.search(fact, text), text
        assert "from the front" in text
        assert "in the centre of the image" in text
    for text in texts(record(), "short"):
        assert "the left arm is raised above the head" in text.lower()
        assert "the right arm is hanging down" in text.lower()
        assert "the left knee is raised" in text.lower()


def test_turning_around_is_told():
    turned = np.array(ASYMMETRIC) * (-1, 1) + (WIDTH, 0)  # the same joints seen from behind
    for text in texts(record(turned)):
        assert "from behind" in text
        assert "left arm is raised" in text


@pytest.mark.parametrize(
    ("joints", "words"),
    [
        (("left wrist",), r"left hand|left arm is (?!held)|raised arm|hands"),
        (("right ankle", "right knee"), r"right (leg|foot|knee)|feet|legs|both knees|standing"),
        (("head top",), r"head"),
        (("left hip", "right hip", "pelvis"), r"torso|upper body|hip|standing|leg is (?!placed)"),
        (
            ("left shoulder", "right shoulder", "thorax"),
            r"torso|upper body|shoulder|standing|arm is (?!held)",
        ),
    ],
)
def test_nothing_is_said_about_missing_joints(joints, words):
    points = np.array(ASYMMETRIC, float)
    points[[schema.JOINT_NAMES.index(name) for name in joints]] = np.nan
    for text in all_texts(record(points, activity="")):
        assert not re.search(words, text), text


def test_a_person_without_joints_leaves_only_the_activity():
    for text in all_texts(record(np.full((16, 2), np.nan))):
        assert len(sentences(text)) == 1
        assert text.count("jumping") == 1


def test_without_all_people_no_count_is_stated():
    for seed in range(200):
        image = dataclasses.replace(random_record(seed), people_complete=False)
        for text in all_texts(image):
            assert not re.search(r"\b(one|two|three|four|five|six|fourteen) (person|people)\b", text, re.I), (
                text
            )
            assert not re.search(r"\b(more|other) (person|people)\b", text), text


def test_without_the_size_no_place_is_stated():
    for text in texts(record(width=None, height=None)):
        assert not re.search(r"(centre|side|part) of the image", text)


def test_no_activity_no_claim_about_it():
    for text in all_texts(record(activity="")):
        assert "activity" not in text
        assert Oracle(record(activity="")).wrong(text) == []


def test_neither_people_nor_activity_is_an_error():
    with pytest.raises(UserError, match=r"photo\.jpg"):
        describe(ImageRecord("photo.jpg", ()))
    assert len({d.text for d in describe(ImageRecord("photo.jpg", (), activity="jumping"))}) == WORDINGS


def test_unknown_detail_is_an_error():
    with pytest.raises(UserError, match="'full' or 'short'"):
        describe(record(), "long")


def test_a_jump_with_straight_legs_is_not_called_standing():
    joints = np.array(ASYMMETRIC)
    joints[[4, 5]] = joints[[1, 0]] * (-1, 1) + (WIDTH, 0)  # left leg straight as the right one
    assert any("standing" in text for text in texts(record(joints, activity="")))
    assert not any("standing" in text for text in texts(record(joints, activity="jumping")))


# ------------------------------------------------------------------------------------------ language


@pytest.mark.parametrize(
    ("name", "full", "short"),
    [
        ("jumping", "One person is shown jumping.", "One person is shown jumping."),
        ("riding_a_bike", "One person is shown riding a bike.", "One person is shown riding a bike."),
        (
            "bicycling, mountain",
            "One person is shown bicycling (mountain).",
            "One person is shown bicycling (mountain).",
        ),
        (
            "standing on a rock, holding a sling",
            "One person is shown standing on a rock, holding a sling.",
            "One person is shown standing on a rock.",
        ),
        (
            "yoga, Power",
            "One person is shown; the activity is labelled yoga (Power).",
            "The activity of one person is labelled yoga (Power).",
        ),
        (
            "cooking or food preparation",
            "One person is shown; the activity is labelled cooking or food preparation.",
            "The activity of one person is labelled cooking or food preparation.",
        ),
        (
            "sports, curling",
            "One person is shown; the activity is labelled sports (curling).",
            "The activity of one person is labelled sports (curling).",
        ),
        (
            "canoeing, on camping trip (Taylor Code 270)",
            "One person is shown canoeing (on camping trip).",
            "One person is shown canoeing (on camping trip).",
        ),
        ("fishing, general", "One person is shown fishing.", "One person is shown fishing."),
    ],
)
def test_activities_become_sentences(name, full, short):
    assert sentences(texts(record(activity=name))[1])[0] == full
    assert sentences(texts(record(activity=name), "short")[1])[0] == short


def test_several_people_take_the_plural():
    image = random_record(3, people=2)
    image = dataclasses.replace(image, activity="jumping", people_complete=True)
    assert texts(image)[0].startswith("There are two people in the image who are jumping. ")
    image = dataclasses.replace(image, people_complete=False)
    assert texts(image)[1].startswith("People are shown jumping. ")


def test_many_people_stay_readable():
    for seed in range(30):
        image = dataclasses.replace(random_record(seed, people=14), activity="", people_complete=True)
        for text in texts(image):
            assert len(text.split()) <= 320
            assert "fourteen people" in text.lower()
            assert re.search(r"Ten (more|other) people are in the image\.$", text)


def test_numbers_in_words():
    assert [opening.number(n) for n in (1, 11, 20, 42, 99, 100)] == [
        "one",
        "eleven",
        "twenty",
        "forty-two",
        "ninety-nine",
        "100",
    ]


def test_lengths():
    for seed in range(300):
        image = random_record(seed, people=1)
        assert all(len(text.split()) <= SHORT_WORDS for text in texts(image, "short"))
        assert all(len(text.split()) <= 200 for text in texts(image))
    complete = [generate(Figures(seed=2, count=60), index)[0] for index in range(60)]
    lengths = [len(text.split()) for image in complete for text in texts(image)]
    assert np.percentile(lengths, 1) >= 60


def test_spelling_and_punctuation():
    for seed in range(400):
        for text in all_texts(random_record(seed)):
            assert "  " not in text
            assert text == text.strip()
            assert not re.search(r"\s[.,;]|[.,;]{2}|\{|\}|\bNone\b|\bnan\b", text), text
            assert not re.search(r"\b(a [aeiou]|an [^aeiou])", text.lower()), text
            assert not re.search(r"\b(\w+) \1\b", text.lower()), text
            assert not GENDERED.search(text), text
            for sentence in sentences(text):
                assert sentence[0].isupper(), text
                assert sentence.endswith("."), text


def test_every_mpii_activity_fits_a_sentence(shared_data):
    with open(shared_data / "mpii" / "activities.csv", newline="") as file:
        names = [row["activity"] for row in csv.DictReader(file)]
    for name in names:
        verb, label, remark = opening.words(name)
        assert bool(verb) != bool(label), name
        assert not re.search(r"[()_]|  |^[ ,]|[ ,]$", verb + label + remark), name
        image = record(activity=name)
        for text in all_texts(image):
            assert Oracle(image).wrong(sentences(text)[0]) == [], text
            assert "  " not in text
        assert all(len(text.split()) <= SHORT_WORDS for text in texts(image, "short"))


# ------------------------------------------------------------------------------ variety, determinism


def test_wordings_differ():
    for seed in range(300):
        image = random_record(seed)
        for detail in ("full", "short"):
            assert len(set(texts(image, detail))) == WORDINGS, image.image_id


def test_wordings_vary_from_image_to_image():
    distinct = {
        sentence
        for seed in range(1000)
        for text in texts(random_record(seed))
        for sentence in sentences(text)
    }
    assert len(distinct) > 3500
    same_pose = {texts(record(image_id=f"{n}.jpg"))[0] for n in range(100)}
    assert len(same_pose) > 90


def test_the_last_short_wording_is_the_pose_alone():
    captions = texts(record(), "short")
    assert all("jumping" in text for text in captions[:3])
    assert "jumping" not in captions[3]
    assert "person" not in captions[3]


def test_short_vocabulary_is_small():
    images = (dataclasses.replace(random_record(seed, people=1), activity="") for seed in range(500))
    vocabulary = {
        word
        for image in images
        for text in texts(image, "short")
        for word in re.findall(r"\w+", text.lower())
    }
    assert len(vocabulary) < 90


def test_who_wrote_it():
    assert [d.source for d in describe(record())] == [f"geometry-1/{n}" for n in range(WORDINGS)]
    assert {d.image_id for d in describe(record())} == {"photo.jpg"}


def test_captions_do_not_depend_on_the_process():
    program = "from test_geometry_describer import record, all_texts; print('\\n'.join(all_texts(record())))"
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines() == all_texts(record())


TWO_PEOPLE = ImageRecord(
    image_id="two.jpg",
    people=(person(ASYMMETRIC), person(np.array(ASYMMETRIC) * 0.5 + (200, 100))),
    width=WIDTH,
    height=HEIGHT,
    activity="yoga, Power",
)
GOLDEN = [
    (
        record(),
        "full",
        0,
        "There is one person in the image who is jumping. The pose is characterised by an upright torso,"
        " one bent leg, one straight leg and one raised arm. The person is in the centre of the image. "
        "The person's left leg is clearly bent at the knee, with the knee about level with the hip and "
        "the lower leg close to vertical. Their right leg is straight, with the thigh close to vertical."
        " The left foot is higher than the right one. The feet are wide apart. Their left arm is raised,"
        " with the wrist above the head and the elbow above the shoulder. The right arm hangs straight "
        "down, with the hand near the right hip. The left hand is higher than the right one. The hands "
        "are wide apart. The upper body is upright and is seen from the front. Their head is held "
        "upright and in line with the torso.",
    ),
    (
        record(),
        "short",
        3,
        "The left arm is raised above the head; the right arm is hanging down; the left knee is raised "
        "and bent; the right leg is straight.",
    ),
    (
        TWO_PEOPLE,
        "full",
        1,
        "Two people are shown; the activity is labelled yoga (Power). Everyone described here has an "
        "upright torso, a bent knee and a raised arm. The first person is in the centre of the image. "
        "The left arm is raised above the head; the right arm is hanging down. The left knee is raised "
        "and bent; the right leg is straight; the feet are wide apart. The torso is upright. The head is"
        " upright and in line with the torso. The second person is on the right side of the image. The "
        "left arm is raised above the head; the right arm is hanging down. The left knee is raised and "
        "bent; the right leg is straight; the feet are wide apart. The torso is upright. The head is "
        "upright and in line with the torso.",
    ),
]


@pytest.mark.parametrize(("image", "detail", "wording", "text"), GOLDEN)
def test_golden_captions(image, detail, wording, text):
    """These change only together with `VERSION`."""
    assert texts(image, detail)[wording] == text
