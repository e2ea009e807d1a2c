"""The optimizer, its schedule, and what the rules of `config.optimizer` say about each parameter."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from focusclip_jax.errors import UserError
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
    """From gradients to updates: p ← p − lr · rate · (direction + weight_decay · decay · p).

    direction: of Adam, of SGD with momentum (paper) or of the config's own optimizer, for gradients clipped
    to a global norm. rate and decay: factors of the first rule that matches the parameter's name. Frozen
    parameters take no part: no update, no share of the norm, no moments.

    `init` and `update` raise UserError as `trainable` does.
    """
    rate = schedule(config, steps)
    if config.custom is not None:
        direction = config.custom(rate)
    elif config.name == "sgd":
        direction = optax.sgd(rate, momentum=config.momentum)
    else:
        direction = optax.adam(rate, config.b1, config.b2)
    trained = optax.chain(optax.clip_by_global_norm(config.clip_norm), direction, by_rules(config, rate))

    def labels(params):
        return jax.tree.map(lambda train: "trained" if train else "frozen", trainable(config, params))

    return optax.partition({"trained": trained, "frozen": optax.set_to_zero()}, labels)


def by_rules(config: ConfigDict, rate: optax.Schedule) -> optax.GradientTransformation:
    """Weight decay for updates that the learning rate has scaled already, then the rules' factors."""

    def init(params):
        return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))

    def update(updates, state, params):
        step_decay = config.weight_decay * rate(state.count)

        def one(path, change, value):
            rate_factor, decay_factor = _factors(config.rules, name_of(path))
            if config.weight_decay and decay_factor:
                change = change - step_decay * decay_factor * value
            return change if rate_factor == 1 else rate_factor * change

        changes = jax.tree_util.tree_map_with_path(one, updates, params)
        return changes, optax.ScaleByScheduleState(optax.safe_increment(state.count))

    return optax.GradientTransformation(init, update)


def trainable(config: ConfigDict, params):
    """True or False for each parameter, in the tree of `params` (arrays or their shapes): False is frozen.

    Raises UserError where a rule is left without a parameter, a parameter without a rule, or none to train.
    """
    names = [name_of(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    _check_use(config.rules, names)
    result = jax.tree_util.tree_map_with_path(
        lambda path, _: _factors(config.rules, name_of(path))[0] != 0, params
    )
    if not any(jax.tree.leaves(result)):
        raise UserError("--config.optimizer.rules: they freeze every parameter; give one a rate above 0")
    return result


def _check_use(rules, names: list[str]) -> None:
    taken = [_first_match(rules, name) for name in names]
    for name, index in zip(names, taken, strict=True):
        if index is None:
            raise UserError(
                f'--config.optimizer.rules: none matches {name}; end with ("", 1.0, 0.0) for all others'
            )
    for index, rule in enumerate(rules):
        if index not in taken:
            raise UserError(
                f"--config.optimizer.rules: {rule} matches no parameter that an earlier rule left; "
                f"a name is, for example, {names[0]}"
            )


def _factors(rules, name: str) -> tuple[float, float]:
    """The factors of learning rate and weight decay of a parameter that some rule covers."""
    _, rate, decay = rules[_first_match(rules, name)]
    return rate, decay


def _first_match(rules, name: str) -> int | None:
    return next((index for index, rule in enumerate(rules) if re.search(rule[0], name)), None)
