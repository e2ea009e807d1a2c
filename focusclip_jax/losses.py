"""Contrastive losses between two sets of embeddings, and their weighted sum over pairs of views.

Rows that carry the same image id are positives of each other, wherever in the global batch they
are: a second caption of an image or a repeated image is never a negative. With one row per image
each loss is the published one. All take L2-normalised float32 embeddings and work unchanged when
the batch axis is sharded: devices exchange embeddings, never similarities.

A loss is a mean over rows, and what a row adds depends on no other row's similarities. So a large
batch may be compared in chunks of rows: see `_mean_over_rows`.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from focusclip_jax.models.focusclip import FOCUS, IMAGE, TEXT, l2_normalise

# The pairs of views that a term may join, by the name it has in the config.
TERMS = {"image_text": (IMAGE, TEXT), "focus_text": (FOCUS, TEXT), "focus_image": (FOCUS, IMAGE)}

MAX_LOG_SCALE = math.log(100)  # CLIP's clamp
NTXENT_TEMPERATURE = 0.5


def term_weights(settings: ConfigDict) -> dict[str, float]:
    """The weight of each term that `config.loss` switches on."""
    return {term: settings[term] for term in TERMS if settings[term]}


def uses_focus(settings: ConfigDict) -> bool:
    """Whether any term of `config.loss` looks at the highlighted image; without one the model is CLIP."""
    return any(FOCUS in TERMS[term] for term in term_weights(settings))


@jax.named_scope("loss")
def total(
    views: Mapping[str, jax.Array],
    ids: jax.Array,
    settings: ConfigDict,
    log_scale: jax.Array,
    bias: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Weighted sum of the terms whose weight is not zero, and each term's own value.

    views: "image" and "focus" (B, D), "text" (B, C, D). ids: int32 (B,), the image of each row.
    settings: `config.loss`. v3 of the paper weighs image_text and focus_text (dual), the 2023 code all three.

    Every caption counts, in the average too: the loader repeats those of an image that has fewer than C.
    """
    if settings.captions == "average":
        views = {**views, TEXT: l2_normalise(views[TEXT].mean(axis=1))}
    rows = {name: x.reshape(-1, x.shape[-1]) for name, x in views.items()}
    row_ids = {name: jnp.repeat(ids, x.shape[0] // ids.shape[0]) for name, x in rows.items()}
    weights, values = term_weights(settings), {}
    for term in weights:
        a, b = TERMS[term]
        pair = rows[a], rows[b], row_ids[a], row_ids[b]
        if settings.kind == "ntxent":
            values[term] = ntxent(*pair, chunks=settings.chunks)
        elif settings.kind == "sigmoid":
            values[term] = sigmoid(*pair, log_scale, bias, chunks=settings.chunks)
        else:
            values[term] = infonce(*pair, log_scale, chunks=settings.chunks)
    weighted = (weights[term] * value for term, value in values.items())
    return functools.reduce(operator.add, weighted), values


def infonce(x, y, x_ids, y_ids, log_scale, *, chunks: int = 1) -> jax.Array:
    """CLIP's symmetric cross-entropy with a learnable temperature, clamped as CLIP clamps it.

    x: (B, D), y: (S, D), x_ids: (B,), y_ids: (S,), log_scale: (), the logarithm of 1 / temperature.
    A row with several positives aims at the uniform distribution over them.
    """

    scale = _scale(log_scale)

    def row_losses(rows, columns):
        (x, x_ids), (y, y_ids) = rows, columns
        return _cross_entropy(_products(scale * x, y), x_ids[:, None] == y_ids)

    forth = _mean_over_rows(row_losses, (x, x_ids), (y, y_ids), chunks)
    back = _mean_over_rows(row_losses, (y, y_ids), (x, x_ids), chunks)
    return 0.5 * (forth + back)


def ntxent(x, y, x_ids, y_ids, *, chunks: int = 1) -> jax.Array:
    """SimCLR's loss at a fixed temperature: every other row of both views is a negative (2023 code).

    x: (B, D), y: (S, D) with B dividing S, x_ids: (B,), y_ids: (S,).
    """

    def row_losses(rows, columns):
        (x, x_ids, x_at), (y, y_ids, y_at) = rows, columns
        itself = x_at[:, None] == y_at
        logits = jnp.where(itself, -jnp.inf, _products(x, y) / NTXENT_TEMPERATURE)
        return _cross_entropy(logits, (x_ids[:, None] == y_ids) & ~itself)

    ids = _interleaved(x_ids, y_ids)
    everyone = _interleaved(x, y), ids, jnp.arange(ids.shape[0])
    return _mean_over_rows(row_losses, everyone, everyone, chunks)


def sigmoid(x, y, x_ids, y_ids, log_scale, bias, *, chunks: int = 1) -> jax.Array:
    """SigLIP's pairwise loss: every pair is its own yes-or-no question, summed per row of x.

    x: (B, D), y: (S, D), x_ids: (B,), y_ids: (S,), log_scale and bias: ().
    """

    scale = _scale(log_scale)

    def row_losses(rows, columns):
        (x, x_ids), (y, y_ids) = rows, columns
        sign = jnp.where(x_ids[:, None] == y_ids, 1.0, -1.0)
        return -jax.nn.log_sigmoid(sign * (_products(scale * x, y) + bias)).sum(-1)

    return _mean_over_rows(row_losses, (x, x_ids), (y, y_ids), chunks)


def _scale(log_scale):
    """Times rows before they are compared: times similarities, its gradient would keep all of them."""
    return jnp.exp(jnp.clip(log_scale, 0.0, MAX_LOG_SCALE))


def _products(x, y):
    """(R, D), (S, D) → (R, S), in float32 on accelerators too: their default rounds the factors."""
    return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)


def _cross_entropy(logits, positive):
    """−mean log-probability of each row's positives. Both (R, S), no row lacks one → (R,)."""
    log_probability = jax.nn.log_softmax(logits, axis=-1)
    count = positive.sum(-1).astype(log_probability.dtype)
    return -jnp.where(positive, log_probability, 0.0).sum(-1) / count


def _interleaved(x, y):
    """Each row of x and then its share of y's rows, so that all stay on the device they are on."""
    pairs = jnp.concatenate([x[:, None], y.reshape(x.shape[0], -1, *y.shape[1:])], axis=1)
    return pairs.reshape(-1, *x.shape[1:])


def _mean_over_rows(row_losses: Callable, rows, columns, chunks: int) -> jax.Array:
    """Mean of `row_losses(rows, columns)` → (R,), with 1 / chunks of the comparisons in memory at a time.

    rows and columns: trees of arrays with R rows (`chunks` divides R) and S rows.

    The backward pass compares again. A chunk is every `chunks`-th row, and so lies evenly on all devices.
    Of a chunk the compiler gathers the rows and lets each device compare them with its own columns, so that
    nobody holds all columns either: what devices tell each other is as much as for the whole, in pieces.
    """
    if chunks == 1:
        return row_losses(rows, columns).mean()
    parts = jax.tree.map(lambda x: x.reshape(-1, chunks, *x.shape[1:]).swapaxes(0, 1), rows)
    return jax.lax.map(jax.checkpoint(lambda part: row_losses(part, columns)), parts).mean()
