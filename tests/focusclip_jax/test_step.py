"""One update is the same however its batch is encoded, and leaves frozen parameters alone."""

from __future__ import annotations

import functools
import re

import jax
import numpy as np
import pytest

from focusclip_jax import config as configs
from focusclip_jax import optimizer, sharding, state
from focusclip_jax.step import gradients, make_train_step, put

VOCABULARY, TOKENS = 40, 12
BATCH = 128
QUICK = {"xla_backend_optimization_level": 0}  # compiling takes most of the time of these tests

SHARED = {}
SEPARATE = {"loss.kind": "sigmoid", "model.focus_tower": "separate", "loss.focus_image": 0.5}
NTXENT = {"loss.kind": "ntxent", "loss.focus_image": 1.0}
AVERAGE = {"loss.captions": "average", "model.focus_tower": "separate"}
BASELINE = {"loss.focus_text": 0.0, "data.captions": 1}
FROZEN = {"optimizer.rules": (("^text/", 0.0, 0.0), ("", 1.0, 1.0))}


def small_config(settings):
    """settings: by dotted name."""
    config = configs.default()
    config.update_from_flattened_dict(
        {
            "data.image_size": 16,
            "data.captions": 2,
            "text.context": TOKENS,
            "text.buckets": (TOKENS,),
            "model.patch_size": 8,
            "model.embedding": 8,
            "model.unroll": True,
            "optimizer.rules": (("", 1.0, 1.0),),
            "batch_size": BATCH,
            **settings,
        }
    )
    for tower in (config.model.image, config.model.text):
        tower.update(depth=1, width=16, heads=2, mlp=32)
    return config


def random_batch(captions):
    """Some images occur twice."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (BATCH, 16, 16, 3), np.uint8),
        "heatmap": rng.random((BATCH, 16, 16), np.float32),
        "tokens": rng.integers(0, VOCABULARY, (BATCH, captions, TOKENS), np.int32),
        "lengths": rng.integers(2, TOKENS + 1, (BATCH, captions), np.int32),
        "image_id": rng.integers(0, 2 * BATCH, BATCH, np.int32),
    }


def random_values(params):
    """Scalars around 1, so that the temperature is not at its clamp."""
    rng = np.random.default_rng(1)

    def values(leaf):
        drawn = rng.normal(0.0 if leaf.ndim else 1.0, 0.3, leaf.shape)
        return jax.device_put(drawn.astype(np.float32), leaf.sharding)

    return jax.tree.map(values, params)


class Update:
    """The gradient and the step of a small model on data × fsdp devices, at random parameters."""

    def __init__(self, settings, data=1, fsdp=1):
        self.config = small_config(settings)
        self.mesh = sharding.make_mesh(data, fsdp, jax.devices()[: data * fsdp])
        architecture = state.architecture(self.config, VOCABULARY)
        self.graph = state.graph_of(architecture)
        self.optimizer = optimizer.make(self.config.optimizer, self.config.steps)
        self.abstract = state.abstract(architecture, self.optimizer, self.mesh)
        self.params = random_values(self.abstract.params)
        self.batch = put(random_batch(self.config.data.captions), self.mesh)

    @functools.cached_property
    def compiled(self):
        """(params, batch) → gradients and metrics."""
        learns = optimizer.trainable(self.config.optimizer, self.params)
        function = jax.jit(lambda params, batch: gradients(params, self.graph, batch, learns, self.config))
        return function.lower(self.params, self.batch).compile(QUICK)

    @functools.cached_property
    def gradients(self):
        """By name, and the metrics."""
        values, metrics = self.compiled(self.params, self.batch)
        return by_name(values), jax.device_get(metrics)


def by_name(tree):
    leaves = jax.tree_util.tree_flatten_with_path(jax.device_get(tree))[0]
    return {sharding.name_of(path): value for path, value in leaves}


@pytest.fixture(scope="module")
def update():
    """update(settings, data, fsdp), made once."""
    made = {}

    def get(settings, data=1, fsdp=1):
        key = str((settings, data, fsdp))
        if key not in made:
            made[key] = Update(settings, data, fsdp)
        return made[key]

    return get


def in_parts(settings, parts, chunks=1):
    return {**settings, "micro_batches": parts, "loss.chunks": chunks}


@pytest.mark.parametrize(
    ("settings", "parts", "chunks", "data", "fsdp"),
    [
        (SHARED, 16, 4, 1, 1),
        (SEPARATE, 2, 2, 8, 1),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                *((SHARED, BATCH, 1, 1, 1), (SHARED, 2, 2, 2, 4), (SEPARATE, 4, 1, 2, 4)),
                *((NTXENT, 4, 1, 8, 1), (NTXENT, 2, 8, 8, 1), (AVERAGE, 4, 2, 2, 1)),
                *((AVERAGE, 2, 1, 8, 1), (BASELINE, 2, 1, 8, 1)),
            ]
        ),
    ],
)
def test_a_batch_encoded_in_parts_has_the_gradient_of_the_whole(update, settings, parts, chunks, data, fsdp):
    """To 1e-5 of each parameter's largest: only the order of float32 sums differs."""
    expected, whole = update(settings).gradients
    got, metrics = update(in_parts(settings, parts, chunks), data, fsdp).gradients
    assert metrics.keys() == whole.keys()
    for name, value in whole.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        largest = np.abs(value).max()
        np.testing.assert_allclose(got[name], value, rtol=0, atol=1e-5 * largest, err_msg=name)
    # Nothing agrees because it is zero on both sides.
    zero = {name for name, value in expected.items() if not value.any()}
    unused = {"sigmoid": set(), "ntxent": {"logit_bias", "log_scale"}, "infonce": {"logit_bias"}}
    of_focus = {"alpha_parameter"} if settings is BASELINE else set()
    assert zero == unused[settings.get("loss.kind", "infonce")] | of_focus


def test_parts_divide_the_memory_of_the_activations(update):
    plain, parts = (
        update(settings).compiled.memory_analysis().temp_size_in_bytes
        for settings in (SHARED, in_parts(SHARED, 16, 4))
    )
    assert parts < plain / 8


def test_parts_leave_images_and_tokens_on_their_devices(update):
    text = update(in_parts(SEPARATE, 2, 2), data=8).compiled.as_text()
    assert "all-reduce(" in text
    moved = re.findall(r"= (.*) (?:all-gather|all-to-all|collective-permute)\(", text)
    assert not [shapes for shapes in moved if "16,16" in shapes or f",{TOKENS}]" in shapes]


@pytest.mark.parametrize("parts", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_frozen_parameters_have_no_gradient_and_cost_nothing(update, parts):
    free, frozen = (update(in_parts(settings, parts)) for settings in (SHARED, FROZEN))
    for name, value in frozen.gradients[0].items():
        expected = 0 if name.startswith("text/") else free.gradients[0][name]
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
    operations = [one.compiled.cost_analysis()["flops"] for one in (frozen, free)]
    assert operations[0] < 0.65 * operations[1]


def test_frozen_parameters_keep_their_bits(update):
    """Against AdamW with weight decay, which moves what has no gradient too."""
    one = update(FROZEN)
    step = make_train_step(one.graph, one.optimizer, one.abstract, one.mesh, one.config)
    before = by_name(one.params)
    start = jax.jit(lambda params: state.TrainState(np.int32(0), params, one.optimizer.init(params)))
    current = start(one.params)
    step = step.lower(current, one.batch).compile(QUICK)
    for _ in range(2):
        current, _ = step(current, one.batch)
    for name, value in by_name(current.params).items():
        assert np.array_equal(value, before[name]) == name.startswith("text/"), name
