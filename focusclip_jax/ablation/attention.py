"""What the image tower looks at: the share of its attention that falls on the subject.

Two readings of the attention weights, since neither is the whole story: those of the last layer, and their
rollout through all layers (Abnar and Zuidema 2020), half of each layer being the residual connection.
For a tower that averages over patches (`pool` "mean") the reader is the average of all patches, for one with
a class token that token. Letters: B batch, L layers, T tokens, P patches.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from focusclip_jax.data import augment, images
from focusclip_jax.data.loader import joint_heatmap
from focusclip_jax.data.shards import Shards
from focusclip_jax.encoder import Encoder
from focusclip_jax.models.focusclip import FocusCLIP, unit_pixels
from focusclip_jax.models.transformer import Shape, block, dense, layer_norm

LOOKED_AT = 512  # images whose attention is averaged
SUBJECT = 0.5  # heatmap value from which a pixel counts as the subject: within 1.2 σ of a body part


def subject_attention(
    encoder: Encoder, graph: nnx.GraphDef, shards: Shards, patch: int
) -> dict[str, dict[str, float]]:
    """By reading of the attention: its share "inside" the subject, and that of the "area", over the first
    `LOOKED_AT` images. patch: pixels a side."""
    examples = [shards.read(i) for i in range(min(LOOKED_AT, len(shards)))]
    decoded = (images.decode(example.image, shards.where(i)) for i, example in enumerate(examples))
    pixels = np.stack([encoder.prepare(image) for image in decoded])
    size = pixels.shape[1:3]
    # Of the joints, whatever the method was trained with.
    truth = [joint_heatmap(e, augment.whole(e.height, e.width), size) for e in examples]
    subject = subject_share(np.stack(truth), patch)
    looked = _compiled(graph)(encoder.params, pixels)
    result = {}
    for name, weights in jax.device_get(looked).items():
        share, area = inside(weights, subject)
        result[name] = {"inside": share, "area": area}
    return result


@functools.cache
def _compiled(graph: nnx.GraphDef):
    return jax.jit(lambda params, x: patch_attention(nnx.merge(graph, params), x))


def patch_attention(model: FocusCLIP, images: jax.Array) -> dict[str, jax.Array]:
    """uint8 (B, H, W, 3) → "last layer" and "rollout", each float32 (B, P), rows that sum to 1."""
    tower = model.image
    x = tower.embed(model.normalise(unit_pixels(images)))
    weights = layer_weights(x, nnx.to_pure_dict(nnx.state(tower.blocks, nnx.Param)), tower.shape.transformer)
    pool = tower.shape.pool
    return {"last layer": read_out(weights[-1], pool), "rollout": read_out(rollout(weights), pool)}


def layer_weights(x: jax.Array, layers: dict[str, jax.Array], shape: Shape) -> jax.Array:
    """The attention weights of every layer, averaged over heads, float32 (L, B, T, T), rows sum to 1.

    x: (B, T, width), what the first layer sees. layers: the parameters of `Transformer`, stacked.
    """

    def body(x, layer):
        return block(x, layer, None, shape), _weights(x, layer, shape)

    return jax.lax.scan(body, x, layers)[1]


def _weights(x: jax.Array, layer: dict[str, jax.Array], shape: Shape) -> jax.Array:
    if shape.norm == "pre":
        x = layer_norm(x, layer["attention_norm_scale"], layer["attention_norm_bias"], shape.norm_epsilon)
    qkv = dense(x, layer["qkv_kernel"], layer["qkv_bias"])
    batch, tokens, triple = qkv.shape
    q, k, _ = jnp.moveaxis(qkv.reshape(batch, tokens, 3, shape.heads, triple // 3 // shape.heads), 2, 0)
    logits = jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32) * q.shape[-1] ** -0.5
    return jax.nn.softmax(logits, axis=-1).mean(axis=1)


def rollout(weights: jax.Array) -> jax.Array:
    """(L, B, T, T) → (B, T, T): how much of each input token reaches each output token."""
    identity = jnp.eye(weights.shape[-1])

    def through(seen, layer):
        return (layer + identity) / 2 @ seen, None

    return jax.lax.scan(through, jnp.broadcast_to(identity, weights.shape[1:]), weights)[0]


def read_out(weights: jax.Array, pool: str) -> jax.Array:
    """What the pooled output draws from each patch: (B, T, T) → (B, P), rows that sum to 1."""
    read = weights[:, 0, 1:] if pool == "class" else weights.mean(axis=1)
    return read / read.sum(axis=-1, keepdims=True)


def subject_share(heatmaps: np.ndarray, patch: int) -> np.ndarray:
    """The share of each patch that is subject: float32 (B, H, W) in [0, 1] → (B, P), patches row by row."""
    batch, height, width = heatmaps.shape
    inside = (heatmaps >= SUBJECT).reshape(batch, height // patch, patch, width // patch, patch)
    return inside.mean(axis=(2, 4)).reshape(batch, -1)


def inside(attention: np.ndarray, subject: np.ndarray) -> tuple[float, float]:
    """Means over images of the attention on the subject, and of the subject's share of the area (chance).

    attention, subject: (B, P). Images without a subject say nothing and are left out.
    """
    kept = subject.sum(axis=1) > 0
    return float((attention * subject)[kept].sum(axis=1).mean()), float(subject[kept].mean())
