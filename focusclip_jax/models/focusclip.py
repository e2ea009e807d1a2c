"""FocusCLIP: two towers and Subject-Focused Attention (paper sections 3.1 to 3.3).

Training looks at three views of an example: the image, the same image with the subject
highlighted, and the text. Inference needs the image and the text only, so a trained FocusCLIP
costs what CLIP costs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from focusclip_jax.models.text import TextShape, TextTower
from focusclip_jax.models.vit import ImageShape, ImageTower, patchify

IMAGE, TEXT, FOCUS = "image", "text", "focus"

# CLIP's, the 2023 code's (which never learns it) and SigLIP's.
INITIAL_LOG_SCALE = {"infonce": math.log(1 / 0.07), "ntxent": math.log(1 / 0.5), "sigmoid": math.log(10)}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Everything that decides a model's parameters and what it computes.

    embedding: D of the joint space.
    focus_tower: "shared" (the image tower encodes both views) or "separate".
    focus_view: "dim" (the paper), "replace", "blur", "swap", "crop" or "tokens", see `second_view`.
    alpha: "sigmoid" (α stays in (0, 1)) or "unbounded" (the 2023 code).
    initial_alpha: where α starts: 0.5 in the paper.
    pixel_mean, pixel_std: of [0, 1] RGB; (0, 0, 0) and (1, 1, 1) leave pixels alone, as the 2023 code did.
    loss: "infonce", "ntxent" or "sigmoid"; decides the initial temperature.
    dtype: "float32" or "bfloat16" for activations; parameters and losses are float32.
    """

    image: ImageShape
    text: TextShape
    embedding: int
    focus_tower: str = "shared"
    alpha: str = "sigmoid"
    initial_alpha: float = 0.5
    focus_view: str = "dim"
    pixel_mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    pixel_std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    loss: str = "infonce"
    dtype: str = "float32"


