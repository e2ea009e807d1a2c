"""What the model promises: views that do not disturb each other, padding that does not count."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from focusclip_jax.models.focusclip import Architecture, FocusCLIP
from focusclip_jax.models.text import TextShape
from focusclip_jax.models.transformer import Shape, Transformer
from focusclip_jax.models.vit import ImageShape, patchify

TOWER = Shape(depth=2, width=32, heads=4, mlp=64)
IMAGE = ImageShape(TOWER, image_size=16, patch_size=8)
TEXT = TextShape(TOWER, vocabulary=50, context=24)
SMALL = Architecture(image=IMAGE, text=TEXT, embedding=16)


def model(**changes) -> FocusCLIP:
    return FocusCLIP(dataclasses.replace(SMALL, **changes), rngs=nnx.Rngs(0))


def with_layers(**changes) -> FocusCLIP:
    """The model with both towers' layers changed."""
    layers = dataclasses.replace(TOWER, **changes)
    return model(
        image=dataclasses.replace(IMAGE, transformer=layers),
        text=dataclasses.replace(TEXT, transformer=layers),
    )


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (3, 16, 16, 3), np.uint8),
        "heatmap": rng.random((3, 16, 16), np.float32),
        "tokens": rng.integers(1, 50, (3, 2, 12)).astype(np.int32),
        "lengths": np.array([[12, 5], [3, 12], [7, 9]], np.int32),
    }


def test_highlight_is_the_papers_formula_on_unit_pixels():
    image, heatmap = jnp.full((1, 1, 2, 3), 0.8), jnp.array([[[1.0, 0.0]]])
    shown = model().highlight(image, heatmap)
    np.testing.assert_allclose(shown[0, 0, 0], 0.8, rtol=1e-6)  # the subject stays as it is
    np.testing.assert_allclose(shown[0, 0, 1], 0.4, rtol=1e-6)  # the background is dimmed by α = 0.5


@pytest.mark.parametrize("raw", [-50.0, 0.3, 50.0])
def test_alpha_cannot_leave_the_unit_interval_unless_asked_to(raw):
    bounded, free = model(), model(alpha="unbounded")
    bounded.alpha_parameter[...] = free.alpha_parameter[...] = jnp.float32(raw)
    assert 0.0 <= bounded.alpha <= 1.0
    assert free.alpha == np.float32(raw)


def test_both_kinds_of_alpha_start_at_one_half():
    assert model().alpha == model(alpha="unbounded").alpha == 0.5


@pytest.mark.parametrize("kind", ["sigmoid", "unbounded"])
def test_alpha_starts_where_the_config_says(kind):
    np.testing.assert_allclose(model(alpha=kind, initial_alpha=0.1).alpha, 0.1, rtol=1e-6)


@pytest.mark.parametrize("tower", ["shared", "separate"])
def test_views_are_the_encoders_own_embeddings(batch, tower):
    m = model(focus_tower=tower)
    views = m.views(batch, focus=True)
    image = batch["image"] / np.float32(255)
    np.testing.assert_allclose(views["image"], m.encode_image(image), atol=1e-6)
    np.testing.assert_allclose(views["focus"], m.encode_focus(image, batch["heatmap"]), atol=1e-6)
    for c in range(2):
        text = m.encode_text(batch["tokens"][:, c], batch["lengths"][:, c])
        np.testing.assert_allclose(views["text"][:, c], text, atol=1e-6)
    assert "focus" not in m.views(batch, focus=False)


def test_a_shared_tower_has_the_parameters_of_clip():
    def size(m):
        return sum(p.size for p in jax.tree.leaves(nnx.state(m, nnx.Param)))

    separate = size(model(focus_tower="separate"))
    assert size(model()) == separate - sum(
        p.size for p in jax.tree.leaves(nnx.state(model().image, nnx.Param))
    )


def test_padding_does_not_change_a_text(batch):
    m = model()
    short = np.array([[3, 4, 5, 6]], np.int32)
    length = np.array([4], np.int32)
    padded = np.pad(short, ((0, 0), (0, 20)), constant_values=9)
    np.testing.assert_allclose(m.encode_text(short, length), m.encode_text(padded, length), atol=1e-6)
    changed = short.copy()
    changed[0, 3] = 7
    assert np.abs(m.encode_text(short, length) - m.encode_text(changed, length)).max() > 1e-3


def text_model(**changes) -> FocusCLIP:
    return model(text=dataclasses.replace(TEXT, **changes))


def test_a_causal_text_is_read_at_its_end_token():
    m = text_model(transformer=dataclasses.replace(TOWER, causal=True), pool="end")
    tokens = np.array([[3, 4, 5, 6, 0, 0]], np.int32)
    encoded = m.encode_text(tokens, np.array([4], np.int32))
    np.testing.assert_allclose(encoded, m.encode_text(tokens[:, :4], np.array([4], np.int32)), atol=1e-6)
    for at, matters in ((0, True), (3, True), (4, False)):
        changed = tokens.copy()
        changed[0, at] = 9
        difference = np.abs(encoded - m.encode_text(changed, np.array([4], np.int32))).max()
        assert (difference > 1e-3) == matters, f"token {at}"


