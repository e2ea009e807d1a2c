"""The image tower: a Vision Transformer with a linear projection into the joint embedding space."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from focusclip_jax.models.transformer import Shape, Transformer, dense, layer_norm, normal


class ImageTower(nnx.Module):
    """Images to embeddings (paper section 3.2: ViT-B/16, class token, linear 768 → 512 with bias).

    image_size, patch_size: pixels; the size must be a multiple of the patch.
    pool: "class" (a class token is prepended and read out) or "mean" (mean over patches).
    """

    def __init__(
        self, shape: Shape, *, image_size: int, patch_size: int, pool: str, embedding: int, rngs: nnx.Rngs
    ):
        self.shape = shape
        self.patch_size = patch_size
        self.pool = pool
        width = shape.width
        patches = (image_size // patch_size) ** 2
        inputs = patch_size * patch_size * 3
        self.patch_kernel = nnx.Param(normal(inputs**-0.5)(rngs.params(), (inputs, width)))
        self.patch_bias = nnx.Param(jnp.zeros(width))
        if pool == "class":
            self.class_embedding = nnx.Param(normal(0.02)(rngs.params(), (width,)))
        tokens = patches + (pool == "class")
        self.position_embedding = nnx.Param(normal(0.02)(rngs.params(), (tokens, width)))
        self.blocks = Transformer(shape, rngs=rngs)
        self.norm_scale = nnx.Param(jnp.ones(width))
        self.norm_bias = nnx.Param(jnp.zeros(width))
        self.projection_kernel = nnx.Param(normal(width**-0.5)(rngs.params(), (width, embedding)))
        self.projection_bias = nnx.Param(jnp.zeros(embedding))

    def __call__(self, images: jax.Array) -> jax.Array:
        """images: (B, H, W, 3), normalised, in the compute dtype → (B, D)."""
        x = dense(patchify(images, self.patch_size), self.patch_kernel[...], self.patch_bias[...])
        if self.pool == "class":
            first = jnp.broadcast_to(self.class_embedding[...].astype(x.dtype), (x.shape[0], 1, x.shape[-1]))
            x = jnp.concatenate([first, x], axis=1)
        x = self.blocks(x + self.position_embedding[...].astype(x.dtype))
        x = layer_norm(x, self.norm_scale[...], self.norm_bias[...], self.shape.norm_epsilon)
        x = x[:, 0] if self.pool == "class" else x.mean(axis=1)
        return dense(x, self.projection_kernel[...], self.projection_bias[...])


def patchify(images: jax.Array, patch: int) -> jax.Array:
    """(B, H, W, 3) → (B, H/p · W/p, p · p · 3), patches row by row, pixels of a patch row by row."""
    batch, height, width, channels = images.shape
    x = images.reshape(batch, height // patch, patch, width // patch, patch, channels)
    return x.swapaxes(2, 3).reshape(batch, (height // patch) * (width // patch), patch * patch * channels)
