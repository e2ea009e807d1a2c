"""Every setting of a run with its default, and how a config file and the command line change it.

A config is a Python file with `get_config()`; it starts from `default()` and changes what differs.
On the command line `--config.a.b=value` changes one setting further.
"""

from __future__ import annotations

import functools
import json
import math
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

from focusclip_jax.errors import UserError

BASE = {"depth": 12, "width": 768, "heads": 12, "mlp": 3072}  # of ViT-B and of BERT-base

# What both towers can choose; the defaults are ViT's.
# norm: before ("pre": ViT, CLIP) or after ("post": BERT) each residual branch.
# activation: "gelu" by the error function, or "quick_gelu", which OpenAI trained CLIP with.
# projection_bias: of the last linear map, into the joint space; CLIP has none.
TOWER = {**BASE, "norm": "pre", "norm_epsilon": 1e-6, "activation": "gelu", "projection_bias": True}


def default() -> ConfigDict:
    """All settings. A tuple of numbers keeps its length; a tuple of texts may have any."""
    return ConfigDict(
        {
            "name": "focusclip",
            "seed": 0,
            "data": {
                # Commands for `launch.sh annotate` that make the shards below; run once, before training.
                "prepare": (),
                # Folder or glob pattern of TFRecord shards; also gs://BUCKET/FOLDER or s3://BUCKET/FOLDER.
                "train": "",
                "validation": "",
                # The command that gets the training shards, for the message where they are missing.
                "how_to_get": "./launch.sh annotate describe … and ./launch.sh annotate pack …",
                "image_size": 224,
                # Captions drawn per image and step (C).
                "captions": 1,
                # Random crop: least and largest share of the area, largest change of the aspect ratio.
                "crop_area": (1.0, 1.0),
                "crop_aspect": 1.0,
                "flip": 0.0,
                # How a whole image becomes square: "stretch" (the 2023 code) or "crop" (CLIP: the short
                # side to size, then the centre), and by which filter.
                "fit": "stretch",
                "interpolation": "bilinear",
                # What the second view is guided by. "parts": Gaussians of ten body parts (the paper);
                # "joints": one around each joint; "box": one around all joints of a person; "person": a
                # filled ellipse around them.
                # Controls, which cost the same and guide nowhere: "shuffled" (the parts of another image of
                # the batch), "constant" (1: the second view is the image, so this is CLIP with every image
                # seen twice), "centred" (one Gaussian in the middle), "random" (one anywhere).
                # CLIP without a second view is loss.focus_text = 0, at equal compute with more steps.
                "heatmap": "parts",
                # Size of what is drawn around joints, as a factor; nothing to the last three controls.
                "heatmap_scale": 1.0,
                # Draw heatmaps inside the step, from five numbers a part (all kinds but "person"): the same
                # to 1e-5, a little less work for the host and 4 bytes a pixel less to carry to the device.
                "heatmap_on_device": False,
                "threads": 2,
                "workers": 0,
            },
            "text": {
                # "" trains one on the captions; else a tokenizer.json, vocab.txt, CLIP merges or hub id.
                "tokenizer": "",
                # The command that gets its file, for the message where it is missing.
                "how_to_get": "",
                # Entries of one trained here, at most; of another, what a dry run without its file counts.
                "vocabulary": 8192,
                # Longest caption in tokens, and the lengths that a batch may be padded to.
                "context": 256,
                "buckets": (64, 128, 192, 256),
            },
            "model": {
                "patch_size": 16,
                "embedding": 512,
                # pool: "class" (a class token) or "mean" (over patches).
                # norm_embeddings, patch_bias: CLIP normalises before the first layer and has no patch bias.
                "image": {**TOWER, "pool": "class", "norm_embeddings": False, "patch_bias": True},
                # pool: "mean" over a caption's tokens, "mean_padded" over the padding too (the 2023 code)
                # or "end", the end token (CLIP). causal: a token sees those before it only (CLIP).
                "text": {**TOWER, "pool": "mean", "causal": False},
                "focus_tower": "shared",
                # α, the share of the background that the second view keeps: "sigmoid" holds it in (0, 1),
                # "unbounded" is the 2023 code's. A rule ("^alpha", 0.0, 0.0) leaves it where it starts.
                "alpha": "sigmoid",
                "initial_alpha": 0.5,
                # What the second view does with what the heatmap leaves out: "dim" it (the paper), "replace"
                # it by pixel_mean, "blur" it, "swap" it for what is behind the subject of the batch's next
                # image, or "crop" to the rectangle where the heatmap is at least 0.5.
                # "tokens" leaves the pixels alone and gives those patches less weight in the mean that
                # model.image.pool = "mean" takes at the end.
                "focus_view": "dim",
                "pixel_mean": (0.5, 0.5, 0.5),
                "pixel_std": (0.5, 0.5, 0.5),
                "dtype": "float32",
                "attention": "matmul",
                # What the backward pass computes again instead of keeping it: "none", "full" (whole layers),
                # or "dots" (all but their products with kernels: more memory than "full", less time).
                "remat": "none",
                # Write the layers out instead of looping over them: faster on CPU, slower to compile.
                "unroll": False,
            },
            # Published weights to start from: a safetensors file or a folder with one. `clip` is a whole
            # CLIP in Hugging Face's or open_clip's names; `image` a ViT in timm's or Hugging Face's names
            # and `text` a BERT. "none": random ones.
            "weights": {
                "clip": "none",
                "image": "none",
                "text": "none",
                "how_to_get": {"clip": "", "image": "", "text": ""},
            },
            "loss": {
                "kind": "infonce",
                "image_text": 1.0,
                "focus_text": 1.0,
                "focus_image": 0.0,
                # Where an image has several captions: each a positive of its own, or their average as one.
                "captions": "positives",
                # Compare this many parts of the batch one after the other with all of it: 1 / chunks of the
                # memory for similarities, which are computed once more in the backward pass.
                "chunks": 1,
            },
            "optimizer": {
                "name": "adamw",
                # In a config file: any other in place of the named one, a function or functools.partial
                # from a learning rate (optax.Schedule) to an optax.GradientTransformation, for example
                # optax.lion. What it decays of its own comes on top of weight_decay.
                "custom": config_dict.placeholder(object),
                "learning_rate": 5e-4,
                "schedule": "cosine",
                "warmup_steps": 0,
                # Of every optimizer, decoupled: each step takes learning_rate * weight_decay of a parameter.
                "weight_decay": 0.1,
                # (pattern, rate, decay), searched in a parameter's name, first match wins: factors of
                # learning_rate and weight_decay. Rate 0 freezes. Every parameter needs a match, every rule
                # a use.
                "rules": (
                    (r"(kernel|token_embedding|position_embedding)$", 1.0, 1.0),
                    (r"", 1.0, 0.0),
                ),
                "b1": 0.9,
                "b2": 0.98,
                "momentum": 0.9,
                "clip_norm": 1.0,
            },
            # Devices along each axis; -1 takes the rest.
            "mesh": {"data": -1, "fsdp": 1},
            "batch_size": 256,
            # Encode the batch in this many parts, one after the other. The loss still compares all of it.
            "micro_batches": 1,
            "steps": 1000,
            "log_every": 20,
            "evaluate_every": 500,
            "checkpoint_every": 500,
            "keep_checkpoints": 2,
            "evaluation": {
                # Names of focusclip_jax.evaluation.tasks.
                "tasks": (),
                # Folder that holds one folder per data set.
                "data_dir": "data",
                # Images encoded at a time.
                "batch_size": 256,
            },
        }
    )


