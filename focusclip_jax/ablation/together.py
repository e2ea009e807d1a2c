"""Several seeds of one method and condition, trained at once by one compiled step.

The states of S seeds are stacked on a leading axis, their batches too, and the project's own step is mapped
over it. All else is each seed's own, as if it were trained alone: batches, workdir, checkpoints and log.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import shutil
from collections.abc import Callable, Collection, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict
from tqdm import tqdm

from focusclip_jax import optimizer as optimizers
from focusclip_jax import sharding, train
from focusclip_jax.ablation.grid import Cell
from focusclip_jax.checkpoint import MANIFEST, Checkpoints
from focusclip_jax.data.loader import Batch, train_batches
from focusclip_jax.errors import UserError
from focusclip_jax.meter import Meter
from focusclip_jax.run import Run, loader_settings
from focusclip_jax.state import TrainState
from focusclip_jax.step import CPU_COMPILER_OPTIONS, make_train_step
from focusclip_jax.workdir import MetricsLog


@dataclasses.dataclass(frozen=True)
class Seed:
    """One of the trainings. name: of its cell, for messages."""

    name: str
    this: Run
    checkpoints: Checkpoints


def groups(
    cells: Sequence[Cell], size: int, whole_steps: Callable[[Cell], Collection[int]]
) -> list[list[Cell]]:
    """Cells to train at once: up to `size` of one method and condition, in the order of the first of each.

    whole_steps: the steps of a cell's whole checkpoints. Only seeds that can go on from one step are joined:
    those that have a step in common, or none at all.
    """
    found: list[tuple[list[Cell], set[int]]] = []
    for cell in cells:
        own = set(whole_steps(cell)) or {0}
        for group, common in found:
            alike = (group[0].method, group[0].condition) == (cell.method, cell.condition)
            if alike and len(group) < size and common & own:
                group.append(cell)
                common &= own
                break
        else:
            found.append(([cell], own))
    return [group for group, _ in found]


def check(config: ConfigDict, size: int) -> None:
    """Raise UserError where seeds trained at once would not get the numbers that they get alone."""
    if size > 1 and config.model.text.pool == "mean_padded" and len(config.text.buckets) > 1:
        raise UserError(
            f"--together={size}: model.text.pool=mean_padded averages over the padding, whose length differs "
            f"between seeds with text.buckets={tuple(config.text.buckets)}; expected --together=1"
        )


def newest_common(steps: Sequence[Collection[int]]) -> int:
    """The newest step that all have; 0 where they have none in common. steps: of each seed."""
    return max(set.intersection(*map(set, steps)), default=0)


def start(seeds: Sequence[Seed]) -> list[TrainState]:
    """The states of the newest step that all seeds have a whole checkpoint of, or the initial ones.

    A kill may come when only some have saved a step: what these have beyond the others is removed, and done
    again.
    """
    common = newest_common([seed.checkpoints.steps() for seed in seeds])
    for seed in seeds:
        for step in (step for step in seed.checkpoints.steps() if step > common):
            print(f"{seed.name}: checkpoint {step} is removed; the seeds trained with it stand at {common}.")
            folder = seed.this.workdir.checkpoints / str(step)
            (folder / MANIFEST).unlink()  # first: without it the rest counts as unfinished
            shutil.rmtree(folder)
    return [train.start(seed.this, seed.checkpoints) for seed in seeds]


def train_together(seeds: Sequence[Seed], states: Sequence[TrainState]) -> list[TrainState]:
    """The loop of `train.train` for S seeds that stand at the same step; nothing is evaluated in between.

    Returns early, with everything saved, after a SIGTERM. A row of a seed's log has its own means; its times
    are its share, a part in S of the steps' (see docs/metrics.md).
    """
    this, count = seeds[0].this, len(seeds)
    config, first = this.config, int(states[0].step)
    logs = [MetricsLog(seed.this.workdir.metrics, first) for seed in seeds]
    update = make_step(this.graph, this.optimizer, this.abstract, this.mesh, config)
    stack, take = make_stack(this.abstract), make_take(this.abstract)
    current = stack(list(states))
    rate = optimizers.schedule(config.optimizer, config.steps)
    loaders = [
        train_batches(s.this.shards, s.this.table, loader_settings(s.this.config), start_step=first)
        for s in seeds
    ]
    meter = Meter(config, this.architecture, this.mesh.devices.flatten().tolist())
    measured: list[dict[str, jax.Array]] = []
    with (
        train.StopSignal() as stop,
        contextlib.ExitStack() as ending,
        tqdm(total=config.steps, initial=first, desc=f"training {count} seeds", unit="step") as bar,
    ):
        for loader in loaders:
            ending.enter_context(train.ending_loader(loader))
        for step in range(first + 1, config.steps + 1):
            with meter.waiting():
                batches = [
                    train.next_batch(loader, seed.checkpoints)
                    for loader, seed in zip(loaders, seeds, strict=True)
                ]
            batch = stacked(batches, this.table.pad_id)
            current, metrics = update(current, put(batch, this.mesh))
            measured.append(metrics)
            for _ in seeds:
                meter.add({}, tokens=batch["tokens"].shape[-1])
            if len(measured) > 1:
                jax.block_until_ready(measured[-2])
            bar.update()
            stopping = stop.after(step)
            saving = step == config.steps or stopping or step % config.checkpoint_every == 0
            if saving or step % config.log_every == 0:
                rows = means(jax.device_get(measured), count)
                speed, measured = meter.read(), []
                for seed, values in zip(seeds, rows, strict=True):
                    check_finite(seed, values, step)
                for log, values in zip(logs, rows, strict=True):
                    numbers = values | speed | {"learning_rate": float(rate(step - 1))}
                    log.write(step, numbers | {"seeds_together": count})
                loss = float(np.mean([values["loss"] for values in rows]))
                bar.set_postfix_str(train.progress({"loss": loss, **speed}))
            if saving:
                for seed in seeds:  # so that all have the step before until all have this one
                    seed.checkpoints.wait()
                for index, seed in enumerate(seeds):
                    seed.checkpoints.save(step, take(current, index))
                meter.leave_out_pause()
            if stopping:
                break
    for seed in seeds:
        seed.checkpoints.wait()
    return [take(current, index) for index in range(count)]


def make_step(
    graph: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    abstract: TrainState,
    mesh: Mesh,
    config: ConfigDict,
) -> jax.stages.Wrapped:
    """The compiled update of S seeds: (states, batches) → (states, metrics), all with a leading axis S.

    The arguments are those of `make_train_step`. The states are donated. Rows are split over the devices as
    for one seed; the axis S is not.
    """
    one = make_train_step(graph, optimizer, abstract, mesh, config)
    places = _places(abstract)
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    return jax.jit(
        jax.vmap(inspect.unwrap(one)),  # not compiled by itself: then it could have no compiler options
        in_shardings=(places, _leading(sharding.batch_sharding(mesh))),
        out_shardings=(places, sharding.replicated(mesh)),
        donate_argnums=0,
        compiler_options=CPU_COMPILER_OPTIONS if on_cpu else None,
    )


def make_stack(abstract: TrainState) -> Callable[[list[TrainState]], TrainState]:
    """States of S seeds → one with a leading axis S."""
    return jax.jit(
        lambda states: jax.tree.map(lambda *leaves: jnp.stack(leaves), *states),
        out_shardings=_places(abstract),
    )


def make_take(abstract: TrainState) -> Callable[[TrainState, int], TrainState]:
    """(stacked states, number of a seed) → its state, placed as one that is trained alone."""
    places = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    return jax.jit(lambda states, index: jax.tree.map(lambda leaf: leaf[index], states), out_shardings=places)


def _places(abstract: TrainState):
    return jax.tree.map(lambda leaf: _leading(leaf.sharding), abstract)


def _leading(place: NamedSharding) -> NamedSharding:
    """The same with one more axis in front, which is not split."""
    return NamedSharding(place.mesh, PartitionSpec(None, *place.spec))


def stacked(batches: Sequence[Batch], pad_id: int) -> Batch:
    """Batches of S seeds → one with a leading axis S; texts as long as the longest of them needs."""
    longest = max(batch["tokens"].shape[-1] for batch in batches)
    padded = [batch | {"tokens": _padded(batch["tokens"], longest, pad_id)} for batch in batches]
    return {name: np.stack([batch[name] for batch in padded]) for name in padded[0]}


def _padded(tokens: np.ndarray, length: int, pad_id: int) -> np.ndarray:
    return np.pad(tokens, ((0, 0), (0, 0), (0, length - tokens.shape[-1])), constant_values=pad_id)


def put(batch: Batch, mesh: Mesh) -> dict[str, jax.Array]:
    """Rows (axis 1) split over the devices."""
    where = _leading(sharding.batch_sharding(mesh))
    return {name: jax.device_put(rows, where) for name, rows in batch.items()}


def means(measured: Sequence[dict[str, np.ndarray]], count: int) -> list[dict[str, float]]:
    """For each of the seeds, the means over the steps. measured: the metrics (S,) of each step."""
    return [
        {name: float(np.mean([metrics[name][index] for metrics in measured])) for name in measured[0]}
        for index in range(count)
    ]


def check_finite(seed: Seed, values: dict[str, float], step: int) -> None:
    """As `train.check_finite`, and the sentence names the seed."""
    try:
        train.check_finite(values, step, seed.checkpoints)
    except UserError as error:
        raise UserError(f"{seed.name}: {error}") from None
