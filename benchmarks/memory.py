"""Memory and time of a step of ViT-B/16 and BERT-base in float32 and bfloat16, by what is computed again.

    python -m benchmarks.memory [--topology=v5e:4x4] [--time]

Memory is the compiler's figure per device for `configs/focusclip_b16.py` at its own batch and longest text;
nothing is allocated. By default on eight CPU devices of this host; --topology compiles for TPUs that need
not be here, but needs their compiler (`pip install libtpu`).

--time takes real steps on this host's CPU instead, at batch 4 and 77 tokens, medians of three.
"""

from __future__ import annotations

import argparse
import itertools
import pathlib
import runpy
import statistics
import tempfile
import time
from collections.abc import Sequence

import jax

from benchmarks import step
from focusclip_jax import dry_run, sharding, state
from focusclip_jax.dry_run import GIB

CONFIG = pathlib.Path(__file__).resolve().parents[1] / "configs" / "focusclip_b16.py"
COMBINATIONS = list(itertools.product(("float32", "bfloat16"), ("none", "dots", "full")))


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
        devices = dry_run.topology(arguments.topology)
    else:
        jax.config.update("jax_num_cpu_devices", 8)
        devices = jax.devices()
    measure(devices)


def measure(devices: Sequence[jax.Device]) -> None:
    """Print the compiler's figures of each combination."""
    config = runpy.run_path(str(CONFIG))["get_config"]()
    mesh = sharding.make_mesh(config.mesh.data, config.mesh.fsdp, devices)
    print(
        f"jax {jax.__version__}, {len(devices)} × {devices[0].device_kind}; batch {config.batch_size}, "
        f"{max(config.text.buckets)} tokens; GiB per device"
    )
    print(f"{'dtype':9s} {'remat':6s} {'arguments':>9s} {'temporary':>10s} {'peak':>7s} {'compiled in':>12s}")
    for dtype, remat in COMBINATIONS:
        config.model.dtype, config.model.remat = dtype, remat
        print(f"{dtype:9s} {remat!s:6s}", end=" ")
        try:
            arch = state.architecture(config, config.text.vocabulary)
            figures = dry_run.compile_step(config, arch, mesh)
        except jax.errors.JaxRuntimeError as error:
            if dry_run.DOES_NOT_FIT not in str(error):
                raise
            print(f"does not fit: {dry_run.too_large(str(error))}", flush=True)
        else:
            sizes = (
                f"{figures.arguments / GIB:9.2f} {figures.temporary / GIB:10.2f} {figures.peak / GIB:7.2f}"
            )
            print(f"{sizes} {figures.seconds:10.0f} s", flush=True)


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
