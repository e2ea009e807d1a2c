"""Maps of where a model looks, against a forward pass written out in numpy, in float64."""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import numpy as np
import PIL.Image
import pytest
from flax import nnx

from focusclip_jax import focus_maps, state
from focusclip_jax.api import Model
from focusclip_jax.data.text import Tokenizer
from focusclip_jax.encoder import Encoder
from focusclip_jax.errors import UserError
from focusclip_jax.models.focusclip import Architecture, FocusCLIP
from focusclip_jax.models.text import TextShape
from focusclip_jax.models.transformer import Shape
from focusclip_jax.models.vit import ImageShape

SHAPE = Shape(depth=2, width=8, heads=2, mlp=12)
SIDE, PATCH = 12, 4
TOWER = ImageShape(SHAPE, SIDE, PATCH)
GRID = SIDE // PATCH
TEXT = "a person running"


@functools.cache
def small(fit="crop", dtype="float32", change=lambda tower: None, image=TOWER):
    """A model whose attention is far from even. change: of the image tower's parameters, in place."""
    tokenizer = Tokenizer.train(["a person running", "a person bowing"], 300)
    architecture = Architecture(
        image=image,
        text=TextShape(dataclasses.replace(SHAPE, depth=1), vocabulary=tokenizer.vocab_size, context=16),
        embedding=6,
        dtype=dtype,
    )
    shapes = jax.eval_shape(lambda: nnx.state(FocusCLIP(architecture, rngs=nnx.Rngs(0)), nnx.Param))
    rng = np.random.default_rng(1)
    params = jax.tree.map(
        lambda leaf: 0.4 * rng.standard_normal(leaf.shape).astype(np.float32), nnx.to_pure_dict(shapes)
    )
    params["image"]["blocks"]["qkv_kernel"] *= 4
    change(params["image"])
    graph = state.graph_of(architecture)
    encoder = Encoder(graph, jax.device_put(params), architecture, tokenizer, fit, "bilinear")
    return Model("small", encoder)


def no_positions(tower):
    tower["position_embedding"] = 0 * tower["position_embedding"]


def no_output(tower):
    tower["blocks"]["out_kernel"] = 0 * tower["blocks"]["out_kernel"]


def photo(height=SIDE, width=SIDE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


# ---------------------------------------------------------------------------------------- the reference


def reference(model, shape, image, text, factors=None):
    """(cosine, attention (L, heads, T, T)). factors: (L, heads, T, T), of each weight, by default 1."""
    tower = {
        name: np.asarray(value, np.float64)
        for name, value in model.encoder.params["image"].items()
        if name != "blocks"
    }
    layers = {n: np.asarray(v, np.float64) for n, v in model.encoder.params["image"]["blocks"].items()}
    inner = shape.transformer

    def norm(x, scale, bias):
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) / np.sqrt(variance + inner.norm_epsilon) * scale + bias

    pixels = image / 255.0
    patches = [
        pixels[y : y + PATCH, x : x + PATCH].ravel()
        for y in range(0, SIDE, PATCH)
        for x in range(0, SIDE, PATCH)
    ]
    x = np.stack(patches) @ tower["patch_kernel"] + tower["patch_bias"]
    if shape.pool == "class":
        x = np.vstack([tower["class_embedding"], x])
    x = x + tower["position_embedding"]
    width = x.shape[1]
    each = width // inner.heads
    attention = []
    for n in range(inner.depth):
        layer = {name: value[n] for name, value in layers.items()}

        def attend(x, layer=layer, n=n):
            qkv = x @ layer["qkv_kernel"] + layer["qkv_bias"]
            weights, mixed = [], []
            for head in range(inner.heads):
                q, k, v = (
                    qkv[:, part * width + head * each : part * width + (head + 1) * each] for part in range(3)
                )
                exponents = np.exp(q @ k.T / math.sqrt(each))
                weights.append(exponents / exponents.sum(-1, keepdims=True))
                changed = weights[-1] * (1 if factors is None else factors[n, head])
                mixed.append(changed @ v)
            attention.append(weights)
            return np.hstack(mixed) @ layer["out_kernel"] + layer["out_bias"]

        def mlp(x, layer=layer):
            hidden = x @ layer["up_kernel"] + layer["up_bias"]
            hidden = 0.5 * hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
            return hidden @ layer["down_kernel"] + layer["down_bias"]

        first = layer["attention_norm_scale"], layer["attention_norm_bias"]
        second = layer["mlp_norm_scale"], layer["mlp_norm_bias"]
        if inner.norm == "post":
            x = norm(x + attend(x), *first)
            x = norm(x + mlp(x), *second)
        else:
            x = x + attend(norm(x, *first))
            x = x + mlp(norm(x, *second))
    x = norm(x, tower["norm_scale"], tower["norm_bias"])
    x = x[0] if shape.pool == "class" else x.mean(axis=0)
    embedding = x @ tower["projection_kernel"] + tower["projection_bias"]
    return embedding @ text / np.linalg.norm(embedding), np.array(attention)


