"""The transformer that both towers are made of.

All layers live in one set of arrays with a leading layer axis L and run under `lax.scan`, so that
compile time does not grow with depth and one rule shards a kernel of every layer.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from focusclip_jax.errors import UserError
from focusclip_jax.sharding import constrain_rows

normal = jax.nn.initializers.normal


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes and variants of one transformer.

    norm: "pre" (ViT, CLIP) or "post" (BERT).
    activation: "gelu" (by the error function) or "quick_gelu" (OpenAI's CLIP).
    causal: a token attends to itself and those before it only (CLIP's text tower).
    attention: "matmul" (plain matrix products, the fastest on CPU), or an implementation of
        `jax.nn.dot_product_attention`: "xla" or "cudnn".
    remat: what of each layer the backward pass computes again instead of keeping it: "none", "full" (all but
        the layer's input), or "dots" (all but products with kernels: only attention, norms and activations
        twice, for more memory than "full").
    unroll: write all layers out instead of looping: faster on CPU, slower to compile.
    """

    depth: int
    width: int
    heads: int
    mlp: int
    norm: str = "pre"
    norm_epsilon: float = 1e-6
    activation: str = "gelu"
    causal: bool = False
    attention: Literal["matmul", "xla", "cudnn"] = "matmul"
    remat: Literal["none", "full", "dots"] = "none"
    unroll: bool = False


# Products without batch dimensions are those with kernels; attention's have them.
KEPT = {"full": None, "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable}


class Transformer(nnx.Module):
    """`depth` blocks of self-attention and MLP. (B, T, width) → (B, T, width), in the dtype of the input."""

    def __init__(self, shape: Shape, *, rngs: nnx.Rngs):
        self.shape = shape
        layers, width, mlp = shape.depth, shape.width, shape.mlp
        # CLIP's initial scales: the residual branches shrink with depth.
        attention_std = width**-0.5
        residual_std = attention_std * (2 * layers) ** -0.5

        def kernel(std, *dims):
            return nnx.Param(normal(std)(rngs.params(), (layers, *dims), jnp.float32))

        def vector(value, dim):
            return nnx.Param(jnp.full((layers, dim), value, jnp.float32))

        self.attention_norm_scale = vector(1.0, width)
        self.attention_norm_bias = vector(0.0, width)
        self.qkv_kernel = kernel(attention_std, width, 3 * width)
        self.qkv_bias = vector(0.0, 3 * width)
        self.out_kernel = kernel(residual_std, width, width)
        self.out_bias = vector(0.0, width)
        self.mlp_norm_scale = vector(1.0, width)
        self.mlp_norm_bias = vector(0.0, width)
        self.up_kernel = kernel((2 * width) ** -0.5, width, mlp)
        self.up_bias = vector(0.0, mlp)
        self.down_kernel = kernel(residual_std, mlp, width)
        self.down_bias = vector(0.0, width)

    def __call__(self, x: jax.Array, lengths: jax.Array | None = None) -> jax.Array:
        """x: (B, T, width). lengths: (B,), the tokens of each row that may be attended to; None for all."""
        layers = nnx.to_pure_dict(nnx.state(self, nnx.Param))

        def body(x, layer):
            return constrain_rows(block(x, layer, lengths, self.shape)), None

        if self.shape.remat != "none":
            body = jax.checkpoint(body, policy=KEPT[self.shape.remat])
        return jax.lax.scan(body, x, layers, unroll=self.shape.unroll)[0]


def block(x: jax.Array, layer: dict[str, jax.Array], lengths: jax.Array | None, shape: Shape) -> jax.Array:
    """One layer: self-attention and MLP, each with its residual and its norm. (B, T, D) → (B, T, D)."""

    def norm(x, name):
        return layer_norm(x, layer[f"{name}_norm_scale"], layer[f"{name}_norm_bias"], shape.norm_epsilon)

    def attend(x):
        qkv = dense(x, layer["qkv_kernel"], layer["qkv_bias"])
        mixed = attention(qkv, lengths, shape)
        return dense(mixed, layer["out_kernel"], layer["out_bias"])

    def mlp(x):
        hidden = ACTIVATIONS[shape.activation](dense(x, layer["up_kernel"], layer["up_bias"]))
        return dense(hidden, layer["down_kernel"], layer["down_bias"])

    if shape.norm == "post":
        x = norm(x + attend(x), "attention")
        return norm(x + mlp(x), "mlp")
    x = x + attend(norm(x, "attention"))
    return x + mlp(norm(x, "mlp"))


def attention(qkv: jax.Array, lengths: jax.Array | None, shape: Shape) -> jax.Array:
    """Multi-head self-attention. qkv: (B, T, 3·D), lengths: (B,) or None → (B, T, D).

    Raises UserError for "cudnn" where there is no GPU.
    """
    batch, tokens, triple = qkv.shape
    q, k, v = jnp.moveaxis(qkv.reshape(batch, tokens, 3, shape.heads, triple // 3 // shape.heads), 2, 0)
    if shape.attention == "matmul":
        mixed = _matmul_attention(q, k, v, lengths, shape.causal)
    else:
        if shape.attention == "cudnn" and jax.default_backend() != "gpu":
            raise UserError(
                f"model.attention=cudnn: it runs on NVIDIA GPUs only, and this is a {jax.default_backend()}; "
                "choose xla or matmul, which compute the same"
            )
        mixed = jax.nn.dot_product_attention(
            q,
            k,
            v,
            key_value_seq_lengths=lengths,
            is_causal=shape.causal,
            implementation=shape.attention,
        )
    return mixed.reshape(batch, tokens, triple // 3)


def _matmul_attention(q, k, v, lengths, causal):
    """(B, T, heads, d) each. Heads go before tokens: 2.6 times faster on CPU than the library's order."""
    q, k, v = (jnp.swapaxes(a, 1, 2) for a in (q, k, v))
    logits = (q * q.shape[-1] ** -0.5) @ jnp.swapaxes(k, 2, 3)
    logits = logits.astype(jnp.float32)
    at = jnp.arange(k.shape[2])
    keep = True if lengths is None else at < lengths[:, None, None, None]
    if causal:
        keep &= at <= at[:, None]
    if keep is not True:
        logits = jnp.where(keep, logits, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.swapaxes(weights @ v, 1, 2)


def dense(x: jax.Array, kernel: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """x @ kernel + bias over the last axis, as one 2-D product: XLA's CPU back end is fastest at those."""
    rows = x.reshape(-1, x.shape[-1]) @ kernel.astype(x.dtype)
    rows = rows.reshape(*x.shape[:-1], kernel.shape[-1])
    return rows if bias is None else rows + bias.astype(x.dtype)


def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    """Layer normalisation over the last axis, computed in float32 whatever the dtype of x."""
    wide = x.astype(jnp.float32)
    mean = wide.mean(-1, keepdims=True)
    variance = jnp.square(wide - mean).mean(-1, keepdims=True)
    return ((wide - mean) * jax.lax.rsqrt(variance + epsilon) * scale + bias).astype(x.dtype)


def gelu(x: jax.Array) -> jax.Array:
    """GELU by the error function. Written out: `jax.nn.gelu(approximate=False)` is half as fast on CPU."""
    return 0.5 * x * (1.0 + jax.lax.erf(x * 2**-0.5))


def quick_gelu(x: jax.Array) -> jax.Array:
    """x · sigmoid(1.702 x), the approximation of GELU that OpenAI trained CLIP with."""
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS = {"gelu": gelu, "quick_gelu": quick_gelu}
