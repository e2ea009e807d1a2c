"""Whether a model is what the description beside a weights file says, where the shapes of its tensors cannot
show it: heads, epsilon, activation. Without a description nothing is known, and nothing checked.
"""

from __future__ import annotations

import pathlib

from focusclip_jax.errors import UserError
from focusclip_jax.models.focusclip import Architecture
from focusclip_jax.weights.clip_configs import HF, hf_towers, open_clip_towers, read_json
from focusclip_jax.weights.hub import open_files
from focusclip_jax.weights.names import check_settings

# What transformers' ViT and BERT assume where config.json is silent.
HF_DEFAULTS = {"num_attention_heads": 12, "layer_norm_eps": 1e-12, "hidden_act": "gelu"}
HF_SETTINGS = {"num_attention_heads": "heads", "layer_norm_eps": "norm_epsilon", "hidden_act": "activation"}


def check_clip(architecture: Architecture, weights: pathlib.Path, name: str) -> None:
    """name: "config.json" of a CLIPModel or "open_clip_config.json".

    Raises UserError for the first setting that differs, or for a variant that our towers do not have.
    """
    files = open_files(str(weights.parent))
    if name in files.names:
        towers = hf_towers(files) if name == HF else open_clip_towers(files)
        for tower, said in towers.items():
            wanted = {f"model.{tower}.{setting}": value for setting, value in said.items()}
            check_settings(architecture, wanted, f"{files}/{name} describes another model")


def check_tower(architecture: Architecture, weights: pathlib.Path, tower: str) -> None:
    """tower: "image" or "text", of a ViT or a BERT with Hugging Face's `config.json`.

    timm's `config.json` is another format and says nothing of this.
    Raises UserError for the first setting that differs, or for an activation that our towers do not have.
    """
    files = open_files(str(weights.parent))
    described = read_json(files, HF) if HF in files.names else {"architecture": "unknown"}
    if "architecture" in described:
        return
    said = {key: described.get(key, default) for key, default in HF_DEFAULTS.items()}
    if said["hidden_act"] != "gelu":
        raise UserError(
            f"{files}/{HF}: hidden_act={said['hidden_act']}; expected gelu, by the error function"
        )
    wanted = {f"model.{tower}.{HF_SETTINGS[key]}": value for key, value in said.items()}
    check_settings(architecture, wanted, f"{files}/{HF} describes another model")