def test_a_causal_token_does_not_see_what_follows():
    def first_token(tokens):
        # The mean over one token of a longer text: the rest is there, but must not be looked at.
        return Transformer(dataclasses.replace(TOWER, causal=True), rngs=nnx.Rngs(0))(tokens)[:, 0]

    x = np.random.default_rng(0).normal(size=(1, 5, 32)).astype(np.float32)
    changed = x.copy()
    changed[:, 1:] += 1
    np.testing.assert_allclose(first_token(x), first_token(changed), atol=1e-6)


def test_the_2023_mean_counts_padding():
    m = text_model(pool="mean_padded")
    tokens = np.array([[3, 4, 5, 6]], np.int32)
    length = np.array([4], np.int32)
    padded = m.encode_text(np.pad(tokens, ((0, 0), (0, 20))), length)
    assert np.abs(m.encode_text(tokens, length) - padded).max() > 1e-3


def test_clips_image_tower_normalises_first_and_has_no_biases():
    clip = model(
        image=dataclasses.replace(IMAGE, norm_embeddings=True, patch_bias=False, projection_bias=False)
    )
    names = set(nnx.to_pure_dict(nnx.state(clip.image, nnx.Param)))
    plain = set(nnx.to_pure_dict(nnx.state(model().image, nnx.Param)))
    assert names - plain == {"embedding_norm_scale", "embedding_norm_bias"}
    assert plain - names == {"patch_bias", "projection_bias"}


@pytest.mark.parametrize("change", [{"norm": "post"}, {"remat": "full"}, {"activation": "quick_gelu"}])
def test_variants_of_the_transformer_run_and_differentiate(batch, change):
    graph, params = nnx.split(with_layers(**change), nnx.Param)
    loss = lambda p: nnx.merge(graph, p).views(batch, True)["text"].sum()  # noqa: E731
    gradients = jax.grad(loss)(params)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


@pytest.mark.parametrize("remat", ["full", "dots"])
def test_recomputing_activations_changes_no_value_and_no_gradient(batch, remat):
    def value_and_gradient(m):
        graph, params = nnx.split(m, nnx.Param)
        loss = lambda p: nnx.merge(graph, p).views(batch, True)["focus"].sum()  # noqa: E731
        return jax.value_and_grad(loss)(params)

    plain, again = (value_and_gradient(with_layers(remat=which)) for which in ("none", remat))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), plain, again)


def test_what_is_computed_again_are_all_products_of_a_layer_or_only_those_of_attention(batch):
    def products(remat):
        graph, params = nnx.split(with_layers(remat=remat), nnx.Param)
        loss = lambda p: nnx.merge(graph, p).views(batch, True)["focus"].sum()  # noqa: E731
        return str(jax.make_jaxpr(jax.grad(loss))(params)).count("dot_general")

    none, dots, full = (products(remat) for remat in ("none", "dots", "full"))
    # A layer has 2 products of attention and 4 with kernels, of which the last is no input of anything.
    assert (dots - none, full - none) == (2, 5)


@pytest.mark.parametrize("causal", [False, True])
def test_the_librarys_attention_gives_the_same_embeddings(batch, causal):
    plain, library = (with_layers(attention=kind, causal=causal) for kind in ("matmul", "xla"))
    for name, value in plain.views(batch, True).items():
        np.testing.assert_allclose(value, library.views(batch, True)[name], atol=2e-6)


def test_bfloat16_activations_keep_float32_parameters_and_embeddings(batch):
    m = model(dtype="bfloat16")
    views = m.views(batch, True)
    assert all(value.dtype == jnp.float32 for value in views.values())
    assert all(p.dtype == jnp.float32 for p in jax.tree.leaves(nnx.state(m, nnx.Param)))
    for name, value in model().views(batch, True).items():
        np.testing.assert_allclose(value, views[name], atol=0.03)


def test_patches_are_cut_row_by_row():
    image = np.arange(4 * 6 * 3).reshape(1, 4, 6, 3)
    patches = patchify(jnp.asarray(image), 2)
    assert patches.shape == (1, 6, 12)
    np.testing.assert_array_equal(patches[0, 1].reshape(2, 2, 3), image[0, :2, 2:4])
    np.testing.assert_array_equal(patches[0, 3].reshape(2, 2, 3), image[0, 2:, :2])


def test_pixels_are_normalised_after_highlighting(batch):
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    m = model(pixel_mean=mean, pixel_std=std)
    image = batch["image"] / np.float32(255)
    by_hand = (image * (0.5 + 0.5 * batch["heatmap"])[..., None] - np.float32(mean)) / np.float32(std)
    plain = model()
    np.testing.assert_allclose(
        m.encode_focus(image, batch["heatmap"]), plain.encode_image(by_hand.astype(np.float32)), atol=1e-5
    )
