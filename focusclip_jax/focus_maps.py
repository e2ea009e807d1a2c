"""Where a model looks, as maps over an image: the rollout of its attention, and its gradient for a text.

    focus_map = focus_maps.rollout(model, photo)
    picture = focus_maps.overlay(model, photo, focus_map)

Neither is an explanation that can be trusted blindly: the first knows of no text, the second of the text's
slope only, and both leave out what the MLPs do. Half of every layer of a rollout is the residual connection,
so two of its values differ by less than a picture, which is stretched to [0, 1], suggests.
`attention_shares` and `relevance` have the numbers before they are stretched.
Letters: H W of the photo, S side of the model's square input, h w its patches, L layers, T tokens, P patches,
D embedding.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import PIL.Image
from flax import nnx

from focusclip_jax.ablation import attention
from focusclip_jax.api import Image, Model, pixels
from focusclip_jax.data import augment
from focusclip_jax.errors import UserError
from focusclip_jax.models.focusclip import unit_pixels
from focusclip_jax.models.transformer import Shape, block, dense, layer_norm

COVER = 0.36, 0.8  # how much of the photo a map hides where it is 0 and where it is 1


def rollout(model: Model, image: Image) -> np.ndarray:
    """`attention_shares` as a map over the model's input, float32 (S, S) in [0, 1]. Raises UserError."""
    return as_map(attention_shares(model, image), model.image_size)


def gradient(model: Model, image: Image, text: str) -> np.ndarray:
    """`relevance` as a map over the model's input, float32 (S, S) in [0, 1]. Raises UserError."""
    return as_map(relevance(model, image, text), model.image_size)


def attention_shares(model: Model, image: Image) -> np.ndarray:
    """How much of the pooled output attention draws from each patch, float32 (h, w), with a sum of 1.

    The rollout of Abnar and Zuidema 2020 (arXiv 2005.00928), by `ablation.attention.patch_attention`, which
    measures the same of whole data sets. Raises UserError for what is no image.
    """
    encoder = model.encoder
    square = encoder.prepare(pixels(image))
    return _grid(_rollout(encoder.graph)(encoder.params, square))


def relevance(model: Model, image: Image, text: str) -> np.ndarray:
    """What attention drew from each patch and made the image more like the text, float32 (h, w), at least 0.

    Chefer, Gur and Wolf 2021 (arXiv 2103.15679, equations 5 and 6): like a rollout, but each layer adds
    Ā = mean over heads of max(A ∘ ∇A, 0), where ∇A is the gradient of the cosine of image and text, and
    nothing is normalised. Of a tower that averages over its patches it is the average of what they drew.
    It is of the text alone, whatever other labels there are. Raises UserError for what is no image or text.
    """
    encoder = model.encoder
    square = encoder.prepare(pixels(image))
    return _grid(_relevance(encoder.graph)(encoder.params, square, model.encode_text([text])[0]))


def as_map(values: np.ndarray, size: int) -> np.ndarray:
    """Patch values (h, w) → float32 (size, size) in [0, 1]: the least is 0, the largest 1, bilinear between.

    Where all are equal the map says nothing and is 0 everywhere.
    """
    least, largest = values.min(), values.max()
    if largest == least:
        return np.zeros((size, size), np.float32)
    picture = PIL.Image.fromarray(((values - least) / (largest - least)).astype(np.float32))
    return np.clip(np.asarray(picture.resize((size, size), PIL.Image.Resampling.BILINEAR)), 0, 1)


def seen(model: Model, height: int, width: int) -> augment.View:
    """The rectangle of a photo that the model sees as its square, pixels of the photo: all or the middle."""
    side = model.image_size
    return augment.fitted(height, width, (side, side), model.encoder.fit)


