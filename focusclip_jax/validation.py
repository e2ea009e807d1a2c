"""Loss and similarities on held-back shards, without augmentation."""

from __future__ import annotations

import contextlib
import dataclasses

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from focusclip_jax import losses, sharding
from focusclip_jax.data.loader import LoaderSettings, eval_batches
from focusclip_jax.data.shards import Shards
from focusclip_jax.data.text import TokenTable
from focusclip_jax.errors import UserError
from focusclip_jax.models.focusclip import IMAGE, TEXT
from focusclip_jax.step import embed, loss_and_metrics, put


class Validation:
    """The held-back examples in full batches of the training size, so that losses compare with training's."""

    def __init__(
        self,
        shards: Shards,
        table: TokenTable,
        settings: LoaderSettings,
        graph: nnx.GraphDef,
        mesh: Mesh,
        config: ConfigDict,
    ):
        """settings: training's. Raises UserError for fewer examples than a batch."""
        if len(shards) < settings.batch_size:
            raise UserError(
                f"{config.data.validation}: {len(shards)} examples for validation, "
                f"expected at least one batch of {settings.batch_size}"
            )
        self.shards = shards
        self.table = table
        self._settings = dataclasses.replace(settings, captions=1, workers=0)
        self._mesh = mesh
        self._step = make_validation_step(graph, mesh, config)

    def run(self, params) -> dict[str, float]:
        """Means over the full batches: losses, and image-text similarity of right and wrong pairs."""
        full = len(self.shards) // self._settings.batch_size
        batches = eval_batches(
            self.shards,
            self.table,
            self._settings,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        with contextlib.closing(batches):
            rows = [self._step(params, put(next(batches), self._mesh)) for _ in range(full)]
        rows = jax.device_get(rows)
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def make_validation_step(graph: nnx.GraphDef, mesh: Mesh, config: ConfigDict):
    """(params, batch) → scalars by name, on every device."""

    def validation_step(params, batch):
        with sharding.compiling_for(mesh):
            views = embed(params, graph, batch, losses.uses_focus(config.loss), config.micro_batches)
            _, values = loss_and_metrics(params, views, graph, batch["image_id"], config.loss)
            right, wrong = similarities(views[IMAGE], views[TEXT][:, 0])
        values = {name: value for name, value in values.items() if name not in ("temperature", "alpha")}
        return values | {"positive_similarity": right, "negative_similarity": wrong}

    return jax.jit(validation_step, out_shardings=sharding.replicated(mesh))


def similarities(image: jax.Array, text: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean cosine of matching rows, and of all others. Both (B, D), L2-normalised."""
    rows = image.shape[0]
    matching = (image * text).sum()
    everything = image.sum(0) @ text.sum(0)  # the sum over all pairs, without a matrix of them
    return matching / rows, (everything - matching) / (rows * (rows - 1))