CHOICES = {
    "data.fit": ("stretch", "crop"),
    "data.interpolation": ("bilinear", "bicubic"),
    "data.heatmap": ("parts", "joints", "box", "person", "shuffled", "constant", "centred", "random"),
    "model.image.pool": ("class", "mean"),
    "model.text.pool": ("mean", "mean_padded", "end"),
    "model.image.activation": ("gelu", "quick_gelu"),
    "model.text.activation": ("gelu", "quick_gelu"),
    "model.image.norm": ("pre", "post"),
    "model.text.norm": ("pre", "post"),
    "model.focus_tower": ("shared", "separate"),
    "model.alpha": ("sigmoid", "unbounded"),
    "model.focus_view": ("dim", "replace", "blur", "swap", "crop", "tokens"),
    "model.dtype": ("float32", "bfloat16"),
    "model.attention": ("matmul", "xla", "cudnn"),
    "model.remat": ("none", "full", "dots"),
    "loss.kind": ("infonce", "ntxent", "sigmoid"),
    "loss.captions": ("positives", "average"),
    "optimizer.name": ("adamw", "sgd"),
    "optimizer.schedule": ("cosine", "constant"),
}


def define_flags() -> None:
    """Define `--config`, `--config.*` and `--workdir`; absl reads them in `parse`."""
    config_flags.DEFINE_config_file("config", None, "Python file with get_config().", lock_config=True)
    flags.DEFINE_string("workdir", None, "Folder of the run; runs/NAME of the config file by default.")


