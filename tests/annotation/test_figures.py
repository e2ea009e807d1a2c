import collections
import hashlib
import itertools
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

from annotation import records, schema
from annotation.errors import UserError
from annotation.sources.figures import (
    ACTIVITIES,
    HELD_OUT,
    TRAINED,
    Figures,
    contact_sheet,
    drawing,
    generate,
    generator,
    scenes,
)
from annotation.sources.figures import body as bodies
from annotation.sources.figures.activities import mirrored

JOINT = {name: index for index, name in enumerate(schema.JOINT_NAMES)}
ALL = TRAINED + HELD_OUT


def joints_of(figures):
    """(N, 16, 2) joints of the first person of each image, and the N activities."""
    rows = [generate(figures, index)[0] for index in range(figures.count)]
    return np.array([row.people[0].joints for row in rows]), np.array([row.activity for row in rows])


@pytest.fixture(scope="module")
def poses():
    return joints_of(Figures(seed=5, count=24 * 100, size=32, activities="all"))


def test_an_image_depends_on_parameters_and_index_alone():
    figures = Figures(seed=3, count=100)
    record, image = generate(figures, 41)
    generate(figures, 7)
    again, same = generate(Figures(seed=3, count=50), 41)  # a smaller set is the beginning of a larger one
    assert same.tobytes() == image.tobytes()
    assert records.to_json(again) == records.to_json(record)


def test_images_and_joints_are_the_same_on_every_machine():
    """Exact, without tolerance: joints are rounded to 1/1000 pixel and drawn with whole-numbered polygons."""
    figures = Figures(seed=1, count=24, activities="all", people=2, scale=0.6, clutter=0.3, occlusion=0.5)
    pictures, positions = hashlib.sha256(), hashlib.sha256()
    for index in range(figures.count):
        record, image = generate(figures, index)
        pictures.update(image.tobytes())
        for person in record.people:
            positions.update(np.rint(person.joints * 1000).astype("<i8").tobytes())
    assert positions.hexdigest()[:16] == "8c80f6117b564cd5"
    assert pictures.hexdigest()[:16] == "20ae684609212175"


def test_neighbouring_images_share_no_random_numbers():
    figures = Figures(seed=1, count=3)
    draws = [generator.random_numbers(figures, index).random(1000) for index in range(3)]
    assert len(np.unique(draws)) == 3000


def test_image_ids_differ_between_all_data_sets():
    variants = [
        Figures(seed=seed, count=2, activities=activities, styles=styles, clutter=clutter)
        for seed in (1, 2)
        for activities in ("trained", "held-out", "all")
        for styles in ("train", "test", "all")
        for clutter in (0.0, 0.5)
    ]
    ids = [generate(figures, index)[0].image_id for figures in variants for index in range(2)]
    assert len(set(ids)) == len(ids) == 72
    assert all(name.endswith(".jpg") and "/" not in name for name in ids)


def test_other_styles_show_other_people():
    """A test set in other styles must not repeat the poses of the training set of the same seed."""
    train = generate(Figures(seed=1, count=1), 0)[0].people[0].joints
    test = generate(Figures(seed=1, count=1, styles="test"), 0)[0].people[0].joints
    assert np.abs(train - test).max() > 1


@pytest.mark.parametrize(
    ("activities", "names"), [("trained", TRAINED), ("held-out", HELD_OUT), ("all", ALL)]
)
def test_activities_are_balanced(activities, names):
    figures = Figures(seed=1, count=100, size=16, activities=activities)
    counts = collections.Counter(generate(figures, index)[0].activity for index in range(100))
    assert set(counts) == set(names)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_sixteen_activities_are_trained_and_eight_others_held_out():
    assert len(TRAINED) == 16
    assert len(HELD_OUT) == 8
    assert not set(TRAINED) & set(HELD_OUT)
    assert set(ACTIVITIES) == set(ALL)
    assert {activity.scene for activity in ACTIVITIES.values()} == set(scenes.SCENES)
    assert len(scenes.SCENES) == 24
    assert all(name.split()[0].endswith("ing") for name in ALL), "names complete 'A person is …'"


