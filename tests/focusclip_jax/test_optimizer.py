"""What a rule says about a parameter is what happens to it, and every setting of the optimizer counts."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from focusclip_jax import config as configs
from focusclip_jax import optimizer, sharding, state
from focusclip_jax import workdir as workdirs
from focusclip_jax.errors import UserError
from focusclip_jax.sharding import name_of

FREEZE_IMAGE = ("^image/", 0.0, 0.0)
DEFAULTS = configs.default().optimizer.rules


def random_like(tree, seed):
    chance = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(chance.normal(size=leaf.shape), jnp.float32), tree)


@pytest.fixture
def params():
    """Parameters under names that a model has; none is zero."""
    blocks = {"qkv_kernel": (2, 8, 24), "qkv_bias": (2, 24)}
    tower = {"blocks": blocks, "norm_scale": (8,), "norm_bias": (8,), "position_embedding": (5, 8)}
    shapes = {"image": tower, "text": {**tower, "token_embedding": (64, 8)}, "log_scale": ()}
    return random_like(
        jax.tree.map(lambda shape: np.empty(shape), shapes, is_leaf=lambda s: type(s) is tuple), 0
    )


def updated(transformation, params, steps=4):
    """The parameters after some steps with random gradients, whose norm the default clips."""
    carry = transformation.init(params)

    @jax.jit
    def step(params, carry, gradients):
        updates, carry = transformation.update(gradients, carry, params)
        return optax.apply_updates(params, updates), carry

    for seed in range(1, steps + 1):
        params, carry = step(params, carry, random_like(params, seed))
    return params


def assert_same(ours, theirs, tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance), ours, theirs)


def leaf_names(tree):
    return [name_of(path) for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]


# --- Schedules


@pytest.mark.parametrize(
    ("kind", "warmup", "expected"),
    [
        ("cosine", 10, {0: 0.0, 5: 0.25, 10: 0.5, 60: 0.25, 110: 0.0}),
        ("constant", 10, {0: 0.0, 5: 0.25, 10: 0.5, 60: 0.5, 110: 0.5}),
        ("cosine", 0, {0: 0.5, 55: 0.25, 110: 0.0}),
        ("constant", 0, {0: 0.5, 110: 0.5}),
        # All of a run shorter than its warm-up is one, but for the last step.
        ("constant", 200, {0: 0.0, 109: 0.5}),
    ],
)
def test_the_learning_rate_rises_over_the_warm_up_and_then_follows_the_schedule(kind, warmup, expected):
    config = configs.default().optimizer
    config.update(learning_rate=0.5, schedule=kind, warmup_steps=warmup)
    rate = optimizer.schedule(config, 110)
    assert {step: pytest.approx(float(rate(step)), abs=1e-7) for step in expected} == expected


# --- Updates


def test_the_defaults_are_adamw_with_decay_on_kernels_and_embeddings(params):
    config = configs.default().optimizer
    config.update(learning_rate=0.01, warmup_steps=1)

    def decays(tree):
        return jax.tree_util.tree_map_with_path(
            lambda path, _: name_of(path).endswith(("_kernel", "token_embedding", "position_embedding")), tree
        )

    plain = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(optimizer.schedule(config, 10), 0.9, 0.98, weight_decay=0.1, mask=decays),
    )
    # A float32 rounding apart after each step; what decays in one step is 1,000 times that.
    assert_same(updated(optimizer.make(config, 10), params), updated(plain, params), tolerance=5e-7)


def test_sgd_is_the_papers_clip_and_momentum(params):
    config = configs.default().optimizer
    config.update(name="sgd", learning_rate=0.01, schedule="constant", weight_decay=0.0)
    plain = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.01, momentum=0.9))
    assert_same(updated(optimizer.make(config, 10), params), updated(plain, params), tolerance=0)


@pytest.mark.parametrize("name", ["sgd", "adamw", "custom"])
def test_a_rule_scales_the_rate_and_the_decay_of_every_optimizer(name):
    """One step of p − lr · rate · (direction + weight_decay · decay · p), written out."""
    config = configs.default().optimizer
    config.update(learning_rate=0.1, schedule="constant", weight_decay=0.5, clip_norm=math.inf)
    config.update(
        name="sgd" if name == "custom" else name, custom=optax.sign_sgd if name == "custom" else None
    )
    config.rules = (("^a$", 1.0, 1.0), ("^b$", 0.1, 3.0), ("^c$", 2.0, 0.0), ("", 0.0, 1.0))
    values = {key: jnp.array([4.0, -2.0]) for key in "abcd"}
    gradients = {key: jnp.array([0.5, -3.0]) for key in "abcd"}
    transformation = optimizer.make(config, 10)
    updates, _ = transformation.update(gradients, transformation.init(values), values)
    got = optax.apply_updates(values, updates)
    # In its first step Adam divides a gradient by its own size.
    direction = gradients["a"] if name == "sgd" else np.array([1.0, -1.0])
    p = values["a"]
    expected = {
        "a": p - 0.1 * (direction + 0.5 * p),
        "b": p - 0.1 * 0.1 * (direction + 0.5 * 3 * p),
        "c": p - 0.1 * 2 * direction,
        "d": p,
    }
    assert_same(got, expected, tolerance=1e-6)


def test_the_decay_follows_the_schedule():
    config = configs.default().optimizer
    config.update(
        learning_rate=0.1, warmup_steps=2, schedule="constant", weight_decay=0.5, rules=(("", 1.0, 1.0),)
    )
    transformation = optimizer.make(config, 10)
    values, zero = {"a": jnp.ones(1)}, {"a": jnp.zeros(1)}
    carry, seen = transformation.init(values), []
    for _ in range(4):
        updates, carry = transformation.update(zero, carry, values)
        seen.append(float(updates["a"][0]))
    assert seen == pytest.approx([0.0, -0.025, -0.05, -0.05])


# --- Freezing


def test_a_frozen_tower_has_no_moments_and_does_not_move(params):
    config = configs.default().optimizer
    config.rules = (FREEZE_IMAGE, *DEFAULTS)
    transformation = optimizer.make(config, 10)
    names = leaf_names(transformation.init(params))
    assert not [name for name in names if "/image/" in name]
    assert len([name for name in names if name.endswith("/text/blocks/qkv_kernel")]) == 2  # both moments

    # The gradients that `updated` makes up for the frozen tower are not zero.
    after = updated(transformation, params)
    jax.tree.map(np.testing.assert_array_equal, after["image"], params["image"])


def test_a_frozen_tower_has_no_share_in_the_norm_that_is_clipped(params):
    config = configs.default().optimizer
    config.update(name="sgd", learning_rate=1.0, rules=(FREEZE_IMAGE, *DEFAULTS))
    after = updated(optimizer.make(config, 10), params, steps=1)
    config.rules = DEFAULTS
    gradients = random_like(params, 1)
    rest = {name: value for name, value in params.items() if name != "image"}
    alone = optimizer.make(config, 10)
    updates, _ = alone.update({name: gradients[name] for name in rest}, alone.init(rest), rest)
    assert_same({name: after[name] for name in rest}, optax.apply_updates(rest, updates), tolerance=1e-6)


def test_what_is_trainable_is_known_from_shapes_alone(params):
    config = configs.default().optimizer
    config.rules = (FREEZE_IMAGE, *DEFAULTS)
    shapes = jax.eval_shape(lambda: params)
    found = optimizer.trainable(config, shapes)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    assert {type(leaf) for leaf in jax.tree.leaves(found)} == {bool}
    assert not any(jax.tree.leaves(found["image"]))
    assert all(jax.tree.leaves({name: value for name, value in found.items() if name != "image"}))


def test_the_first_rule_that_matches_wins(params):
    config = configs.default().optimizer
    config.rules = (("^text/norm_scale$", 1.0, 0.0), ("^text/", 0.0, 0.0), ("", 1.0, 1.0))
    found = optimizer.trainable(config, params)
    assert found["text"]["norm_scale"]
    assert not found["text"]["norm_bias"]
    assert found["image"]["norm_bias"]


def test_on_eight_devices_moments_are_split_like_their_parameters_and_a_frozen_tower_has_none():
    config = configs.default()
    config.data.image_size = 16
    config.model.patch_size = 8
    for tower in (config.model.image, config.model.text):
        tower.update(depth=2, width=32, heads=4, mlp=64)
    config.optimizer.rules = (FREEZE_IMAGE, *DEFAULTS)
    mesh = sharding.make_mesh(2, 4)
    architecture = state.architecture(config, 64)
    transformation = optimizer.make(config.optimizer, config.steps)
    abstract = state.abstract(architecture, transformation, mesh)
    places = {
        name_of(path): leaf.sharding.spec
        for path, leaf in jax.tree_util.tree_flatten_with_path(abstract.optimizer)[0]
    }
    assert not [name for name in places if "/image/" in name]
    moments = [spec for name, spec in places.items() if name.endswith("/text/blocks/up_kernel")]
    assert moments == [PartitionSpec(None, None, "fsdp")] * 2

    _, after = jax.eval_shape(transformation.update, abstract.params, abstract.optimizer, abstract.params)
    assert jax.tree.structure(after) == jax.tree.structure(abstract.optimizer)


# --- Mistakes


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((("^imaeg/", 0.0, 0.0), *DEFAULTS), r"\('\^imaeg/', 0\.0, 0\.0\) matches no parameter"),
        (
            (*DEFAULTS, ("^text/", 0.0, 0.0)),
            r"\('\^text/', 0\.0, 0\.0\) matches no parameter that an earlier",
        ),
        ((("kernel$", 1.0, 1.0),), "none matches image/blocks/qkv_bias"),
        ((("", 0.0, 0.0),), "freeze every parameter"),
    ],
)
def test_rules_that_do_not_fit_the_parameters_are_one_sentence(params, rules, expected):
    config = configs.default().optimizer
    config.rules = rules
    with pytest.raises(UserError, match=expected) as caught:
        optimizer.make(config, 10).init(params)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "rule",
    [
        ("", 1.0),
        ("", 1.0, 1.0, 1.0),
        "image",
        ("(", 1.0, 1.0),
        (1.0, 1.0, 1.0),
        ("", -1.0, 1.0),
        ("", 1.0, "0.1"),
        ("", math.inf, 1.0),
        ("", math.nan, 1.0),
    ],
)
def test_a_malformed_rule_is_one_sentence(rule):
    config = configs.default()
    config.optimizer.rules = (rule, ("", 1.0, 1.0))
    with pytest.raises(UserError, match=r"config\.optimizer\.rules: .* is no rule; expected"):
        configs.check(config, config)


@pytest.mark.parametrize("value", ["optax.lion", 3, optax.sgd(0.1)])
def test_only_a_function_can_be_the_custom_optimizer(value):
    config = configs.default()
    config.optimizer.custom = value
    with pytest.raises(UserError, match=r"optimizer\.custom=.*expected a function or functools\.partial"):
        configs.check(config, config)


def test_a_custom_optimizer_on_the_command_line_is_one_sentence(run_module):
    done = run_module(
        "focusclip_jax",
        "prepare",
        "--config=configs/focusclip_tiny.py",
        "--config.optimizer.custom=optax.lion",
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "error: --config.optimizer.custom='optax.lion': expected a function or functools.partial, "
        "which only a config file can hold"
    ]


# --- Other optimizers, and what the workdir records


def test_a_custom_optimizer_takes_the_place_of_the_named_one(params):
    config = configs.default().optimizer
    config.update(custom=functools.partial(optax.lion, b1=0.8), weight_decay=0.0, warmup_steps=2)
    rate = optimizer.schedule(config, 10)
    plain = optax.chain(optax.clip_by_global_norm(1.0), optax.lion(rate, b1=0.8))
    assert_same(updated(optimizer.make(config, 10), params), updated(plain, params), tolerance=0)


@pytest.mark.parametrize(
    ("custom", "recorded"),
    [
        (optax.lion, "optax.lion"),
        (functools.partial(optax.lion, b1=0.95), "functools.partial(optax.lion, b1=0.95)"),
        (
            functools.partial(optax.lion, mask=random_like),
            f"functools.partial(optax.lion, mask={__name__}.random_like)",
        ),
    ],
)
def test_rules_and_custom_optimizer_are_recorded_readably(tmp_path, custom, recorded):
    config = configs.default()
    config.optimizer.update(custom=custom, rules=(FREEZE_IMAGE, *DEFAULTS))
    configs.check(config, config)
    path = tmp_path / "config.json"
    path.write_text(configs.to_json(config))
    read = configs.from_json(path).optimizer
    assert read.custom == recorded
    assert read.rules == config.optimizer.rules


def test_a_resume_with_another_optimizer_or_other_rules_is_one_sentence(tmp_path, capsys):
    workdir = workdirs.create(tmp_path / "run")
    config = configs.default()
    config.optimizer.custom = functools.partial(optax.lion, b1=0.95)
    workdirs.begin(workdir, config, "shards", "tokenizer")
    config.optimizer.custom = functools.partial(optax.lion, b1=0.95)
    workdirs.begin(workdir, config, "shards", "tokenizer")
    assert capsys.readouterr().out == ""
    config.optimizer.custom = optax.lion
    with pytest.raises(UserError, match=r"optimizer\.custom=functools.*b1=0\.95\), not optax\.lion"):
        workdirs.begin(workdir, config, "shards", "tokenizer")
    config.optimizer.custom = functools.partial(optax.lion, b1=0.95)
    config.optimizer.rules = (FREEZE_IMAGE, *DEFAULTS)
    with pytest.raises(UserError, match=r"optimizer\.rules="):
        workdirs.begin(workdir, config, "shards", "tokenizer")
