"""Claim: with loss.chunks the similarities of a large batch take 1 / chunks of the memory.

    python -m benchmarks.loss_memory [--batches=8192,32768] [--chunks=1,4,16,64] [--kind=infonce]

The dual objective's value and gradient are compiled for eight devices, and the compiler is asked how much
memory each of them needs beside its share of the embeddings. Nothing is allocated or run.
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp

from focusclip_jax import config as configs
from focusclip_jax import losses, sharding

DEVICES, EMBEDDING = 8, 512


def compiled(kind: str, batch: int, chunks: int) -> jax.stages.Compiled:
    """(views, log_scale, bias, ids) → the loss and its gradient by the first three."""
    mesh = sharding.make_mesh(DEVICES, 1)
    settings = configs.default().loss
    settings.update(kind=kind, chunks=chunks)

    def loss(views, log_scale, bias, ids):
        return losses.total(views, ids, settings, log_scale, bias)[0]

    def rows(dtype, *shape):
        return jax.ShapeDtypeStruct((batch, *shape), dtype, sharding=sharding.batch_sharding(mesh))

    views = {name: rows(jnp.float32, EMBEDDING) for name in ("image", "focus")}
    views["text"] = rows(jnp.float32, 1, EMBEDDING)
    scalar = jax.ShapeDtypeStruct((), jnp.float32, sharding=sharding.replicated(mesh))
    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
    return step.lower(views, scalar, scalar, rows(jnp.int32)).compile()


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=numbers, default=[8192, 32768])
    parser.add_argument("--chunks", type=numbers, default=[1, 4, 16, 64])
    parser.add_argument("--kind", choices=configs.CHOICES["loss.kind"], default="infonce")
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", DEVICES)
    print(f"{arguments.kind}, image_text + focus_text, D = {EMBEDDING}, float32, {DEVICES} devices")
    print("  batch  chunks  similarities of a term  temporary MiB a device    of plain")
    for batch in arguments.batches:
        plain = None
        for chunks in arguments.chunks:
            temporary = compiled(arguments.kind, batch, chunks).memory_analysis().temp_size_in_bytes / 2**20
            plain = plain or temporary
            similarities = 4 * batch * batch / DEVICES / chunks / 2**20
            share = temporary / plain
            print(f"{batch:7d}  {chunks:6d}  {similarities:18.1f} MiB  {temporary:22.1f}  {share:10.3f}")


if __name__ == "__main__":
    main()