def test_a_record_says_what_it_is():
    figures = Figures(seed=1, count=20, size=48, people=3, scale=0.5)
    for index in range(20):
        record, image = generate(figures, index)
        assert image.size == (record.width, record.height) == (48, 48)
        assert image.mode == "RGB"
        assert record.extra["synthetic"] is True
        assert record.extra["scene"] in scenes.SCENES
        assert record.category == ACTIVITIES[record.activity].category != ""
        assert record.people_complete
        assert 1 <= len(record.people) <= 3
        again = records.from_json(records.to_json(record), "here")
        assert records.to_json(again) == records.to_json(record)
        for person in record.people:
            assert (person.visibility == schema.LABELLED).all()


def test_the_number_of_people_is_drawn_from_one_to_people():
    figures = Figures(seed=1, count=300, size=16, people=3, scale=0.5)
    counts = collections.Counter(len(generate(figures, index)[0].people) for index in range(300))
    assert set(counts) == {1, 2, 3}
    assert min(counts.values()) > 60


def test_training_and_test_styles_are_disjoint():
    seen = {
        styles: {
            generate(Figures(seed=1, count=100, size=16, styles=styles), index)[0].extra["style"]
            for index in range(100)
        }
        for styles in ("train", "test", "all")
    }
    assert not seen["train"] & seen["test"]
    assert seen["train"] | seen["test"] == seen["all"]
    colors = [
        {c for style in group for c in style.clothes} for group in (drawing.TRAIN_STYLES, drawing.TEST_STYLES)
    ]
    assert not colors[0] & colors[1]


@pytest.mark.parametrize("correlation", [0.0, 0.6, 1.0])
def test_the_background_goes_with_the_activity_as_often_as_asked(correlation):
    n = 1200
    figures = Figures(seed=9, count=n, size=16, activities="held-out", correlation=correlation)
    rows = [generate(figures, index)[0] for index in range(n)]
    own = np.array([row.extra["scene"] == ACTIVITIES[row.activity].scene for row in rows])
    assert [row.extra["own_scene"] for row in rows] == own.tolist()
    p = correlation + (1 - correlation) / 24
    assert abs(own.mean() - p) <= 4 * np.sqrt(p * (1 - p) / n)
    if correlation == 0:  # and otherwise every scene is as likely, those of trained activities too
        counts = collections.Counter(row.extra["scene"] for row in rows)
        chi_square = sum((counts[name] - n / 24) ** 2 / (n / 24) for name in scenes.SCENES)
        assert chi_square < 49.7  # 23 degrees of freedom: exceeded once in 1,000


def test_a_lone_figure_has_the_size_asked_for_and_lies_inside_the_image(poses):
    joints, _ = poses
    box = joints.max(1) - joints.min(1)
    extent = box.max(1) / 32
    # 0.85 to 1 of the default 0.92, less hands, feet and half a limb that reach beyond the joints.
    assert extent.max() <= 0.92
    assert np.quantile(extent, 0.02) > 0.6
    assert ((joints >= 0) & (joints <= 31)).all()
    small, _ = joints_of(Figures(seed=5, count=48, size=32, scale=0.4, activities="all"))
    assert (small.max(1) - small.min(1)).max() <= 0.4 * 32


def test_canvas_coordinates_are_pixel_centres():
    """A disc drawn on the canvas is where `image_pixels` says, measured by its centre of mass."""
    side = 64 * generator.ZOOM
    canvas = Image.new("L", (side, side))
    at = np.array([51.0, 77.0])
    disc = drawing.outlines(np.array([[*at, *at, 12.0, 12.0]]))[0]
    ImageDraw.Draw(canvas).polygon(disc, 255)
    weight = np.asarray(canvas.reduce(generator.ZOOM), float)
    rows, columns = np.mgrid[:64, :64]
    centre = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    np.testing.assert_allclose(generator.image_pixels(at), centre, atol=0.1)