def overlay(model: Model, image: Image, focus_map: np.ndarray) -> np.ndarray:
    """The photo, its colours faded, with a map over it, uint8 (H, W, 3): dark at 0, yellow at 1.

    focus_map: (S, S) in [0, 1] over the model's input, a heatmap for example; it is stretched to what the
    model sees of the photo. The rest is pale. Raises UserError for what is no image.
    """
    photo = pixels(image)
    height, width = photo.shape[:2]
    if focus_map.ndim != 2:
        raise UserError(f"a focus map of shape {focus_map.shape}, expected (height, width)")
    view = seen(model, height, width)
    left, top = round(view.left), round(view.top)
    right, bottom = round(view.left + view.width), round(view.top + view.height)
    stretched = PIL.Image.fromarray(focus_map.astype(np.float32)).resize(
        (right - left, bottom - top), PIL.Image.Resampling.BILINEAR
    )
    heat = np.clip(np.asarray(stretched), 0, 1)
    cover = (COVER[0] + (COVER[1] - COVER[0]) * heat)[..., None]
    grey = photo.mean(axis=2, keepdims=True) / 255
    shown = np.repeat(0.6 + 0.25 * grey, 3, axis=2)
    inside = (slice(top, bottom), slice(left, right))
    faded = 0.7 * grey[inside] + 0.3 * photo[inside] / 255
    shown[inside] = (1 - cover) * faded + cover * mpl.colormaps["inferno"](heat)[..., :3]
    return np.round(255 * shown).astype(np.uint8)


def _grid(patches: jax.Array) -> np.ndarray:
    """(P,) → (h, w), which are equal."""
    side = round(patches.size**0.5)
    return np.asarray(patches).reshape(side, side)


@functools.cache
def _rollout(graph: nnx.GraphDef):
    """Compiled: parameters, uint8 (S, S, 3) → (P,)."""
    return jax.jit(lambda p, x: attention.patch_attention(nnx.merge(graph, p), x[None])["rollout"][0])


@functools.cache
def _relevance(graph: nnx.GraphDef):
    """Compiled: parameters, uint8 (S, S, 3), text float32 (D,) → (P,)."""

    def of(params, square, text):
        model = nnx.merge(graph, params)
        image = unit_pixels(square[None])
        layers, shape = params["image"]["blocks"], model.image.shape.transformer

        def cosine(bias):
            blocks = layers | {"out_bias": bias}
            other = nnx.merge(graph, params | {"image": params["image"] | {"blocks": blocks}})
            return other.encode_image(image)[0] @ text

        x = model.image.embed(model.normalise(image))[0]
        # A layer's attention ends with a bias, the same for all tokens. Given to each token apart,
        # (L, T, width), its gradient is that of what attention wrote to the token.
        bias = jnp.repeat(layers["out_bias"][:, None], len(x), axis=1)
        slopes = jax.grad(cosine)(bias)

        def through(carry, of_layer):
            x, drawn = carry
            layer, slope = of_layer
            drawn = drawn + _drawn(x, layer, slope, shape) @ drawn
            return (block(x[None], layer, None, shape)[0], drawn), None

        identity = jnp.eye(len(x))
        drawn = jax.lax.scan(through, (x, identity), (layers, slopes))[0][1] - identity
        return drawn[0, 1:] if model.image.shape.pool == "class" else drawn.mean(axis=0)

    return jax.jit(of)


def _drawn(x: jax.Array, layer: dict[str, jax.Array], slope: jax.Array, shape: Shape) -> jax.Array:
    """Ā of one layer, float32 (T, T). x, what the layer sees, and slope: (T, width)."""
    if shape.norm == "pre":
        x = layer_norm(x, layer["attention_norm_scale"], layer["attention_norm_bias"], shape.norm_epsilon)

    def by_head(rows):
        return rows.astype(jnp.float32).reshape(len(rows), shape.heads, -1).swapaxes(0, 1)

    q, k, v = map(by_head, jnp.split(dense(x, layer["qkv_kernel"], layer["qkv_bias"]), 3, axis=-1))
    weights = jax.nn.softmax(q @ k.swapaxes(1, 2) * q.shape[-1] ** -0.5, axis=-1)
    of_weights = by_head(slope @ layer["out_kernel"].T) @ v.swapaxes(1, 2)
    return jnp.maximum(weights * of_weights, 0).mean(axis=0)
