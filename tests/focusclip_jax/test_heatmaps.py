import csv
import json

import numpy as np
import PIL.Image
import pytest

from annotation import schema
from focusclip_jax.data.augment import View, whole
from focusclip_jax.data.heatmaps import original_joints, render

GROUPS = [
    (7, 8, 9, 12, 13),
    (6, 7, 12, 13, 2, 3),
    (13, 14, 7),
    (12, 11, 7),
    (14, 15, 13),
    (11, 10, 12),
    (3, 4, 6),
    (2, 1, 6),
    (4, 5, 3),
    (1, 0, 2),
]


def full_resolution(people, height, width):
    """The 2023 algorithm as the paper's facts state it: one Gaussian after another over all pixels.

    people: lists of 16 (x, y), or None where missing. A zero half-axis counts as half a pixel.
    """
    y, x = np.mgrid[:height, :width].astype(np.float64)
    total = np.zeros((height, width))
    for joints in people:
        for group in GROUPS:
            seen = [(int(joints[j][0]), int(joints[j][1])) for j in group if joints[j] is not None]
            if len(seen) < 2:
                continue
            xs, ys = zip(*seen, strict=True)
            cx, cy = (min(xs) + max(xs)) // 2, (min(ys) + max(ys)) // 2
            ax, ay = max((max(xs) - min(xs)) // 2, 0.5), max((max(ys) - min(ys)) // 2, 0.5)
            total += np.exp(-((x - cx) ** 2 / (2 * ax**2) + (y - cy) ** 2 / (2 * ay**2)))
    return np.clip(total, 0, 1)


def shrink(heatmap, size, box=None):
    picture = PIL.Image.fromarray(heatmap.astype(np.float32))
    return np.asarray(picture.resize((size[1], size[0]), PIL.Image.Resampling.BILINEAR, box=box))


def arrays(people):
    visibility = np.array([[2 if j is not None else schema.MISSING for j in p] for p in people]).reshape(
        -1, 16
    )
    joints = np.array([[j if j is not None else (np.nan, np.nan) for j in p] for p in people], float)
    return joints.reshape(-1, 16, 2), visibility


def person(rng, height, width, missing=0.1):
    """A person of a plausible shape somewhere in the image, some of it perhaps outside."""
    tall = rng.uniform(0.3, 0.9) * height
    centre = rng.uniform(0.2, 0.8, 2) * (width, height)
    legs = [(-1, 5), (-1, 3), (-1, 0), (1, 0), (1, 3), (1, 5)]
    trunk = [(0, 0), (0, -4), (0, -5), (0, -6.5)]
    arms = [(-3, 0), (-3, -2), (-1.5, -4), (1.5, -4), (3, -2), (3, 0)]
    stance = np.array(legs + trunk + arms)
    joints = centre + (stance + rng.normal(0, 0.8, (16, 2))) * tall / 12
    return [None if rng.random() < missing else (float(x), float(y)) for x, y in joints]


def test_the_parts_are_the_ten_of_the_paper():
    assert [set(joints) for joints in schema.PARTS.values()] == [set(group) for group in GROUPS]
    members = {frozenset(g) for g in GROUPS}
    assert {frozenset(schema.MIRRORED[j] for j in g) for g in GROUPS} == members


@pytest.mark.parametrize(("height", "width"), [(720, 1280), (480, 854), (300, 200), (224, 224)])
@pytest.mark.parametrize("count", [1, 3])
def test_the_whole_image_is_as_the_full_resolution_rendering_shrunk(height, width, count):
    rng = np.random.default_rng(height + count)
    people = [person(rng, height, width) for _ in range(count)]
    expected = shrink(full_resolution(people, height, width), (224, 224))
    result = render(*arrays(people), whole(height, width), (224, 224))
    assert result.dtype == np.float32
    assert expected.max() > 0.5
    assert np.abs(result - expected).mean() <= 3e-4
    assert np.corrcoef(result.ravel(), expected.ravel())[0, 1] > 0.9995


def test_a_mirrored_crop_is_the_crop_mirrored():
    rng = np.random.default_rng(0)
    height, width = 360, 640
    people = [person(rng, height, width)]
    left, top, right, bottom = 100.25, 40.5, 500.0, 330.75
    expected = shrink(full_resolution(people, height, width), (96, 128), (left, top, right, bottom))[:, ::-1]
    view = View(left, top, right - left, bottom - top, mirrored=True)
    result = render(*arrays(people), view, (96, 128))
    assert np.abs(result - expected).mean() < 5e-4


def test_enlarging_a_small_image_does_not_blur_it():
    rng = np.random.default_rng(3)
    people = [person(rng, 60, 80, missing=0)]
    expected = shrink(full_resolution(people, 60, 80), (224, 224))
    assert np.abs(render(*arrays(people), whole(60, 80), (224, 224)) - expected).mean() < 2e-3


def test_joints_are_truncated_towards_zero_and_centres_floored_as_in_the_reference():
    joints = [None] * 16
    joints[2], joints[1] = (-3.9, 10.9), (20.2, 31.7)  # right hip and knee, one outside the image
    expected = full_resolution([joints], 64, 64)
    np.testing.assert_allclose(render(*arrays([joints]), whole(64, 64), (64, 64)), expected, atol=0.02)


@pytest.mark.parametrize(
    "joints",
    [
        {},
        {9: (30, 30)},
        {9: (30, 30), 0: (50, 50)},  # one joint in each of two parts
        {13: (30, 30), 14: (30, 30)},  # both half-axes zero
        {13: (30, 10), 14: (30, 50), 15: (30, 63)},  # a vertical arm
        {2: (-50, -50), 1: (20, 90)},  # both outside, the part is not
        dict.fromkeys(range(16), (31, 31)),
    ],
)
def test_degenerate_people_stay_finite_and_only_parts_with_two_joints_are_drawn(joints):
    people = [[joints.get(j) for j in range(16)]]
    result = render(*arrays(people), whole(64, 64), (32, 32))
    assert np.isfinite(result).all()
    assert result.min() >= 0
    assert result.max() <= 1
    drawn = any(sum(j in joints for j in group) >= 2 for group in GROUPS)
    assert (result.max() > 1e-3) == drawn


def test_nobody_is_an_empty_heatmap():
    result = render(np.zeros((0, 16, 2)), np.zeros((0, 16)), whole(48, 64), (24, 24))
    np.testing.assert_array_equal(result, np.zeros((24, 24), np.float32))


@pytest.mark.parametrize(
    ("original", "stored"),
    [(1280, 455), (720, 256), (1920, 224), (1170, 224), (854, 256), (2001, 97), (640, 640), (333, 1000)],
)
def test_whole_pixel_joints_survive_storing_exactly(original, stored):
    coordinates = np.arange(-100, 2001)
    packed = ((coordinates + 0.5) * (stored / original) - 0.5).astype(np.float32)
    joints = np.stack([packed, packed], -1)[None]
    restored = original_joints(joints, (stored, stored), (original, original))
    np.testing.assert_array_equal(np.trunc(restored[0, :, 0]), coordinates)


def difference(height, width, people):
    expected = shrink(full_resolution(people, height, width), (224, 224))
    return np.abs(render(*arrays(people), whole(height, width), (224, 224)) - expected).mean()


@pytest.mark.parametrize("rows", [10, pytest.param(300, marks=pytest.mark.slow)])
def test_real_people_look_as_in_the_full_resolution_rendering(shared_data, rows):
    with open(shared_data / "mpii" / "mpii_human_pose.csv", newline="") as file:
        lines = list(csv.reader(file))[1:]
    errors = []
    for line in lines[:: len(lines) // rows]:
        points = np.array(line[2:34], float).reshape(16, 2)
        joints = [None if (p == -1).all() else tuple(p - 1) for p in points]  # 1-based, -1 where missing
        errors.append(difference(720, 1280, [joints]))  # the file states no sizes; this is the commonest
    assert np.mean(errors) <= 3e-4
    assert max(errors) <= 1e-3


def test_people_of_real_photographs_look_as_in_the_full_resolution_rendering(shared_data):
    people = json.loads((shared_data / "mpii_images" / "test_mpii.json").read_text())
    for row in people:
        with PIL.Image.open(shared_data / "mpii_images" / row["image"]) as photograph:
            width, height = photograph.size
        joints = [tuple(j) if v else None for j, v in zip(row["joints"], row["joints_vis"], strict=True)]
        assert difference(height, width, [joints]) <= 3e-4
    assert len(people) == 5
