"""What the devices did, from the file that JAX's profiler wrote (XPlane, a protobuf)."""

from __future__ import annotations

import collections
import dataclasses
import glob
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from jax.profiler import ProfileData

from focusclip_jax.profiling.steps import PUTTING

HOST = "/host:CPU"  # the plane of the process itself


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
        if plane.name == HOST:
            uploads += [_interval(e) for line in plane.lines for e in line.events if e.name == PUTTING]
        for line in _lines_of_devices(plane):
            mine = [found for event in line.events if (found := _operation(event, plane.name))]
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


def _lines_of_devices(plane) -> list:
    """Lines that may hold operations of devices; all of the host's, whose threads are the CPU devices."""
    if plane.name == HOST:
        return list(plane.lines)
    if not re.match(r"/device:(GPU|TPU):\d+$", plane.name):
        return []
    return [line for line in plane.lines if line.name.startswith(("XLA Ops", "Stream"))]


def _operation(event, plane: str) -> tuple[float, float, str, str, str] | None:
    """(start, end, device, program id, instruction), or None for what is no operation of a training step."""
    stats = dict(event.stats)
    if plane == HOST and "hlo_op" not in stats:
        return None
    if "train_step" not in str(stats.get("hlo_module", "train_step")):  # copies name no module
        return None
    device = f"CPU:{stats.get('device_ordinal', 0)}" if plane == HOST else plane
    name = str(stats.get("hlo_op") or event.name.lstrip("%").split(" = ")[0])
    return (*_interval(event), device, str(stats.get("program_id", "")), name)


def _interval(event) -> tuple[float, float]:
    return event.start_ns / 1e9, (event.start_ns + event.duration_ns) / 1e9


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