def parse(arguments: list[str]) -> tuple[ConfigDict, pathlib.Path]:
    """The checked config and the workdir. Raises UserError with one sentence for any mistake in the flags."""
    path = _config_path(arguments)
    try:
        # Before the parse: the parsed object is the one that the overrides change.
        base = _load(path)
        rest = flags.FLAGS(["focusclip_jax", *arguments])[1:]
        config = flags.FLAGS["config"].value
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: {_first_sentence(error)}") from None
    if rest:
        raise UserError(
            f"unexpected argument {rest[0]!r}; expected --config=FILE, --config.a.b=VALUE or --workdir=DIR"
        )
    check(config, base)
    return config, pathlib.Path(flags.FLAGS.workdir or f"runs/{pathlib.Path(path).stem}")


def _config_path(arguments: list[str]) -> str:
    for index, argument in enumerate(arguments):
        if argument.startswith("--config="):
            path = argument.split("=", 1)[1]
            break
        if argument == "--config" and index + 1 < len(arguments):
            path = arguments[index + 1]
            break
    else:
        raise UserError("--config=FILE is missing; try --config=configs/focusclip_tiny.py")
    if not pathlib.Path(path).is_file():
        raise UserError(f"--config={path}: no such file; the shipped ones are in configs/")
    return path


def _load(path: str) -> ConfigDict:
    namespace: dict[str, Any] = {"__file__": path, "__name__": "config"}
    exec(compile(pathlib.Path(path).read_text(), path, "exec"), namespace)
    if "get_config" not in namespace:
        raise UserError(f"{path}: it defines no get_config()")
    return namespace["get_config"]()


def _first_sentence(error: Exception) -> str:
    message = str(error.args[0]) if error.args else str(error)
    return " ".join(message.split())


def check(config: ConfigDict, base: ConfigDict) -> None:
    """Check what types alone do not: tuple lengths against `base`, choices, and sizes that must fit."""
    values = dict(leaves(config))
    for name, _ in leaves(default()):
        if name not in values:
            raise UserError(f"the config lacks {name}; change a part of the settings with .update(…)")
    for name, value in leaves(base):
        if _is_numbers(value) and name != "text.buckets" and len(values[name]) != len(value):
            raise UserError(
                f"--config.{name}={values[name]}: expected {len(value)} numbers, as in {value}, "
                f"not {len(values[name])}"
            )
    for name, choices in CHOICES.items():
        if values[name] not in choices:
            raise UserError(f"--config.{name}={values[name]}: expected one of {', '.join(choices)}")
    for tower in ("image", "text"):
        width, heads = values[f"model.{tower}.width"], values[f"model.{tower}.heads"]
        if width % heads:
            raise UserError(f"--config.model.{tower}.heads={heads}: it does not divide the width {width}")
    size, patch = values["data.image_size"], values["model.patch_size"]
    if size % patch:
        raise UserError(f"--config.data.image_size={size}: it is not a multiple of the patch size {patch}")
    buckets = values["text.buckets"]
    if list(buckets) != sorted(set(buckets)) or not buckets or buckets[-1] != values["text.context"]:
        raise UserError(
            f"--config.text.buckets={buckets}: expected rising lengths that end with "
            f"text.context={values['text.context']}"
        )
    if values["data.heatmap_on_device"] and values["data.heatmap"] == "person":
        raise UserError(
            "--config.data.heatmap_on_device=True: data.heatmap=person is only drawn by the loader"
        )
    scale = values["data.heatmap_scale"]
    if not 0 < scale < math.inf:
        raise UserError(f"--config.data.heatmap_scale={scale}: expected a factor above 0")
    start = values["model.initial_alpha"]
    if not 0 < start < 1:
        raise UserError(f"--config.model.initial_alpha={start}: expected a number between 0 and 1")
    for name, needed in (("model.image.pool", "mean"), ("model.alpha", "sigmoid")):
        if values["model.focus_view"] == "tokens" and values[name] != needed:
            raise UserError(f"--config.{name}={values[name]}: model.focus_view=tokens needs {needed}")
    if not any(values[f"loss.{term}"] for term in ("image_text", "focus_text", "focus_image")):
        raise UserError("--config.loss: every term has weight 0; give at least one a weight")
    check_optimizer(config.optimizer)
    for name in (
        "batch_size",
        "micro_batches",
        "loss.chunks",
        "steps",
        "log_every",
        "evaluate_every",
        "checkpoint_every",
        "keep_checkpoints",
    ):
        if values[name] < 1:
            raise UserError(f"--config.{name}={values[name]}: expected at least 1")


