"""JAX's strictest settings: no dtype is promoted unasked, and no tracer outlives its function.

Tracing alone finds both, so nothing is compiled here.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from test_step import (
    AVERAGE,
    BASELINE,
    FROZEN,
    NTXENT,
    SEPARATE,
    SHARED,
    VOCABULARY,
    random_batch,
    small_config,
)

from focusclip_jax import optimizer, sharding, state
from focusclip_jax.step import embed, gradients

BFLOAT16 = {"model.dtype": "bfloat16", "model.remat": True}
TOKENS = {"model.focus_view": "tokens", "model.image.pool": "mean", "model.unroll": False}
CLIPS = {
    "model.image.activation": "quick_gelu",
    "model.image.norm_embeddings": True,
    "model.text.activation": "quick_gelu",
    "model.text.causal": True,
    "model.text.pool": "end",
}
BERTS = {"model.text.norm": "post", "model.text.pool": "mean_padded", "model.focus_view": "replace"}
PARTS = {"micro_batches": 4, "loss.chunks": 2}
ALL = [SHARED, SEPARATE, NTXENT, AVERAGE, BASELINE, FROZEN, BFLOAT16, TOKENS, CLIPS, BERTS, PARTS]


class Traced:
    """A small model's parameters and a batch, as shapes."""

    def __init__(self, settings):
        self.config = small_config(settings)
        mesh = sharding.make_mesh(1, 1, jax.devices()[:1])
        architecture = state.architecture(self.config, VOCABULARY)
        self.graph = state.graph_of(architecture)
        self.params = state.abstract_params(architecture, mesh)
        batch = random_batch(self.config.data.captions)
        self.batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)


@pytest.mark.parametrize("settings", ALL)
def test_no_dtype_is_promoted_unasked_in_the_towers(settings):
    small = Traced(settings)
    with jax.numpy_dtype_promotion("strict"):
        views = jax.eval_shape(
            lambda params, batch: embed(params, small.graph, batch, focus=True),
            small.params,
            small.batch,
        )
    assert {view.dtype for view in views.values()} == {jnp.dtype("float32")}


@pytest.mark.parametrize("settings", [SEPARATE, NTXENT, BFLOAT16, TOKENS, PARTS])
def test_no_tracer_leaves_the_step_and_gradients_are_as_their_parameters(settings):
    small = Traced(settings)
    learns = optimizer.trainable(small.config.optimizer, small.params)
    with jax.checking_leaks():
        change, metrics = jax.eval_shape(
            lambda params, batch: gradients(params, small.graph, batch, learns, small.config),
            small.params,
            small.batch,
        )

    def kinds(tree):
        return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)

    assert kinds(change) == kinds(small.params)
    assert {(metric.shape, metric.dtype.name) for metric in metrics.values()} == {((), "float32")}


def test_both_settings_find_what_they_are_for():
    with jax.numpy_dtype_promotion("strict"), pytest.raises(ValueError, match="promotion"):
        jax.eval_shape(lambda x: x * jnp.arange(3), jnp.ones(3))
    kept = []
    with jax.checking_leaks(), pytest.raises(Exception, match=r"[Ll]eaked"):
        jax.jit(lambda x: kept.append(x) or x)(jnp.ones(3))
