"""The verb `dry-run`: compile a config's real step for hardware that need not be here, and say what it takes.

    ./launch.sh dry-run --config=configs/focusclip_b16.py --topology=v5e:4x4

Nothing is allocated and no data is read. Memory and communication are the compiler's figures, floating-point
operations are arithmetic (`flops`), the time is what the stated utilisation would make of them.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import importlib.util
import math
import os
import pathlib
import re
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from ml_collections import ConfigDict

from focusclip_jax import config as configs
from focusclip_jax import flops, sharding, state
from focusclip_jax import optimizer as optimizers
from focusclip_jax.data.text import Tokenizer, names_a_file
from focusclip_jax.errors import UserError
from focusclip_jax.models.focusclip import Architecture
from focusclip_jax.step import make_train_step

GIB = 2**30
DOES_NOT_FIT = "RESOURCE_EXHAUSTED"


@dataclasses.dataclass(frozen=True)
class Compiled:
    """The compiler's figures per device, in bytes, and its program.

    arguments: the state and the batch; temporary: everything else at its peak; peak: the most at any time.
    collectives: kind → (times a step, bytes of their results a step), on one device.
    """

    arguments: int
    temporary: int
    peak: int
    collectives: dict[str, tuple[int, int]]
    seconds: float
    text: str


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="dry-run", description="Compile a config's step without its hardware or data.", add_help=False
    )
    parser.add_argument("--topology", default="", help="TPUs that need not be here: v5e:4x4, v5p:4x4x4")
    parser.add_argument("--batch", type=int, help="global batch in place of the config's")
    parser.add_argument("--mfu", type=float, default=0.4, help="utilisation assumed for the time (0.4)")
    parser.add_argument("-h", "--help", action="help")
    options, rest = parser.parse_known_args(arguments)
    if not 0 < options.mfu <= 1:
        raise UserError(f"--mfu={options.mfu}: expected a share of the peak above 0 and at most 1")
    configs.define_flags()
    config, _ = configs.parse(rest)
    if options.batch is not None:
        if options.batch < 1:
            raise UserError(f"--batch={options.batch}: expected at least 1")
        config.batch_size = options.batch
    devices = topology(options.topology) if options.topology else jax.devices()
    mesh = sharding.make_mesh(config.mesh.data, config.mesh.fsdp, devices)
    sharding.check_batch(config, mesh)
    arch = state.architecture(config, vocabulary(config))
    print(describe(config, arch, mesh), flush=True)
    try:
        compiled = compile_step(config, arch, mesh)
    except jax.errors.JaxRuntimeError as error:
        if DOES_NOT_FIT not in str(error):
            raise
        raise UserError(f"it does not fit: {too_large(str(error))}") from None
    print(report(config, arch, devices, compiled, options.mfu))


def topology(name: str) -> Sequence[jax.Device]:
    """The devices of a TPU topology such as v5e:4x4.

    Raises UserError where the TPU compiler is not installed or does not know the name.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("--topology needs the TPU compiler: .venv/bin/pip install libtpu (500 MB)")
    # It would otherwise ask a metadata server which TPU this is.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-16")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_WORKER_ID", "0")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # no chip is opened, so several may compile
    try:
        return topologies.get_topology_desc(name, platform="tpu").devices
    except (jax.errors.JaxRuntimeError, ValueError, NotImplementedError) as error:
        raise UserError(
            f"--topology={name}: the TPU compiler refuses it ({str(error).splitlines()[0]})"
        ) from None


def vocabulary(config: ConfigDict) -> int:
    """Entries of the tokenizer: counted where its file is there, else what the config states."""
    name = config.text.tokenizer
    if name and names_a_file(name) and pathlib.Path(name).exists():
        return Tokenizer.load(name).vocab_size
    return config.text.vocabulary


