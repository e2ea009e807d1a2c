"""Models that start from published weights: a whole CLIP, or a ViT and a BERT for the towers.

Strict, so that nothing is started half: every tensor of the file is used or belongs to a part that we do not
have (the `ignorable` names), and every parameter is filled, but for those that no such file has: the
projections of single towers, and what FocusCLIP adds to CLIP.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Set
from typing import Any

import jax
import numpy as np

from focusclip_jax.errors import UserError
from focusclip_jax.models.focusclip import Architecture
from focusclip_jax.weights import descriptions, names
from focusclip_jax.weights.clip_configs import HF, OPEN_CLIP
from focusclip_jax.weights.names import Row, Table
from focusclip_jax.weights.tensors import Tensors

NONE = "none"
NEW = {"projection_kernel", "projection_bias"}  # of single towers: these stay as they were initialised

# A text of up to this many tokens keeps its embedding in a longer context (Long-CLIP, arXiv 2403.15378).
KEPT_POSITIONS = 20

# The setting that decides the shape of a parameter, where it is not that of its tower.
SETTINGS = {
    "patch_kernel": "model.patch_size",
    "token_embedding": "text.tokenizer",
    "projection_kernel": "model.embedding",
}

Tree = dict[str, Any]  # of arrays, and of trees


def starting_values(architecture: Architecture, params, weights: Mapping[str, str]) -> Tree:
    """The part of a model's parameters that files give: nested dicts of float32 numpy arrays.

    params: the whole tree, arrays or their shapes. weights: of the config, the paths "clip", "image" and
    "text", each may be "none".
    A separate focus tower starts from the image tower's weights: it sees photographs too.
    Raises UserError where a file and the model do not belong together.
    """
    clip, image, text = (weights[name] for name in ("clip", "image", "text"))
    for tower, path in (("image", image), ("text", text)):
        if clip != NONE and path != NONE:
            raise UserError(
                f"--config.weights.{tower}={path}: --config.weights.clip={clip} has both towers; "
                f"expected one of the two to be none"
            )
    values = load_clip(params, clip, architecture) if clip != NONE else {}
    if image != NONE:
        values["image"] = load_image_tower(params["image"], image, architecture)
    if text != NONE:
        values["text"] = load_text_tower(params["text"], text, architecture)
    if "image" in values and "focus" in params:
        values["focus"] = values["image"]
    return values


def load_clip(shapes, path: str | os.PathLike, architecture: Architecture) -> Tree:
    """A whole CLIP, with projections and temperature, in the names of Hugging Face, OpenAI or open_clip.

    shapes: the model's parameters, arrays or their shapes. Returns "image", "text" and "log_scale" of them.
    Position embeddings of another grid are resized as `load_image_tower` does; a shorter text context keeps
    the first positions and a longer one is stretched (`stretched`).
    Raises UserError where the file and the model do not belong together.
    """
    tensors = Tensors(path)
    family = names.clip_names(tensors.names)
    if family is None:
        raise UserError(
            f"{tensors.path}: not a CLIP in Hugging Face's or open_clip's names; expected a tensor "
            f"{names.HF_CLIP.mark} or {names.OPEN_CLIP.mark}"
        )
    names.check_settings(architecture, names.CLIP_SETTINGS, f"{tensors.path} is a CLIP")
    if family is names.HF_CLIP:
        descriptions.check_clip(architecture, tensors.path, HF)
    else:
        names.check_settings(architecture, names.OPEN_CLIP_SETTINGS, f"{tensors.path} is a CLIP")
        descriptions.check_clip(architecture, tensors.path, OPEN_CLIP)
    image = _tower(family.image, shapes["image"], tensors, "model.image")
    text = _tower(family.text, shapes["text"], tensors, "model.text")
    log_scale = tensors.take(family.log_scale, (), "loss")
    tensors.check_all_used(names.CLIP_IGNORABLE)
    _fit_grid(image, shapes["image"], tensors)
    context, there = (tree["position_embedding"].shape[0] for tree in (shapes["text"], text))
    if KEPT_POSITIONS >= there < context:
        raise UserError(
            f"--config.text.context={context}: {tensors.path} has {there} positions, too few to stretch; "
            f"expected at most --config.text.context={there}"
        )
    text["position_embedding"] = stretched(text["position_embedding"], context)
    return {
        "image": _complete(image, shapes["image"], tensors),
        "text": _complete(text, shapes["text"], tensors),
        "log_scale": log_scale,
    }


def load_image_tower(shapes, path: str | os.PathLike, architecture: Architecture) -> Tree:
    """A ViT of a safetensors file in timm's or Hugging Face's names, without its classifier.

    shapes: the tower's parameters, arrays or their shapes. Returns the same tree without the projection.
    Position embeddings of another grid are resized bicubically with antialiasing (timm's way).
    Raises UserError where the file and the tower do not belong together.
    """
    tensors = Tensors(path)
    family = names.vit_names(tensors.names)
    if family is None:
        raise UserError(
            f"{tensors.path}: not a ViT in timm's or Hugging Face's names; expected a tensor "
            f"{names.TIMM_VIT[0].theirs[0]} or {names.hf_vit()[0].theirs[0]}"
        )
    names.check_settings(architecture, family.settings, f"{tensors.path} is a ViT")
    descriptions.check_tower(architecture, tensors.path, "image")
    tower = _tower(family.table, shapes, tensors, "model.image")
    tensors.check_all_used(family.ignorable)
    _fit_grid(tower, shapes, tensors)
    return _complete(tower, shapes, tensors, NEW)


def load_text_tower(shapes, path: str | os.PathLike, architecture: Architecture) -> Tree:
    """A BERT of a safetensors file in Hugging Face's names, without its pooler and heads.

    shapes: the tower's parameters, arrays or their shapes. Returns the same tree without the projection.
    A context shorter than BERT's keeps its first position embeddings. The embedding of token type 0, which
    every token of a single text gets, is added to them.
    Raises UserError where the file and the tower do not belong together.
    """
    tensors = Tensors(path)
    prefix = "bert." if any(name.startswith("bert.") for name in tensors.names) else ""
    # BERT's own files still have the names of its first release.
    old = f"{prefix}embeddings.LayerNorm.gamma" in tensors.names
    table = names.hf_bert(prefix, "gamma", "beta") if old else names.hf_bert(prefix)
    names.check_settings(architecture, names.BERT_SETTINGS, f"{tensors.path} is a BERT")
    descriptions.check_tower(architecture, tensors.path, "text")
    tower = _tower(table, shapes, tensors, "model.text")
    context, width = shapes["position_embedding"].shape
    # Two types are BERT's mark: RoBERTa has the same names and one type, but counts positions otherwise.
    types = tensors.take(f"{prefix}embeddings.token_type_embeddings.weight", (2, width), "model.text")
    tensors.check_all_used((f"{prefix}pooler.", f"{prefix}embeddings.position_ids", "cls."))
    positions = tower["position_embedding"]
    if len(positions) < context:
        raise UserError(
            f"--config.text.context={context}: {tensors.path} has {len(positions)} positions; "
            f"expected at most --config.text.context={len(positions)}"
        )
    tower["position_embedding"] = positions[:context] + types[0]
    return _complete(tower, shapes, tensors, NEW)


def resize_grid(positions: np.ndarray, size: int) -> np.ndarray:
    """Embeddings (g·g, D) of a square grid → (size·size, D), bicubic; unchanged where g is `size`."""
    grid = math.isqrt(len(positions))
    if grid == size:
        return positions
    width = positions.shape[-1]
    resized = jax.image.resize(positions.reshape(grid, grid, width), (size, size, width), "cubic")
    return np.asarray(resized).reshape(size * size, width)


def stretched(positions: np.ndarray, context: int) -> np.ndarray:
    """Embeddings (T, D) of a causal text tower → (context, D).

    Fewer: the first. More: the first 20 stay, so that short texts keep their embeddings, and the others are
    stretched linearly over the rest, the last one staying last (Long-CLIP, arXiv 2403.15378, section 3.1).
    """
    last = len(positions) - 1
    if context <= last + 1:
        return positions[:context]
    at = np.linspace(KEPT_POSITIONS, last, context - KEPT_POSITIONS)
    below = np.minimum(at.astype(int), last - 1)
    share = (at - below)[:, None].astype(np.float32)
    rest = (1 - share) * positions[below] + share * positions[below + 1]
    return np.concatenate([positions[:KEPT_POSITIONS], rest])


def _tower(table: Table, shapes, tensors: Tensors, setting: str) -> Tree:
    """The arrays of a table. Position embeddings come as they are in the file, of any number."""
    depth = shapes["blocks"]["qkv_kernel"].shape[0]
    _check_depth(table, depth, tensors, setting)
    tower: Tree = {"blocks": {}}
    for row in table:
        part, _, name = row.ours.rpartition(".")
        if part:
            shape = shapes[part][name].shape[1:]
            layers = [_array(row, n, shape, tensors, setting) for n in range(depth)]
            tower[part][name] = np.stack(layers)
        else:
            read = _positions if name == "position_embedding" else _array
            tower[name] = read(row, 0, shapes[name].shape, tensors, SETTINGS.get(name, setting))
    return tower


def _array(row: Row, layer: int, shape: tuple[int, ...], tensors: Tensors, setting: str) -> np.ndarray:
    """One array of ours, without an axis of layers."""
    share = (*shape[:-1], shape[-1] // len(row.theirs))
    theirs = row.layout.theirs(np.broadcast_to(np.float32(0), share)).shape
    parts = [tensors.take(name.format(layer), theirs, setting) for name in row.theirs]
    return np.concatenate([row.layout.ours(part) for part in parts], axis=-1)


def _positions(row: Row, _: int, shape: tuple[int, ...], tensors: Tensors, setting: str) -> np.ndarray:
    """Position embeddings, as many as the file has."""
    theirs = row.layout.theirs(np.empty((1, shape[-1]))).shape
    return row.layout.ours(tensors.take(row.theirs[0], (*theirs[:-2], None, theirs[-1]), setting))


def _check_depth(table: Table, depth: int, tensors: Tensors, setting: str) -> None:
    layered = next(name for row in table for name in row.theirs if "{}" in name)
    numbered = re.compile(re.escape(layered).replace(r"\{\}", r"(\d+)"))
    found = sum(numbered.fullmatch(name) is not None for name in tensors.names)
    if found != depth:
        raise UserError(
            f"--config.{setting}.depth={depth}: {tensors.path} has {found} layers; "
            f"expected --config.{setting}.depth={found}"
        )


def _fit_grid(tower: Tree, shapes, tensors: Tensors) -> None:
    """Position embeddings for our patch grid, after that of the class token."""
    positions = tower["position_embedding"]
    grid = math.isqrt(len(positions) - 1)
    if grid * grid != len(positions) - 1:
        raise UserError(
            f"{tensors.path}: the image tower has {len(positions)} positions; expected a class token and "
            "a square"
        )
    size = math.isqrt(shapes["position_embedding"].shape[0] - 1)
    tower["position_embedding"] = np.concatenate([positions[:1], resize_grid(positions[1:], size)])


def _complete(tower: Tree, shapes, tensors: Tensors, new: Set[str] = frozenset()) -> Tree:
    got = jax.tree.map(lambda array: array.shape, tower, is_leaf=lambda leaf: isinstance(leaf, np.ndarray))
    wanted = {name: shapes[name] for name in shapes if name not in new}
    wanted = jax.tree.map(lambda array: tuple(array.shape), wanted)
    assert got == wanted, f"{tensors.path}: filled {got}, the tower has {wanted}"
    return tower
