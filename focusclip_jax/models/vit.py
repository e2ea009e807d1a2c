"""The image tower: a Vision Transformer with a linear projection into the joint embedding space."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from focusclip_jax.models.transformer import Shape, Transformer, dense, layer_norm, normal


@dataclasses.dataclass(frozen=True)
class ImageShape:
    """Sizes and variants of an image tower. The defaults are ViT's; CLIP's are the other choices.

    image_size, patch_size: pixels; the size is a multiple of the patch.
    pool: "class" (a class token is prepended and read out) or "mean" (mean over patches).
    norm_embeddings: normalise patches before the first layer. patch_bias, projection_bias: have one.
    """

    transformer: Shape
    image_size: int
    patch_size: int
    pool: str = "class"
    norm_embeddings: bool = False
    patch_bias: bool = True
    projection_bias: bool = True


class ImageTower(nnx.Module):
    """Images to embeddings (paper section 3.2: ViT-B/16, class token, linear 768 → 512 with bias).

    embedding: D of the joint space.
    """

    def __init__(self, shape: ImageShape, *, embedding: int, rngs: nnx.Rngs):
        self.shape = shape
        width = shape.transformer.width
        patches = (shape.image_size // shape.patch_size) ** 2
        inputs = shape.patch_size * shape.patch_size * 3
        self.patch_kernel = nnx.Param(normal(inputs**-0.5)(rngs.params(), (inputs, width)))
        if shape.patch_bias:
            self.patch_bias = nnx.Param(jnp.zeros(width))
        if shape.pool == "class":
            self.class_embedding = nnx.Param(normal(0.02)(rngs.params(), (width,)))
        tokens = patches + (shape.pool == "class")
        self.position_embedding = nnx.Param(normal(0.02)(rngs.params(), (tokens, width)))
        if shape.norm_embeddings:
            self.embedding_norm_scale = nnx.Param(jnp.ones(width))
            self.embedding_norm_bias = nnx.Param(jnp.zeros(width))
        self.blocks = Transformer(shape.transformer, rngs=rngs)
        self.norm_scale = nnx.Param(jnp.ones(width))
        self.norm_bias = nnx.Param(jnp.zeros(width))
        self.projection_kernel = nnx.Param(normal(width**-0.5)(rngs.params(), (width, embedding)))
        if shape.projection_bias:
            self.projection_bias = nnx.Param(jnp.zeros(embedding))

    @jax.named_scope("image_tower")
    def __call__(self, images: jax.Array, weights: jax.Array | None = None) -> jax.Array:
        """images: (B, H, W, 3), normalised, in the compute dtype → (B, D).

        weights: (B, P) of each patch in the mean, with pool "mean"; of any sum above 0. None: equal.
        """
        shape, epsilon = self.shape, self.shape.transformer.norm_epsilon
        x = self.blocks(self.embed(images))
        # Rows are normalised one by one, so the class token can be picked before.
        x = x[:, 0] if shape.pool == "class" else x
        x = layer_norm(x, self.norm_scale[...], self.norm_bias[...], epsilon)
        if shape.pool == "mean" and weights is None:
            x = x.mean(axis=1)
        elif shape.pool == "mean" and weights is not None:
            weights = weights / weights.sum(axis=1, keepdims=True)
            x = (x * weights[..., None].astype(x.dtype)).sum(axis=1)
        bias = self.projection_bias[...] if shape.projection_bias else None
        return dense(x, self.projection_kernel[...], bias)

    def embed(self, images: jax.Array) -> jax.Array:
        """What the first layer sees. images: as above → (B, T, width), a class token (if any) first."""
        shape, epsilon = self.shape, self.shape.transformer.norm_epsilon
        patches = patchify(images, shape.patch_size)
        x = dense(patches, self.patch_kernel[...], self.patch_bias[...] if shape.patch_bias else None)
        if shape.pool == "class":
            first = jnp.broadcast_to(self.class_embedding[...].astype(x.dtype), (x.shape[0], 1, x.shape[-1]))
            x = jnp.concatenate([first, x], axis=1)
        x = x + self.position_embedding[...].astype(x.dtype)
        if shape.norm_embeddings:
            x = layer_norm(x, self.embedding_norm_scale[...], self.embedding_norm_bias[...], epsilon)
        return x


def patchify(images: jax.Array, patch: int) -> jax.Array:
    """(B, H, W, c) → (B, H/p · W/p, p · p · c), patches row by row, pixels of a patch row by row."""
    batch, height, width, channels = images.shape
    x = images.reshape(batch, height // patch, patch, width // patch, patch, channels)
    return x.swapaxes(2, 3).reshape(batch, (height // patch) * (width // patch), patch * patch * channels)
