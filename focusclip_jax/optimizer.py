"""The optimizer and its schedule, from the config."""

from __future__ import annotations

import jax
import optax
from ml_collections import ConfigDict

from focusclip_jax.sharding import name_of


def schedule(config: ConfigDict, steps: int) -> optax.Schedule:
    """Linear warm-up, then cosine to zero or constant."""
    peak, warmup = config.learning_rate, min(config.warmup_steps, steps - 1)
    if config.schedule == "constant":
        rest = optax.constant_schedule(peak)
    else:
        rest = optax.cosine_decay_schedule(peak, steps - warmup)
    return (
        optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), rest], [warmup]) if warmup else rest
    )


def make(config: ConfigDict, steps: int) -> optax.GradientTransformation:
    """Gradient clipping, then AdamW (decay on kernels and embeddings) or SGD with momentum (paper)."""
    rate = schedule(config, steps)
    if config.name == "sgd":
        update = optax.sgd(rate, momentum=config.momentum)
    else:
        update = optax.adamw(rate, config.b1, config.b2, weight_decay=config.weight_decay, mask=decays)
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), update)


def decays(params):
    """True for the parameters that weight decay applies to: kernels and embeddings, not biases and scales."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: name_of(path).endswith(("_kernel", "token_embedding", "position_embedding")), params
    )