class FocusCLIP(nnx.Module):
    """The model. Embeddings are float32 and L2-normalised."""

    def __init__(self, architecture: Architecture, *, rngs: nnx.Rngs):
        a = self.architecture = architecture
        self.image = ImageTower(a.image, embedding=a.embedding, rngs=rngs)
        if a.focus_tower == "separate":
            self.focus = ImageTower(a.image, embedding=a.embedding, rngs=rngs)
        self.text = TextTower(a.text, embedding=a.embedding, rngs=rngs)
        start = a.initial_alpha
        raw = math.log(start / (1 - start)) if a.alpha == "sigmoid" else start
        self.alpha_parameter = nnx.Param(jnp.float32(raw))
        self.log_scale = nnx.Param(jnp.float32(INITIAL_LOG_SCALE[a.loss]))
        self.logit_bias = nnx.Param(jnp.float32(-10.0 if a.loss == "sigmoid" else 0.0))

    @property
    def alpha(self) -> jax.Array:
        """How much of the background stays: 1 leaves the image as it is, 0 blackens all but the subject."""
        raw = self.alpha_parameter[...]
        return jax.nn.sigmoid(raw) if self.architecture.alpha == "sigmoid" else raw

    @jax.named_scope("highlight")
    def highlight(
        self, image: jax.Array, heatmap: jax.Array, background: jax.Array | None = None
    ) -> jax.Array:
        """The second view, see `second_view`. (B, H, W, 3), (B, H, W) → like the image."""
        return second_view(image, heatmap, self.alpha, self.architecture, background)

    def token_weights(self, heatmap: jax.Array) -> jax.Array | None:
        """With "tokens" the weight of each patch, the mean of `kept` over its pixels. (B, H, W) → (B, P)."""
        if self.architecture.focus_view != "tokens":
            return None
        kept_here = kept(heatmap, self.alpha)[..., None]
        return patchify(kept_here, self.architecture.image.patch_size).mean(axis=-1)

    def encode_image(self, image: jax.Array, weights: jax.Array | None = None) -> jax.Array:
        """image: (B, H, W, 3) in [0, 1] → (B, D). weights: (B, P) of patches, see `ImageTower`."""
        return l2_normalise(self.image(self.normalise(image), weights))

    def encode_focus(
        self, image: jax.Array, heatmap: jax.Array, background: jax.Array | None = None
    ) -> jax.Array:
        """The second view. image: (B, H, W, 3) in [0, 1], heatmap: (B, H, W) in [0, 1] → (B, D).

        background: like the image; only "swap" shows it, see `second_view`.
        """
        tower = self.focus if self.architecture.focus_tower == "separate" else self.image
        shown = self.normalise(self.highlight(image, heatmap, background))
        return l2_normalise(tower(shown, self.token_weights(heatmap)))

    def encode_text(self, tokens: jax.Array, lengths: jax.Array) -> jax.Array:
        """tokens: int32 (B, T), lengths: int32 (B,) → (B, D)."""
        return l2_normalise(self.text(tokens, lengths, jnp.dtype(self.architecture.dtype)))

    def views(self, batch: Mapping[str, jax.Array], focus: bool) -> dict[str, jax.Array]:
        """All embeddings of a batch: "image" (B, D), "text" (B, C, D) and, if asked for, "focus" (B, D)."""
        image = unit_pixels(batch["image"])
        if focus:
            heatmap, background = heatmaps(batch), batch.get("background")
        tokens, lengths = batch["tokens"], batch["lengths"]
        captions = self.encode_text(tokens.reshape(-1, tokens.shape[-1]), lengths.reshape(-1))
        embeddings = {TEXT: captions.reshape(*lengths.shape, -1)}
        if focus and self.architecture.focus_tower == "shared":
            # One pass over both views, interleaved so that a batch sharded over devices stays where it is.
            pair = jnp.stack([image, self.highlight(image, heatmap, background)], axis=1)
            weights = self.token_weights(heatmap)
            if weights is not None:
                weights = jnp.stack([jnp.ones_like(weights), weights], axis=1).reshape(-1, weights.shape[-1])
            both = self.encode_image(pair.reshape(-1, *image.shape[1:]), weights)
            both = both.reshape(image.shape[0], 2, -1)
            return embeddings | {IMAGE: both[:, 0], FOCUS: both[:, 1]}
        embeddings[IMAGE] = self.encode_image(image)
        if focus:
            embeddings[FOCUS] = self.encode_focus(image, heatmap, background)
        return embeddings

    def normalise(self, image: jax.Array) -> jax.Array:
        """What a tower is given. image: (B, H, W, 3) in [0, 1] → the same shape, in the compute dtype."""
        a = self.architecture
        mean = jnp.asarray(a.pixel_mean, jnp.float32)
        std = jnp.asarray(a.pixel_std, jnp.float32)
        return ((image - mean) / std).astype(a.dtype)


def heatmaps(batch: Mapping[str, jax.Array]) -> jax.Array:
    """Those of a batch, drawn here where the loader left that to the device: (B, H, W)."""
    if "heatmap" in batch:
        return batch["heatmap"]
    height, width = batch["image"].shape[1:3]
    return drawn(batch["gaussians"], (height, width))


