"""The losses against the published formulas, written out row by row, however they are computed."""

from __future__ import annotations

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from focusclip_jax import config as configs
from focusclip_jax import losses, sharding

KINDS = ["infonce", "ntxent", "sigmoid"]


def embeddings(*shape, seed):
    x = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


X, Y, IDS = embeddings(6, 8, seed=0), embeddings(6, 8, seed=1), np.arange(6)


def settings(kind, **changes):
    loss = configs.default().loss
    loss.update(kind=kind, **changes)
    return loss


def log_softmax(row):
    return row - row.max() - np.log(np.exp(row - row.max()).sum())


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


def views_of(images, texts):
    return {"image": jnp.asarray(images), "focus": jnp.asarray(images[::-1]), "text": jnp.asarray(texts)}


@pytest.mark.parametrize("kind", KINDS)
def test_total_is_the_weighted_sum_of_its_terms_and_accepts_several_captions(kind):
    views = views_of(X, np.stack([Y, X], axis=1))
    loss = settings(kind, image_text=1.0, focus_text=0.5, focus_image=0.0)
    value, terms = losses.total(views, jnp.asarray(IDS), loss, jnp.log(10.0), jnp.float32(-10))
    assert set(terms) == {"image_text", "focus_text"}
    np.testing.assert_allclose(value, terms["image_text"] + 0.5 * terms["focus_text"], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_an_average_of_captions_is_one_text_of_length_one(kind):
    loss = settings(kind, captions="average", focus_text=0.0)
    views = views_of(X, np.stack([Y, X[::-1]], axis=1))
    value, _ = losses.total(views, jnp.asarray(IDS), loss, jnp.log(10.0), jnp.float32(-10))
    average = Y + X[::-1]
    average /= np.linalg.norm(average, axis=1, keepdims=True)
    by_hand = formula(kind, X, average[:, None], IDS, np.log(10.0), -10.0)
    np.testing.assert_allclose(value, by_hand, rtol=1e-5)


# Two captions an image and some images twice, so that chunks and devices part positives.
ROWS, SCALE, BIAS = 64, np.log(7.0), -3.0
IMAGES, TEXTS = embeddings(ROWS, 8, seed=4), embeddings(ROWS, 2, 8, seed=5)
IMAGE_IDS = np.random.default_rng(6).integers(0, 48, ROWS)


def formula(kind, images, texts, ids, log_scale, bias):
    """Each loss of (image, text) pairs in float64, one row after the other. texts: (B, C, D)."""
    x, y = images.astype(np.float64), texts.reshape(-1, texts.shape[-1]).astype(np.float64)
    y_ids = np.repeat(ids, texts.shape[1])

    def cross_entropy(row, own, ids):
        return -log_softmax(row)[ids == own].mean()

    if kind == "infonce":
        logits = np.exp(log_scale) * x @ y.T
        rows = [cross_entropy(row, own, y_ids) for row, own in zip(logits, ids, strict=True)]
        columns = [cross_entropy(row, own, ids) for row, own in zip(logits.T, y_ids, strict=True)]
        return (np.mean(rows) + np.mean(columns)) / 2
    if kind == "ntxent":
        both, both_ids = np.concatenate([x, y]), np.concatenate([ids, y_ids])
        rows = []
        for i in range(len(both)):
            others = np.arange(len(both)) != i
            rows.append(cross_entropy(both[others] @ both[i] / 0.5, both_ids[i], both_ids[others]))
        return np.mean(rows)
    sign = np.where(ids[:, None] == y_ids, 1, -1)
    return np.logaddexp(0, -sign * (np.exp(log_scale) * x @ y.T + bias)).sum() / len(x)


def value_and_gradients(kind, chunks, data, fsdp):
    """Of the image-text term, compiled for data × fsdp devices: value, d images, d texts, d scale, d bias."""
    mesh = sharding.make_mesh(data, fsdp, jax.devices()[: data * fsdp])
    loss = settings(kind, chunks=chunks, focus_text=0.0)

    def value(images, texts, log_scale, bias, ids):
        return losses.total({"image": images, "text": texts}, ids, loss, log_scale, bias)[0]

    batch = [jax.device_put(a, sharding.batch_sharding(mesh)) for a in (IMAGES, TEXTS, IMAGE_IDS)]
    scalars = jax.device_put((jnp.float32(SCALE), jnp.float32(BIAS)), sharding.replicated(mesh))
    result, gradients = jax.jit(jax.value_and_grad(value, argnums=(0, 1, 2, 3)))(
        *batch[:2], *scalars, batch[2]
    )
    return result, *gradients


@pytest.fixture(scope="module")
def plain():
    return {kind: value_and_gradients(kind, 1, 1, 1) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_the_plain_form_is_the_formula_and_its_gradient(plain, kind):
    """The gradient by central differences of the formula in float64, along every kind of input."""
    value, images, texts, scale, bias = plain[kind]
    inputs = [IMAGES.astype(np.float64), TEXTS.astype(np.float64), SCALE, BIAS]

    def at(*moved):
        return formula(kind, moved[0], moved[1], IMAGE_IDS, moved[2], moved[3])

    np.testing.assert_allclose(value, at(*inputs), rtol=1e-6)
    for argument, gradient in enumerate((images, texts, scale, bias)):
        direction = np.random.default_rng(7).normal(size=np.shape(inputs[argument]))
        ahead, behind = list(inputs), list(inputs)
        ahead[argument] = ahead[argument] + 1e-5 * direction
        behind[argument] = behind[argument] - 1e-5 * direction
        slope = (at(*ahead) - at(*behind)) / 2e-5
        np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("data", "fsdp", "chunks"),
    [(1, 1, 2), (1, 1, ROWS), (2, 1, 4), (8, 1, 1), (2, 4, 8)],
)
def test_neither_chunks_nor_devices_change_value_or_gradient(plain, kind, data, fsdp, chunks):
    for got, expected in zip(value_and_gradients(kind, chunks, data, fsdp), plain[kind], strict=True):
        largest = np.abs(expected).max()
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-6 * largest)


