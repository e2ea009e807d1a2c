"""What published files call the parameters of our towers: one table per family, for reading and for writing.

A row says which tensors hold the numbers of one array of ours and how they lie in it. Reading a file and
writing it again therefore gives the same names, shapes and bits.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from focusclip_jax.errors import UserError
from focusclip_jax.models.focusclip import Architecture


class Layout(NamedTuple):
    """Turns a tensor of theirs into ours, and back."""

    ours: Callable[[np.ndarray], np.ndarray]
    theirs: Callable[[np.ndarray], np.ndarray]


def _patch_rows(filters: np.ndarray) -> np.ndarray:
    width, channels, patch, _ = filters.shape
    return filters.transpose(2, 3, 1, 0).reshape(patch * patch * channels, width)


def _patch_filters(rows: np.ndarray) -> np.ndarray:
    pixels, width = rows.shape
    patch = math.isqrt(pixels // 3)
    return rows.reshape(patch, patch, 3, width).transpose(3, 2, 0, 1)


SAME = Layout(lambda x: x, lambda x: x)
KERNEL = Layout(np.transpose, np.transpose)  # torch keeps (outputs, inputs)
# Theirs is a convolution, (width, 3, p, p); our patches are rows of (p, p, 3).
PATCH = Layout(_patch_rows, _patch_filters)
# Theirs have axes of one for the batch, and for the tokens.
POSITIONS = Layout(lambda x: x[0], lambda x: x[None])
CLASS_TOKEN = Layout(lambda x: x[0, 0], lambda x: x[None, None])


class Row(NamedTuple):
    """One array of ours and the tensors with the same numbers.

    ours: where it is in the tower; "blocks.…" has a leading axis of layers.
    theirs: several tensors lie side by side along the last axis of ours; "{}" stands for a layer's number.
    """

    ours: str
    theirs: tuple[str, ...]
    layout: Layout = SAME


Table = tuple[Row, ...]


def _dense(ours: str, *theirs: str) -> Table:
    return (
        Row(f"{ours}_kernel", tuple(f"{name}.weight" for name in theirs), KERNEL),
        Row(f"{ours}_bias", tuple(f"{name}.bias" for name in theirs)),
    )


def _norm(ours: str, theirs: str, scale: str = "weight", bias: str = "bias") -> Table:
    return (Row(f"{ours}_scale", (f"{theirs}.{scale}",)), Row(f"{ours}_bias", (f"{theirs}.{bias}",)))


# ------------------------------------------------------------------------------------------ whole CLIPs


@dataclasses.dataclass(frozen=True)
class ClipNames:
    """A family of files with a whole CLIP. mark: a tensor that only this family has."""

    mark: str
    image: Table
    text: Table
    log_scale: str = "logit_scale"


def _hf_clip_layers(prefix: str) -> Table:
    layer = f"{prefix}.encoder.layers.{{}}"
    return (
        *_norm("blocks.attention_norm", f"{layer}.layer_norm1"),
        *_dense("blocks.qkv", *(f"{layer}.self_attn.{part}_proj" for part in "qkv")),
        *_dense("blocks.out", f"{layer}.self_attn.out_proj"),
        *_norm("blocks.mlp_norm", f"{layer}.layer_norm2"),
        *_dense("blocks.up", f"{layer}.mlp.fc1"),
        *_dense("blocks.down", f"{layer}.mlp.fc2"),
    )


HF_CLIP = ClipNames(
    mark="vision_model.embeddings.class_embedding",
    image=(
        Row("patch_kernel", ("vision_model.embeddings.patch_embedding.weight",), PATCH),
        Row("class_embedding", ("vision_model.embeddings.class_embedding",)),
        Row("position_embedding", ("vision_model.embeddings.position_embedding.weight",)),
        *_norm("embedding_norm", "vision_model.pre_layrnorm"),  # their spelling
        *_hf_clip_layers("vision_model"),
        *_norm("norm", "vision_model.post_layernorm"),
        Row("projection_kernel", ("visual_projection.weight",), KERNEL),
    ),
    text=(
        Row("token_embedding", ("text_model.embeddings.token_embedding.weight",)),
        Row("position_embedding", ("text_model.embeddings.position_embedding.weight",)),
        *_hf_clip_layers("text_model"),
        *_norm("norm", "text_model.final_layer_norm"),
        Row("projection_kernel", ("text_projection.weight",), KERNEL),
    ),
)


def _open_clip_layers(prefix: str) -> Table:
    layer = f"{prefix}transformer.resblocks.{{}}"
    return (
        *_norm("blocks.attention_norm", f"{layer}.ln_1"),
        Row("blocks.qkv_kernel", (f"{layer}.attn.in_proj_weight",), KERNEL),
        Row("blocks.qkv_bias", (f"{layer}.attn.in_proj_bias",)),
        *_dense("blocks.out", f"{layer}.attn.out_proj"),
        *_norm("blocks.mlp_norm", f"{layer}.ln_2"),
        *_dense("blocks.up", f"{layer}.mlp.c_fc"),
        *_dense("blocks.down", f"{layer}.mlp.c_proj"),
    )


def _open_clip(text: str) -> ClipNames:
    """text: "" as OpenAI has it, or "text." in open_clip's models with a text tower of its own class."""
    return ClipNames(
        mark=f"{text}token_embedding.weight",
        image=(
            Row("patch_kernel", ("visual.conv1.weight",), PATCH),
            Row("class_embedding", ("visual.class_embedding",)),
            Row("position_embedding", ("visual.positional_embedding",)),
            *_norm("embedding_norm", "visual.ln_pre"),
            *_open_clip_layers("visual."),
            *_norm("norm", "visual.ln_post"),
            Row("projection_kernel", ("visual.proj",)),
        ),
        text=(
            Row("token_embedding", (f"{text}token_embedding.weight",)),
            Row("position_embedding", (f"{text}positional_embedding",)),
            *_open_clip_layers(text),
            *_norm("norm", f"{text}ln_final"),
            Row("projection_kernel", (f"{text}text_projection",)),
        ),
    )


