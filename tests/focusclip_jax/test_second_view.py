"""The second view under every kind of guidance: what it is, and that nothing else of a batch changes."""

from __future__ import annotations

import contextlib
import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from focusclip_jax import config as configs
from focusclip_jax import state
from focusclip_jax.data.loader import LoaderSettings, eval_batches, train_batches
from focusclip_jax.data.shards import Shards
from focusclip_jax.data.text import Tokenizer, TokenTable
from focusclip_jax.errors import UserError
from focusclip_jax.models.focusclip import FocusCLIP, blurred, crop_to_subject

KINDS = configs.CHOICES["data.heatmap"]
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
    for batch, plain in zip(whole, first_batches(data, "joints"), strict=True):
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
        first_batches(data, "shuffled", count=8), first_batches(data, "joints", count=8), strict=True
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


def test_a_box_covers_what_the_parts_cover_and_a_wider_gaussian_more(data):
    batches = {kind: first_batches(data, kind, count=1)[0]["heatmap"] for kind in ("joints", "box")}
    subject = batches["joints"] > 0.6
    assert batches["box"][subject].mean() > 1.5 * batches["box"][~subject].mean()
    wide = dataclasses.replace(SETTINGS, heatmap_scale=2.0)
    with contextlib.closing(train_batches(*data, wide)) as more:
        assert (next(more)["heatmap"] >= batches["joints"] - 1e-6).mean() > 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_validation_has_the_same_kind_of_second_view(data, kind):
    with contextlib.closing(eval_batches(*data, dataclasses.replace(SETTINGS, heatmap=kind))) as batches:
        assert np.isfinite(next(batches)["heatmap"]).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"batch_size": 1, "heatmap": "shuffled"}, "at least two"), ({"heatmap_scale": 0.0}, "above 0")],
)
def test_impossible_guidance_is_one_sentence(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        dataclasses.replace(SETTINGS, **changes)


def model(view):
    config = configs.default()
    config.data.image_size = 16
    config.text.update(context=8, buckets=(8,))
    config.model.update(patch_size=8, embedding=16, focus_view=view, pixel_mean=(0.1, 0.5, 0.9))
    for tower in (config.model.image, config.model.text):
        tower.update(depth=1, width=16, heads=2, mlp=16)
    return FocusCLIP(state.architecture(config, 32), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("view", configs.CHOICES["model.focus_view"])
def test_what_the_heatmap_leaves_out_is_dimmed_replaced_or_blurred(view):
    image = jnp.asarray(np.random.default_rng(0).random((2, 16, 16, 3), np.float32))
    backgrounds = {"dim": 0.0 * image, "replace": jnp.array([0.1, 0.5, 0.9]), "blur": blurred(image)}
    one = model(view)
    np.testing.assert_allclose(one.highlight(image, jnp.ones((2, 16, 16))), image, atol=1e-6)
    if view in backgrounds:
        half = one.highlight(image, jnp.zeros((2, 16, 16)))  # α is 0.5 at the start
        np.testing.assert_allclose(half, 0.5 * image + 0.5 * backgrounds[view], atol=1e-6)


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