def compile_step(config: ConfigDict, arch: Architecture, mesh) -> Compiled:
    """Compile the update for the devices of `mesh`, at the longest text that a batch may have."""
    optimizer = optimizers.make(config.optimizer, config.steps)
    abstract = state.abstract(arch, optimizer, mesh)
    update = make_train_step(state.graph_of(arch), optimizer, abstract, mesh, config)
    begin = time.perf_counter()
    program = update.lower(abstract, batch_shapes(config)).compile()
    figures, text = program.memory_analysis(), program.as_text()
    assert figures is not None, "the compilers of a dry run tell the memory"
    assert text is not None, "and the program"
    arguments, temporary = figures.argument_size_in_bytes, figures.temp_size_in_bytes
    # Results live in donated arguments, but for what `alias` leaves over.
    extra = figures.output_size_in_bytes - figures.alias_size_in_bytes
    return Compiled(
        arguments,
        temporary,
        max(figures.peak_memory_in_bytes, arguments + extra + temporary),
        collectives(text),
        time.perf_counter() - begin,
        text,
    )


def batch_shapes(config: ConfigDict) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the global batch with the longest texts."""
    rows, side, captions = config.batch_size, config.data.image_size, config.data.captions
    guides = {"heatmap": jax.ShapeDtypeStruct((rows, side, side), jnp.float32)}
    if config.data.heatmap_on_device:  # so many as ten people have
        guides = {"gaussians": jax.ShapeDtypeStruct((rows, 100, 5), jnp.float32)}
    return guides | {
        "image": jax.ShapeDtypeStruct((rows, side, side, 3), jnp.uint8),
        "tokens": jax.ShapeDtypeStruct((rows, captions, max(config.text.buckets)), jnp.int32),
        "lengths": jax.ShapeDtypeStruct((rows, captions), jnp.int32),
        "image_id": jax.ShapeDtypeStruct((rows,), jnp.int32),
    }


_KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_COLLECTIVE = re.compile(rf"= (.+?) ({'|'.join(_KINDS)})(-start)?\(")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_CALLED = re.compile(r"(?:body|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_TRIPS = re.compile(r'known_trip_count"?:\s*\{"?n"?:\s*"?(\d+)')
_CONDITION = re.compile(r"condition=%?([\w.\-]+)")
_LIMIT = re.compile(r"= s32\[\]\S* constant\((\d+)\)")
_SHAPE = re.compile(r"(pred|[subf]\w*?(\d+)\w*)\[([\d,]*)\]")


def collectives(text: str) -> dict[str, tuple[int, int]]:
    """kind → (executions, bytes of the results) in one run of a compiled program.

    text: of the program. A loop counts as often as it runs: as the compiler states, else as the one whole
    number says that its condition compares with, else once.
    """
    found: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    calls: dict[str, list[tuple[str, int | str | None]]] = collections.defaultdict(list)
    limits: dict[str, list[int]] = collections.defaultdict(list)
    entry = here = ""
    for line in text.splitlines():
        begins = _COMPUTATION.match(line)
        if begins:
            here = begins[2]
            entry = here if begins[1] else entry
            continue
        collective = _COLLECTIVE.search(line)
        if collective:
            # These two list their operands before their results; an all-reduce that starts does not.
            halved = bool(collective[3]) and collective[2] in ("all-gather", "collective-permute")
            found[here][collective[2], size_of(collective[1], halved)] += 1
            continue  # what it applies is one addition
        limits[here] += map(int, _LIMIT.findall(line))
        trips, condition = _TRIPS.search(line), _CONDITION.search(line)
        for name in _CALLED.findall(line):
            calls[here].append((name, int(trips[1]) if trips else condition and condition[1]))

    totals: dict[str, tuple[int, int]] = {}

    def add(computation: str, times: int) -> None:
        for (kind, size), count in found[computation].items():
            number, total = totals.get(kind, (0, 0))
            totals[kind] = number + times * count, total + times * count * size
        for name, trips in calls[computation]:
            if not isinstance(trips, int):
                compared = limits[trips] if trips else []
                trips = compared[0] if len(compared) == 1 else 1
            add(name, times * trips)

    add(entry, 1)
    return totals


def size_of(shapes: str, halved: bool = False) -> int:
    """Bytes of the arrays in a piece of HLO such as "(f32[8,4]{1,0}, bf16[2])".

    halved: of an asynchronous start, whose result lists its operands first.
    """
    sizes = []
    for kind, bits, dims in _SHAPE.findall(shapes):
        bytes_each = 1 if kind == "pred" else max(1, int(bits) // 8)
        sizes.append(bytes_each * math.prod(int(d) for d in dims.split(",") if d))
    if halved and len(sizes) > 1:
        sizes = sizes[len(sizes) // 2 :]
    return sum(sizes)


def describe(config: ConfigDict, arch: Architecture, mesh) -> str:
    """What will be compiled, in a few lines."""
    params = state.abstract_params(arch, mesh)
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    kind = mesh.devices.flat[0].device_kind
    lines = [
        f"{config.name}: {count:,} parameters, {config.model.dtype}, remat {config.model.remat}",
        f"{mesh.size} × {kind}, mesh {' × '.join(f'{name} {size}' for name, size in mesh.shape.items())}",
        f"global batch {config.batch_size:,}: {config.batch_size // mesh.size:,} a device, "
        f"{flops.image_encodes(config)} views of {config.data.image_size} px, "
        f"{config.data.captions} × {max(config.text.buckets)} tokens",
    ]
    return "\n".join(lines)


def report(
    config: ConfigDict, arch: Architecture, devices: Sequence[jax.Device], compiled: Compiled, mfu: float
) -> str:
    """What the step takes, one quantity a line."""
    work = flops.of_step(arch, config, max(config.text.buckets))
    chip = flops.chip(devices[0].device_kind)
    rows = [
        ("compiled in", f"{compiled.seconds:.0f} s"),
        (
            "memory per device",
            f"{compiled.peak / GIB:.2f} GiB at its peak: state and batch {compiled.arguments / GIB:.2f}, "
            f"temporary {compiled.temporary / GIB:.2f}",
        ),
        (
            "operations per step",
            f"{work.model / 1e12:,.2f} TFLOP, with recomputation {work.executed / 1e12:,.2f}",
        ),
    ]
    for kind, (number, size) in sorted(compiled.collectives.items()):
        rows.append((kind, f"{number:,} a step, {size / 2**20:,.1f} MiB of results on each device"))
    if not compiled.collectives:
        rows.append(("communication", "none"))
    if chip is not None:
        seconds = work.model / (mfu * chip.flops * len(devices))
        rate = config.batch_size / seconds
        rows.append(
            (
                "expected time",
                f"{seconds:.3f} s a step, {rate:,.0f} images/s, {rate / len(devices):,.0f} a chip, "
                f"at an assumed {mfu:.0%} of {chip.flops / 1e12:,.0f} TFLOP/s (bfloat16, dense)",
            )
        )
    limit = memory_of(devices[0], chip)
    if limit is None:
        rows.append(("fits", "unknown: this device does not say how much memory it has"))
    else:
        fits = compiled.peak <= limit
        rows.append(
            ("fits", f"{'yes' if fits else 'NO'}: {compiled.peak / limit:.0%} of {limit / GIB:.1f} GiB")
        )
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}s}  {value}" for name, value in rows)


def memory_of(device: jax.Device, chip: flops.Chip | None) -> int | None:
    """Bytes that a device may use: its own word, else its maker's; for a CPU its share of the host's."""
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // len(jax.devices())
    with contextlib.suppress(NotImplementedError, AttributeError, jax.errors.JaxRuntimeError):
        limit = (device.memory_stats() or {}).get("bytes_limit")
        if limit:
            return limit
    return chip.memory if chip else None


def too_large(message: str) -> str:
    """The sentence of the compiler's message that says how much memory was wanted."""
    wanted = re.search(r"[^.\n]*(?:Used|Ran out of memory|exceed)[^\n]*", message)
    return (wanted[0] if wanted else message.splitlines()[0]).strip()