def test_joints_lie_on_the_drawn_bodies(monkeypatch):
    figures = Figures(seed=2, count=48, size=128, activities="all", styles="all", clutter=0.3)
    drawn = [generate(figures, index) for index in range(48)]
    monkeypatch.setattr(drawing, "draw_parts", lambda *args, **kwargs: [])
    on_body, elsewhere = [], []
    for index, (record, image) in enumerate(drawn):
        background = generate(figures, index)[1]
        changed = np.abs(np.asarray(image, int) - np.asarray(background, int)).max(-1) > 6
        joints = np.rint(record.people[0].joints).astype(int)
        on_body.append(changed[joints[:, 1], joints[:, 0]])
        moved = np.clip(joints + np.array((30, 0)), 0, 127)
        elsewhere.append(changed[moved[:, 1], moved[:, 0]])
    assert np.mean(on_body) > 0.99  # a sleeve may happen to have the colour of the wall behind it
    assert np.mean(elsewhere) < 0.4


def test_a_person_whose_face_is_seen_has_the_left_shoulder_at_image_right(monkeypatch):
    """Whether the face is seen is read off the picture: red skin or blue hair where the head is."""
    red, blue, grey = (255, 0, 0), (0, 0, 255), (128, 128, 128)
    outfit = drawing.Outfit(red, blue, grey, grey, grey, 2, "trousers", long_hair=False, hat=False)
    monkeypatch.setattr(drawing, "random_outfit", lambda style, rng: outfit)
    figures = Figures(seed=4, count=16 * 60, size=64)
    checked = collections.Counter()
    for index in range(0, figures.count, 16):
        record, image = generate(figures, index)
        assert record.activity == "standing still"
        joints = record.people[0].joints
        x, y = np.rint((joints[JOINT["upper neck"]] + joints[JOINT["head top"]]) / 2).astype(int)
        head = np.asarray(image.crop((x - 2, y - 2, x + 3, y + 3)), int)
        redness = (head[..., 0] - head[..., 2]).mean() / 255
        left, right = joints[JOINT["left shoulder"], 0], joints[JOINT["right shoulder"], 0]
        if abs(left - right) < 5:  # seen from the side
            continue
        assert (left > right) == (redness > -0.5), f"image {index}"
        checked["face" if left > right else "back"] += 1
    assert checked["face"] > 8
    assert checked["back"] > 8


def test_bodies_are_right_handed_whatever_they_do():
    """Own left × up = forward, also upside down and in mirrored poses."""
    for activity in ACTIVITIES.values():
        for pose in itertools.chain(*activity.motions):
            for variant in (pose, mirrored(pose)):
                body = bodies.posed(variant, bodies.Build(), 75, bodies.rotation(0, 10))
                p = body.points
                across = p[bodies.L_SHOULDER] - p[bodies.R_SHOULDER]
                forward = np.cross(across, p[bodies.THORAX] - p[bodies.PELVIS])
                assert forward @ body.facing > 0.01, activity.name


def test_yaw_turns_a_person_to_image_right():
    facing = [bodies.posed(np.zeros(20), bodies.Build(), yaw, np.eye(3)).facing for yaw in (0, 90, 180, -90)]
    np.testing.assert_allclose(facing, [(0, 0, 1), (1, 0, 0), (0, 0, -1), (-1, 0, 0)], atol=1e-9)


