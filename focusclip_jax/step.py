"""The mathematics of one update, and of looking at a batch: pure functions of (state, batch)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from focusclip_jax import losses, sharding
from focusclip_jax.models.focusclip import FOCUS
from focusclip_jax.state import TrainState

Batch = Mapping[str, jax.Array]

# XLA's CPU back end runs independent operations side by side, each on all cores: with two towers they
# get in each other's way, and a step takes up to half as long again.
CPU_COMPILER_OPTIONS = {"xla_cpu_enable_concurrency_optimized_scheduler": False}


def term_weights(config: ConfigDict) -> dict[str, float]:
    """The weight of each term that the config switches on."""
    return {term: config.loss[term] for term in losses.TERMS if config.loss[term]}


def uses_focus(weights: Mapping[str, float]) -> bool:
    """Whether any term looks at the highlighted image; without one the model is CLIP."""
    return any(FOCUS in losses.TERMS[term] for term in weights)


def loss_and_metrics(params, graph: nnx.GraphDef, batch: Batch, weights: Mapping[str, float], kind: str):
    """The training loss of a batch and its parts, as float32 scalars."""
    model = nnx.merge(graph, params)
    log_scale = model.log_scale[...]
    views = model.views(batch, uses_focus(weights))
    loss, terms = losses.total(views, batch["image_id"], weights, kind, log_scale, model.logit_bias[...])
    temperature = jnp.exp(-jnp.clip(log_scale, 0.0, losses.MAX_LOG_SCALE))
    return loss, {"loss": loss, **terms, "temperature": temperature, "alpha": model.alpha}


def make_train_step(
    graph: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    abstract: TrainState,
    mesh: Mesh,
    config: ConfigDict,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """The compiled update. The state is donated: its buffers are reused for the result."""
    weights, kind = term_weights(config), config.loss.kind

    def train_step(state: TrainState, batch: Batch):
        gradients, metrics = jax.grad(loss_and_metrics, has_aux=True)(
            state.params, graph, batch, weights, kind
        )
        updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        return TrainState(state.step + 1, params, optimizer_state), metrics

    places = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    return jax.jit(
        train_step,
        in_shardings=(places, sharding.batch_sharding(mesh)),
        out_shardings=(places, sharding.replicated(mesh)),
        donate_argnums=0,
        compiler_options=CPU_COMPILER_OPTIONS if on_cpu else None,
    )


def make_view_step(graph: nnx.GraphDef, mesh: Mesh) -> Callable[..., dict[str, jax.Array]]:
    """(params, batch) → the embeddings of all three views, gathered on every device."""

    def view_step(params, batch: Batch):
        return nnx.merge(graph, params).views(batch, focus=True)

    return jax.jit(view_step, out_shardings=sharding.replicated(mesh))


def put(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows to its devices, as part of the global batch."""
    where = sharding.batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(where, rows) for name, rows in batch.items()}
