"""Contrastive losses between two sets of embeddings, and their weighted sum over pairs of views.

Rows that carry the same image id are positives of each other, wherever in the global batch they
are: a second caption of an image or a repeated image is never a negative. With one row per image
each loss is the published one. All take L2-normalised float32 embeddings and work unchanged when
the batch axis is sharded: the compiler gathers the columns and keeps the rows local.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from focusclip_jax.models.focusclip import FOCUS, IMAGE, TEXT

# The pairs of views that a term may join, by the name it has in the config.
TERMS = {"image_text": (IMAGE, TEXT), "focus_text": (FOCUS, TEXT), "focus_image": (FOCUS, IMAGE)}

MAX_LOG_SCALE = math.log(100)  # CLIP's clamp
NTXENT_TEMPERATURE = 0.5


def infonce(x, y, x_ids, y_ids, log_scale) -> jax.Array:
    """CLIP's symmetric cross-entropy with a learnable temperature, clamped as CLIP clamps it.

    x: (B, D), y: (S, D), x_ids: (B,), y_ids: (S,), log_scale: (), the logarithm of 1 / temperature.
    A row with several positives aims at the uniform distribution over them.
    """
    logits = jnp.exp(jnp.clip(log_scale, 0.0, MAX_LOG_SCALE)) * (x @ y.T)
    positive = x_ids[:, None] == y_ids[None, :]
    return 0.5 * (_cross_entropy(logits, positive) + _cross_entropy(logits.T, positive.T))


def ntxent(x, y, x_ids, y_ids, temperature=NTXENT_TEMPERATURE) -> jax.Array:
    """SimCLR's loss at a fixed temperature: every other row of both views is a negative (2023 code)."""
    rows = jnp.concatenate([x, y])
    ids = jnp.concatenate([x_ids, y_ids])
    itself = jnp.eye(rows.shape[0], dtype=bool)
    logits = jnp.where(itself, -jnp.inf, rows @ rows.T / temperature)
    return _cross_entropy(logits, (ids[:, None] == ids[None, :]) & ~itself)


def sigmoid(x, y, x_ids, y_ids, log_scale, bias) -> jax.Array:
    """SigLIP's pairwise loss: every pair is its own yes-or-no question, summed per row of x."""
    logits = jnp.exp(jnp.clip(log_scale, 0.0, MAX_LOG_SCALE)) * (x @ y.T) + bias
    sign = jnp.where(x_ids[:, None] == y_ids[None, :], 1.0, -1.0)
    return -jax.nn.log_sigmoid(sign * logits).sum() / x.shape[0]


def _cross_entropy(logits, positive):
    """Mean over rows of −mean log-probability of the row's positives. Both (R, S); no row lacks one."""
    log_probability = jax.nn.log_softmax(logits, axis=-1)
    picked = jnp.where(positive, log_probability, 0.0).sum(-1) / positive.sum(-1)
    return -picked.mean()


def total(
    views: Mapping[str, jax.Array],
    ids: jax.Array,
    weights: Mapping[str, float],
    kind: str,
    log_scale: jax.Array,
    bias: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Weighted sum of the terms whose weight is not zero, and each term's own value.

    views: "image" and "focus" (B, D), "text" (B, C, D). ids: int32 (B,), the image of each row.
    weights: by name of `TERMS`; v3 of the paper: image_text 1, focus_text 1 (dual); 2023 code: all three.
    """
    rows = {name: x.reshape(-1, x.shape[-1]) for name, x in views.items()}
    row_ids = {name: jnp.repeat(ids, rows[name].shape[0] // ids.shape[0]) for name in rows}
    values = {}
    for term, weight in weights.items():
        if weight:
            a, b = TERMS[term]
            pair = rows[a], rows[b], row_ids[a], row_ids[b]
            if kind == "ntxent":
                values[term] = ntxent(*pair)
            elif kind == "sigmoid":
                values[term] = sigmoid(*pair, log_scale, bias)
            else:
                values[term] = infonce(*pair, log_scale)
    return sum(weights[term] * value for term, value in values.items()), values
