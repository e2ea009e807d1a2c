"""A trained model as evaluation and users see it: images and texts in, embeddings out."""

from __future__ import annotations

import contextlib
import functools

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from focusclip_jax import sharding
from focusclip_jax.data import images
from focusclip_jax.data.text import Tokenizer
from focusclip_jax.losses import MAX_LOG_SCALE
from focusclip_jax.models.focusclip import Architecture, unit_pixels

SHORTEST = 12  # tokens that texts are padded to at least; most class prompts have no more


class Encoder:
    """The two towers with their parameters, compiled. Nothing in it knows of heatmaps.

    What it encodes is split by rows over the devices that hold the parameters. With several processes all of
    them call it with the same images or texts, and all get the same embeddings.

    image_size: side of the images it takes, pixels. embedding: D. scale: what cosines were multiplied by in
    the loss, 1 / temperature. graph, params: the model, for `nnx.merge`. fit: see `images.model_input`.
    """

    def __init__(
        self,
        graph: nnx.GraphDef,
        params,
        architecture: Architecture,
        tokenizer: Tokenizer,
        fit: str,
        interpolation: str,
    ):
        """fit, interpolation: how a whole image becomes square, see `images.model_input`."""
        self.image_size = architecture.image.image_size
        self.embedding = architecture.embedding
        self.graph, self.params = graph, params
        self.scale = float(np.exp(np.clip(params["log_scale"], 0.0, MAX_LOG_SCALE)))
        self._context = architecture.text.context
        # A mean that counts the padding needs the padding of training, which is then always the context.
        self._shortest = self._context if architecture.text.pool == "mean_padded" else SHORTEST
        self._tokenizer = tokenizer
        self.fit, self._interpolation = fit, interpolation
        self._mesh = _mesh_of(params)
        self._images, self._texts = _compiled(graph, self._mesh)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) RGB of any size → uint8 (S, S, 3), what `encode_images` takes B of."""
        size = self.image_size, self.image_size
        return images.model_input(image, size, self.fit, self._interpolation)

    def encode_images(self, images: np.ndarray) -> np.ndarray:
        """uint8 (B, H, W, 3) RGB → float32 (B, D), L2-normalised. Each new B compiles once."""
        return self._on_devices(self._images, images)

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """B texts → float32 (B, D), L2-normalised. Texts longer than the model's context are cut."""
        rows = self._tokenizer.encode(texts, self._context)
        lengths = np.array([len(row) for row in rows], np.int32)
        length = _padded_length(int(lengths.max()), self._shortest, self._context)
        tokens = np.full((len(rows), length), self._tokenizer.pad_id, np.int32)
        for row, ids in zip(tokens, rows, strict=True):
            row[: len(ids)] = ids
        return self._on_devices(self._texts, tokens, lengths)

    def _on_devices(self, encode, *batch: np.ndarray) -> np.ndarray:
        """Embeddings of B rows, (B, D): all devices encode as many, the last row again if need be."""
        if self._mesh is None:
            return np.asarray(encode(self.params, *batch))
        rows = len(batch[0])
        filled = [_filled(array, -rows % self._mesh.size) for array in batch]
        split = [sharding.split_rows(array, self._mesh) for array in filled]
        return np.asarray(encode(self.params, *split))[:rows]


def _mesh_of(params) -> Mesh | None:
    """The devices of the parameters; None where they are not placed on a mesh."""
    where = jax.tree.leaves(params)[0].sharding
    mesh = where.mesh if isinstance(where, NamedSharding) else None
    return mesh if isinstance(mesh, Mesh) else None


def _filled(rows: np.ndarray, more: int) -> np.ndarray:
    return np.concatenate([rows, np.repeat(rows[-1:], more, axis=0)]) if more else rows


@functools.cache  # evaluation inside the loop makes an encoder each time, and compiles once
def _compiled(graph: nnx.GraphDef, mesh: Mesh | None):
    def images(params, x):
        with _compiling_for(mesh):
            return nnx.merge(graph, params).encode_image(unit_pixels(x))

    def texts(params, tokens, lengths):
        with _compiling_for(mesh):
            return nnx.merge(graph, params).encode_text(tokens, lengths)

    everywhere = None if mesh is None else sharding.replicated(mesh)
    return jax.jit(images, out_shardings=everywhere), jax.jit(texts, out_shardings=everywhere)


def _compiling_for(mesh: Mesh | None):
    return contextlib.nullcontext() if mesh is None else sharding.compiling_for(mesh)


def _padded_length(longest: int, shortest: int, context: int) -> int:
    """The next power of two or three quarters of it (12, 16, 24, 32, 48, …): few shapes are compiled."""
    power = 1 << (int(longest) - 1).bit_length()
    return min(context, max(shortest, power * 3 // 4 if 4 * longest <= 3 * power else power))