@jax.named_scope("highlight")
def drawn(gaussians: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Heatmaps float32 (B, H, W), each the sum of its Gaussians, at most 1: `data.heatmaps.draw` on a device.

    gaussians: (B, G, 5): x, y, σ along x, σ along y, height; those of height 0 fill up. size: (H, W).
    """
    x, y, across, down, height = (gaussians[..., i, None] for i in range(5))

    def profiles(middle, sigma, count):  # (B, G, count)
        return jnp.exp(-0.5 * jnp.square((jnp.arange(count, dtype=jnp.float32) - middle) / sigma))

    rows, columns = height * profiles(y, down, size[0]), profiles(x, across, size[1])
    # GPUs and TPUs would round the factors to ten bits and fewer.
    total = jnp.einsum("bgh,bgw->bhw", rows, columns, precision=jax.lax.Precision.HIGHEST)
    return jnp.minimum(total, 1.0)


def kept(heatmap: jax.Array, alpha: jax.Array | float) -> jax.Array:
    """How much of each pixel stays: α + (1 − α) · heatmap. (B, H, W) → the same shape."""
    return alpha + (1.0 - alpha) * heatmap


def second_view(
    image: jax.Array,
    heatmap: jax.Array,
    alpha: jax.Array | float,
    architecture: Architecture,
    background: jax.Array | None = None,
) -> jax.Array:
    """The image highlighted. image: (B, H, W, 3) in [0, 1], heatmap: (B, H, W) in [0, 1] → like the image.

    "dim": image · k with k = α + (1 − α) · heatmap (the paper). "replace", "blur" and "swap" add (1 − k)
    times `pixel_mean`, the blurred image or another image's background: the given one, (B, H, W, 3), or
    `next_background`, which for a batch of one row is its own. "crop": the subject's rectangle alone,
    enlarged; α takes no part. "tokens": the image as it is; its patches are weighed, see
    `FocusCLIP.token_weights`.
    """
    view = architecture.focus_view
    if view == "crop":
        return crop_to_subject(image, heatmap)
    if view == "tokens":
        return image
    keep = kept(heatmap, alpha)[..., None]
    if view == "replace":
        return image * keep + jnp.asarray(architecture.pixel_mean, jnp.float32) * (1.0 - keep)
    if view == "blur":
        return image * keep + blurred(image) * (1.0 - keep)
    if view == "swap":
        if background is None:
            background = next_background(image, heatmap)
        return image * keep + background * (1.0 - keep)
    return image * keep


def next_background(image: jax.Array, heatmap: jax.Array) -> jax.Array:
    """For each row what lies behind the next row's subject, who is painted over with the mean colour of it.

    The last row gets the first one's. (B, H, W, 3), (B, H, W) → (B, H, W, 3).
    """
    behind = 1.0 - heatmap[..., None]
    colour = (image * behind).sum(axis=(1, 2), keepdims=True) / (
        behind.sum(axis=(1, 2), keepdims=True) + 1e-6
    )
    return jnp.roll(image * behind + colour * (1.0 - behind), -1, axis=0)


def crop_to_subject(image: jax.Array, heatmap: jax.Array) -> jax.Array:
    """The smallest rectangle with all of the heatmap that is at least 0.5, resampled to the whole size.

    Of a heatmap that is nowhere so high, the whole image. (B, H, W, 3), (B, H, W) → (B, H, W, 3), bilinear.
    """
    high = heatmap >= 0.5

    def axis(along):  # (B, n): does this row or column hold some of the subject?
        length = along.shape[1]
        along = along | ~along.any(axis=1, keepdims=True)
        first = jnp.argmax(along, axis=1)
        last = length - jnp.argmax(along[:, ::-1], axis=1)
        at = first[:, None] + (jnp.arange(length) + 0.5) / length * (last - first)[:, None] - 0.5
        at = jnp.clip(at, 0.0, length - 1.0)
        return jnp.maximum(0.0, 1.0 - jnp.abs(at[..., None] - jnp.arange(length)))  # (B, out, in)

    rows, columns = axis(high.any(axis=2)), axis(high.any(axis=1))
    return jnp.einsum("bij,bkl,bjlc->bikc", rows, columns, image)


def blurred(image: jax.Array) -> jax.Array:
    """A Gaussian blur with a standard deviation of an eighth of each side. (B, H, W, 3) → (B, H, W, 3)."""

    def weights(length):  # (out, in), rows of sum 1
        distance = jnp.arange(length)[:, None] - jnp.arange(length)
        weights = jnp.exp(-0.5 * jnp.square(distance / (length / 8)))
        return weights / weights.sum(axis=1, keepdims=True)

    rows, columns = weights(image.shape[1]), weights(image.shape[2])
    return jnp.einsum("ij,kl,bjlc->bikc", rows, columns, image)


def unit_pixels(image: jax.Array) -> jax.Array:
    """uint8 (B, H, W, 3) → float32 in [0, 1]."""
    return image.astype(jnp.float32) / 255.0


def l2_normalise(x: jax.Array) -> jax.Array:
    """Rows of length one, float32. (…, D) → (…, D)."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-12))
