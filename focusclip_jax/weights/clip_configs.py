"""The config that the description of a published CLIP stands for: Hugging Face's CLIPModel, or open_clip's.

Every setting is read. A field that is left out has the default of the library that wrote the file; a value
that our towers or our preprocessing cannot follow is refused by its name.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from ml_collections import ConfigDict

from focusclip_jax import config as configs
from focusclip_jax.errors import UserError
from focusclip_jax.weights.hub import Files

HF, HF_WEIGHTS = "config.json", "model.safetensors"
OPEN_CLIP, OPEN_CLIP_WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"

MEAN = [0.48145466, 0.4578275, 0.40821073]  # OpenAI's, both libraries' default
STD = [0.26862954, 0.26130258, 0.27577711]

# What transformers assumes where a field is left out: CLIPConfig, CLIPVisionConfig, CLIPTextConfig …
HF_MODEL = {"projection_dim": 512}
HF_VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
HF_TEXT = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "eos_token_id": 49407,
}
# … and CLIPImageProcessor, whose sizes may also be single numbers.
HF_IMAGES = {
    "do_resize": True,
    "resample": 3,
    "do_center_crop": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": MEAN,
    "image_std": STD,
}
HF_PROCESSORS = (
    "CLIPImageProcessor",
    "CLIPImageProcessorFast",
    "CLIPImageProcessorPil",
    "CLIPFeatureExtractor",
)
RESAMPLE = {2: "bilinear", 3: "bicubic"}  # PIL's numbers

# The same of open_clip: CLIPVisionCfg, CLIPTextCfg, PreprocessCfg.
OPEN_CLIP_VISION = {
    "layers": 12,
    "width": 768,
    "head_width": 64,
    "mlp_ratio": 4.0,
    "patch_size": 16,
    "image_size": 224,
}
OPEN_CLIP_TEXT = {
    "context_length": 77,
    "vocab_size": 49408,
    "width": 512,
    "heads": 8,
    "layers": 12,
    "mlp_ratio": 4.0,
}
OPEN_CLIP_IMAGES = {
    "mode": "RGB",
    "mean": MEAN,
    "std": STD,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
FIT = {"shortest": "crop", "squash": "stretch"}
# "random" is drawn in training only.
INTERPOLATION = {"bilinear": "bilinear", "bicubic": "bicubic", "random": "bicubic"}
# Every variant of open_clip is off (None, false, 0) in a plain CLIP, but for these, which name theirs.
PLAIN_VISION = {"pool_type": "tok", "pos_embed_type": "learnable", "block_type": "default"}
PLAIN_TEXT = {"pool_type": "argmax", "proj_type": "linear", "block_type": "default"}
# Without effect on the embeddings of a plain CLIP: for training, for other towers, for what follows the end
# of a text, or for the names of tensors.
INERT = {
    "attn_pooler_heads",
    "attn_pooler_queries",
    "custom_text",
    "eos_id",
    "hf_model_pretrained",
    "hf_tokenizer_name",
    "init_logit_scale",
    "output_tokens",
    "pad_id",
    "patch_dropout",
    "timm_drop",
    "timm_drop_path",
    "timm_pool",
    "timm_proj",
}

Fields = dict[str, Any]


def hugging_face(files: Files) -> ConfigDict:
    """From `config.json` and `preprocessor_config.json` (or, as newer ones, `processor_config.json`)."""
    where = f"{files}: {HF}"
    model = _with_defaults(where, read_json(files, HF), HF_MODEL)
    vision, text = _hf_part(files, "vision_config"), _hf_part(files, "text_config")
    _one_of(f"{where}: vision_config: num_channels", vision["num_channels"], (3,))
    return _config(
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        embedding=model["projection_dim"],
        context=text["max_position_embeddings"],
        vocabulary=text["vocab_size"],
        pixels=_hf_pixels(files, vision["image_size"]),
        **hf_towers(files),
    )


def hf_towers(files: Files) -> dict[str, Fields]:
    """Of the config, what `config.json` says of "image" and "text"."""
    return {"image": _hf_tower(files, "vision_config"), "text": _hf_tower(files, "text_config")}


def hf_end_id(files: Files) -> int:
    """The token whose embedding `config.json` makes that of a text."""
    return _hf_part(files, "text_config")["eos_token_id"]


def _hf_part(files: Files, name: str) -> Fields:
    """One tower's part. Old files have it twice; where `name`_dict is there, it wins with its defaults."""
    description = read_json(files, HF)
    old = description.get(f"{name}_dict")
    defaults = HF_VISION if name == "vision_config" else HF_TEXT
    said = (description.get(name) or {}) | (defaults | old if old is not None else {})
    return _with_defaults(f"{files}: {HF}: {name}", said, defaults)


