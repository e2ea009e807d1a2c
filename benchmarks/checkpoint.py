"""Claim: a checkpoint in the background costs the steps beside it little, and comes back verified.

    python -m benchmarks.checkpoint [--config=focusclip_b16] [--batch=2] [--every=4] [--rounds=3]

The project's real update and its `Checkpoints`, in turn in every round: `every` steps alone, then a save and
`every` steps beside its writing. Printed are medians over the rounds: seconds that the save itself holds the
loop, seconds of a step alone and beside the writing, what both together add to a step if one in `every` is
saved, seconds until the manifest is on disk, bytes, and the seconds that checking every byte and restoring
take. On CPU the writing takes cores from the steps, so this is the worst case: an accelerator lends none.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import statistics
import tempfile
import time

import jax

from benchmarks.machine import describe, table
from benchmarks.step import ON_CPU, Row, configured, random_batch
from focusclip_jax import optimizer as optimizers
from focusclip_jax import sharding, state
from focusclip_jax.checkpoint import Checkpoints
from focusclip_jax.step import make_train_step, put


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="focusclip_b16")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", help="a folder of the file system to measure, in place of the temporary one")
    arguments = parser.parse_args()
    print(f"{describe()}; {jax.devices()[0].device_kind}")
    changes = ON_CPU if jax.devices()[0].platform == "cpu" else {}
    config = configured(Row(arguments.config, arguments.batch, arguments.tokens, changes))
    arch = state.architecture(config, config.text.vocabulary)
    optimizer = optimizers.make(config.optimizer, config.steps)
    mesh = sharding.make_mesh(1, 1, jax.devices()[:1])
    abstract = state.abstract(arch, optimizer, mesh)
    update = make_train_step(state.graph_of(arch), optimizer, abstract, mesh, config)
    batch = put(random_batch(config, arguments.tokens, arch.text.vocabulary), mesh)
    with tempfile.TemporaryDirectory(dir=arguments.dir) as name, Checkpoints(pathlib.Path(name)) as writer:
        measure(update, state.initial(arch, optimizer, mesh, 0), batch, writer, arguments)
        restore(pathlib.Path(name), writer, abstract)


def measure(update, now, batch, writer: Checkpoints, arguments: argparse.Namespace) -> None:
    def steps() -> float:
        """Seconds of a step."""
        nonlocal now
        begin = time.perf_counter()
        for _ in range(arguments.every):
            now, _ = update(now, batch)
            jax.block_until_ready(now)
        return (time.perf_counter() - begin) / arguments.every

    now = jax.block_until_ready(update(now, batch)[0])  # compiles
    writer.save(0, now)  # the first save makes Orbax's threads
    writer.wait()
    alone, beside, held, written = [], [], [], []
    for round_ in range(1, arguments.rounds + 1):
        alone.append(steps())
        begin = time.perf_counter()
        writer.save(round_, now)
        held.append(time.perf_counter() - begin)
        beside.append(steps())
        writer.wait()
        written.append(time.perf_counter() - begin)
    step, busy, hold = map(statistics.median, (alone, beside, held))
    added = (hold + arguments.every * (busy - step)) / arguments.every
    rows = [
        ("a step alone, s", f"{step:.3f}", f"({min(alone):.3f}-{max(alone):.3f})"),
        ("a step beside the writing, s", f"{busy:.3f}", f"({min(beside):.3f}-{max(beside):.3f})"),
        ("the save holds the loop for, s", f"{hold:.3f}", f"({min(held):.3f}-{max(held):.3f})"),
        (f"added to a step, one in {arguments.every} saved", f"{added / step:.1%}", f"{added:.3f} s"),
        ("the same, one in 250", f"{added * arguments.every / 250 / step:.2%}", "from these figures"),
        (
            "on disk with its manifest after, s",
            f"{statistics.median(written):.2f}",
            f"({min(written):.2f}-{max(written):.2f})",
        ),
    ]
    print(table(("", "median", "min-max"), rows))


def restore(folder: pathlib.Path, writer: Checkpoints, abstract) -> None:
    step = writer.steps()[-1]
    files = [path for path in (folder / str(step)).rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    state_size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(abstract))
    os.sync()
    begin = time.perf_counter()
    jax.block_until_ready(writer.restore(step, abstract))
    seconds = time.perf_counter() - begin
    print(
        f"state {state_size / 1e6:,.0f} MB, checkpoint {size / 1e6:,.0f} MB in {len(files)} files; "
        f"checked (every byte, CRC32C) and restored in {seconds:.2f} s from warm files"
    )


if __name__ == "__main__":
    main()
