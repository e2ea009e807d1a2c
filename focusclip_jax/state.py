"""One path to a training state, shared by training, evaluation and whatever restores a checkpoint:

shapes first, then shardings, then either initial values computed in place or values restored in place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from focusclip_jax import sharding
from focusclip_jax.models.focusclip import Architecture, FocusCLIP
from focusclip_jax.models.text import TextShape
from focusclip_jax.models.transformer import Shape
from focusclip_jax.models.vit import ImageShape


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """What changes from step to step. `step` is the number of updates done.

    Batch and random numbers of step s are functions of (seed, s), so nothing else is needed to go on.
    """

    step: jax.Array
    params: dict[str, Any]
    optimizer: Any


def architecture(config: ConfigDict, vocabulary: int) -> Architecture:
    """The model that a config describes, for a tokenizer of that many entries."""
    model = config.model

    def transformer(tower, causal):
        return Shape(
            depth=tower.depth,
            width=tower.width,
            heads=tower.heads,
            mlp=tower.mlp,
            norm=tower.norm,
            norm_epsilon=tower.norm_epsilon,
            activation=tower.activation,
            causal=causal,
            attention=model.attention,
            remat=model.remat,
            unroll=model.unroll,
        )

    return Architecture(
        image=ImageShape(
            transformer(model.image, causal=False),
            image_size=config.data.image_size,
            patch_size=model.patch_size,
            pool=model.image.pool,
            norm_embeddings=model.image.norm_embeddings,
            patch_bias=model.image.patch_bias,
            projection_bias=model.image.projection_bias,
        ),
        text=TextShape(
            transformer(model.text, causal=model.text.causal),
            vocabulary=vocabulary,
            context=config.text.context,
            pool=model.text.pool,
            projection_bias=model.text.projection_bias,
        ),
        embedding=model.embedding,
        focus_tower=model.focus_tower,
        alpha=model.alpha,
        initial_alpha=model.initial_alpha,
        focus_view=model.focus_view,
        pixel_mean=model.pixel_mean,
        pixel_std=model.pixel_std,
        loss=config.loss.kind,
        dtype=model.dtype,
    )


def _build(arch: Architecture, seed: int):
    graph, params = nnx.split(FocusCLIP(arch, rngs=nnx.Rngs(seed)), nnx.Param)
    return graph, nnx.to_pure_dict(params)


def graph_of(arch: Architecture) -> nnx.GraphDef:
    """The model without its parameters; `nnx.merge(graph, params)` makes it callable."""
    found = []
    jax.eval_shape(lambda: found.append(_build(arch, 0)[0]))
    return found[0]


def abstract(arch: Architecture, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """Shapes, dtypes and shardings of the whole state; allocates nothing."""
    return _placed(jax.eval_shape(lambda: _initial(arch, optimizer, 0)), mesh)


def abstract_params(arch: Architecture, mesh: Mesh) -> dict[str, Any]:
    """The parameters of `abstract` alone, for whoever does not train: no optimizer is needed."""
    return _placed(jax.eval_shape(lambda: _build(arch, 0)[1]), mesh)


def _placed(shapes, mesh: Mesh):
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        shapes,
        sharding.tree_shardings(shapes, mesh),
    )


def initial(arch: Architecture, optimizer: optax.GradientTransformation, mesh: Mesh, seed: int) -> TrainState:
    """Random parameters, computed where they will live."""
    places = jax.tree.map(lambda leaf: leaf.sharding, abstract(arch, optimizer, mesh))
    return jax.jit(lambda: _initial(arch, optimizer, seed), out_shardings=places)()


def with_values(state: TrainState, values: Mapping[str, Any]) -> TrainState:
    """The state with some of its parameters replaced, each placed as it was.

    values: nested dicts of numpy arrays, a part of the tree of the parameters.
    """
    return dataclasses.replace(state, params=_replaced(state.params, values))


def _replaced(old, new):
    if isinstance(new, np.ndarray):
        # By pieces: a device gets its share only.
        return jax.make_array_from_callback(old.shape, old.sharding, lambda index: new[index])
    return old | {name: _replaced(old[name], value) for name, value in new.items()}


def _initial(arch, optimizer, seed):
    params = _build(arch, seed)[1]
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))
