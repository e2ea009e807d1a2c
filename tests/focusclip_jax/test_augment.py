import re

import numpy as np
import pytest

from annotation import schema
from focusclip_jax.data import augment, images
from focusclip_jax.data.augment import fitted, mirror_text, random_view, uniforms, view_joints, whole

SIZE = (160, 200)


def views(count, height, width, flip=0.5):
    for randoms in uniforms(0, np.arange(count), augment.RANDOMS_PER_VIEW):
        yield random_view(randoms, height, width, area=(0.4, 1.0), aspect=1.4, flip=flip)


def show(image, view):
    box = (view.left, view.top, view.left + view.width, view.top + view.height)
    seen = images.resize(image, box, SIZE)
    return seen[:, ::-1] if view.mirrored else seen


def test_dots_painted_at_the_joints_are_where_the_moved_joints_say():
    rng = np.random.default_rng(0)
    height, width = 240, 320
    grid = [(x, y) for y in (36, 92, 148, 204) for x in (40, 120, 200, 280)]
    joints = (np.array(grid) + rng.uniform(-14, 14, (16, 2)))[None]
    visibility = np.full((1, 16), schema.LABELLED)
    y, x = np.mgrid[:height, :width]
    checked = 0
    for view in views(20, height, width):
        moved, _ = view_joints(joints, visibility, view, SIZE)
        for j in range(16):
            # The dot of the person's joint j; after mirroring its name is that of the other side.
            dot = np.exp(-((x - joints[0, j, 0]) ** 2 + (y - joints[0, j, 1]) ** 2) / (2 * 3.0**2))
            image = np.repeat((255 * dot).astype(np.uint8)[..., None], 3, -1)
            named = schema.MIRRORED[j] if view.mirrored else j
            at = moved[0, named]
            if not (12 < at[0] < SIZE[1] - 12 and 12 < at[1] < SIZE[0] - 12):
                continue
            seen = show(image, view)[..., 0].astype(float)
            rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
            centre = (seen * columns).sum() / seen.sum(), (seen * rows).sum() / seen.sum()
            np.testing.assert_allclose(centre, at, atol=0.25)
            checked += 1
    assert checked > 150


def test_joints_keep_nan_and_visibility_moves_with_the_name():
    joints = np.arange(32, dtype=float).reshape(1, 16, 2)
    joints[0, 0] = np.nan
    visibility = np.full((1, 16), schema.LABELLED)
    visibility[0, 0], visibility[0, 10] = schema.MISSING, schema.DERIVED
    moved, seen = view_joints(joints, visibility, whole(50, 60)._replace(mirrored=True), (50, 60))
    assert np.isnan(moved[0, 5]).all()  # the right ankle is now the left one
    assert np.isfinite(np.delete(moved[0], 5, axis=0)).all()
    assert (seen[0, 5], seen[0, 15]) == (schema.MISSING, schema.DERIVED)
    np.testing.assert_allclose(moved[0, 9], (59 - 18, 19))


def test_the_whole_view_changes_nothing():
    joints = np.random.default_rng(0).uniform(0, 50, (2, 16, 2))
    visibility = np.full((2, 16), schema.LABELLED)
    moved, seen = view_joints(joints, visibility, whole(40, 50), (40, 50))
    np.testing.assert_allclose(moved, joints)
    np.testing.assert_array_equal(seen, visibility)


def test_views_lie_inside_the_image_and_keep_the_asked_share():
    height, width = 100, 180
    chosen = list(views(2000, height, width))
    for view in chosen:
        assert min(view.left, view.top) >= 0
        assert view.left + view.width <= width + 1e-9
        assert view.top + view.height <= height + 1e-9
    shares = np.array([v.width * v.height / (width * height) for v in chosen])
    assert 0.39 < shares.min() < 0.42
    assert shares.max() <= 1 + 1e-9
    stretch = np.array([(v.width / v.height) / (width / height) for v in chosen])
    assert 1 / 1.4 - 1e-9 <= stretch.min() < 0.75
    assert 1.35 < stretch.max() <= 1.4 + 1e-9
    assert 0.45 < np.mean([v.mirrored for v in chosen]) < 0.55


def test_no_crop_and_no_flip_is_the_whole_image():
    for randoms in uniforms(0, np.arange(50), augment.RANDOMS_PER_VIEW):
        assert random_view(randoms, 31, 57, area=(1.0, 1.0), aspect=1.0, flip=0.0) == whole(31, 57)


