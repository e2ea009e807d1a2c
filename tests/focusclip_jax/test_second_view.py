"""The second view under every kind of guidance: what it is, and that nothing else of a batch changes."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from annotation import schema
from focusclip_jax import config as configs
from focusclip_jax import state, step
from focusclip_jax.data import heatmaps
from focusclip_jax.data.augment import whole
from focusclip_jax.data.loader import CONTROLS, LoaderSettings, eval_batches, train_batches
from focusclip_jax.data.shards import Shards
from focusclip_jax.data.text import Tokenizer, TokenTable
from focusclip_jax.errors import UserError
from focusclip_jax.models.focusclip import (
    FocusCLIP,
    blurred,
    crop_to_subject,
    drawn,
    next_background,
    second_view,
)

KINDS = configs.CHOICES["data.heatmap"]
VIEWS = configs.CHOICES["model.focus_view"]
SETTINGS = LoaderSettings(8, (24, 32), text_lengths=(48,), seed=3, crop_area=(0.5, 0.9), flip=0.5, threads=0)


@pytest.fixture(scope="module")
def data(figures):
    shards = Shards.open(figures, "train")
    tokenizer = Tokenizer.train([c for i in range(len(shards)) for c in shards.read(i).captions], 400)
    return shards, TokenTable.build(shards, tokenizer, 48)


def first_batches(data, kind, *, process=0, processes=1, start=0, count=2):
    settings = dataclasses.replace(SETTINGS, heatmap=kind)
    batches = train_batches(*data, settings, start_step=start, process_index=process, process_count=processes)
    with contextlib.closing(batches):
        return [next(batches) for _ in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_guidance_changes_nothing_but_the_heatmap_and_depends_on_no_process(data, kind):
    whole = first_batches(data, kind)
    for batch, plain in zip(whole, first_batches(data, "parts"), strict=True):
        assert batch["heatmap"].shape == (8, 24, 32)
        assert batch["heatmap"].dtype == np.float32
        assert 0 <= batch["heatmap"].min() < batch["heatmap"].max() <= 1 or kind == "constant"
        for name in plain.keys() - {"heatmap"}:
            np.testing.assert_array_equal(batch[name], plain[name])
    halves = [first_batches(data, kind, process=i, processes=2) for i in range(2)]
    for batch, *parts in zip(whole, *halves, strict=True):
        np.testing.assert_array_equal(batch["heatmap"], np.concatenate([part["heatmap"] for part in parts]))
    [resumed] = first_batches(data, kind, start=1, count=1)
    np.testing.assert_array_equal(whole[1]["heatmap"], resumed["heatmap"])


def test_shuffled_heatmaps_are_those_of_the_batch_and_never_an_images_own(data):
    shifts = set()
    for shuffled, own in zip(
        first_batches(data, "shuffled", count=8), first_batches(data, "parts", count=8), strict=True
    ):
        [shift] = [s for s in range(8) if (np.roll(own["heatmap"], -s, axis=0) == shuffled["heatmap"]).all()]
        shifts.add(shift)
    assert 0 not in shifts
    assert len(shifts) > 2


def test_controls_without_guidance_know_nothing_of_the_image(data):
    [constant] = first_batches(data, "constant", count=1)
    assert (constant["heatmap"] == 1).all()
    [centred] = first_batches(data, "centred", count=1)
    assert (centred["heatmap"] == centred["heatmap"][0]).all()
    assert centred["heatmap"][0, 11:13, 15:17].min() > 0.99
    assert centred["heatmap"][0, 0, 0] < 0.2
    [random] = first_batches(data, "random", count=1)
    assert len({heatmap.tobytes() for heatmap in random["heatmap"]}) == 8


def test_the_kinds_are_those_of_the_loader():
    assert KINDS == heatmaps.KINDS + CONTROLS


# Two people of an image of 100 x 80 pixels: one whose joints span a box from (20, 10) to (40, 60), and one
# with a single visible joint, who is nobody.
JOINTS = np.full((2, 16, 2), np.nan)
JOINTS[0, :3] = (20, 10), (40, 60), (30, 20)
JOINTS[1, 9] = 70, 50
VISIBILITY = np.where(np.isnan(JOINTS[..., 0]), schema.MISSING, schema.LABELLED)


def rendered(kind, scale=1.0, mirrored=False, size=(80, 100)):
    view = whole(80, 100)._replace(mirrored=mirrored)
    return heatmaps.render(JOINTS, VISIBILITY, view, size, kind, scale)


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_heatmaps_around_joints_box_and_person_are_what_they_say(scale, mirrored):
    y, x = np.mgrid[:80, :100].astype(float)
    variance = 1 / 6  # of the smoothing, and the area stays

    def gaussian(at, across, down):
        a, b = across**2 + variance, down**2 + variance
        peak = across * down / np.sqrt(a * b)
        return peak * np.exp(-((x - at[0]) ** 2) / (2 * a) - (y - at[1]) ** 2 / (2 * b))

    radius = np.hypot((x - 30) / 10, (y - 35) / 25) / scale
    sigma = scale * 0.05 * 50  # of the longer side
    expected = {
        "joints": sum(gaussian(at, sigma, sigma) for at in ((20, 10), (40, 60), (30, 20))).clip(0, 1),
        "box": gaussian((30, 35), scale * 10, scale * 25),
        "person": (3 - 2 * radius).clip(0, 1),
    }
    for kind, heatmap in expected.items():
        ours = rendered(kind, scale, mirrored)
        np.testing.assert_allclose(ours, heatmap[:, ::-1] if mirrored else heatmap, atol=1e-5, err_msg=kind)


@pytest.mark.parametrize("kind", heatmaps.KINDS)
def test_a_heatmap_is_rendered_at_any_size_and_nobody_is_lost(kind):
    large = rendered(kind).reshape(20, 4, 25, 4).mean(axis=(1, 3))
    assert np.abs(rendered(kind, size=(20, 25)) - large).mean() < 0.01
    assert rendered(kind, size=(2, 3)).max() > 0.02
    assert rendered(kind, 2.0).sum() > 1.5 * rendered(kind).sum()
    nobody = heatmaps.render(JOINTS[1:], VISIBILITY[1:], whole(80, 100), (8, 10), kind)
    assert not nobody.any()


@pytest.mark.parametrize("kind", KINDS)
def test_validation_has_the_same_kind_of_second_view(data, kind):
    with contextlib.closing(eval_batches(*data, dataclasses.replace(SETTINGS, heatmap=kind))) as batches:
        assert np.isfinite(next(batches)["heatmap"]).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch_size": 1, "heatmap": "shuffled"}, "at least two"),
        ({"heatmap_scale": 0.0}, "above 0"),
        ({"heatmap": "depth"}, "expected one of parts, joints"),
    ],
)
def test_impossible_guidance_is_one_sentence(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        dataclasses.replace(SETTINGS, **changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"data.heatmap_scale": -1.0}, "heatmap_scale=-1.0: expected a factor above 0"),
        ({"model.initial_alpha": 1.0}, "initial_alpha=1.0: expected a number between 0 and 1"),
        ({"model.focus_view": "tokens"}, "image.pool=class: model.focus_view=tokens needs mean"),
    ],
)
def test_settings_that_do_not_go_together_are_one_sentence(changes, sentence):
    config = configs.default()
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=sentence):
        configs.check(config, configs.default())


def config(view, heatmap="parts", focus_tower="shared"):
    result = configs.default()
    result.data.update(image_size=16, heatmap=heatmap)
    result.text.update(context=8, buckets=(8,))
    result.model.update(patch_size=8, embedding=16, focus_view=view, pixel_mean=(0.1, 0.5, 0.9))
    result.model.update(focus_tower=focus_tower, unroll=True)  # compiles in less time
    result.model.image.pool = "mean"
    for tower in (result.model.image, result.model.text):
        tower.update(depth=1, width=16, heads=2, mlp=16)
    configs.check(result, configs.default())
    return result


def model(view, **changes):
    return FocusCLIP(state.architecture(config(view, **changes), 32), rngs=nnx.Rngs(0))


RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.random((4, 16, 16, 3), np.float32)
HEATMAP = RANDOM.random((4, 16, 16), np.float32)
BATCH = {
    "image": np.uint8(255 * IMAGE),
    "heatmap": HEATMAP,
    "tokens": RANDOM.integers(0, 32, (4, 1, 8), np.int32),
    "lengths": np.full((4, 1), 8, np.int32),
    "image_id": np.arange(4, dtype=np.int32),
}


@pytest.mark.parametrize("view", VIEWS)
def test_what_the_heatmap_leaves_out_is_dimmed_replaced_blurred_or_swapped(view):
    backgrounds = {
        "dim": 0.0 * IMAGE,
        "replace": jnp.array([0.1, 0.5, 0.9]),
        "blur": blurred(IMAGE),
        "swap": IMAGE[[1, 2, 3, 0]],
    }
    one = model(view)
    np.testing.assert_allclose(one.highlight(IMAGE, jnp.ones((4, 16, 16))), IMAGE, atol=1e-6)
    if view in backgrounds:
        half = one.highlight(IMAGE, jnp.zeros((4, 16, 16)))  # α is 0.5 at the start
        np.testing.assert_allclose(half, 0.5 * IMAGE + 0.5 * backgrounds[view], atol=1e-6)


@pytest.mark.parametrize("view", VIEWS)
def test_alpha_learns_where_it_takes_part(view):
    architecture = state.architecture(config(view), 32)
    slope = jax.grad(lambda alpha: (second_view(IMAGE, HEATMAP, alpha, architecture) * IMAGE).sum())(0.5)
    assert (slope == 0) == (view in ("crop", "tokens"))


@pytest.mark.parametrize("view", ["crop", "tokens"])
def test_the_views_that_are_more_than_a_mixture_train(view):
    one = config(view)
    one.micro_batches = 2  # weights of tokens must be split with the images
    graph, params = nnx.split(model(view), nnx.Param)
    params = nnx.to_pure_dict(params)
    learns = jax.tree.map(lambda _: True, params)
    change, metrics = jax.jit(lambda params: step.gradients(params, graph, BATCH, learns, one))(params)
    assert np.isfinite(metrics["loss"])
    assert metrics["alpha"] == 0.5
    assert (change["alpha_parameter"] == 0) == (view == "crop")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(change))
    assert np.any(change["image"]["blocks"]["qkv_kernel"])


def test_a_swapped_background_shows_nothing_of_the_subject_it_was_taken_from():
    image, heatmap = IMAGE.copy(), np.zeros((4, 16, 16), np.float32)
    heatmap[:, 4:9, 2:5] = 1.0
    behind = next_background(image, heatmap)
    outside = heatmap[0] == 0
    for row, after in enumerate([1, 2, 3, 0]):
        np.testing.assert_allclose(behind[row][outside], image[after][outside], atol=1e-6)
        colour = image[after][outside].mean(axis=0)
        np.testing.assert_allclose(behind[row][~outside], np.broadcast_to(colour, (15, 3)), atol=1e-6)
    seen = second_view(image, heatmap, 0.0, state.architecture(config("swap"), 32))
    np.testing.assert_allclose(seen[0][~outside], image[0][~outside], atol=1e-6)
    np.testing.assert_allclose(seen[0][outside], image[1][outside], atol=1e-6)


@pytest.mark.parametrize("tower", ["shared", "separate"])
def test_a_batch_in_parts_swaps_the_same_backgrounds(tower):
    graph, params = nnx.split(model("swap", focus_tower=tower), nnx.Param)
    params = nnx.to_pure_dict(params)
    learns = jax.tree.map(lambda _: True, params)
    found = []
    for parts in (1, 2):
        one = config("swap", focus_tower=tower)
        one.micro_batches = parts
        found.append(jax.jit(lambda p, c=one: step.gradients(p, graph, BATCH, learns, c)[0])(params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), *found)


def test_equal_weights_of_tokens_make_the_second_view_the_first():
    views = model("tokens").views(BATCH | {"heatmap": np.ones((4, 16, 16), np.float32)}, focus=True)
    np.testing.assert_allclose(views["focus"], views["image"], atol=1e-5)


@pytest.mark.parametrize("tower", ["shared", "separate"])
def test_token_weights_are_the_mean_of_the_heatmap_over_a_patch_and_weigh_the_mean_of_patches(tower):
    one = model("tokens", focus_tower=tower)
    weights = one.token_weights(HEATMAP)
    by_hand = 0.5 + 0.5 * HEATMAP.reshape(4, 2, 8, 2, 8).mean(axis=(2, 4)).reshape(4, 4)
    np.testing.assert_allclose(weights, by_hand, atol=1e-6)
    encode = one.image if tower == "shared" else one.focus
    # One patch alone: the embedding is linear in the normalised patches, so that weighted means of these
    # four embeddings must give that of all weights.
    single = np.stack([encode(one.normalise(IMAGE), np.eye(4)[[i] * 4]) for i in range(4)], axis=1)
    expected = (single * by_hand[..., None]).sum(axis=1) / by_hand.sum(axis=1, keepdims=True)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(one.encode_focus(IMAGE, HEATMAP), expected, atol=1e-5)
    float_image = BATCH["image"] / np.float32(255)
    focus = one.encode_focus(float_image, HEATMAP)
    np.testing.assert_allclose(one.views(BATCH, focus=True)["focus"], focus, atol=1e-5)


def test_a_crop_is_the_rectangle_where_the_heatmap_is_high():
    rows, columns = np.mgrid[0:16, 0:16].astype(np.float32)
    image = np.stack([rows, columns, rows * 0], axis=-1)[None] / 16
    heatmap = np.zeros((1, 16, 16), np.float32)
    heatmap[0, 4:12, 2:6] = 0.8
    crop = np.asarray(crop_to_subject(jnp.asarray(image), jnp.asarray(heatmap)))[0] * 16
    np.testing.assert_allclose(crop[:, 0, 0], 4 + (np.arange(16) + 0.5) / 2 - 0.5, atol=1e-4)
    np.testing.assert_allclose(crop[0, :, 1], 2 + (np.arange(16) + 0.5) / 4 - 0.5, atol=1e-4)
    nothing = crop_to_subject(jnp.asarray(image), jnp.zeros((1, 16, 16)))
    np.testing.assert_allclose(nothing, image, atol=1e-6)


def test_a_blur_keeps_a_flat_image_and_flattens_a_checkerboard():
    np.testing.assert_allclose(blurred(jnp.full((1, 16, 16, 3), 0.3)), 0.3, atol=1e-6)
    board = (np.indices((16, 16)).sum(0) % 2)[None, :, :, None] * np.ones(3, np.float32)
    assert np.ptp(np.asarray(blurred(jnp.asarray(board)))[0, 4:12, 4:12]) < 0.05


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"person"}))
def test_heatmaps_drawn_inside_the_step_are_those_of_the_loader(data, kind):
    changed = dataclasses.replace(SETTINGS, heatmap=kind, heatmap_on_device=True)
    shape = set()
    for make in (train_batches, eval_batches):
        here = make(*data, dataclasses.replace(changed, heatmap_on_device=False))
        there = make(*data, changed)
        with contextlib.closing(here), contextlib.closing(there):
            for expected, batch in zip(itertools.islice(here, 3), itertools.islice(there, 3), strict=True):
                drawn_there = np.asarray(drawn(batch["gaussians"], (24, 32)))
                np.testing.assert_allclose(drawn_there, expected["heatmap"], atol=1e-5)
                assert "heatmap" not in batch
                shape.add(batch["gaussians"].shape)
    assert len(shape) == 1  # so that a step is compiled once


@pytest.mark.parametrize("view", ["dim", "tokens"])
def test_the_model_takes_gaussians_in_place_of_the_heatmap(view):
    numbers = np.array([[[4, 9, 2, 3, 0.9], [12, 3, 3, 1, 0.8], [*heatmaps.NOTHING]]] * 4, np.float32)
    heatmap = np.empty((4, 16, 16), np.float32)
    heatmaps.draw(numbers.reshape(-1, 5), [3] * 4, heatmap)
    rest = {name: value for name, value in BATCH.items() if name != "heatmap"}
    expected = model(view).views(rest | {"heatmap": heatmap}, focus=True)
    embeddings = model(view).views(rest | {"gaussians": numbers}, focus=True)
    for name in expected:
        np.testing.assert_allclose(embeddings[name], expected[name], atol=1e-5)
    assert np.abs(expected["focus"] - expected["image"]).max() > 1e-4


def test_a_filled_person_is_only_drawn_by_the_loader():
    with pytest.raises(UserError, match="heatmap is person, which only the loader draws"):
        dataclasses.replace(SETTINGS, heatmap="person", heatmap_on_device=True)
