"""The losses against the published formulas, written out row by row."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from focusclip_jax import losses, sharding


def embeddings(rows, seed, dim=8):
    x = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


X, Y, IDS = embeddings(6, 0), embeddings(6, 1), np.arange(6)


def log_softmax(row):
    return row - np.log(np.exp(row).sum())


def test_infonce_is_clips_symmetric_cross_entropy():
    logits = 10.0 * X.astype(np.float64) @ Y.T.astype(np.float64)
    rows = -np.mean([log_softmax(row)[i] for i, row in enumerate(logits)])
    columns = -np.mean([log_softmax(row)[i] for i, row in enumerate(logits.T)])
    np.testing.assert_allclose(losses.infonce(X, Y, IDS, IDS, np.log(10.0)), (rows + columns) / 2, rtol=1e-5)


def test_infonce_clamps_the_temperature_where_clip_does():
    hot, hotter = (losses.infonce(X, Y, IDS, IDS, log_scale) for log_scale in (np.log(100.0), 9.0))
    np.testing.assert_allclose(hot, hotter, rtol=1e-5)
    assert losses.infonce(X, Y, IDS, IDS, -3.0) == losses.infonce(X, Y, IDS, IDS, 0.0)


def test_ntxent_counts_every_other_row_as_negative():
    stacked = np.concatenate([X, Y]).astype(np.float64)
    similarity = stacked @ stacked.T / 0.5
    values = []
    for i in range(12):
        others = [similarity[i, j] for j in range(12) if j != i]
        values.append(np.log(np.exp(others).sum()) - similarity[i, (i + 6) % 12])
    np.testing.assert_allclose(losses.ntxent(X, Y, IDS, IDS), np.mean(values), rtol=1e-5)


def test_ntxent_agrees_with_optax():
    stacked, labels = np.concatenate([X, Y]), np.concatenate([IDS, IDS])
    expected = optax.losses.ntxent(jnp.asarray(stacked), jnp.asarray(labels), temperature=0.5)
    np.testing.assert_allclose(losses.ntxent(X, Y, IDS, IDS), expected, rtol=1e-5)


def test_sigmoid_is_siglips_sum_over_pairs():
    total = 0.0
    for i in range(6):
        for j in range(6):
            z = (1 if i == j else -1) * (10.0 * X[i] @ Y[j] - 10.0)
            total += np.log1p(np.exp(-z))
    np.testing.assert_allclose(losses.sigmoid(X, Y, IDS, IDS, np.log(10.0), -10.0), total / 6, rtol=1e-5)


def test_two_captions_of_an_image_are_both_its_positives():
    texts, text_ids = np.concatenate([Y, X[:1]]), np.concatenate([IDS, [0]])
    logits = 10.0 * X.astype(np.float64) @ texts.T.astype(np.float64)
    rows = [log_softmax(row)[text_ids == i].mean() for i, row in enumerate(logits)]
    columns = [log_softmax(column)[text_ids[j]] for j, column in enumerate(logits.T)]
    expected = -(np.mean(rows) + np.mean(columns)) / 2
    np.testing.assert_allclose(losses.infonce(X, texts, IDS, text_ids, np.log(10.0)), expected, rtol=1e-5)


REPEATED = np.array([0, 0, 1, 2, 3, 3])


def test_ntxent_aims_at_all_rows_of_a_repeated_image():
    stacked, ids = np.concatenate([X, Y]).astype(np.float64), np.concatenate([REPEATED, REPEATED])
    similarity = stacked @ stacked.T / 0.5
    values = []
    for i in range(12):
        others = [j for j in range(12) if j != i]
        probabilities = log_softmax(similarity[i, others])
        values.append(-np.mean([p for j, p in zip(others, probabilities, strict=True) if ids[j] == ids[i]]))
    np.testing.assert_allclose(losses.ntxent(X, Y, REPEATED, REPEATED), np.mean(values), rtol=1e-5)


def test_sigmoid_says_yes_to_all_rows_of_a_repeated_image():
    sign = np.where(REPEATED[:, None] == REPEATED[None], 1, -1)
    expected = np.log1p(np.exp(-sign * (10.0 * X @ Y.T - 10.0))).sum() / 6
    np.testing.assert_allclose(
        losses.sigmoid(X, Y, REPEATED, REPEATED, np.log(10.0), -10.0), expected, rtol=1e-5
    )


@pytest.mark.parametrize("kind", ["infonce", "ntxent", "sigmoid"])
def test_total_is_the_weighted_sum_of_its_terms_and_accepts_several_captions(kind):
    views = {
        "image": jnp.asarray(X),
        "focus": jnp.asarray(embeddings(6, 3)),
        "text": jnp.stack([Y, X], axis=1),
    }
    weights = {"image_text": 1.0, "focus_text": 0.5, "focus_image": 0.0}
    value, terms = losses.total(views, jnp.asarray(IDS), weights, kind, jnp.log(10.0), jnp.float32(-10))
    assert set(terms) == {"image_text", "focus_text"}
    np.testing.assert_allclose(value, terms["image_text"] + 0.5 * terms["focus_text"], rtol=1e-6)


@pytest.mark.parametrize("kind", ["infonce", "ntxent", "sigmoid"])
def test_value_and_gradient_do_not_depend_on_the_number_of_devices(kind):
    x, y, ids = embeddings(16, 4), embeddings(16, 5), np.arange(16) // 2

    def value(x, y, ids):
        views = {"image": x, "text": y[:, None]}
        return losses.total(views, ids, {"image_text": 1.0}, kind, jnp.log(10.0), jnp.float32(-10))[0]

    results = []
    for count in (1, 8):
        mesh = sharding.make_mesh(count, 1, jax.devices()[:count])
        where = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
        arguments = [jax.device_put(a, where) for a in (x, y, ids)]
        results.append(jax.jit(jax.value_and_grad(value, argnums=(0, 1)))(*arguments))
    for one, eight in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(one, eight, rtol=1e-5, atol=1e-6)