def test_a_mirrored_pose_is_the_mirror_image_with_left_and_right_swapped():
    rng = np.random.default_rng(0)
    for activity in ACTIVITIES.values():
        pose = bodies.jittered(activity.motions[0][0], rng)
        body = bodies.posed(pose, bodies.Build(), 50, np.eye(3))
        other = bodies.posed(mirrored(pose), bodies.Build(), -50, np.eye(3))
        reflected = body.points[list(schema.MIRRORED)] * (-1, 1, 1)
        np.testing.assert_allclose(other.points[: schema.JOINT_COUNT], reflected, atol=1e-9)


def test_knees_do_not_bend_forward():
    rng = np.random.default_rng(0)
    for activity in ACTIVITIES.values():
        for start, end in activity.motions:
            if start[18:].any():  # the whole body is turned: z is not forward
                continue
            for _ in range(20):
                pose = bodies.jittered(start + rng.random() * (end - start), rng)
                p = bodies.posed(pose, bodies.Build(), 0, np.eye(3)).points
                for hip, knee, ankle in (
                    (bodies.L_HIP, bodies.L_KNEE, bodies.L_ANKLE),
                    (bodies.R_HIP, bodies.R_KNEE, bodies.R_ANKLE),
                ):
                    thigh, shin = p[knee] - p[hip], p[ankle] - p[knee]
                    ahead = shin[2] / np.linalg.norm(shin) - thigh[2] / np.linalg.norm(thigh)
                    assert ahead < 0.25, activity.name


def test_thorax_and_pelvis_are_the_middles_of_shoulders_and_hips(poses):
    joints, _ = poses
    for middle, left, right in (
        ("thorax", "left shoulder", "right shoulder"),
        ("pelvis", "left hip", "right hip"),
    ):
        mean = (joints[:, JOINT[left]] + joints[:, JOINT[right]]) / 2
        np.testing.assert_allclose(joints[:, JOINT[middle]], mean, atol=0.01)


def test_activities_differ_in_their_poses_alone(poses):
    """Nearest neighbour on joints, without any pixel: centred and scaled to the figure's own box."""

    def normalised(joints):
        low, high = joints.min(1, keepdims=True), joints.max(1, keepdims=True)
        return ((joints - (low + high) / 2) / (high - low).max(-1, keepdims=True)).reshape(len(joints), -1)

    known, names = normalised(poses[0]), poses[1]
    others, truth = joints_of(Figures(seed=6, count=24 * 10, size=32, activities="all"))
    distances = ((normalised(others)[:, None] - known) ** 2).sum(-1)
    right = names[distances.argmin(1)] == truth
    assert right.mean() > 0.95
    for name in ALL:
        assert right[truth == name].mean() >= 0.8, name


def angle(joints, a, b, c):
    """Degrees at joint b between a and c, as seen in the image; (N,)."""
    u, v = joints[:, JOINT[a]] - joints[:, JOINT[b]], joints[:, JOINT[c]] - joints[:, JOINT[b]]
    cosine = (u * v).sum(-1) / np.sqrt((u * u).sum(-1) * (v * v).sum(-1))
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def height(joints, name):
    return -joints[:, JOINT[name], 1]


def arms_raised(joints):
    top = np.maximum(height(joints, "head top"), height(joints, "upper neck"))
    return [height(joints, f"{side} wrist") > top for side in ("left", "right")]


def one_bent_knee(joints):
    bent = [angle(joints, f"{s} hip", f"{s} knee", f"{s} ankle") < 130 for s in ("left", "right")]
    return bent[0] ^ bent[1]


def legs_spread(joints):
    ankles = joints[:, JOINT["left ankle"]] - joints[:, JOINT["right ankle"]]
    hips = joints[:, JOINT["left hip"]] - joints[:, JOINT["right hip"]]
    return np.linalg.norm(ankles, axis=-1) > 2.5 * np.linalg.norm(hips, axis=-1)


def upside_down(joints):
    return height(joints, "head top") < height(joints, "pelvis")


def sitting(joints):
    legs = np.abs(height(joints, "left hip") - height(joints, "left ankle"))
    return legs < 0.9 * np.abs(height(joints, "thorax") - height(joints, "pelvis")) * 1.3


