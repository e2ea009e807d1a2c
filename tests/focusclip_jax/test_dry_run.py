"""What `dry-run` says of a program is what the program does."""

from __future__ import annotations

import importlib.util
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from focusclip_jax import config as configs
from focusclip_jax import dry_run, flops, sharding, state

LAYERS, WIDTH, MLP, VOCABULARY = 3, 32, 64, 96


def small_config(**changes):
    config = configs.default()
    config.data.image_size = 16
    config.text.update(context=24, buckets=(24,), vocabulary=VOCABULARY)
    config.model.patch_size = 8
    config.model.embedding = 16
    for tower in (config.model.image, config.model.text):
        tower.update(depth=LAYERS, width=WIDTH, heads=4, mlp=MLP)
    config.batch_size = 56
    config.update_from_flattened_dict(changes)
    return config


def compiled(data, fsdp, **changes):
    config = small_config(**changes)
    return dry_run.compile_step(
        config, state.architecture(config, VOCABULARY), sharding.make_mesh(data, fsdp, jax.devices()[:8])
    )


def gathered(text):
    """Shapes that an all-gather of the program makes, as tuples."""
    lines = [line for line in text.splitlines() if re.search(r" all-gather(-start)?\(", line)]
    return {
        tuple(int(d) for d in dims.split(",") if d)
        for line in lines
        for dims in re.findall(r"\w\[([\d,]*)\]", line.split(" all-gather")[0])
    }


def test_no_device_ever_holds_the_similarities_of_the_whole_batch():
    """The B×B logits exist in rows only: the embeddings are gathered, (56, 16), and nothing larger."""
    text = compiled(8, 1).text
    assert "[56,56]" not in text
    assert "[7,56]" in text
    assert max(np.prod(shape) for shape in gathered(text)) <= 56 * 16


def test_split_parameters_are_gathered_one_layer_at_a_time_and_activations_stay():
    program = compiled(2, 4, **{"model.remat": "full"})
    shapes = gathered(program.text)
    assert (WIDTH, 3 * WIDTH) in shapes or (1, WIDTH, 3 * WIDTH) in shapes
    largest = max(VOCABULARY * WIDTH, 3 * 8 * 8 * WIDTH)  # the token table or the patch kernel
    for shape in shapes:
        assert shape[:1] != (LAYERS,), f"a kernel of all layers is gathered: {shape}"
        assert np.prod(shape) <= largest, f"more than a parameter is gathered: {shape}"
    # A whole activation, (56, tokens, width), is never exchanged: neither gathered nor moved around.
    moved = program.collectives.get("all-to-all", (0, 0))[1]
    assert moved < 56 * 24 * WIDTH * 4


def test_collectives_count_every_turn_of_a_loop():
    mesh = sharding.make_mesh(8, 1)

    def turns(x):
        def body(x, _):
            return jax.lax.psum(x, "data") * 0.5, None

        return jax.lax.scan(body, x, length=5)[0]

    program = jax.jit(
        jax.shard_map(
            turns, mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec("data"), check_vma=False
        )
    )
    text = program.lower(jax.ShapeDtypeStruct((64, 10), jnp.float32)).compile().as_text()
    assert dry_run.collectives(text) == {"all-reduce": (5, 5 * 8 * 10 * 4)}
    # The TPU compiler leaves the number to be read from the loop's condition.
    unstated = re.sub(r'"known_trip_count":\{"n":"5"\},?', "", text)
    assert unstated != text
    assert dry_run.collectives(unstated) == {"all-reduce": (5, 5 * 8 * 10 * 4)}


@pytest.mark.parametrize(
    ("shapes", "halved", "size"),
    [
        ("f32[8,4]{1,0}", False, 128),
        ("(bf16[2,3], s32[])", False, 16),
        ("pred[7]", False, 7),
        ("(f32[4]{0}, f32[32]{0})", True, 128),
    ],
)
def test_the_size_of_a_shape(shapes, halved, size):
    assert dry_run.size_of(shapes, halved) == size


def test_operations_are_those_that_the_compiler_counts_in_a_model_without_loops():
    """Forward passes, whose products dominate at this width: to 5 % of XLA's own count."""
    config = small_config(**{"model.unroll": True})
    for tower in (config.model.image, config.model.text):
        tower.update(width=128, mlp=512)
    arch = state.architecture(config, VOCABULARY)
    graph, params = state.graph_of(arch), state.abstract_params(arch, sharding.make_mesh(8, 1))

    def counted(method, *inputs):
        def call(params, *inputs):
            return getattr(nnx.merge(graph, params), method)(*inputs)

        return jax.jit(call).lower(params, *inputs).compile().cost_analysis()["flops"]

    rows = 8
    image = counted("encode_image", jax.ShapeDtypeStruct((rows, 16, 16, 3), jnp.float32))
    text = counted(
        "encode_text",
        jax.ShapeDtypeStruct((rows, 24), jnp.int32),
        jax.ShapeDtypeStruct((rows,), jnp.int32),
    )
    assert rows * flops.image_forward(arch) == pytest.approx(image, rel=0.05)
    assert rows * flops.text_forward(arch, 24) == pytest.approx(text, rel=0.05)


def test_recomputation_is_executed_and_not_part_of_the_model():
    plain, dots, remat, parts = (
        flops.of_step(state.architecture(config, VOCABULARY), config, 24)
        for config in (
            small_config(),
            small_config(**{"model.remat": "dots"}),
            small_config(**{"model.remat": "full"}),
            small_config(**{"model.remat": "full", "micro_batches": 7}),
        )
    )
    assert plain.model == dots.model == remat.model == parts.model == plain.executed
    assert plain.executed < dots.executed < remat.executed < parts.executed < 5 / 3 * plain.executed


def test_the_verb_says_what_the_step_takes_on_eight_devices(run_module):
    done = run_module(
        "focusclip_jax",
        "dry-run",
        "--config=configs/focusclip_tiny.py",
        "--batch=64",
        "--config.mesh.fsdp=2",
        JAX_NUM_CPU_DEVICES=8,
    )
    assert done.returncode == 0, done.stderr
    for line in ("8 × cpu, mesh data 4 × fsdp 2", "global batch 64: 8 a device", "memory per device", "fits"):
        assert line in done.stdout
    assert re.search(r"all-reduce +\d+ a step, [\d.]+ MiB", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--mfu=40",), "--mfu=40.0: expected a share of the peak above 0 and at most 1"),
        (("--batch=0",), "--batch=0: expected at least 1"),
        (("--batch=12",), "--config.batch_size=12: the mesh has 8 devices"),
        (("--topology=v5e:banana",), "--topology"),
    ],
)
def test_a_wrong_argument_is_one_sentence(run_module, arguments, sentence):
    done = run_module(
        "focusclip_jax", "dry-run", "--config=configs/focusclip_tiny.py", *arguments, JAX_NUM_CPU_DEVICES=8
    )
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="the TPU compiler is not installed")
def test_the_tiny_config_compiles_for_a_pod_that_is_not_here(run_module):
    done = run_module("focusclip_jax", "dry-run", "--config=configs/focusclip_tiny.py", "--topology=v5e:2x2")
    assert done.returncode == 0, done.stderr
    assert "4 × TPU v5 lite" in done.stdout
    assert re.search(r"expected time +[\d.]+ s a step", done.stdout)
    assert re.search(r"fits +yes", done.stdout)
