"""What the description beside a weights file says that the shapes of its tensors cannot show.

Hugging Face's `config.json` and open_clip's `open_clip_config.json`. Where there is none, nothing is known.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from focusclip_jax.errors import UserError

HF, OPEN_CLIP = "config.json", "open_clip_config.json"

ACTIVATIONS = ("gelu", "quick_gelu")

# What Hugging Face's code assumes where config.json is silent: it writes down what differs.
HF_DEFAULTS = {
    "clip image": {"num_attention_heads": 12, "layer_norm_eps": 1e-5, "hidden_act": "quick_gelu"},
    "clip text": {"num_attention_heads": 8, "layer_norm_eps": 1e-5, "hidden_act": "quick_gelu"},
    "image": {"num_attention_heads": 12, "layer_norm_eps": 1e-12, "hidden_act": "gelu"},
    "text": {"num_attention_heads": 12, "layer_norm_eps": 1e-12, "hidden_act": "gelu"},
}
HF_SETTINGS = {"num_attention_heads": "heads", "layer_norm_eps": "norm_epsilon", "hidden_act": "activation"}


class Statement(NamedTuple):
    """One setting and its value, and who says so."""

    setting: str
    value: Any
    source: str


def hf_clip(folder: pathlib.Path) -> Iterator[Statement]:
    """What `config.json` of a CLIPModel says of both towers."""
    description = _read(folder / HF)
    if description is not None:
        for tower, key in (("image", "vision_config"), ("text", "text_config")):
            yield from _hf_tower(folder / HF, tower, HF_DEFAULTS[f"clip {tower}"], description.get(key) or {})


def hf_tower(folder: pathlib.Path, tower: str) -> Iterator[Statement]:
    """What `config.json` of a ViT or a BERT says. tower: "image" or "text".

    timm's `config.json` is another format and says nothing of this.
    """
    description = _read(folder / HF)
    if description is not None and "architecture" not in description:
        yield from _hf_tower(folder / HF, tower, HF_DEFAULTS[tower], description)


def _hf_tower(file, tower: str, defaults: Mapping[str, Any], said: Mapping[str, Any]) -> Iterator[Statement]:
    for key, default in defaults.items():
        value = said.get(key, default)
        source = f"{file} says {key}={value}" if key in said else f"{file} leaves {key} at {value}"
        if key == "hidden_act" and value not in ACTIVATIONS:
            raise UserError(f"{source}; expected one of {', '.join(ACTIVATIONS)}")
        yield Statement(f"model.{tower}.{HF_SETTINGS[key]}", value, source)


def open_clip(folder: pathlib.Path) -> Iterator[Statement]:
    """What `open_clip_config.json` says. Raises UserError for a variant that our towers do not have."""
    file = folder / OPEN_CLIP
    description = _read(file)
    if description is None:
        return
    model = description.get("model_cfg", description)
    image, text = model.get("vision_cfg") or {}, model.get("text_cfg") or {}
    for part, said, wanted in (
        ("vision_cfg", image, {"pool_type": "tok", "act_kwargs": None, "norm_kwargs": None}),
        ("text_cfg", text, {"pool_type": "argmax", "act_kwargs": None, "norm_kwargs": None}),
    ):
        for key, value in wanted.items():
            if (said.get(key) or value) != value:
                raise UserError(f"{file}: {part} has {key}={said[key]}; expected {value} or nothing")
    if text.get("no_causal_mask"):
        raise UserError(f"{file}: text_cfg has no_causal_mask; expected a causal text tower, as CLIP's")
    quick = bool(model.get("quick_gelu"))
    activation = "quick_gelu" if quick else "gelu"
    width, head_width = image.get("width", 768), image.get("head_width", 64)
    heads = text.get("heads", 8)
    yield Statement("model.image.activation", activation, f"{file} says quick_gelu={quick}")
    yield Statement("model.text.activation", activation, f"{file} says quick_gelu={quick}")
    yield Statement(
        "model.image.heads", width // head_width, f"{file} says width {width} in heads of {head_width}"
    )
    yield Statement("model.text.heads", heads, f"{file} says heads={heads} of the text tower")


def _read(file: pathlib.Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file}: not JSON ({error})") from None
    if not isinstance(description, dict):
        raise UserError(f"{file}: expected a JSON object")
    return description