# What each held-out description says, as a check on the joints in the image.
CLAIMS = {
    "doing jumping jacks": lambda j: np.logical_and(*arms_raised(j)) & legs_spread(j),
    "kneeling with both arms raised": lambda j: (
        np.logical_and(*arms_raised(j))
        & (height(j, "left knee") < height(j, "left hip") - 3)
        & (np.abs(height(j, "left ankle") - height(j, "left knee")) < 3.5)
    ),
    "waving from a chair": lambda j: np.logical_xor(*arms_raised(j)) & sitting(j),
    "doing a lunge with the arms up": lambda j: (
        np.logical_and(*arms_raised(j))
        & (np.abs(j[:, JOINT["left ankle"], 0] - j[:, JOINT["right ankle"], 0]) > 5)
    ),
    "doing an overhead squat": lambda j: np.logical_and(*arms_raised(j)) & sitting(j),
    "doing the tree pose": lambda j: np.logical_and(*arms_raised(j)) & one_bent_knee(j),
    "doing a cartwheel": lambda j: upside_down(j) & legs_spread(j),
    "preparing to dive": lambda j: (
        (
            np.abs(height(j, "thorax") - height(j, "pelvis"))
            < np.abs(j[:, JOINT["thorax"], 0] - j[:, JOINT["pelvis"], 0])
        )
        & (angle(j, "left wrist", "left shoulder", "left hip") > 140)
        & (angle(j, "left hip", "left knee", "left ankle") > 150)
    ),
}


@pytest.mark.parametrize("name", HELD_OUT)
def test_held_out_poses_are_what_their_descriptions_say(poses, name):
    joints, names = poses
    assert CLAIMS[name](joints[names == name]).mean() > 0.95
    # and the description would not do for the trained activities
    for other in TRAINED:
        assert CLAIMS[name](joints[names == other]).mean() < 0.5, other


def test_a_hidden_joint_is_flagged_and_no_other(monkeypatch):
    figures = Figures(seed=2, count=60, size=96, occlusion=0.8)
    drawn = [generate(figures, index) for index in range(60)]
    monkeypatch.setattr(generator, "_object", lambda *args: [])
    hidden = 0
    for index, (record, image) in enumerate(drawn):
        bare = generate(figures, index)[1]
        person = record.people[0]
        changed = np.abs(np.asarray(image, int) - np.asarray(bare, int)).max(-1) > 0
        x, y = np.rint(person.joints).astype(int).T
        assert not (person.occluded & ~_dilated(changed)[y, x]).any(), f"image {index}"
        assert not (_interior(changed)[y, x] & ~person.occluded).any(), f"image {index}"
        hidden += person.occluded.any()
    assert 30 < hidden < 60  # about 0.8 of the people have an object, a few of which cover no joint


def test_an_unhindered_person_has_no_hidden_joint():
    figures = Figures(seed=2, count=30, size=32, clutter=1.0, activities="all")
    assert not any(generate(figures, index)[0].people[0].occluded.any() for index in range(30))


def test_joints_behind_a_nearer_person_are_flagged(monkeypatch):
    figures = Figures(seed=2, count=40, size=96, people=3, scale=0.7)
    complete = [generate(figures, index) for index in range(40)]
    draw_parts, remaining = drawing.draw_parts, [0]

    def first_person_only(*args, **kwargs):
        remaining[0] -= 1
        return draw_parts(*args, **kwargs) if remaining[0] == 0 else []

    monkeypatch.setattr(drawing, "draw_parts", first_person_only)
    flagged = 0
    for index, (record, image) in enumerate(complete):
        remaining[0] = 1
        alone = generate(figures, index)[1]
        farthest = record.people[0]
        changed = np.abs(np.asarray(image, int) - np.asarray(alone, int)).max(-1) > 0
        x, y = np.rint(farthest.joints).astype(int).T
        assert not (farthest.occluded & ~_dilated(changed)[y, x]).any(), f"image {index}"
        assert not (_interior(changed)[y, x] & ~farthest.occluded).any(), f"image {index}"
        flagged += farthest.occluded.sum()
        assert not record.people[-1].occluded.any(), "nobody is before the nearest"
    assert flagged > 40