def _hf_tower(files: Files, name: str) -> Fields:
    fields = _hf_part(files, name)
    where = f"{files}: {HF}: {name}"
    return {
        "depth": fields["num_hidden_layers"],
        "width": fields["hidden_size"],
        "heads": fields["num_attention_heads"],
        "mlp": fields["intermediate_size"],
        "norm_epsilon": fields["layer_norm_eps"],
        "activation": _one_of(f"{where}: hidden_act", fields["hidden_act"], ("gelu", "quick_gelu")),
    }


def _hf_pixels(files: Files, image_size: int) -> Fields:
    if "preprocessor_config.json" in files.names:
        where = f"{files}: preprocessor_config.json"
        said = read_json(files, "preprocessor_config.json")
    elif "processor_config.json" in files.names:
        where = f"{files}: processor_config.json: image_processor"
        said = read_json(files, "processor_config.json").get("image_processor") or {}
    else:
        raise UserError(f"{files}: it has no preprocessor_config.json, which says how images are prepared")
    for key in ("image_processor_type", "feature_extractor_type"):
        _one_of(f"{where}: {key}", said.get(key, HF_PROCESSORS[0]), HF_PROCESSORS)
    fields = _with_defaults(where, said, HF_IMAGES)
    _one_of(f"{where}: do_resize", fields["do_resize"], (True,))
    _one_of(f"{where}: do_rescale", fields["do_rescale"], (True,))
    if abs(fields["rescale_factor"] * 255 - 1) > 1e-6:
        raise UserError(f"{where}: rescale_factor={fields['rescale_factor']}: expected 1/255")
    normalised = fields["do_normalize"]
    return {
        "fit": _hf_fit(where, said, fields["do_center_crop"], image_size),
        "interpolation": RESAMPLE[_one_of(f"{where}: resample", fields["resample"], RESAMPLE)],
        "mean": fields["image_mean"] if normalised else (0.0, 0.0, 0.0),
        "std": fields["image_std"] if normalised else (1.0, 1.0, 1.0),
    }


def _hf_fit(where: str, said: Fields, cropped: bool, side: int) -> str:
    """ "crop" or "stretch", to the size of the model."""
    square = {"height": side, "width": side}
    size, crop = said.get("size", 224), said.get("crop_size", 224)
    size = {"shortest_edge": size} if isinstance(size, int) else size
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    if size == {"shortest_edge": side} and cropped and crop == square:
        return "crop"
    if size == square and (not cropped or crop == square):
        return "stretch"
    raise UserError(
        f"{where}: size={size}, do_center_crop={cropped}, crop_size={crop}: expected the short side to "
        f"become {side} and the centre to be cropped, or both sides to become {side}"
    )


def open_clip(files: Files) -> ConfigDict:
    """From `open_clip_config.json`."""
    description = read_json(files, OPEN_CLIP)
    model, pixels = description.get("model_cfg") or {}, description.get("preprocess_cfg") or {}
    if not isinstance(model.get("embed_dim"), int):
        raise UserError(
            f"{files}: {OPEN_CLIP}: model_cfg: embed_dim={model.get('embed_dim')}: expected a number"
        )
    _, vision, text = _open_clip_parts(files)
    return _config(
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        embedding=model["embed_dim"],
        context=text["context_length"],
        vocabulary=text["vocab_size"],
        pixels=_open_clip_pixels(f"{files}: {OPEN_CLIP}: preprocess_cfg", pixels, vision["image_size"]),
        **open_clip_towers(files),
    )


