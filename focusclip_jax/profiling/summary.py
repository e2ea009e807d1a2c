"""The numbers of a profile, by part, pass and kind, and the sentence that says what limits the step."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from focusclip_jax import dry_run, flops, meter
from focusclip_jax.models.focusclip import Architecture
from focusclip_jax.profiling.program import COLLECTIVE, COPY, KINDS, MATMUL, OTHER_MATHS, PARTS, Operation
from focusclip_jax.profiling.steps import BLOCKED, PUTTING, SPANS, WAITING
from focusclip_jax.profiling.trace import Events

IDLE_SHARE, WAIT_SHARE, MOST = 0.1, 0.05, 0.25  # from which on something is called the bottleneck


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

    meanings: as `times_of` takes them. lengths, seconds: from `take_steps`.
    """
    steps, step = len(lengths), seconds["all"] / len(lengths)
    times, counts = times_of(events, meanings)
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


def times_of(
    events: Events, meanings: Sequence[Mapping[str, Operation]]
) -> tuple[dict[Operation, float], dict[Operation, int]]:
    """Seconds of all devices together, and events, by what the instructions are.

    meanings: of each program, in the order in which they first ran. Where the trace tells another number of
    programs apart, an instruction is what the first program with one of its name says.
    """
    order = list(dict.fromkeys(program for _, program, *_ in events.operations))
    known = dict(zip(order, meanings, strict=True)) if len(order) == len(meanings) else {}
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
    return times, counts


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
        if again >= 0.1 and summary["remat"] != "none":
            fewer = {"full": "dots saves most of, and none all", "dots": "none saves"}[summary["remat"]]
            lever = (
                f"{again:.0%} is recomputation, which --config.model.remat={fewer}, where memory allows it"
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
