"""Our parameters as tensors in the names of published models: the other direction of `load`.

Only what those models can express is written; the rest is refused by the name of its setting. What
FocusCLIP has for training alone, α and a separate focus tower, is no part of an exported model.
"""

from __future__ import annotations

import numpy as np

from focusclip_jax.errors import UserError
from focusclip_jax.models.focusclip import Architecture
from focusclip_jax.weights.names import (
    CLIP_SETTINGS,
    HF_CLIP,
    OPEN_CLIP,
    OPEN_CLIP_SETTINGS,
    Table,
    check_settings,
)

Tensors = dict[str, np.ndarray]


FAMILIES = {"hf": HF_CLIP, "open_clip": OPEN_CLIP}


def clip_tensors(params, architecture: Architecture, names: str) -> Tensors:
    """A whole CLIP, float32, by name.

    params: the model's parameters, on devices or not. names: "hf" or "open_clip".
    Raises UserError for the first thing that such a model cannot have.
    """
    family, settings = FAMILIES[names], CLIP_SETTINGS
    if family is OPEN_CLIP:
        activation = architecture.image.transformer.activation
        # One activation for both towers.
        settings = {**settings, **OPEN_CLIP_SETTINGS, "model.text.activation": activation}
    check_settings(architecture, settings, "an exported CLIP cannot have this")
    if np.any(params["logit_bias"]):
        raise UserError(
            f"--config.loss.kind={architecture.loss}: an exported CLIP cannot have a bias of its logits, and "
            f"logit_bias is {float(params['logit_bias']):.4g}; expected --config.loss.kind=infonce"
        )
    return {
        **_tensors(family.image, params["image"]),
        **_tensors(family.text, params["text"]),
        family.log_scale: _float32(params["log_scale"]),
    }


def _tensors(table: Table, tower) -> Tensors:
    tensors = {}
    for row in table:
        part, _, name = row.ours.rpartition(".")
        # A tower without layers' axis is written as one with a single layer.
        layers = _float32(tower[part][name]) if part else _float32(tower[name])[None]
        for number, array in enumerate(layers):
            shares = np.split(array, len(row.theirs), axis=-1)
            for theirs, share in zip(row.theirs, shares, strict=True):
                tensors[theirs.format(number)] = np.ascontiguousarray(row.layout.theirs(share))
    return tensors


def _float32(array) -> np.ndarray:
    return np.asarray(array, np.float32)
