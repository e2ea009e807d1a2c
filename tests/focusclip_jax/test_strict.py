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

from focusclip_jax import optimizer as optimizers
from focusclip_jax import sharding, state
from focusclip_jax.step import gradients, make_train_step, make_view_step
from focusclip_jax.validation import make_validation_step

BFLOAT16 = {"model.dtype": "bfloat16", "model.remat": "full"}
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
    """A small model's training state and a batch, as shapes."""

    def __init__(self, settings):
        self.config = small_config(settings)
        self.mesh = sharding.make_mesh(1, 1, jax.devices()[:1])
        self.optimizer = optimizers.make(self.config.optimizer, self.config.steps)
        architecture = state.architecture(self.config, VOCABULARY)
        self.graph = state.graph_of(architecture)
        self.state = state.abstract(architecture, self.optimizer, self.mesh)
        batch = random_batch(self.config.data.captions)
        self.batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)

    def gradients(self):
        learns = optimizers.trainable(self.config.optimizer, self.state.params)
        return jax.eval_shape(
            lambda params, batch: gradients(params, self.graph, batch, learns, self.config),
            self.state.params,
            self.batch,
        )

    def update(self):
        step = make_train_step(self.graph, self.optimizer, self.state, self.mesh, self.config)
        return jax.eval_shape(step, self.state, self.batch)

    def validation(self):
        step = make_validation_step(self.graph, self.mesh, self.config)
        return jax.eval_shape(step, self.state.params, self.batch)

    def views(self):
        return jax.eval_shape(make_view_step(self.graph, self.mesh), self.state.params, self.batch)


def kinds(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype.name), tree)


@pytest.mark.parametrize("settings", ALL)
def test_no_dtype_is_promoted_unasked_from_pixels_to_gradients_and_measures(settings):
    """The optimizer is left out: optax itself lets the number of a step become a float."""
    small = Traced(settings)
    with jax.numpy_dtype_promotion("strict"):
        change, metrics = small.gradients()
        measures, views = small.validation(), small.views()
    assert kinds(change) == kinds(small.state.params)
    assert set(kinds([*metrics.values(), *measures.values()])) == {((), "float32")}
    assert {view.dtype.name for view in views.values()} == {"float32"}


@pytest.mark.parametrize("settings", [SEPARATE, NTXENT, BFLOAT16, TOKENS, PARTS])
def test_no_tracer_leaves_the_steps_of_training_and_evaluation_and_the_state_keeps_its_kind(settings):
    small = Traced(settings)
    with jax.checking_leaks():
        new, _ = small.update()
        small.validation()
        small.views()
    assert kinds(new) == kinds(small.state)


def test_both_settings_find_what_they_are_for():
    with jax.numpy_dtype_promotion("strict"), pytest.raises(ValueError, match="promotion"):
        jax.eval_shape(lambda x: x * jnp.arange(3), jnp.ones(3))
    kept = []
    with jax.checking_leaks(), pytest.raises(Exception, match=r"[Ll]eaked"):
        jax.jit(lambda x: kept.append(x) or x)(jnp.ones(3))
