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
from focusclip_jax import optimizer as optimizers
from focusclip_jax.models.focusclip import heatmaps, next_background, unit_pixels
from focusclip_jax.state import TrainState

Batch = Mapping[str, jax.Array]
Views = Mapping[str, jax.Array]

# XLA's CPU back end runs independent operations side by side, each on all cores: with two towers they
# get in each other's way, and a step takes up to half as long again.
CPU_COMPILER_OPTIONS = {"xla_cpu_enable_concurrency_optimized_scheduler": False}


def embed(params, graph: nnx.GraphDef, batch: Batch, focus: bool, parts: int = 1) -> Views:
    """The embeddings of all views of a batch, encoded in `parts` parts one after the other."""

    def encode(part):
        return nnx.merge(graph, params).views(part, focus)

    if parts == 1:
        return encode(batch)
    return _joined(jax.lax.map(encode, _split(batch, parts)))


def loss_and_metrics(params, views: Views, graph: nnx.GraphDef, ids: jax.Array, settings: ConfigDict):
    """The training loss of embeddings and its parts, as float32 scalars. settings: `config.loss`."""
    model = nnx.merge(graph, params)
    log_scale = model.log_scale[...]
    loss, terms = losses.total(views, ids, settings, log_scale, model.logit_bias[...])
    temperature = jnp.exp(-jnp.clip(log_scale, 0.0, losses.MAX_LOG_SCALE))
    return loss, {"loss": loss, **terms, "temperature": temperature, "alpha": model.alpha}


def gradients(params, graph: nnx.GraphDef, batch: Batch, learns, config: ConfigDict):
    """The gradient of the loss with respect to all parameters, and the metrics.

    learns: a tree of bools like params. The others are constants to the compiler: their gradient is zero and
    its computation left out, but for what α, which lies before the image tower, needs of that tower.

    In `config.micro_batches` parts it is the same gradient with the activations of one part in memory at a
    time (Gao et al. 2021, GradCache): a contrastive loss needs the embeddings of the whole batch, but not
    their activations. So encode all parts without keeping these, differentiate the loss by the embeddings,
    then encode each part once more and take these derivatives back to the parameters.
    """
    focus, parts, ids = losses.uses_focus(config.loss), config.micro_batches, batch["image_id"]

    def encode(params, part):
        return embed(_holding(params, learns), graph, part, focus)

    def loss_of(params, views):
        return loss_and_metrics(_holding(params, learns), views, graph, ids, config.loss)

    if parts == 1:
        return jax.grad(lambda params: loss_of(params, encode(params, batch)), has_aux=True)(params)

    if focus and config.model.focus_view == "swap":
        # Of the next row of the batch, not of the part.
        image = unit_pixels(batch["image"])
        batch = {**batch, "background": next_background(image, heatmaps(batch))}
    views = embed(params, graph, batch, focus, parts)
    # Temperature and bias enter in the loss, all else through the embeddings: the sum starts with the former.
    (direct, of_views), metrics = jax.grad(loss_of, argnums=(0, 1), has_aux=True)(params, views)

    def add(total, part_and_derivatives):
        part, derivatives = part_and_derivatives
        _, pull_back = jax.vjp(lambda params: encode(params, part), params)
        return jax.tree.map(jnp.add, total, pull_back(derivatives)[0]), None

    return jax.lax.scan(add, direct, (_split(batch, parts), _split(of_views, parts)))[0], metrics


def _holding(params, learns):
    return jax.tree.map(lambda value, learn: value if learn else jax.lax.stop_gradient(value), params, learns)


def _split(rows, parts: int):
    """(B, …) → (parts, B / parts, …): every `parts`-th row, so that each part lies on all devices evenly."""
    return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), rows)


def _joined(rows):
    """Undo `_split`."""
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), rows)


def make_train_step(
    graph: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    abstract: TrainState,
    mesh: Mesh,
    config: ConfigDict,
) -> jax.stages.Wrapped:
    """The compiled update: (state, batch) → (state, metrics).

    The state is donated: its buffers are reused for the result.
    """
    learns = optimizers.trainable(config.optimizer, abstract.params)

    def train_step(state: TrainState, batch: Batch):
        with sharding.compiling_for(mesh):
            change, metrics = gradients(state.params, graph, batch, learns, config)
        with jax.named_scope("optimizer"):
            updates, optimizer_state = optimizer.update(change, state.optimizer, state.params)
            params = optax.apply_updates(state.params, updates)
            metrics["gradient_norm"] = optax.tree.norm(change)
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
        with sharding.compiling_for(mesh):
            return embed(params, graph, batch, focus=True)

    return jax.jit(view_step, out_shardings=sharding.replicated(mesh))


def put(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows to its devices, as part of the global batch."""
    where = sharding.batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(where, rows) for name, rows in batch.items()}
