"""The text tower: a bidirectional transformer, mean over tokens, linear projection."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from focusclip_jax.models.transformer import Shape, Transformer, dense, layer_norm, normal


class TextTower(nnx.Module):
    """Token ids to embeddings (paper section 3.2: BERT-base, linear 768 → 512 with bias).

    The embedding is the mean over a caption's own tokens; the 2023 code averaged the padding too.
    With `shape.norm == "post"` the token embeddings are normalised first and the output is not, as in BERT.
    context: the longest caption in tokens.
    """

    def __init__(self, shape: Shape, *, vocabulary: int, context: int, embedding: int, rngs: nnx.Rngs):
        self.shape = shape
        width = shape.width
        self.token_embedding = nnx.Param(normal(0.02)(rngs.params(), (vocabulary, width)))
        self.position_embedding = nnx.Param(normal(0.01)(rngs.params(), (context, width)))
        self.blocks = Transformer(shape, rngs=rngs)
        self.norm_scale = nnx.Param(jnp.ones(width))
        self.norm_bias = nnx.Param(jnp.zeros(width))
        self.projection_kernel = nnx.Param(normal(width**-0.5)(rngs.params(), (width, embedding)))
        self.projection_bias = nnx.Param(jnp.zeros(embedding))

    def __call__(self, tokens: jax.Array, lengths: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """tokens: int32 (B, T), padded at the end; lengths: int32 (B,); dtype to compute in → (B, D)."""
        x = self.token_embedding[...][tokens] + self.position_embedding[: tokens.shape[1]]
        if self.shape.norm == "post":
            x = self._norm(x)
        x = self.blocks(x.astype(dtype), lengths)
        if self.shape.norm == "pre":
            x = self._norm(x)
        x = masked_mean(x, lengths)
        return dense(x, self.projection_kernel[...], self.projection_bias[...])

    def _norm(self, x):
        return layer_norm(x, self.norm_scale[...], self.norm_bias[...], self.shape.norm_epsilon)


def masked_mean(x: jax.Array, lengths: jax.Array) -> jax.Array:
    """Mean of the first `lengths[b]` tokens of each row. (B, T, D), (B,) → (B, D)."""
    keep = (jnp.arange(x.shape[1]) < lengths[:, None]).astype(x.dtype)
    return jnp.einsum("btd,bt->bd", x, keep) / jnp.maximum(lengths, 1)[:, None].astype(x.dtype)