OPEN_CLIP, OPEN_CLIP_TEXT = _open_clip(""), _open_clip("text.")

# Constants that some files carry along.
CLIP_IGNORABLE = (
    "vision_model.embeddings.position_ids",
    "text_model.embeddings.position_ids",
    "attn_mask",
    "text.attn_mask",
    "input_resolution",
    "context_length",
    "vocab_size",
)


def clip_names(found: Collection[str]) -> ClipNames | None:
    """The family of a file with these tensors; None where it is no CLIP."""
    return next((names for names in (HF_CLIP, OPEN_CLIP, OPEN_CLIP_TEXT) if names.mark in found), None)


# --------------------------------------------------------------------------------------- single towers

TIMM_VIT: Table = (
    Row("patch_kernel", ("patch_embed.proj.weight",), PATCH),
    Row("patch_bias", ("patch_embed.proj.bias",)),
    Row("class_embedding", ("cls_token",), CLASS_TOKEN),
    Row("position_embedding", ("pos_embed",), POSITIONS),
    *_norm("blocks.attention_norm", "blocks.{}.norm1"),
    *_dense("blocks.qkv", "blocks.{}.attn.qkv"),
    *_dense("blocks.out", "blocks.{}.attn.proj"),
    *_norm("blocks.mlp_norm", "blocks.{}.norm2"),
    *_dense("blocks.up", "blocks.{}.mlp.fc1"),
    *_dense("blocks.down", "blocks.{}.mlp.fc2"),
    *_norm("norm", "norm"),
)


def hf_vit(prefix: str = "") -> Table:
    """prefix: "vit." in a file with a classifier, "" without one."""
    layer = f"{prefix}encoder.layer.{{}}"
    qkv = (f"{layer}.attention.attention.{part}" for part in ("query", "key", "value"))
    return (
        Row("patch_kernel", (f"{prefix}embeddings.patch_embeddings.projection.weight",), PATCH),
        Row("patch_bias", (f"{prefix}embeddings.patch_embeddings.projection.bias",)),
        Row("class_embedding", (f"{prefix}embeddings.cls_token",), CLASS_TOKEN),
        Row("position_embedding", (f"{prefix}embeddings.position_embeddings",), POSITIONS),
        *_norm("blocks.attention_norm", f"{layer}.layernorm_before"),
        *_dense("blocks.qkv", *qkv),
        *_dense("blocks.out", f"{layer}.attention.output.dense"),
        *_norm("blocks.mlp_norm", f"{layer}.layernorm_after"),
        *_dense("blocks.up", f"{layer}.intermediate.dense"),
        *_dense("blocks.down", f"{layer}.output.dense"),
        *_norm("norm", f"{prefix}layernorm"),
    )