def _dilated(mask):
    padded = np.pad(mask, 1)
    h, w = mask.shape
    return np.any([padded[r : r + h, c : c + w] for r in range(3) for c in range(3)], 0)


def _interior(mask):
    return ~_dilated(~mask)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", -1),
        ("seed", 1.5),
        ("count", 0),
        ("count", True),
        ("size", 8),
        ("people", 0),
        ("clutter", 1.1),
        ("occlusion", -0.1),
        ("correlation", float("nan")),
        ("scale", 0),
        ("scale", "large"),
        ("activities", "test"),
        ("styles", "held-out"),
    ],
)
def test_a_wrong_parameter_is_named(field, value):
    with pytest.raises(UserError, match=f"figures: {field} must be .*{value!r}"):
        Figures(**{"seed": 1, "count": 10, field: value})


@pytest.mark.parametrize("index", [-1, 10])
def test_an_index_outside_the_data_set_is_refused(index):
    with pytest.raises(UserError, match="images 0 to 9"):
        generate(Figures(seed=1, count=10), index)


def test_a_contact_sheet_shows_the_images_row_by_row():
    figures = Figures(seed=1, count=10, size=16)
    sheet = contact_sheet(figures, range(5), columns=3)
    assert sheet.size == (48, 32)
    assert sheet.crop((16, 16, 32, 32)).tobytes() == generate(figures, 4)[1].tobytes()


def test_figures_need_neither_jax_nor_network():
    code = "import sys, annotation.sources.figures; sys.exit(not {'jax', 'openai'}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def described(**parameters):
    """Joints (N, 16, 2), activities and scenes of a data set whose scenes have a stream of their own."""
    figures = Figures(count=48, size=32, activities="all", styles="test", **parameters)
    rows = [generate(figures, index)[0] for index in range(figures.count)]
    joints = np.array([row.people[0].joints for row in rows])
    return joints, [row.activity for row in rows], [row.extra["scene"] for row in rows]


def test_the_same_people_can_stand_in_other_scenes():
    joints, activities, scenes_ = described(seed=4, scenes=1)
    for other in ({"scenes": 2}, {"scenes": 2, "correlation": 0.7}):
        same_joints, same_activities, other_scenes = described(seed=4, **other)
        np.testing.assert_array_equal(same_joints, joints)
        assert same_activities == activities
        assert sum(a == b for a, b in zip(scenes_, other_scenes, strict=True)) < 12


def test_other_people_can_stand_in_the_same_scenes():
    joints, activities, scenes_ = described(seed=4, scenes=1)
    other_joints, other_activities, same_scenes = described(seed=5, scenes=1)
    assert same_scenes == scenes_
    assert all(a != b for a, b in zip(activities, other_activities, strict=True))
    assert not np.isclose(joints, other_joints).all(axis=(1, 2)).any()
    figures = [Figures(seed=seed, count=48, scenes=1, scale=0.3) for seed in (4, 5)]
    corners = [np.asarray(generate(f, index)[1])[0] for index in range(8) for f in figures]
    assert all((a == b).all() for a, b in zip(corners[::2], corners[1::2], strict=True))


def test_confirmation_shows_styles_that_no_other_set_shows():
    shown = {
        styles: {
            generate(Figures(seed=1, count=60, size=16, styles=styles), index)[0].extra["style"]
            for index in range(60)
        }
        for styles in ("all", "confirmation")
    }
    assert len(shown["all"]) == 7
    assert len(shown["confirmation"]) == 3
    assert not shown["all"] & shown["confirmation"]
