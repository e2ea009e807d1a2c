"""Floating-point operations of a step by arithmetic, and the peaks of the chips they are held against.

The compiler's own count will not do: it counts the body of a loop over layers once.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from focusclip_jax import losses
from focusclip_jax.models.focusclip import Architecture
from focusclip_jax.models.transformer import Shape
from focusclip_jax.models.vit import ImageShape


@dataclasses.dataclass(frozen=True)
class Chip:
    """Dense bfloat16 operations per second and bytes of memory, as its maker states them."""

    name: str
    flops: float
    memory: int


# A part of `jax.Device.device_kind`, first match wins.
CHIPS = (
    ("TPU v5 lite", Chip("TPU v5e", 197e12, 16 * 2**30)),
    ("TPU v5", Chip("TPU v5p", 459e12, 95 * 2**30)),
    ("TPU v6 lite", Chip("TPU v6e", 918e12, 32 * 2**30)),
    ("TPU v4", Chip("TPU v4", 275e12, 32 * 2**30)),
    ("H200", Chip("H200", 989e12, 141 * 10**9)),
    ("H100", Chip("H100", 989e12, 80 * 10**9)),
    ("A100", Chip("A100", 312e12, 80 * 10**9)),
)


def chip(device_kind: str) -> Chip | None:
    """None for a device whose peak is not in `CHIPS`: a CPU, or a chip that nobody looked up."""
    return next((chip for part, chip in CHIPS if part in device_kind), None)


def forward(shape: Shape, tokens: int) -> int:
    """Of one sequence through one transformer: its matrix products, two operations a multiplication."""
    width = shape.width
    return 2 * tokens * shape.depth * (4 * width**2 + 2 * width * shape.mlp) + attending(shape, tokens)


def attending(shape: Shape, tokens: int) -> int:
    """The part of `forward` that is of no kernel: queries with keys, and weights with values."""
    return 4 * tokens**2 * shape.depth * shape.width


def image_forward(arch: Architecture) -> int:
    """Of one image through the image tower."""
    shape = arch.image
    patches = (shape.image_size // shape.patch_size) ** 2
    width = shape.transformer.width
    embed = 2 * patches * 3 * shape.patch_size**2 * width
    return embed + forward(shape.transformer, _tokens(shape)) + 2 * width * arch.embedding


def _tokens(shape: ImageShape) -> int:
    return (shape.image_size // shape.patch_size) ** 2 + (shape.pool == "class")


def text_forward(arch: Architecture, tokens: int) -> int:
    """Of one text, padded to `tokens`, through the text tower."""
    width = arch.text.transformer.width
    return forward(arch.text.transformer, tokens) + 2 * width * arch.embedding


@dataclasses.dataclass(frozen=True)
class StepFlops:
    """Of one training step on all devices together.

    model: forward and backward, each once: what a model FLOPs utilisation (MFU) counts.
    executed: with the forward passes that `model.remat` and `micro_batches` repeat.
    """

    model: int
    executed: int


def image_encodes(config: ConfigDict) -> int:
    """How often a step encodes each image of its batch: twice with a highlighted view."""
    return 2 if losses.uses_focus(config.loss) else 1


def of_step(arch: Architecture, config: ConfigDict, tokens: int) -> StepFlops:
    """config: of the run; tokens: the padded length of its texts. Frozen parameters are not deducted.

    A backward pass is twice a forward pass. Norms, softmax and the optimizer are left out (below 1 %).
    """
    images = image_encodes(config) * image_forward(arch)
    encode = config.batch_size * (images + config.data.captions * text_forward(arch, tokens))
    # Every pair of rows, once in each direction; each chunk is computed once more in the backward pass.
    pairs = len(losses.term_weights(config.loss)) * 2 * 2 * config.batch_size**2 * arch.embedding
    texts = config.data.captions * attending(arch.text.transformer, tokens)
    looks = image_encodes(config) * attending(arch.image.transformer, _tokens(arch.image)) + texts
    again = {"none": 0, "full": encode, "dots": config.batch_size * looks}
    repeated = again[config.model.remat] + encode * (config.micro_batches > 1)
    repeated += pairs * (config.loss.chunks > 1)
    model = 3 * (encode + pairs)
    return StepFlops(model, model + repeated)


def account(arch: Architecture, config: ConfigDict, device_kind: str) -> dict[str, Any]:
    """What the operations per second of a run are counted from, for its `run.json`.

    Operations a step for each padded length of text, how often an example is encoded, and the peak that a
    utilisation is of: None where `CHIPS` has none for this kind of device.
    """
    here = chip(device_kind)
    return {
        "per_step": {
            str(tokens): of_step(arch, config, tokens).model for tokens in sorted(config.text.buckets)
        },
        "image_encodes": image_encodes(config),
        "text_encodes": config.data.captions,
        "chip": here.name if here else device_kind,
        "peak_per_second": here.flops if here else None,
    }
