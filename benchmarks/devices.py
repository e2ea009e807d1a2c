"""Claims: a step divided among devices is the same step; batches up to 32,768 compile, and say their memory.

    python -m benchmarks.devices [--steps=5] [--batches=256,1024,4096,32768] [--config=focusclip_b16]

The first table runs: the same update (focusclip_tiny, global batch 64) over 1, 2, 4 and 8 host devices,
which share this machine's cores. So its seconds show what dividing costs, and not a gain; meshes take turns
in every round, medians. Collectives, with the bytes of their results on each device, are counted in the
program.

The second table does not run: it is what XLA states for the step of a shipped config over 8 host devices
(data parallel), compiled from shapes. Memory is XLA's for CPU; for TPUs: `./launch.sh dry-run --topology=…`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

from benchmarks.machine import describe, table
from benchmarks.step import Row, configured, random_batch
from focusclip_jax import optimizer as optimizers
from focusclip_jax import sharding, state
from focusclip_jax.dry_run import collectives, compile_step
from focusclip_jax.step import make_train_step, put

MESHES = ((1, 1), (2, 1), (4, 1), (8, 1), (2, 4))  # data × fsdp
RUN = Row("focusclip_tiny", 64, 40, {})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batches", default="256,1024,4096,32768")
    parser.add_argument("--config", default="focusclip_b16")
    arguments = parser.parse_args()
    print(describe())
    run(arguments.steps)
    print()
    compile_only(arguments.config, [int(size) for size in arguments.batches.split(",")])


def run(steps: int) -> None:
    config = configured(RUN)
    sides = {shape: make(config, *shape) for shape in MESHES}
    taken = {shape: [] for shape in sides}
    for round_ in range(steps + 1):
        losses = []
        for shape, (step, _) in sides.items():
            begin = time.perf_counter()
            losses.append(step())
            if round_:  # the first warms up
                taken[shape].append(time.perf_counter() - begin)
        assert max(losses) - min(losses) < 1e-4 * losses[0], f"losses differ: {losses}"
    first = statistics.median(taken[MESHES[0]])
    rows = []
    for shape, (_, found) in sides.items():
        middle = statistics.median(taken[shape])
        spread = f"({min(taken[shape]):.3f}-{max(taken[shape]):.3f})"
        rows.append(
            (f"{shape[0]} × {shape[1]}", f"{middle:.3f} {spread}", f"{middle / first:.2f}", say(found))
        )
    print(f"{RUN.config}, batch {RUN.batch}, the same losses to 1e-4 in every row")
    print(table(("data × fsdp", "s a step (min-max)", "of one", "collectives a step"), rows))


def make(config, data: int, fsdp: int):
    """A function that makes one update and returns the loss before it, and the collectives of its program."""
    mesh = sharding.make_mesh(data, fsdp, jax.devices()[: data * fsdp])
    arch = state.architecture(config, config.text.vocabulary)
    optimizer = optimizers.make(config.optimizer, config.steps)
    abstract = state.abstract(arch, optimizer, mesh)
    now = state.initial(arch, optimizer, mesh, seed=0)
    batch = put(random_batch(config, RUN.tokens, arch.text.vocabulary), mesh)
    update = make_train_step(state.graph_of(arch), optimizer, abstract, mesh, config)
    program = update.lower(now, batch).compile()

    def step() -> float:
        nonlocal now
        now, metrics = program(now, batch)
        return float(jax.block_until_ready((now, metrics))[1]["loss"])

    return step, collectives(program.as_text())


def compile_only(name: str, batches: list[int]) -> None:
    mesh = sharding.make_mesh(8, 1, jax.devices()[:8])
    rows = []
    for size in batches:
        config = configured(Row(name, size, 0, {}))
        if size >= 8192:  # as such batches are meant to be run, see docs/running.md
            config.micro_batches, config.loss.chunks = size // 8192 * 2, size // 8192
        compiled = compile_step(config, state.architecture(config, config.text.vocabulary), mesh)
        rows.append(
            (
                f"{size:,}",
                config.micro_batches,
                config.loss.chunks,
                f"{compiled.peak / 2**30:.1f}",
                f"{compiled.seconds:.0f}",
                say(compiled.collectives),
            )
        )
        print(f"batch {size:,} compiled in {compiled.seconds:.0f} s", flush=True)
    print(f"{name}, 8 host devices, compiled and not run, texts of {max(config.text.buckets)} tokens")
    head = ("batch", "micro-batches", "loss chunks", "GiB a device", "s to compile", "collectives a step")
    print(table(head, rows))


def say(found: dict[str, tuple[int, int]]) -> str:
    parts = [f"{count} {kind} {size / 2**20:.2f} MiB" for kind, (count, size) in sorted(found.items())]
    return ", ".join(parts) or "none"


if __name__ == "__main__":
    main()