@pytest.mark.parametrize("size", [(24, 24), (24, 32), (32, 24)])
@pytest.mark.parametrize(("height", "width"), [(40, 97), (97, 40), (50, 50), (11, 17)])
@pytest.mark.parametrize("fit", ["stretch", "crop"])
def test_the_fitted_view_is_where_the_models_input_comes_from(height, width, size, fit):
    y, x = np.mgrid[:height, :width]
    image = np.stack([255 * y / height, 255 * x / width, 0 * x], -1).astype(np.uint8)
    view = fitted(height, width, size, fit)
    box = (view.left, view.top, view.left + view.width, view.top + view.height)
    seen = images.resize(image, box, size, "bicubic")
    difference = np.abs(images.model_input(image, size, fit, "bicubic").astype(int) - seen)
    assert difference.max() <= 1
    if fit == "stretch":
        assert view == whole(height, width)
    else:
        # Square pixels: the long side is cut down to a whole one.
        assert view.width / size[1] == pytest.approx(view.height / size[0], rel=1 / min(size))
        assert view.width == width or view.height == height


def test_a_random_view_with_a_largest_one_has_its_shape_and_is_anywhere():
    largest = fitted(60, 100, (32, 32), "crop")
    chosen = [
        random_view(randoms, 60, 100, (1.0, 1.0), 1.0, 0.0, largest)
        for randoms in uniforms(0, np.arange(200), augment.RANDOMS_PER_VIEW)
    ]
    assert {(view.top, view.height) for view in chosen} == {(0.0, 60.0)}
    assert {view.width for view in chosen} == {largest.width}
    lefts = [view.left for view in chosen]
    assert min(lefts) < 2
    assert max(lefts) > 100 - largest.width - 2
    for randoms in uniforms(1, np.arange(200), augment.RANDOMS_PER_VIEW):
        view = random_view(randoms, 60, 100, (0.5, 1.0), 3.0, 0.0, largest)
        assert view.left + view.width <= 100
        assert view.top + view.height <= 60


def test_mirroring_is_known_before_the_image_is():
    randoms = uniforms(0, np.arange(100), augment.RANDOMS_PER_VIEW)
    told = augment.is_mirrored(randoms, 0.3)
    assert list(told) == [random_view(r, 10, 10, (1, 1), 1, 0.3).mirrored for r in randoms]


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("The left arm is bent.", "The right arm is bent."),
        ("Right leg forward, LEFT back; left-handed.", "Left leg forward, RIGHT back; right-handed."),
        ("his left, her right", "his right, her left"),
        ("to the right behind the body", "to the left behind the body"),
        ("in the upper left part", "in the upper right part"),
        ("bent at a right angle", "bent at a right angle"),
        ("bent at right angles", "bent at right angles"),
        ("a right-angled knee", "a right-angled knee"),
        ("Right-Angle", "Right-Angle"),
        ("starts right away", "starts right away"),
        ("nobody is left out", "nobody is left out"),
        ("the bag was left behind", "the bag was left behind"),
        ("upright, bright, cleft, leftover", "upright, bright, cleft, leftover"),
        ("no sides", "no sides"),
        ("", ""),
    ],
)
def test_sides_are_swapped_and_only_sides(text, mirrored):
    assert mirror_text(text) == mirrored
    assert mirror_text(mirrored) == text


def test_mirroring_any_text_twice_gives_it_back():
    words = ["left", "Left", "LEFT", "right", "Right", "RIGHT", "lEft", "the", "The", "their", "arm"]
    words += ["angle", "angled", "angles", "away", "out", "behind"]
    rng = np.random.default_rng(0)
    for _ in range(3000):
        pieces = rng.choice(words, 6)
        text = "".join(piece + str(rng.choice([" ", "-", ", ", "  "])) for piece in pieces)
        assert mirror_text(mirror_text(text)) == text


def test_mirroring_swaps_the_counts_of_the_two_sides():
    text = "The left knee is below the right hip; the right wrist is above the left and the left ankle."
    count = lambda side, where: len(re.findall(rf"\b{side}\b", where))  # noqa: E731
    assert (count("left", mirror_text(text)), count("right", mirror_text(text))) == (2, 3)


def test_random_numbers_depend_on_seed_position_and_column_alone():
    everything = uniforms(7, np.arange(1000), 6)
    np.testing.assert_array_equal(uniforms(7, np.array([900, 3]), 4), everything[[900, 3], :4])
    assert not np.isin(uniforms(8, np.arange(1000), 6), everything).any()
    assert len(np.unique(everything)) == everything.size
    uniforms(2**63, np.array([2**40]), 2)  # large seeds and positions are fine


def test_random_numbers_are_uniform_and_uncorrelated():
    numbers = uniforms(0, np.arange(20000), 4)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    np.testing.assert_allclose(numbers.mean(0), 0.5, atol=0.01)
    np.testing.assert_allclose(numbers.var(0), 1 / 12, atol=0.002)
    np.testing.assert_allclose(np.corrcoef(numbers.T), np.eye(4), atol=0.03)
    assert abs(np.corrcoef(numbers[1:, 0], numbers[:-1, 0])[0, 1]) < 0.03
