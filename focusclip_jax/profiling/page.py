"""A profile's summary as one page of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def page(summary: Mapping[str, Any]) -> str:
    """The one-page summary, Markdown. summary: as `run.run` returns it."""
    lengths = ", ".join(f"{count} of {tokens}" for tokens, count in summary["tokens"].items())
    compiled = ", ".join(f"{s:.1f} s ({tokens} tokens)" for tokens, s in summary["compile_seconds"].items())
    paragraphs = [
        f"# Where a step's time goes: {summary['name']}",
        f"**{summary['bottleneck']}**",
        f"{summary['devices']}, {summary['processes']} process(es), {summary['cores']} cores, jax "
        f"{summary['jax']}; {summary['steps']} steps of {summary['batch']:,} images, {summary['dtype']}, "
        f"padded texts (tokens): {lengths}; {summary['images_per_second_per_chip']:,.1f} images/s a chip.",
        _table(("a step", "ms", "of the step"), _host_and_device(summary)),
        *_notes(summary),
        _table(("part of the model", "forward", "backward", "recomputed", "of device time"), _parts(summary)),
        _table(("kind of operation", "ms a step", "of device time"), _kinds(summary)),
        _table(
            ("operation", "part", "pass", "kind", "times a step", "ms a step", "of device time"),
            _largest(summary),
        ),
        _arithmetic(summary),
        _memory(summary["memory"]),
        f"Compilation: {compiled}.",
        f"The trace: {summary['trace']} for XProf, and perfetto_trace.json.gz beside it for "
        "https://ui.perfetto.dev.",
    ]
    return "\n\n".join(paragraphs) + "\n"


def _host_and_device(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    step = summary["step_ms"]
    idle = max(0.0, step - summary["device_busy_ms"])
    host = [(f"host: {name}", f"{ms:,.1f}", f"{ms / step:.0%}") for name, ms in summary["host_ms"].items()]
    rest = step - sum(summary["host_ms"].values())
    return [
        ("**step**", f"**{step:,.1f}**", ""),
        *host,
        ("host: the rest of the loop", f"{rest:,.1f}", f"{rest / step:.0%}"),
        ("device: busy", f"{summary['device_busy_ms']:,.1f}", f"{1 - idle / step:.0%}"),
        ("device: idle", f"{idle:,.1f}", f"{idle / step:.0%}"),
    ]


def _parts(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            name.replace("_", " "),
            *(f"{ms:,.1f}" if ms else "" for ms in passes.values()),
            _of_device(summary, sum(passes.values())),
        )
        for name, passes in summary["parts_ms"].items()
        if sum(passes.values()) > 0
    ]


def _kinds(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [(kind, f"{ms:,.1f}", _of_device(summary, ms)) for kind, ms in summary["kinds_ms"].items() if ms]


def _largest(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            op["primitive"],
            op["part"].replace("_", " "),
            op["direction"],
            op["kind"],
            f"{op['times']:,.0f}",
            f"{op['ms']:,.1f}",
            _of_device(summary, op["ms"]),
        )
        for op in summary["top"]
    ]


def _of_device(summary: Mapping[str, Any], ms: float) -> str:
    return f"{ms / max(1e-9, summary['device_ms']):.0%}"


def _arithmetic(summary: Mapping[str, Any]) -> str:
    rate = f"{summary['teraflops_per_second_per_chip']:,.3g} TFLOP/s a chip"
    peak = (
        f"MFU {summary['mfu']:.1%} of its dense bfloat16 peak"
        if "mfu" in summary
        else "no MFU: no peak is published for this device"
    )
    return (
        f"Arithmetic: {summary['teraflop_per_step']:.3g} TFLOP a step, forward and backward once "
        f"({summary['image_encodes']} image and {summary['text_encodes']} text encodes an example, at the "
        f"lengths above): {rate}; {peak}."
    )


def _memory(memory: Mapping[str, float]) -> str:
    used = (
        f"{memory['device_memory_gib']:.2f} GiB on the fullest device"
        if "device_memory_gib" in memory
        else f"{memory['host_memory_gib']:.2f} GiB of the host by this process"
    )
    planned = memory.get("planned_device_gib")
    plan = f"; the compiler plans {planned:.2f} GiB a device" if planned else ""
    return f"Memory: at most {used}{plan}."


def _notes(summary: Mapping[str, Any]) -> list[str]:
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
