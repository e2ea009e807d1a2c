"""Claim: what training S seeds in one compiled step gains or costs against S steps of one seed after another.

    python -m benchmarks.seeds_together [--seeds=4] [--batch=16] [--steps=7]

The step of focusclip_tiny, as `ablate --together` maps it over seeds and as a lone training takes it, on
whatever device is here. Both sides take turns in every round, from the same states and batches; medians.
Losses are compared in every round. Compiling is timed apart: the cells of a grid compile once each, seeds
that are trained together once for all.
"""

from __future__ import annotations

import argparse
import statistics
import time

import jax
import numpy as np

from benchmarks.machine import describe, table
from benchmarks.step import Row, configured, random_batch
from focusclip_jax import optimizer as optimizers
from focusclip_jax import sharding, state
from focusclip_jax.ablation import together
from focusclip_jax.step import make_train_step, put

TOKENS = 40


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=7)
    arguments = parser.parse_args()
    print(describe())
    measure(arguments.seeds, configured(Row("focusclip_tiny", arguments.batch, TOKENS, {})), arguments.steps)


def measure(seeds: int, config, steps: int) -> None:
    mesh = sharding.make_mesh(-1, 1)
    arch = state.architecture(config, config.text.vocabulary)
    optimizer = optimizers.make(config.optimizer, config.steps)
    abstract = state.abstract(arch, optimizer, mesh)
    parts = state.graph_of(arch), optimizer, abstract, mesh, config
    states = [state.initial(arch, optimizer, mesh, seed) for seed in range(seeds)]
    stacked = together.make_stack(abstract)(states)
    batch = random_batch(config, TOKENS, arch.text.vocabulary)
    batches = [batch | {"image": np.roll(batch["image"], seed, axis=1)} for seed in range(seeds)]
    one_batch = [put(rows, mesh) for rows in batches]
    all_batches = together.put(together.stacked(batches, pad_id=0), mesh)

    one, one_compiled = timed(
        lambda: make_train_step(*parts).lower(states[0], one_batch[0]).compile()  # as every cell does
    )
    all_, all_compiled = timed(lambda: together.make_step(*parts).lower(stacked, all_batches).compile())
    taken: dict[str, list[float]] = {"alone": [], "together": []}
    for round_ in range(steps + 1):
        begin = time.perf_counter()
        losses = []
        for seed in range(seeds):
            states[seed], metrics = one(states[seed], one_batch[seed])
            losses.append(metrics["loss"])
        jax.block_until_ready((states, losses))
        middle = time.perf_counter()
        stacked, metrics = all_(stacked, all_batches)
        jax.block_until_ready((stacked, metrics))
        end = time.perf_counter()
        np.testing.assert_allclose(metrics["loss"], np.array(losses), rtol=1e-3)
        if round_:  # the first warms up
            taken["alone"].append(middle - begin)
            taken["together"].append(end - middle)
    print(
        f"focusclip_tiny, {seeds} seeds, batch {config.batch_size} each, two views of "
        f"{config.data.image_size} px, {TOKENS} tokens, {config.model.dtype}, "
        f"{mesh.size} × {mesh.devices.flat[0].device_kind}; medians of {steps} rounds"
    )
    compiled = {"alone": seeds * one_compiled, "together": all_compiled}
    rows = [
        (
            side,
            f"{statistics.median(times):.3f} ({min(times):.3f}-{max(times):.3f})",
            f"{statistics.median(taken['alone']) / statistics.median(times):.2f}",
            f"{compiled[side]:.1f}",
        )
        for side, times in taken.items()
    ]
    print(table(("", f"s for a step of all {seeds} (min-max)", "speed", "s to compile, all"), rows))


def timed(make):
    begin = time.perf_counter()
    return make(), time.perf_counter() - begin


if __name__ == "__main__":
    main()