def differences(model, shape, image, text, step=1e-5):
    """A ∘ ∇A of every layer and head by central differences: the slope of scaling each weight."""
    _, attention = reference(model, shape, image, text)
    slopes = np.empty_like(attention)
    for place in np.ndindex(attention.shape):
        values = []
        for sign in (1, -1):
            factors = np.ones_like(attention)
            factors[place] += sign * step
            values.append(reference(model, shape, image, text, factors)[0])
        slopes[place] = (values[0] - values[1]) / (2 * step)
    return slopes


TOWERS = {
    "class": ImageShape(SHAPE, SIDE, PATCH, pool="class"),
    "mean": ImageShape(SHAPE, SIDE, PATCH, pool="mean"),
    "class, post-norm": ImageShape(dataclasses.replace(SHAPE, norm="post"), SIDE, PATCH, pool="class"),
}


@pytest.fixture(scope="module", params=TOWERS.values(), ids=TOWERS)
def tower(request):
    """(model, shape of its image tower)"""
    return small(image=request.param), request.param


def test_the_reference_is_the_model(tower):
    model, shape = tower
    text = model.encode_text(TEXT)[0]
    expected = model.encode_image(photo())[0] @ text
    assert reference(model, shape, photo(), text)[0] == pytest.approx(expected, abs=1e-5)


def test_a_rollout_is_the_product_of_all_layers_and_its_shares_sum_to_one(tower):
    model, shape = tower
    _, attention = reference(model, shape, photo(), np.zeros(6))
    product = np.eye(attention.shape[-1])
    for layer in attention:
        product = (layer.mean(axis=0) + np.eye(len(product))) / 2 @ product
    read = product[0, 1:] if shape.pool == "class" else product.mean(axis=0)
    shares = focus_maps.attention_shares(model, photo())
    assert (shares.shape, shares.dtype) == ((GRID, GRID), np.float32)
    assert shares.sum() == pytest.approx(1, abs=1e-5)
    assert np.ptp(shares) > 0.02
    np.testing.assert_allclose(shares.ravel(), read / read.sum(), atol=1e-5)


def test_relevance_is_that_of_gradients_taken_by_differences(tower):
    model, shape = tower
    slopes = differences(model, shape, photo(), model.encode_text(TEXT)[0])
    assert (slopes < 0).any()
    relevance = np.eye(slopes.shape[-1])
    for layer in np.maximum(slopes, 0).mean(axis=1):
        relevance = relevance + layer @ relevance
    relevance = relevance - np.eye(len(relevance))
    expected = relevance[0, 1:] if shape.pool == "class" else relevance.mean(axis=0)
    found = focus_maps.relevance(model, photo(), TEXT)
    assert (found.shape, found.dtype) == ((GRID, GRID), np.float32)
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-3, atol=1e-3 * expected.max())


# --------------------------------------------------------------------------------------- what must hold


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_without_positions_the_maps_follow_the_patches_wherever_they_go(pool):
    model = small(change=no_positions, image=TOWERS[pool])
    turned = np.ascontiguousarray(np.roll(photo(), PATCH, axis=1))
    for of in (focus_maps.attention_shares, lambda m, image: focus_maps.relevance(m, image, TEXT)):
        here, there = of(model, photo()), of(model, turned)
        np.testing.assert_allclose(np.roll(here, 1, axis=1), there, rtol=1e-3)
        assert np.abs(here - there).max() > 0.01 * here.max()


def test_patches_that_are_alike_share_alike_and_make_no_map():
    model = small(change=no_positions)
    even = np.full((SIDE, SIDE, 3), 90, np.uint8)
    np.testing.assert_allclose(focus_maps.attention_shares(model, even), 1 / GRID**2, rtol=1e-5)


