"""What a measurement ran on, in one line, for the head of every table."""

from __future__ import annotations

import os
import pathlib
import platform


def describe() -> str:
    """Processor, cores that this process may use, memory, Python, and how busy the machine was just now."""
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    python = platform.python_version()
    return f"{_processor()}, {cores} cores, {gib:.0f} GiB, Python {python}, load {load:.1f} before the start"


def _processor() -> str:
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """Rows as text in columns: the first to the left, figures to the right."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if n else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )
