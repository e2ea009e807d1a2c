"""Towers that start from published weights: a ViT named as by timm or Hugging Face, a BERT as by the latter.

Strict, so that nothing is started half: every tensor of the file is used or belongs to a head that we do
not have (the `ignorable` names below), and every parameter of the tower is filled but its projection into
the joint embedding space, which no published file has.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping

import jax
import numpy as np

from focusclip_jax.errors import UserError
from focusclip_jax.models.focusclip import Architecture
from focusclip_jax.models.transformer import Shape
from focusclip_jax.weights.tensors import Tensors

NONE = "none"
NEW = {"projection_kernel", "projection_bias"}  # these stay as they were initialised

# What the files call the parts of a layer. Several names of theirs lie side by side in one array of ours.
Names = Mapping[str, tuple[str, ...]]

TIMM_LAYER: Names = {
    "attention_norm": ("norm1",),
    "qkv": ("attn.qkv",),
    "out": ("attn.proj",),
    "mlp_norm": ("norm2",),
    "up": ("mlp.fc1",),
    "down": ("mlp.fc2",),
}
HF_VIT_LAYER: Names = {
    "attention_norm": ("layernorm_before",),
    "qkv": tuple(f"attention.attention.{part}" for part in ("query", "key", "value")),
    "out": ("attention.output.dense",),
    "mlp_norm": ("layernorm_after",),
    "up": ("intermediate.dense",),
    "down": ("output.dense",),
}
BERT_LAYER: Names = {
    "qkv": tuple(f"attention.self.{part}" for part in ("query", "key", "value")),
    "out": ("attention.output.dense",),
    "attention_norm": ("attention.output.LayerNorm",),
    "up": ("intermediate.dense",),
    "down": ("output.dense",),
    "mlp_norm": ("output.LayerNorm",),
}


@dataclasses.dataclass(frozen=True)
class VitNames:
    """What a family of files calls the parts of a ViT."""

    patch: str
    class_token: str
    positions: str
    norm: str
    layers: str
    layer: Names
    ignorable: tuple[str, ...]


TIMM = VitNames(
    patch="patch_embed.proj",
    class_token="cls_token",
    positions="pos_embed",
    norm="norm",
    layers="blocks.",
    layer=TIMM_LAYER,
    ignorable=("head.",),
)


def hf_vit(prefix: str) -> VitNames:
    """prefix: "vit." in a file with a classifier, "" without one."""
    return VitNames(
        patch=f"{prefix}embeddings.patch_embeddings.projection",
        class_token=f"{prefix}embeddings.cls_token",
        positions=f"{prefix}embeddings.position_embeddings",
        norm=f"{prefix}layernorm",
        layers=f"{prefix}encoder.layer.",
        layer=HF_VIT_LAYER,
        ignorable=("classifier.", f"{prefix}pooler."),
    )


def starting_values(architecture: Architecture, params, image: str, text: str) -> dict[str, dict]:
    """The part of a model's parameters that files give: nested dicts of float32 numpy arrays.

    params: the whole tree, arrays or their shapes. image, text: paths, or "none".
    A separate focus tower starts from the image tower's weights: it sees photographs too.
    """
    values = {}
    if image != NONE:
        values["image"] = load_image_tower(params["image"], image, architecture.image.transformer)
        if "focus" in params:
            values["focus"] = values["image"]
    if text != NONE:
        values["text"] = load_text_tower(params["text"], text, architecture.text.transformer)
    return values


def load_image_tower(shapes, path: str, transformer: Shape) -> dict[str, np.ndarray | dict]:
    """A ViT of a safetensors file in timm's or Hugging Face's names, without its classifier.

    shapes: the tower's parameters, arrays or their shapes. Returns the same tree without the projection.
    Position embeddings of another grid are resized bicubically with antialiasing (timm's way).
    Raises UserError where the file and the tower do not belong together.
    """
    tensors = Tensors(path)
    names = _vit_names(tensors)
    _check_fits(tensors, transformer, "image", norm="pre")
    if "class_embedding" not in shapes:
        raise UserError(
            f"--config.model.image.pool=mean: {tensors.path} has a class token; expected pool=class"
        )
    reader = _Reader(tensors, shapes, "model.image")
    pixels, width = shapes["patch_kernel"].shape
    patch = math.isqrt(pixels // 3)
    kernel = tensors.take(f"{names.patch}.weight", (width, 3, patch, patch), "model.patch_size")
    tower = {
        # Theirs is a convolution, (width, 3, p, p); our patches are rows of (p, p, 3).
        "patch_kernel": kernel.transpose(2, 3, 1, 0).reshape(pixels, width),
        "patch_bias": tensors.take(f"{names.patch}.bias", (width,), "model.image"),
        "class_embedding": tensors.take(names.class_token, (1, 1, width), "model.image")[0, 0],
        "position_embedding": _grid_positions(tensors, names, shapes),
        "blocks": reader.layers(names.layers, names.layer),
        **reader.norm("norm", names.norm, shapes),
    }
    return _complete(tower, shapes, tensors, names.ignorable)


def load_text_tower(shapes, path: str, transformer: Shape) -> dict[str, np.ndarray | dict]:
    """A BERT of a safetensors file in Hugging Face's names, without its pooler and heads.

    shapes: the tower's parameters, arrays or their shapes. Returns the same tree without the projection.
    A context shorter than BERT's keeps its first position embeddings. The embedding of token type 0, which
    every token of a single text gets, is added to them.
    Raises UserError where the file and the tower do not belong together.
    """
    tensors = Tensors(path)
    prefix = "bert." if any(name.startswith("bert.") for name in tensors.names) else ""
    embeddings = f"{prefix}embeddings."
    _check_fits(tensors, transformer, "text", norm="post")
    reader = _Reader(tensors, shapes, "model.text")
    context, width = shapes["position_embedding"].shape
    tokens = tensors.take(
        f"{embeddings}word_embeddings.weight", shapes["token_embedding"].shape, "text.tokenizer"
    )
    positions = tensors.take(f"{embeddings}position_embeddings.weight", (None, width), "model.text")
    if len(positions) < context:
        raise UserError(
            f"{tensors.path}: it has {len(positions)} positions; expected text.context={context} or more"
        )
    # Two types are BERT's mark: RoBERTa has the same names and one type, but counts positions otherwise.
    types = tensors.take(f"{embeddings}token_type_embeddings.weight", (2, width), "model.text")
    tower = {
        "token_embedding": tokens,
        "position_embedding": positions[:context] + types[0],
        "blocks": reader.layers(f"{prefix}encoder.layer.", BERT_LAYER),
        **reader.norm("norm", f"{embeddings}LayerNorm", shapes),
    }
    ignorable = (f"{prefix}pooler.", f"{embeddings}position_ids", "cls.")
    return _complete(tower, shapes, tensors, ignorable)


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Takes the parts that both towers have. shapes: the tower's. setting: its place in the config."""

    tensors: Tensors
    shapes: Mapping
    setting: str

    def layers(self, prefix: str, names: Names) -> dict[str, np.ndarray]:
        """All layers `prefix`0, `prefix`1, … with a leading layer axis."""
        depth = self.shapes["blocks"]["qkv_kernel"].shape[0]
        numbered = re.compile(re.escape(prefix) + r"(\d+)\.")
        found = {match[1] for name in self.tensors.names if (match := numbered.match(name))}
        if len(found) != depth:
            raise UserError(
                f"{self.tensors.path}: it has {len(found)} layers; expected {self.setting}.depth={depth}"
            )
        layers = [self._layer(f"{prefix}{n}.", names) for n in range(depth)]
        return {name: np.stack([layer[name] for layer in layers]) for name in layers[0]}

    def _layer(self, prefix: str, names: Names) -> dict[str, np.ndarray]:
        arrays = {}
        for ours, theirs in names.items():
            if ours.endswith("norm"):
                arrays |= self.norm(ours, prefix + theirs[0], self.shapes["blocks"])
            else:
                arrays |= self._dense(ours, [prefix + name for name in theirs])
        return arrays

    def norm(self, ours: str, theirs: str, shapes) -> dict[str, np.ndarray]:
        # BERT's own files still have the names of its first release.
        scale, bias = ("gamma", "beta") if f"{theirs}.gamma" in self.tensors.names else ("weight", "bias")
        width = shapes[f"{ours}_scale"].shape[-1:]
        return {
            f"{ours}_scale": self.tensors.take(f"{theirs}.{scale}", width, self.setting),
            f"{ours}_bias": self.tensors.take(f"{theirs}.{bias}", width, self.setting),
        }

    def _dense(self, ours: str, theirs: list[str]) -> dict[str, np.ndarray]:
        inputs, outputs = self.shapes["blocks"][f"{ours}_kernel"].shape[-2:]
        share = outputs // len(theirs)
        # Torch keeps (outputs, inputs).
        kernels = [self.tensors.take(f"{n}.weight", (share, inputs), self.setting).T for n in theirs]
        biases = [self.tensors.take(f"{n}.bias", (share,), self.setting) for n in theirs]
        return {f"{ours}_kernel": np.concatenate(kernels, axis=1), f"{ours}_bias": np.concatenate(biases)}


def _vit_names(tensors: Tensors) -> VitNames:
    for names in (TIMM, hf_vit("vit."), hf_vit("")):
        if f"{names.patch}.weight" in tensors.names:
            return names
    raise UserError(
        f"{tensors.path}: not a ViT in timm's or Hugging Face's names; expected a tensor {TIMM.patch}.weight "
        f"or {hf_vit('').patch}.weight"
    )


def _check_fits(tensors: Tensors, transformer: Shape, tower: str, norm: str) -> None:
    """What the shapes of tensors cannot show: where the norms are and, from HF's config.json, the rest."""
    if transformer.norm != norm:
        raise UserError(
            f"--config.model.{tower}.norm={transformer.norm}: {tensors.path} needs {norm}-norm layers"
        )
    description = tensors.path.parent / "config.json"
    if not description.exists():
        return
    try:
        theirs = json.loads(description.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{description}: not JSON ({error})") from None
    for key, setting, ours in (
        ("num_attention_heads", "heads", transformer.heads),
        ("layer_norm_eps", "norm_epsilon", transformer.norm_epsilon),
    ):
        if theirs.get(key, ours) != ours:
            raise UserError(
                f"--config.model.{tower}.{setting}={ours}: {description} says {key}={theirs[key]}"
            )
    if theirs.get("hidden_act", "gelu") != "gelu":
        raise UserError(
            f"{description}: hidden_act={theirs['hidden_act']}; expected gelu, by the error function"
        )


def _grid_positions(tensors: Tensors, names: VitNames, shapes) -> np.ndarray:
    """Position embeddings for our patch grid, after that of the class token. → (tokens, width)"""
    tokens, width = shapes["position_embedding"].shape
    table = tensors.take(names.positions, (1, None, width), "model.image")[0]
    grid = math.isqrt(len(table) - 1)
    if grid * grid != len(table) - 1:
        raise UserError(
            f"{tensors.path}: {names.positions} has {len(table)} rows; expected a class token and a square"
        )
    return np.concatenate([table[:1], resize_grid(table[1:], math.isqrt(tokens - 1))])


def resize_grid(positions: np.ndarray, size: int) -> np.ndarray:
    """Embeddings (g·g, D) of a square grid → (size·size, D), bicubic; unchanged where g is `size`."""
    grid = math.isqrt(len(positions))
    if grid == size:
        return positions
    width = positions.shape[-1]
    resized = jax.image.resize(positions.reshape(grid, grid, width), (size, size, width), "cubic")
    return np.asarray(resized).reshape(size * size, width)


def _complete(tower, shapes, tensors: Tensors, ignorable: tuple[str, ...]):
    tensors.check_all_used(ignorable)
    got = jax.tree.map(lambda array: array.shape, tower, is_leaf=lambda leaf: isinstance(leaf, np.ndarray))
    wanted = {name: shapes[name] for name in shapes if name not in NEW}
    wanted = jax.tree.map(lambda array: tuple(array.shape), wanted)
    assert got == wanted, f"{tensors.path}: filled {got}, the tower has {wanted}"
    return tower
