"""Memory and time of a step of ViT-B/16 and BERT-base in float32 and bfloat16, with and without remat.

    python -m benchmarks.memory [--topology=v5e:4x4] [--time]

Memory is the compiler's figure per device for `configs/focusclip_b16.py` at its own batch and longest text;
nothing is allocated. By default on eight CPU devices of this host; --topology compiles for TPUs that need
not be here, but needs their compiler (`pip install libtpu`).

--time takes real steps on this host's CPU instead, at batch 4 and 77 tokens, medians of three.
"""

from __future__ import annotations

import argparse
import itertools
import math
import pathlib
import runpy
import statistics
import tempfile
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.experimental import topologies

from benchmarks import step
from focusclip_jax import optimizer as optimizers
from focusclip_jax import sharding, state
from focusclip_jax.models.focusclip import FocusCLIP
from focusclip_jax.step import make_train_step

CONFIG = pathlib.Path(__file__).resolve().parents[1] / "configs" / "focusclip_b16.py"
VOCABULARY = 30_522
COMBINATIONS = list(itertools.product(("float32", "bfloat16"), (False, True)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--topology", default="", help="a TPU topology, such as v5e:4x4")
    parser.add_argument("--time", action="store_true")
    arguments = parser.parse_args()
    if arguments.time:
        time_steps()
        return
    if arguments.topology:
        devices = topologies.get_topology_desc(arguments.topology, platform="tpu").devices
    else:
        jax.config.update("jax_num_cpu_devices", 8)
        devices = jax.devices()
    measure(devices)


def measure(devices: Sequence[jax.Device]) -> None:
    """Print the compiler's figures of each combination."""
    config = runpy.run_path(str(CONFIG))["get_config"]()
    arch = state.architecture(config, VOCABULARY)
    parameters = jax.eval_shape(lambda: nnx.split(FocusCLIP(arch, rngs=nnx.Rngs(0)), nnx.Param)[1])
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(parameters))
    print(
        f"jax {jax.__version__}, {len(devices)} × {devices[0].device_kind}; {count:,} parameters, "
        f"batch {config.batch_size}, {max(config.text.buckets)} tokens; GiB per device"
    )
    print(f"{'dtype':9s} {'remat':6s} {'arguments':>9s} {'temporary':>10s} {'peak':>7s} {'compiled in':>12s}")
    for dtype, remat in COMBINATIONS:
        config.model.dtype, config.model.remat = dtype, remat
        print(f"{dtype:9s} {remat!s:6s}", end=" ")
        begin = time.perf_counter()
        try:
            figures = compile_step(config, devices)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            print(f"does not fit: {str(error).splitlines()[0]}", flush=True)
        else:
            arguments, temporary, peak = (size / 2**30 for size in figures)
            seconds = time.perf_counter() - begin
            print(f"{arguments:9.2f} {temporary:10.2f} {peak:7.2f} {seconds:10.0f} s", flush=True)


def compile_step(config, devices: Sequence[jax.Device]) -> tuple[int, int, int]:
    """Bytes per device: the state and batch, temporary arrays, and the most at any time."""
    mesh = sharding.make_mesh(config.mesh.data, config.mesh.fsdp, devices)
    arch = state.architecture(config, VOCABULARY)
    optimizer = optimizers.make(config.optimizer, config.steps)
    abstract = state.abstract(arch, optimizer, mesh)
    update = make_train_step(state.graph_of(arch), optimizer, abstract, mesh, config)
    figures = update.lower(abstract, batch_shapes(config)).compile().memory_analysis()
    arguments, temporary = figures.argument_size_in_bytes, figures.temp_size_in_bytes
    # Results live in donated arguments, but for what `alias` leaves over.
    extra = figures.output_size_in_bytes - figures.alias_size_in_bytes
    return arguments, temporary, max(figures.peak_memory_in_bytes, arguments + extra + temporary)


def batch_shapes(config) -> dict[str, jax.ShapeDtypeStruct]:
    rows, side, captions = config.batch_size, config.data.image_size, config.data.captions
    return {
        "image": jax.ShapeDtypeStruct((rows, side, side, 3), jnp.uint8),
        "heatmap": jax.ShapeDtypeStruct((rows, side, side), jnp.float32),
        "tokens": jax.ShapeDtypeStruct((rows, captions, max(config.text.buckets)), jnp.int32),
        "lengths": jax.ShapeDtypeStruct((rows, captions), jnp.int32),
        "image_id": jax.ShapeDtypeStruct((rows,), jnp.int32),
    }


def time_steps() -> None:
    """Print seconds per step of each combination on this CPU."""
    print(f"jax {jax.__version__}, CPU, batch 4, 77 tokens; seconds per step, median of 3 (min-max)")
    base = step.ROWS["b16_77"]
    for dtype, remat in COMBINATIONS:
        changes = base.changes | {"model.dtype": dtype, "model.remat": remat}
        with tempfile.TemporaryDirectory() as folder:
            update, _ = step.make_step(step.Row(base.config, 4, 77, changes), pathlib.Path(folder))
            update()  # compiles
            seconds = []
            for _ in range(3):
                begin = time.perf_counter()
                update()
                seconds.append(time.perf_counter() - begin)
        middle, spread = statistics.median(seconds), f"({min(seconds):.2f}-{max(seconds):.2f})"
        print(f"{dtype:9s} remat {remat!s:6s} {middle:6.2f} {spread}", flush=True)


if __name__ == "__main__":
    main()