def check_optimizer(config: ConfigDict) -> None:
    """Check the form of the rules, and that `custom` is something that only a config file can hold."""
    custom = config.custom
    if custom is not None and not (isinstance(custom, functools.partial) or hasattr(custom, "__qualname__")):
        raise UserError(
            f"--config.optimizer.custom={custom!r}: expected a function or functools.partial, which only a "
            "config file can hold"
        )
    for rule in config.rules:
        if not _is_rule(rule):
            raise UserError(
                f"--config.optimizer.rules: {rule!r} is no rule; expected (regular expression, factor of the "
                'learning rate, factor of the weight decay), for example ("^image/", 0.0, 0.0)'
            )


def _is_rule(value: Any) -> bool:
    if not (isinstance(value, tuple) and len(value) == 3 and isinstance(value[0], str)):
        return False
    try:
        re.compile(value[0])
    except re.error:
        return False
    return all(isinstance(factor, int | float) and 0 <= factor < math.inf for factor in value[1:])


def leaves(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All settings as ("a.b", value)."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _is_numbers(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(isinstance(v, int | float) for v in value)


def to_json(config: ConfigDict) -> str:
    """The settings as JSON. A function is recorded by its name: "optax.lion"."""
    return json.dumps(config.to_dict(), indent=2, default=_source_of) + "\n"


def _source_of(value: Any) -> str:
    """The Python that names a function or functools.partial, so that a record shows which one it was."""
    if isinstance(value, functools.partial):
        arguments = [_source_of(argument) for argument in (value.func, *value.args)]
        arguments += [f"{name}={_source_of(argument)}" for name, argument in value.keywords.items()]
        return f"functools.partial({', '.join(arguments)})"
    if not hasattr(value, "__qualname__"):
        return repr(value)
    package = value.__module__.split(".")[0]
    is_public = getattr(sys.modules.get(package), value.__qualname__, None) is value
    return f"{package if is_public else value.__module__}.{value.__qualname__}"


def recorded(config: ConfigDict) -> ConfigDict:
    """The config as `from_json` gives it back, for comparing it with one that was written."""
    return ConfigDict(_tuples(json.loads(to_json(config))))


def from_json(path: pathlib.Path) -> ConfigDict:
    """The config that a workdir was trained with. A `custom` optimizer is there by name only.

    A setting that is younger than the workdir has its default: a new one does nothing until it is changed.
    Raises UserError where there is none, or a choice in it is none of this version.
    """
    try:
        loaded = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected the workdir of a training run") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    config = ConfigDict(_merged(default().to_dict(), _tuples(loaded)))
    values = dict(leaves(config))
    for name, choices in CHOICES.items():
        if values[name] not in choices:
            raise UserError(f"{path}: {name} is {values[name]}, expected one of {', '.join(choices)}")
    return config


def _merged(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """values, and what only the defaults have."""
    return defaults | {
        name: _merged(defaults[name], value) if isinstance(value, dict) and name in defaults else value
        for name, value in values.items()
    }


def _tuples(value):
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
