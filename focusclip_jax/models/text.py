"""The text tower: a transformer over tokens, pooled and projected into the joint embedding space."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from focusclip_jax.models.transformer import Shape, Transformer, dense, layer_norm, normal
from focusclip_jax.sharding import constrain_whole


@dataclasses.dataclass(frozen=True)
class TextShape:
    """Sizes and variants of a text tower.

    transformer: with norm "post" the token embeddings are normalised and the output is not, as in BERT.
    vocabulary: rows of the token table. context: the longest text in tokens.
    pool: "mean" over a text's own tokens, "mean_padded" over the padding as well (the 2023 code: give it
        one fixed length) or "end", the last token, which is the end token (CLIP).
    projection_bias: have one; CLIP has none.
    """

    transformer: Shape
    vocabulary: int
    context: int
    pool: str = "mean"
    projection_bias: bool = True


class TextTower(nnx.Module):
    """Token ids to embeddings (paper section 3.2: BERT-base, linear 768 → 512 with bias).

    embedding: D of the joint space.
    """

    def __init__(self, shape: TextShape, *, embedding: int, rngs: nnx.Rngs):
        self.shape = shape
        width = shape.transformer.width
        self.token_embedding = nnx.Param(normal(0.02)(rngs.params(), (shape.vocabulary, width)))
        self.position_embedding = nnx.Param(normal(0.01)(rngs.params(), (shape.context, width)))
        self.blocks = Transformer(shape.transformer, rngs=rngs)
        self.norm_scale = nnx.Param(jnp.ones(width))
        self.norm_bias = nnx.Param(jnp.zeros(width))
        self.projection_kernel = nnx.Param(normal(width**-0.5)(rngs.params(), (width, embedding)))
        if shape.projection_bias:
            self.projection_bias = nnx.Param(jnp.zeros(embedding))

    @jax.named_scope("text_tower")
    def __call__(self, tokens: jax.Array, lengths: jax.Array, dtype: jnp.dtype) -> jax.Array:
        """tokens: int32 (B, T), padded at the end; lengths: int32 (B,); dtype to compute in → (B, D)."""
        first_norm = self.shape.transformer.norm == "post"
        x = constrain_whole(self.token_embedding[...])[tokens]
        if self.shape.pool == "mean_padded":
            # BERT's padding takes part in that mean, but torch never learns its embedding.
            own = jnp.arange(tokens.shape[1]) < lengths[:, None]
            x = jnp.where(own[..., None], x, jax.lax.stop_gradient(x))
        x = x + self.position_embedding[: tokens.shape[1]]
        if first_norm:
            x = self._norm(x)
        x = self.blocks(x.astype(dtype), lengths)
        if not first_norm:
            x = self._norm(x)
        bias = self.projection_bias[...] if self.shape.projection_bias else None
        return dense(pooled(x, lengths, self.shape.pool), self.projection_kernel[...], bias)

    def _norm(self, x):
        return layer_norm(x, self.norm_scale[...], self.norm_bias[...], self.shape.transformer.norm_epsilon)


def pooled(x: jax.Array, lengths: jax.Array, pool: str) -> jax.Array:
    """One vector per text: see `TextShape.pool`. (B, T, D), (B,) → (B, D)."""
    if pool == "mean":
        return masked_mean(x, lengths)
    if pool == "mean_padded":
        return x.mean(axis=1)
    # A text without tokens fills up an evaluation's last batch; its row is never looked at.
    return jnp.take_along_axis(x, jnp.maximum(lengths - 1, 0)[:, None, None], axis=1)[:, 0]


def masked_mean(x: jax.Array, lengths: jax.Array) -> jax.Array:
    """Mean of the first `lengths[b]` tokens of each row. (B, T, D), (B,) → (B, D)."""
    keep = (jnp.arange(x.shape[1]) < lengths[:, None]).astype(x.dtype)
    return jnp.einsum("btd,bt->bd", x, keep) / jnp.maximum(lengths, 1)[:, None].astype(x.dtype)
