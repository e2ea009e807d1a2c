"""Real training steps under JAX's profiler, and what the host does in them, by its clock."""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from focusclip_jax import distributed, sharding
from focusclip_jax.step import put

WARM_UP = 3  # steps before the trace: the first allocate, and the loader fills its queue

# What the host does in a step, in this order; each is a span of the trace.
WAITING, PUTTING, STARTING, BLOCKED = (
    "wait for a batch",
    "host to device",
    "start the step",
    "wait for the device",
)
SPANS = (WAITING, PUTTING, STARTING, BLOCKED)


def compile_all(update, abstract, batches, mesh, config: ConfigDict):
    """The step for each length that texts may be padded to, and the seconds that each took to compile."""
    shapes = {name: (rows.shape, rows.dtype) for name, rows in next(batches).items()}
    where = sharding.batch_sharding(mesh)
    programs, seconds = {}, {}
    for tokens in tqdm(config.text.buckets, desc="compiling", unit="program"):
        lengths = shapes | {"tokens": ((*shapes["tokens"][0][:-1], tokens), shapes["tokens"][1])}
        whole = {
            name: jax.ShapeDtypeStruct((config.batch_size, *shape[1:]), dtype, sharding=where)
            for name, (shape, dtype) in lengths.items()
        }
        begin = time.perf_counter()
        programs[tokens] = update.lower(abstract, whole).compile()
        seconds[str(tokens)] = time.perf_counter() - begin
    return programs, seconds


def take_steps(programs, current, batches, mesh, steps: int, where: pathlib.Path):
    """`steps` steps under the profiler, after `WARM_UP` without it, in the order of the training loop.

    Returns the padded length of each step's texts, and the seconds of all spans of `SPANS` and of the whole.
    """
    seconds: dict[str, float] = dict.fromkeys(SPANS, 0.0)
    lengths: list[int] = []
    results: list[Any] = []

    @contextlib.contextmanager
    def span(name: str) -> Iterator[None]:
        begin = time.perf_counter()
        with jax.profiler.TraceAnnotation(name):
            yield
        seconds[name] += time.perf_counter() - begin

    def step(number: int) -> None:
        nonlocal current
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            with span(WAITING):
                batch = next(batches)
            lengths.append(batch["tokens"].shape[-1])
            with span(PUTTING):
                placed = put(batch, mesh)
            with span(STARTING):
                current, metrics = programs[lengths[-1]](current, placed)
            results.append(metrics)
            with span(BLOCKED):  # as `Meter.wait_for_step_before` in training
                jax.block_until_ready(results[-2:-1])

    with tqdm(total=WARM_UP + steps, desc="steps", unit="step") as bar:
        for number in range(WARM_UP):
            step(number)
            bar.update()
        jax.block_until_ready(results)
        seconds |= dict.fromkeys(SPANS, 0.0)
        lengths.clear()
        with tracing(where) if distributed.is_first() else contextlib.nullcontext():
            begin = time.perf_counter()
            for number in range(WARM_UP, WARM_UP + steps):
                step(number)
                bar.update()
            with span(BLOCKED):
                jax.block_until_ready(results[-1])
            seconds["all"] = time.perf_counter() - begin
    return lengths, seconds


def tracing(where: pathlib.Path):
    """The profiler without Python's function calls, which would slow the host down."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    return jax.profiler.trace(str(where), profiler_options=options, create_perfetto_trace=True)