LARGE, DIM, DEVICES = 4096, 32, 8


@functools.cache
def compiled(kind, chunks):
    """Value and gradient of the image-text term for eight devices; not run."""
    mesh = sharding.make_mesh(DEVICES, 1)
    loss = settings(kind, chunks=chunks, focus_text=0.0)

    def value(images, texts, ids, scale, bias):
        return losses.total({"image": images, "text": texts}, ids, loss, scale, bias)[0]

    def rows(dtype, *shape):
        return jax.ShapeDtypeStruct((LARGE, *shape), dtype, sharding=sharding.batch_sharding(mesh))

    batch = rows(jnp.float32, DIM), rows(jnp.float32, 1, DIM), rows(jnp.int32)
    scalar = jax.ShapeDtypeStruct((), jnp.float32, sharding=sharding.replicated(mesh))
    return jax.jit(jax.value_and_grad(value, argnums=(0, 1, 3, 4))).lower(*batch, scalar, scalar).compile()


MESSAGE = re.compile(r"= (.*) (?:all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)\(")


@pytest.mark.parametrize("chunks", [1, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_devices_exchange_the_embeddings_of_a_chunk_and_never_similarities(kind, chunks):
    """A device's share of the similarities is larger here than all embeddings of a chunk."""
    compared = 2 * LARGE if kind == "ntxent" else LARGE
    assert compared**2 / DEVICES > compared * DIM
    messages = MESSAGE.findall(compiled(kind, chunks).as_text())
    assert messages
    for shapes in messages:
        for shape in re.findall(r"\[([\d,]+)\]", shapes):
            size = np.prod([int(side) for side in shape.split(",")])
            assert size <= compared // chunks * DIM, f"devices exchange {shapes}"


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_divide_the_memory_of_the_similarities(kind):
    plain, chunked = (compiled(kind, chunks).memory_analysis().temp_size_in_bytes for chunks in (1, 8))
    assert chunked < plain / 4
