"""Tables as text: columns for a terminal, pipes for Markdown, numbers as they are written in both."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

WIDTH = 110


def aligned(rows: Sequence[Sequence[str]], left: int = 2) -> list[str]:
    """Columns padded to their widest cell: the first `left` to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pad = [str.ljust] * left + [str.rjust] * (len(widths) - left)
    return [
        "  ".join(p(cell, w) for p, cell, w in zip(pad, row, widths, strict=True)).rstrip() for row in rows
    ]


def pipes(rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, padded so that it also reads as text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def filled(paragraphs: Sequence[str]) -> list[str]:
    """Each paragraph in lines of at most `WIDTH`."""
    return [textwrap.fill(paragraph, WIDTH, break_long_words=False) for paragraph in paragraphs]


def percent(share: float | None, digits: int = 1) -> str:
    """A share in [0, 1] in %, "-" for None."""
    return "-" if share is None else f"{100 * share:.{digits}f}"


def interval(bounds: tuple[float, float]) -> str:
    """Two shares as "[12.3, 14.5]", in %."""
    return f"[{', '.join(map(percent, bounds))}]"