def test_where_attention_writes_nothing_no_patch_is_relevant():
    model = small(change=no_output)
    assert (focus_maps.relevance(model, photo(), TEXT) == 0).all()
    assert (focus_maps.gradient(model, photo(), TEXT) == 0).all()


def test_relevance_is_of_the_text_and_a_rollout_is_of_none():
    model = small()
    other = focus_maps.relevance(model, photo(), "a person bowing")
    assert np.abs(other - focus_maps.relevance(model, photo(), TEXT)).max() > 0.01 * other.max()


def test_activations_of_half_the_bits_give_nearly_the_same_maps():
    half, whole = small(dtype="bfloat16"), small()
    shares = [focus_maps.attention_shares(model, photo()) for model in (half, whole)]
    np.testing.assert_allclose(*shares, atol=0.02)
    relevances = [focus_maps.relevance(model, photo(), TEXT).ravel() for model in (half, whole)]
    assert np.corrcoef(relevances)[0, 1] > 0.98


# ------------------------------------------------------------------------------------------- as pictures


def test_maps_lie_over_the_models_input_between_0_and_1():
    model = small()
    for focus_map in (
        focus_maps.rollout(model, photo(40, 30)),
        focus_maps.gradient(model, photo(40, 30), TEXT),
    ):
        assert (focus_map.shape, focus_map.dtype) == ((SIDE, SIDE), np.float32)
        # No pixel lies exactly in the middle of a patch.
        assert 0 <= focus_map.min() < 0.25
        assert 0.75 < focus_map.max() <= 1


def test_a_map_runs_evenly_from_the_middle_of_one_patch_to_the_next():
    drawn = focus_maps.as_map(np.array([[3.0, 3.0], [3.0, 5.0]]), 8)
    np.testing.assert_allclose(drawn[7], [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1], atol=1e-6)
    assert (drawn[:2] == 0).all()
    np.testing.assert_allclose(drawn, drawn.T)
    assert (focus_maps.as_map(np.full((2, 2), 7.0), 8) == 0).all()


def test_what_the_model_sees_of_a_photo_is_all_of_it_or_its_middle():
    assert focus_maps.seen(small("stretch"), 20, 60) == (0, 0, 60, 20, False)
    assert focus_maps.seen(small("crop"), 20, 60) == (20, 0, 20, 20, False)
    for fit, left, right in (("stretch", 0, 60), ("crop", 20, 40)):
        model = small(fit)
        whole = photo(20, 60)
        square = np.asarray(
            PIL.Image.fromarray(whole[:, left:right]).resize((SIDE, SIDE), PIL.Image.Resampling.BILINEAR)
        )
        # But for the columns at the edges, which the model's resize mixes with what is then cut off.
        np.testing.assert_array_equal(model.encoder.prepare(whole)[:, 1:-1], square[:, 1:-1])


def test_an_overlay_is_of_the_photos_size_and_brightest_where_the_map_is_one():
    model = small("crop")
    grey = np.full((20, 60, 3), 128, np.uint8)
    left_half = np.repeat([[1.0] * 6 + [0.0] * 6], SIDE, axis=0)
    picture = focus_maps.overlay(model, grey, left_half)
    assert (picture.shape, picture.dtype) == (grey.shape, np.uint8)
    inside = picture[:, 20:40].astype(int)
    assert inside[:, :8].sum(axis=2).min() > inside[:, 12:].sum(axis=2).max() + 150
    outside = np.concatenate([picture[:, :20], picture[:, 40:]], axis=1)
    assert (outside == outside[0, 0, 0]).all()
    assert outside[0, 0, 0] > 128
    # Where the map is 0, the photo can be made out.
    dark, light = (focus_maps.overlay(model, 0 * grey + value, left_half)[10, 39] for value in (20, 220))
    assert (light.astype(int) - dark > 100).all()


def test_what_is_no_image_or_text_is_one_sentence():
    model = small()
    with pytest.raises(UserError, match=r"nowhere\.jpg: not a readable image"):
        focus_maps.rollout(model, "nowhere.jpg")
    with pytest.raises(UserError, match="image: NoneType, expected a path"):
        focus_maps.gradient(model, None, TEXT)
    with pytest.raises(UserError, match="text 0: int, expected a text"):
        focus_maps.gradient(model, photo(), 3)
    with pytest.raises(UserError, match=r"a focus map of shape \(2, 3, 3\), expected \(height, width\)"):
        focus_maps.overlay(model, photo(), np.zeros((2, 3, 3)))