def open_clip_towers(files: Files) -> dict[str, Fields]:
    """Of the config, what `open_clip_config.json` says of "image" and "text"."""
    quick, vision, text = _open_clip_parts(files)
    width, head_width = vision["width"], vision["head_width"]
    if width % head_width:
        raise UserError(
            f"{files}: {OPEN_CLIP}: model_cfg: vision_cfg: head_width={head_width}: it does not divide the "
            f"width {width}"
        )
    shared = {"norm_epsilon": 1e-5, "activation": "quick_gelu" if quick else "gelu"}
    return {
        "image": _open_clip_tower(vision, width // head_width) | shared,
        "text": _open_clip_tower(text, text["heads"]) | shared,
    }


def _open_clip_parts(files: Files) -> tuple[bool, Fields, Fields]:
    """Whether both towers have OpenAI's quick GELU, and what describes each. Refuses all other variants."""
    model = read_json(files, OPEN_CLIP).get("model_cfg") or {}
    parts = {name: model.get(name) or {} for name in ("vision_cfg", "text_cfg")}
    rest = {name: value for name, value in model.items() if name not in (*parts, "embed_dim")}
    where = f"{files}: {OPEN_CLIP}: model_cfg"
    return (
        _plain(where, rest, {"quick_gelu": False}, {})["quick_gelu"],
        _plain(f"{where}: vision_cfg", parts["vision_cfg"], OPEN_CLIP_VISION, PLAIN_VISION),
        _plain(f"{where}: text_cfg", parts["text_cfg"], OPEN_CLIP_TEXT, PLAIN_TEXT),
    )


def _plain(where: str, said: Fields, defaults: Fields, plain: Fields) -> Fields:
    """The fields of `defaults`, and a refusal of any other that is in use."""
    for name, value in said.items():
        if name not in defaults and name not in INERT and value and value != plain.get(name):
            raise UserError(f"{where}: {name}={value}: a variant of CLIP that our towers do not have")
    return _with_defaults(where, said, defaults)


def _open_clip_tower(fields: Fields, heads: int) -> Fields:
    mlp = int(fields["width"] * fields["mlp_ratio"])
    return {"depth": fields["layers"], "width": fields["width"], "heads": heads, "mlp": mlp}


def _open_clip_pixels(where: str, said: Fields, image_size: int) -> Fields:
    fields = _with_defaults(where, said, OPEN_CLIP_IMAGES)
    size = said.get("size", image_size)
    if size not in (image_size, [image_size] * 2, [3, image_size, image_size]):
        raise UserError(f"{where}: size={size}: expected the model's image_size, {image_size}")
    _one_of(f"{where}: mode", fields["mode"], ("RGB",))
    return {
        "fit": FIT[_one_of(f"{where}: resize_mode", fields["resize_mode"], FIT)],
        "interpolation": INTERPOLATION[
            _one_of(f"{where}: interpolation", fields["interpolation"], INTERPOLATION)
        ],
        "mean": fields["mean"],
        "std": fields["std"],
    }


def _config(
    *,
    image_size: int,
    patch_size: int,
    embedding: int,
    image: Fields,
    text: Fields,
    context: int,
    vocabulary: int,
    pixels: Fields,
) -> ConfigDict:
    config = configs.default()
    config.data.update(image_size=image_size, fit=pixels["fit"], interpolation=pixels["interpolation"])
    config.text.update(context=context, buckets=(context,), vocabulary=vocabulary)
    config.model.update(
        patch_size=patch_size,
        embedding=embedding,
        pixel_mean=tuple(pixels["mean"]),
        pixel_std=tuple(pixels["std"]),
    )
    config.model.image.update(
        image, pool="class", norm_embeddings=True, patch_bias=False, projection_bias=False
    )
    config.model.text.update(text, pool="end", causal=True, projection_bias=False)
    return config


def read_json(files: Files, name: str) -> Fields:
    """A file that holds one JSON object. Raises UserError where it does not."""
    try:
        content = json.loads(files.path(name).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{files}: {name} is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{files}: {name}: expected a JSON object")
    return content


def _with_defaults(where: str, said: Fields, defaults: Fields) -> Fields:
    """The fields that `defaults` names, each of the type that its default has."""
    fields: dict[str, Any] = {name: said.get(name, default) for name, default in defaults.items()}
    for name, default in defaults.items():
        value = fields[name]
        numbers = isinstance(default, float) and type(value) is int
        if type(value) is not type(default) and not numbers:
            raise UserError(f"{where}: {name}={value}: expected a value like {default}")
        if isinstance(default, list) and len(value) != len(default):
            raise UserError(f"{where}: {name}={value}: expected {len(default)} numbers")
    return fields


def _one_of(where: str, value: Any, choices: Collection[Any]) -> Any:
    if value not in choices:
        raise UserError(f"{where}={value}: expected {' or '.join(map(str, choices))}")
    return value
