"""The verb `export`: a checkpoint as a model for transformers (CLIPModel) and open_clip, in one folder."""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from ml_collections import ConfigDict

from focusclip_jax import config as configs
from focusclip_jax import sharding, state
from focusclip_jax import workdir as workdirs
from focusclip_jax.checkpoint import Checkpoints
from focusclip_jax.data.text import Tokenizer
from focusclip_jax.errors import UserError
from focusclip_jax.files import creating
from focusclip_jax.weights import tokenizer_files
from focusclip_jax.weights.clip_configs import FIT, HF, HF_WEIGHTS, OPEN_CLIP, OPEN_CLIP_WEIGHTS, RESAMPLE
from focusclip_jax.weights.importing import check_new
from focusclip_jax.weights.save import clip_tensors


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="export", description="A checkpoint for transformers and open_clip."
    )
    parser.add_argument(
        "--workdir", required=True, type=pathlib.Path, help="folder of a run, or of an import"
    )
    parser.add_argument("--step", type=int, help="step of the checkpoint; the newest by default")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder to make")
    options = parser.parse_args(arguments)
    check_new(options.out, "--out")
    workdir = workdirs.Workdir(options.workdir)
    config = configs.from_json(workdir.config)
    tokenizer = Tokenizer.load(workdir.tokenizer)
    architecture = state.architecture(config, tokenizer.vocab_size)
    checkpoints = Checkpoints(workdir.checkpoints)
    abstract = state.abstract_params(architecture, sharding.make_mesh(-1, 1))
    step, params = checkpoints.restore_params(options.step, abstract)
    checkpoints.close()
    with creating(options.out) as folder:
        notes = write(folder, config, tokenizer, jax.tree.map(np.asarray, params))
    print(f"Step {step} of {options.workdir} is in {options.out}:")
    print(*notes, sep="\n")


def write(folder: pathlib.Path, config: ConfigDict, tokenizer: Tokenizer, params: dict) -> list[str]:
    """All files. params: of numpy arrays. Returns how to use them and what is left out, line by line.

    Raises UserError for the first setting that no CLIPModel can have.
    """
    architecture = state.architecture(config, tokenizer.vocab_size)
    tokenizer, old_ids = tokenizer_files.with_highest_end(tokenizer)
    tokens = params["text"]["token_embedding"][old_ids]
    params = params | {"text": params["text"] | {"token_embedding": tokens}}
    _write_tensors(folder / HF_WEIGHTS, clip_tensors(params, architecture, "hf"))
    for name, content in tokenizer_files.hugging_face(tokenizer, config.text.context).items():
        (folder / name).write_text(content, encoding="utf-8")
    _write_json(folder / HF, hf_config(config, tokenizer))
    _write_json(folder / "preprocessor_config.json", hf_preprocessor(config))
    notes = ["  transformers: CLIPModel.from_pretrained(FOLDER), CLIPProcessor.from_pretrained(FOLDER)"]
    try:
        tensors = clip_tensors(params, architecture, "open_clip")
        description = open_clip_config(config, tokenizer)
    except UserError as error:
        notes.append(f"  open_clip cannot have this model: {error}")
    else:
        _write_json(folder / OPEN_CLIP, description)
        _write_tensors(folder / OPEN_CLIP_WEIGHTS, tensors)
        notes.append("  open_clip: create_model_and_transforms('local-dir:FOLDER')")
    return [*notes, "  α, and a focus tower of its own, serve training alone: they are no part of it"]


def hf_config(config: ConfigDict, tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of transformers' `config.json`."""
    model = config.model

    def tower(settings):
        return {
            "hidden_size": settings.width,
            "intermediate_size": settings.mlp,
            "num_hidden_layers": settings.depth,
            "num_attention_heads": settings.heads,
            "hidden_act": settings.activation,
            "layer_norm_eps": settings.norm_epsilon,
            "projection_dim": model.embedding,
        }

    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": model.embedding,
        "torch_dtype": "float32",
        "vision_config": {
            **tower(model.image),
            "model_type": "clip_vision_model",
            "image_size": config.data.image_size,
            "patch_size": model.patch_size,
            "num_channels": 3,
        },
        "text_config": {
            **tower(model.text),
            **tokenizer_files.special_ids(tokenizer),
            "model_type": "clip_text_model",
            "max_position_embeddings": config.text.context,
            "vocab_size": tokenizer.vocab_size,
        },
    }


def hf_preprocessor(config: ConfigDict) -> dict[str, Any]:
    """The content of `preprocessor_config.json`."""
    side = config.data.image_size
    square = {"height": side, "width": side}
    cropped = config.data.fit == "crop"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "CLIPProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side} if cropped else square,
        "resample": _key(RESAMPLE, config.data.interpolation),
        "do_center_crop": cropped,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config.model.pixel_mean),
        "image_std": list(config.model.pixel_std),
    }


def open_clip_config(config: ConfigDict, tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of `open_clip_config.json`. Raises UserError where open_clip has no such model."""
    image, text = config.model.image, config.model.text

    def mlp_ratio(tower, settings):
        ratio = settings.mlp / settings.width
        if int(settings.width * ratio) != settings.mlp:
            raise UserError(f"--config.model.{tower}.mlp={settings.mlp}: expected a multiple of the width")
        return ratio

    # Without this name open_clip takes its own copy of CLIP's vocabulary; with it, the tokenizer beside.
    named = {} if tokenizer_files.is_clip(tokenizer) else {"hf_tokenizer_name": "."}
    return {
        "model_cfg": {
            "embed_dim": config.model.embedding,
            "quick_gelu": image.activation == "quick_gelu",
            "vision_cfg": {
                "image_size": config.data.image_size,
                "patch_size": config.model.patch_size,
                "layers": image.depth,
                "width": image.width,
                "head_width": image.width // image.heads,
                "mlp_ratio": mlp_ratio("image", image),
            },
            "text_cfg": {
                "context_length": config.text.context,
                "vocab_size": tokenizer.vocab_size,
                "layers": text.depth,
                "width": text.width,
                "heads": text.heads,
                "mlp_ratio": mlp_ratio("text", text),
                **named,
            },
        },
        "preprocess_cfg": {
            "mean": list(config.model.pixel_mean),
            "std": list(config.model.pixel_std),
            "interpolation": config.data.interpolation,
            "resize_mode": _key(FIT, config.data.fit),
        },
    }


def _key(table: dict, value: Any) -> Any:
    return next(key for key, of_table in table.items() if of_table == value)


def _write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_tensors(path: pathlib.Path, tensors: dict[str, np.ndarray]) -> None:
    # transformers reads no file without this mark: "pt" says that kernels lie as torch has them.
    safetensors.numpy.save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # it is written for its owner only