def hf_bert(prefix: str = "", scale: str = "weight", bias: str = "bias") -> Table:
    """A BERT without its token types. scale, bias: what the file calls these two parts of a norm."""
    layer = f"{prefix}encoder.layer.{{}}"
    qkv = (f"{layer}.attention.self.{part}" for part in ("query", "key", "value"))
    return (
        Row("token_embedding", (f"{prefix}embeddings.word_embeddings.weight",)),
        Row("position_embedding", (f"{prefix}embeddings.position_embeddings.weight",)),
        *_dense("blocks.qkv", *qkv),
        *_dense("blocks.out", f"{layer}.attention.output.dense"),
        *_norm("blocks.attention_norm", f"{layer}.attention.output.LayerNorm", scale, bias),
        *_dense("blocks.up", f"{layer}.intermediate.dense"),
        *_dense("blocks.down", f"{layer}.output.dense"),
        *_norm("blocks.mlp_norm", f"{layer}.output.LayerNorm", scale, bias),
        *_norm("norm", f"{prefix}embeddings.LayerNorm", scale, bias),
    )


# ------------------------------------------------------------------- what an architecture must be for it

Settings = Mapping[str, Any]

CLIP_SETTINGS: Settings = {
    "model.image.norm": "pre",
    "model.image.pool": "class",
    "model.image.norm_embeddings": True,
    "model.image.patch_bias": False,
    "model.image.projection_bias": False,
    "model.text.norm": "pre",
    "model.text.causal": True,
    "model.text.pool": "end",
    "model.text.projection_bias": False,
}
# open_clip's and OpenAI's code has no other; Hugging Face's says it in config.json.
OPEN_CLIP_SETTINGS: Settings = {"model.image.norm_epsilon": 1e-5, "model.text.norm_epsilon": 1e-5}
VIT_SETTINGS: Settings = {
    "model.image.norm": "pre",
    "model.image.pool": "class",
    "model.image.norm_embeddings": False,
    "model.image.patch_bias": True,
    "model.image.activation": "gelu",
}
# timm's code has no other; Hugging Face's says it in config.json.
TIMM_SETTINGS: Settings = {**VIT_SETTINGS, "model.image.norm_epsilon": 1e-6}
BERT_SETTINGS: Settings = {
    "model.text.norm": "post",
    "model.text.causal": False,
    "model.text.activation": "gelu",
}


@dataclasses.dataclass(frozen=True)
class VitNames:
    """A family of files with a ViT.

    ignorable: how the names of its classifier start. settings: what our tower must be for it.
    """

    table: Table
    ignorable: tuple[str, ...]
    settings: Settings


def vit_names(found: Collection[str]) -> VitNames | None:
    """The family of a file with these tensors; None where it is no ViT."""
    for names in (
        VitNames(TIMM_VIT, ("head.",), TIMM_SETTINGS),
        VitNames(hf_vit("vit."), ("classifier.", "vit.pooler."), VIT_SETTINGS),
        VitNames(hf_vit(), ("pooler.",), VIT_SETTINGS),
    ):
        if names.table[0].theirs[0] in found:
            return names
    return None


def settings_of(architecture: Architecture) -> dict[str, Any]:
    """What decides a model's computation, by its name in the config."""
    a = architecture
    settings = {
        "data.image_size": a.image.image_size,
        "model.patch_size": a.image.patch_size,
        "model.embedding": a.embedding,
        "text.context": a.text.context,
        "model.text.causal": a.text.transformer.causal,
    }
    for tower, shape in (("image", a.image), ("text", a.text)):
        for name in ("depth", "width", "heads", "mlp", "norm", "norm_epsilon", "activation"):
            settings[f"model.{tower}.{name}"] = getattr(shape.transformer, name)
        for name in ("pool", "projection_bias"):
            settings[f"model.{tower}.{name}"] = getattr(shape, name)
    for name in ("norm_embeddings", "patch_bias"):
        settings[f"model.image.{name}"] = getattr(a.image, name)
    return settings


def check_settings(architecture: Architecture, wanted: Settings, who: str) -> None:
    """Raise UserError for the first setting that differs. who: asks for it, and how, for the message."""
    settings = settings_of(architecture)
    for name, value in wanted.items():
        if settings[name] != value:
            raise UserError(f"--config.{name}={settings[name]}: {who}; expected --config.{name}={value}")
