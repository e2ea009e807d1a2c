"""The verb `profile`: real training steps under JAX's profiler, and one page that says where their time goes.

    ./launch.sh profile --config=configs/focusclip_tiny.py --steps=20 --out=profiles/tiny

The loader, the shards and the compiled step are those of training; the parameters are random, which changes
no time. Nothing but the folder of --out is written, no workdir is touched. With several processes all take
the steps, and the first one traces and sums up its own devices.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import glob
import json
import os
import pathlib
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.profiler import ProfileData
from ml_collections import ConfigDict
from tqdm import tqdm

from focusclip_jax import compilation, distributed, dry_run, flops, meter, sharding, state
from focusclip_jax import config as configs
from focusclip_jax import optimizer as optimizers
from focusclip_jax.data.loader import train_batches
from focusclip_jax.data.shards import Shards
from focusclip_jax.data.text import TokenTable
from focusclip_jax.errors import UserError
from focusclip_jax.files import write_text
from focusclip_jax.models.focusclip import Architecture
from focusclip_jax.run import check_inputs, loader_settings, settle_tokenizer
from focusclip_jax.step import make_train_step, put
from focusclip_jax.workdir import Workdir

WARM_UP = 3  # steps before the trace: the first allocate, and the loader fills its queue

# What the host does in a step, in this order; each is a span of the trace.
WAITING, PUTTING, STARTING, BLOCKED = (
    "wait for a batch",
    "host to device",
    "start the step",
    "wait for the device",
)
SPANS = (WAITING, PUTTING, STARTING, BLOCKED)

# `jax.named_scope`s of the model and of the step.
PARTS = ("image_tower", "text_tower", "highlight", "loss", "optimizer")
MATMUL, OTHER_MATHS, COPY, COLLECTIVE = (
    "matrix products",
    "element-wise and reductions",
    "copies",
    "collectives",
)
KINDS = (MATMUL, OTHER_MATHS, COPY, COLLECTIVE)

IDLE_SHARE, WAIT_SHARE, MOST = 0.1, 0.05, 0.25  # from which on something is called the bottleneck


@dataclasses.dataclass(frozen=True)
class Operation:
    """What a compiled instruction is: its part of the model, pass, kind, and the primitive it came from."""

    part: str
    direction: str
    kind: str
    primitive: str


@dataclasses.dataclass(frozen=True)
class Events:
    """Of a trace. operations: (device, program id, instruction, start, seconds of its own), in order of time.

    busy: seconds in which a device ran anything, a mean over the `devices` seen. overlap: seconds in which a
    batch was handed over while the first of them was busy.
    """

    operations: list[tuple[str, str, str, float, float]]
    busy: float
    devices: int
    overlap: float


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="profile", description="Trace real training steps and say what limits them.", add_help=False
    )
    parser.add_argument("--steps", type=int, default=10, help="steps to trace (10)")
    parser.add_argument("--out", default="", help="folder of the trace and its summary (profiles/NAME)")
    parser.add_argument("-h", "--help", action="help")
    options, rest = parser.parse_known_args(arguments)
    if options.steps < 1:
        raise UserError(f"--steps={options.steps}: expected at least 1")
    if any(argument.split("=")[0] == "--workdir" for argument in rest):
        raise UserError("--workdir: profile touches no workdir; its trace and summary go to --out=DIR")
    configs.define_flags()
    config, root = configs.parse(rest)
    distributed.initialize()
    compilation.use_cache()
    out = pathlib.Path(options.out or f"profiles/{root.name}")
    with distributed.ending_together(lambda: "nothing was saved"), distributed.only_first_speaks():
        summary = run(config, out, options.steps)
        if distributed.is_first():
            write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")
            write_text(out / "summary.md", page(summary))
            print(page(summary))


def run(config: ConfigDict, out: pathlib.Path, steps: int) -> dict[str, Any]:
    """Take the steps and return what `page` shows. Raises UserError for what training would refuse."""
    config = config.copy_and_resolve_references()
    for part in ("clip", "image", "text"):
        config.weights[part] = "none"
    check_inputs(config)
    mesh = sharding.make_mesh(config.mesh.data, config.mesh.fsdp)
    sharding.check_batch(config, mesh)
    shards = Shards.open(config.data.train, "train")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={out}: cannot be written ({error.strerror})") from None
    with distributed.first_before_others():
        tokenizer = settle_tokenizer(config, Workdir(out), shards)
        table = TokenTable.build(shards, tokenizer, config.text.context, out / "cache")
    arch = state.architecture(config, tokenizer.vocab_size)
    optimizer = optimizers.make(config.optimizer, config.steps)
    abstract = state.abstract(arch, optimizer, mesh)
    update = make_train_step(state.graph_of(arch), optimizer, abstract, mesh, config)
    batches = train_batches(
        shards,
        table,
        loader_settings(config),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    with contextlib.closing(batches):
        programs, compiling = compile_all(update, abstract, batches, mesh, config)
        current = state.initial(arch, optimizer, mesh, config.seed)
        where = out / "trace"
        lengths, seconds = take_steps(programs, current, batches, mesh, steps, where)
    if not distributed.is_first():
        return {}
    events = read(newest(where))
    meanings = [meanings_of(programs[tokens].as_text() or "") for tokens in dict.fromkeys(lengths)]
    return summarise(config, arch, mesh, events, meanings, lengths, seconds) | {
        "compile_seconds": compiling,
        "memory": memory_of(mesh, programs),
        "trace": str(newest(where)),
    }


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


def newest(where: pathlib.Path) -> pathlib.Path:
    """The XPlane file of the last trace in a folder."""
    found = glob.glob(str(where / "plugins" / "profile" / "*" / "*.xplane.pb"))
    return pathlib.Path(max(found, key=os.path.getmtime))


def read(path: pathlib.Path) -> Events:
    """What the devices did in a trace.

    GPUs and TPUs have planes of their own ("/device:GPU:0", lines "Stream …"; "/device:TPU:0", line
    "XLA Ops"). CPU devices run in threads of the host; their operations are told by the stat `hlo_op`.
    """
    operations, uploads = [], []
    running: dict[str, list[tuple[float, float]]] = collections.defaultdict(list)
    for plane in ProfileData.from_file(str(path)).planes:
        on_device = re.match(r"/device:(GPU|TPU):\d+$", plane.name)
        if not on_device and plane.name != "/host:CPU":
            continue
        for line in plane.lines:
            if on_device and not line.name.startswith(("XLA Ops", "Stream")):
                continue
            mine = []
            for event in line.events:
                start, end = event.start_ns / 1e9, (event.start_ns + event.duration_ns) / 1e9
                if not on_device and event.name == PUTTING:
                    uploads.append((start, end))
                    continue
                stats = dict(event.stats)
                if not on_device and "hlo_op" not in stats:
                    continue
                if "train_step" not in str(stats.get("hlo_module", "train_step")):
                    continue
                device = plane.name if on_device else f"CPU:{stats.get('device_ordinal', 0)}"
                name = str(stats.get("hlo_op") or event.name.lstrip("%").split(" = ")[0])
                mine.append((start, end, device, str(stats.get("program_id", "")), name))
            for start, end, device, *_ in mine:
                running[device].append((start, end))
            operations += [
                (device, program, name, start, own) for (start, _, device, program, name), own in alone(mine)
            ]
    merged = {device: union(intervals) for device, intervals in running.items()}
    busy = sum(length(intervals) for intervals in merged.values())
    first = next(iter(merged.values()), [])
    return Events(
        sorted(operations, key=lambda operation: operation[3]),
        busy / max(1, len(merged)),
        len(merged),
        shared(union(uploads), first),
    )


def alone(events: Iterable[tuple]) -> list[tuple[tuple, float]]:
    """Each (start, end, …) of a line with its length less that of those inside it: a loop holds its body."""
    result: list[list[Any]] = []
    open_: list[int] = []
    for event in sorted(events, key=lambda event: (event[0], -event[1])):
        while open_ and result[open_[-1]][0][1] <= event[0]:
            open_.pop()
        if open_:
            outer = result[open_[-1]]
            outer[1] -= min(event[1], outer[0][1]) - event[0]
        result.append([event, event[1] - event[0]])
        open_.append(len(result) - 1)
    return [(event, max(0.0, own)) for event, own in result]


def union(intervals: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same time in intervals that do not overlap, rising."""
    merged: list[tuple[float, float]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def length(intervals: Sequence[tuple[float, float]]) -> float:
    return sum(end - start for start, end in intervals)


def shared(a: Sequence[tuple[float, float]], b: Sequence[tuple[float, float]]) -> float:
    """Seconds that two unions have in common."""
    return length(a) + length(b) - length(union([*a, *b]))


_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (?:\(.*?\)|\S+) ([a-z][\w\-]*)\(")
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_CALLS = re.compile(r"\b(?:calls|to_apply)=%?([\w.\-]+)")
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_PRODUCTS = re.compile(r"gemm|matmul|dot|conv|fmha|attention", re.IGNORECASE)
_COLLECTIVES = re.compile(r"(all-reduce|all-gather|reduce-scatter|all-to-all|collective)")
_COPIES = re.compile(r"(copy|transpose|bitcast|reshape|concatenate|slice|pad|send|recv)(-start|-done)?$")


def meanings_of(text: str) -> dict[str, Operation]:
    """instruction → what it is, for a compiled program's text. A fusion is what its instructions are."""
    lines: dict[str, list[tuple[str, str, str]]] = collections.defaultdict(list)
    here = ""
    for line in text.splitlines():
        if head := _HEAD.match(line):
            here = head[1]
        elif found := _INSTRUCTION.match(line):
            lines[here].append((found[1], found[2], line))

    def inside(line: str) -> list[tuple[str, str, str]]:
        called = _CALLS.search(line)
        return [
            part for one in (lines.get(called[1], []) if called else []) for part in (one, *inside(one[2]))
        ]

    def kind_of(opcode: str, line: str) -> str:
        target = _TARGET.search(line)
        if _COLLECTIVES.match(opcode):
            return COLLECTIVE
        if opcode in ("dot", "convolution") or (target and _PRODUCTS.search(target[1])):
            return MATMUL
        return COPY if _COPIES.match(opcode) else OTHER_MATHS

    meanings = {}
    for instructions in list(lines.values()):
        for name, opcode, line in instructions:
            body = inside(line) if opcode in ("fusion", "call", "async-start") else []
            kinds = {kind_of(opcode, line) for _, opcode, line in body if opcode not in _WIRES}
            if not kinds:
                kinds = {kind_of(opcode, line)}
            kind = next(kind for kind in (MATMUL, COLLECTIVE, OTHER_MATHS, COPY) if kind in kinds)
            names = [found[1] for one in (line, *(one[2] for one in body)) if (found := _OP_NAME.search(one))]
            source = next((one for one in names if part_of(one)), names[0] if names else "")
            primitive = source.rsplit("/", 1)[-1] or opcode
            meanings[name] = Operation(part_of(source) or "other", direction_of(source), kind, primitive)
    return meanings


_WIRES = ("parameter", "constant", "tuple", "get-tuple-element", "broadcast", "bitcast", "iota", "convert")


def part_of(op_name: str) -> str:
    """The innermost of `PARTS` in the path of a primitive, "" where there is none."""
    found = re.findall("|".join(PARTS), op_name)
    return found[-1] if found else ""


def direction_of(op_name: str) -> str:
    """Pass that a primitive belongs to, by what JAX's transformations write into its path."""
    if "rematted_computation" in op_name:
        return "recomputed"
    return "backward" if "transpose(" in op_name else "forward"


def summarise(
    config: ConfigDict,
    arch: Architecture,
    mesh,
    events: Events,
    meanings: Sequence[Mapping[str, Operation]],
    lengths: Sequence[int],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The numbers of the page, times in milliseconds a step and shares of the step or of the device's time.

    meanings: of each program, in the order in which they first ran. seconds: from `take_steps`.
    """
    steps, step = len(lengths), seconds["all"] / len(lengths)
    order = list(dict.fromkeys(program for _, program, *_ in events.operations))
    known = dict(zip(order, meanings, strict=False)) if len(order) == len(meanings) else {}
    everything = {name: meaning for one in meanings[::-1] for name, meaning in one.items()}
    unknown = Operation("other", "forward", OTHER_MATHS, "unknown")
    times: dict[Operation, float] = collections.defaultdict(float)
    counts: collections.Counter[Operation] = collections.Counter()
    for _, program, name, _, own in events.operations:
        operation = known.get(program, everything).get(name, unknown)
        if name.startswith("Memcpy"):
            operation = Operation("other", "forward", COPY, name)
        times[operation] += own
        counts[operation] += 1
    scale = 1e3 / steps / max(1, events.devices)
    device = {operation: scale * own for operation, own in times.items()}
    kind_of_device = mesh.devices.flat[0].device_kind
    work = np.mean([flops.of_step(arch, config, tokens).model for tokens in lengths])
    summary: dict[str, Any] = {
        "name": config.name,
        "platform": mesh.devices.flat[0].platform,
        "devices": f"{mesh.size} × {kind_of_device}",
        "processes": jax.process_count(),
        "jax": jax.__version__,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "steps": steps,
        "batch": config.batch_size,
        "tokens": dict(sorted(collections.Counter(map(str, lengths)).items())),
        "image_encodes": flops.image_encodes(config),
        "text_encodes": config.data.captions,
        "dtype": config.model.dtype,
        "remat": config.model.remat,
        "threads": config.data.threads,
        "workers": config.data.workers,
        "step_ms": 1e3 * step,
        "host_ms": {name: 1e3 * seconds[name] / steps for name in SPANS},
        "device_busy_ms": 1e3 * events.busy / steps,
        "device_ms": sum(device.values()),
        "upload_overlap": events.overlap / max(1e-12, seconds[PUTTING]),
        "images_per_second_per_chip": config.batch_size / step / mesh.size,
        "teraflop_per_step": float(work / 1e12),
        **meter.utilisation(float(work) / step / mesh.size, kind_of_device),
        "kinds_ms": {kind: sum(t for op, t in device.items() if op.kind == kind) for kind in KINDS},
        "parts_ms": {
            part: {
                direction: sum(t for op, t in device.items() if (op.part, op.direction) == (part, direction))
                for direction in ("forward", "backward", "recomputed")
            }
            for part in (*PARTS, "other")
        },
        "top": [
            {**dataclasses.asdict(operation), "ms": device[operation], "times": counts[operation] / steps}
            for operation in sorted(times, key=lambda operation: -times[operation])[:12]
        ],
    }
    return summary | {"bottleneck": bottleneck(summary)}


def memory_of(mesh, programs) -> dict[str, float]:
    """GiB: what was in use at most (`meter.memory`), and what the compiler plans for the longest texts."""
    planned = programs[max(programs)].memory_analysis()
    sizes = {} if planned is None else {"planned_device_gib": planned.peak_memory_in_bytes / dry_run.GIB}
    return meter.memory(mesh.devices.flatten().tolist()) | sizes


def bottleneck(summary: Mapping[str, Any]) -> str:
    """One sentence: what limits the step, and what to turn. summary: as `summarise` makes it."""
    step, device = summary["step_ms"], max(1e-9, summary["device_ms"])
    idle = 1 - summary["device_busy_ms"] / step
    own = 1 - (summary["host_ms"][WAITING] + summary["host_ms"][BLOCKED]) / step  # the host's own work
    wait = summary["host_ms"][WAITING] / step
    shares = {kind: ms / device for kind, ms in summary["kinds_ms"].items()}
    again = sum(part["recomputed"] for part in summary["parts_ms"].values()) / device
    if wait >= WAIT_SHARE and idle >= WAIT_SHARE:
        return (
            f"Input-bound: the loop waits for batches {wait:.0%} of the time and the device is idle "
            f"{idle:.0%}; raise --config.data.threads (now {summary['threads']}, on {summary['cores']} "
            "cores), then --config.data.workers, or store the photos smaller (annotate pack --size)."
        )
    if idle >= IDLE_SHARE and own >= idle / 2:
        put_share = summary["host_ms"][PUTTING] / step
        lever = "--config.data.heatmap_on_device=True hands over less" if put_share > idle / 2 else ""
        return (
            f"Host-bound: the device is idle {idle:.0%} of the time though batches are ready "
            f"({put_share:.0%} goes to handing them over); a larger --config.batch_size gives it more to do"
            f"{', ' + lever if lever else ''}."
        )
    if shares[COLLECTIVE] >= MOST:
        return (
            f"Communication-bound: collectives take {shares[COLLECTIVE]:.0%} of the device's time; a larger "
            "batch per device (--config.batch_size), or --config.mesh.fsdp smaller where memory allows it."
        )
    if shares[MATMUL] >= 0.5:
        peak = f" at {summary['mfu']:.0%} of the chip's bfloat16 peak" if "mfu" in summary else ""
        lever = "fewer or shorter texts, larger patches or a smaller image are what is left"
        if again >= 0.1:
            lever = (
                f"{again:.0%} is recomputation that --config.model.remat=none saves where memory allows it"
            )
        elif summary["dtype"] == "float32" and summary["platform"] != "cpu":
            lever = "--config.model.dtype=bfloat16 multiplies several times as fast"
        return (
            f"Compute-bound: matrix products take {shares[MATMUL]:.0%} of the device's time{peak}; {lever}."
        )
    lever = "--config.model.dtype=bfloat16 halves it" if summary["dtype"] == "float32" else "see the trace"
    if summary["platform"] == "cpu":
        lever = "more or faster cores are the lever here, and on a GPU or TPU this share is smaller"
    return (
        f"Memory-bound: element-wise work, reductions and copies, which move more than they compute, take "
        f"{shares[OTHER_MATHS] + shares[COPY]:.0%} of the device's time and matrix products "
        f"{shares[MATMUL]:.0%}; {lever}."
    )


def page(summary: Mapping[str, Any]) -> str:
    """The one-page summary, Markdown."""
    step = summary["step_ms"]
    idle = max(0.0, step - summary["device_busy_ms"])
    host = [(f"host: {name}", f"{ms:,.1f}", f"{ms / step:.0%}") for name, ms in summary["host_ms"].items()]
    rest = step - sum(summary["host_ms"].values())
    split = [
        ("**step**", f"**{step:,.1f}**", ""),
        *host,
        ("host: the rest of the loop", f"{rest:,.1f}", f"{rest / step:.0%}"),
        ("device: busy", f"{summary['device_busy_ms']:,.1f}", f"{1 - idle / step:.0%}"),
        ("device: idle", f"{idle:,.1f}", f"{idle / step:.0%}"),
    ]
    device = max(1e-9, summary["device_ms"])
    parts = [
        (
            name.replace("_", " "),
            *(f"{ms:,.1f}" if ms else "" for ms in passes.values()),
            f"{sum(passes.values()) / device:.0%}",
        )
        for name, passes in summary["parts_ms"].items()
        if sum(passes.values()) > 0
    ]
    kinds = [(kind, f"{ms:,.1f}", f"{ms / device:.0%}") for kind, ms in summary["kinds_ms"].items() if ms]
    top = [
        (
            op["primitive"],
            op["part"].replace("_", " "),
            op["direction"],
            op["kind"],
            f"{op['times']:,.0f}",
            f"{op['ms']:,.1f}",
            f"{op['ms'] / device:.0%}",
        )
        for op in summary["top"]
    ]
    memory = summary["memory"]
    used = (
        f"{memory['device_memory_gib']:.2f} GiB on the fullest device"
        if "device_memory_gib" in memory
        else f"{memory['host_memory_gib']:.2f} GiB of the host by this process"
    )
    planned = memory.get("planned_device_gib")
    lengths = ", ".join(f"{count} of {tokens}" for tokens, count in summary["tokens"].items())
    rate = f"{summary['teraflops_per_second_per_chip']:,.3g} TFLOP/s a chip"
    peak = (
        f"MFU {summary['mfu']:.1%} of its dense bfloat16 peak"
        if "mfu" in summary
        else "no MFU: no peak is published for this device"
    )
    compiled = ", ".join(f"{s:.1f} s ({tokens} tokens)" for tokens, s in summary["compile_seconds"].items())
    paragraphs = [
        f"# Where a step's time goes: {summary['name']}",
        f"**{summary['bottleneck']}**",
        f"{summary['devices']}, {summary['processes']} process(es), {summary['cores']} cores, jax "
        f"{summary['jax']}; {summary['steps']} steps of {summary['batch']:,} images, {summary['dtype']}, "
        f"padded texts (tokens): {lengths}; {summary['images_per_second_per_chip']:,.1f} images/s a chip.",
        _table(("a step", "ms", "of the step"), split),
        *notes(summary),
        _table(("part of the model", "forward", "backward", "recomputed", "of device time"), parts),
        _table(("kind of operation", "ms a step", "of device time"), kinds),
        _table(("operation", "part", "pass", "kind", "times a step", "ms a step", "of device time"), top),
        f"Arithmetic: {summary['teraflop_per_step']:.3g} TFLOP a step, forward and backward once "
        f"({summary['image_encodes']} image and {summary['text_encodes']} text encodes an example, at the "
        f"lengths above): {rate}; {peak}.",
        f"Memory: at most {used}" + (f"; the compiler plans {planned:.2f} GiB a device." if planned else "."),
        f"Compilation: {compiled}.",
        f"The trace: {summary['trace']} for XProf, and perfetto_trace.json.gz beside it for "
        "https://ui.perfetto.dev.",
    ]
    return "\n\n".join(paragraphs) + "\n"


def notes(summary: Mapping[str, Any]) -> list[str]:
    """What a reader of the first table must know."""
    if summary["platform"] == "cpu":
        return [
            f"The device is this host's cores. Operations run side by side on them: all take "
            f"{summary['device_ms']:,.1f} ms a step together, which the shares below are of. "
            "A trace on CPU was seen to lack a part of the matrix products, more of the backward pass: "
            "passes are for GPU and TPU to compare."
        ]
    overlap = summary["upload_overlap"]
    return [f"While a batch is handed over, the device is busy for {overlap:.0%} of the time."]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with columns in line, so that it reads well as plain text too."""
    cells = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    numeric = [i > 0 and all(re.match(r"[*\d,.%-]*$", row[i]) for row in cells[1:]) for i in range(len(head))]
    lines = [
        "| "
        + " | ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True))
        + " |"
        for row in cells
    ]
    ends = [":" if n else "-" for n in numeric]
    rule = "|" + "|".join("-" * (w + 1) + end for w, end in zip(widths, ends, strict=True)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
