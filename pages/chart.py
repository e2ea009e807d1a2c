"""Line charts and intervals as inline SVG, legible without a script.

Every point has a tooltip of its own. `SCRIPT` adds a cursor: the legend then shows all values at one step.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from pages.markup import Markup, element

STYLE = (Path(__file__).parent / "chart.css").read_text("utf-8")
SCRIPT = (Path(__file__).parent / "chart.js").read_text("utf-8")
COLOURS = 6  # classes line-1 … line-6 of the style, each with its dashes
WIDTH, HEIGHT = 420, 210  # of a chart, in its own units
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 10, 38  # margins around the lines
MOST = 160  # points of a line
BAR = 120  # width of an interval's bar


@dataclasses.dataclass(frozen=True)
class Line:
    """points: (step, value), rising in step, finite, at least one. colour: from 1. level: a dotted height."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int
    level: float | None = None


def line_chart(title: str, lines: Sequence[Line], note: str = "") -> Markup:
    """A figure of lines over the step. note: what is to be known of them, such as a unit."""
    shown = [dataclasses.replace(line, points=thinned(line.points)) for line in lines]
    steps = [step for line in shown for step, _ in line.points]
    values = [value for line in shown for _, value in line.points]
    values += [line.level for line in shown if line.level is not None]
    x_ticks, y_ticks = ticks(min(steps), max(steps), 5), ticks(min(values), max(values), 4)
    x = _scale(min(steps), max(steps), LEFT, WIDTH - RIGHT)
    y = _scale(min(*y_ticks, *values), max(*y_ticks, *values), HEIGHT - BOTTOM, TOP)
    cut = sum(len(line.points) for line in lines) - sum(len(line.points) for line in shown)
    last = {line.points[-1][0] for line in shown}
    notes = [note] if note else []
    if cut:
        notes.append(f"{cut:,} points between the extremes are not drawn")
    svg = element(
        "svg",
        *(_grid(value, y) for value in y_ticks),
        *(_below(step, x) for step in x_ticks if min(steps) <= step <= max(steps)),
        element("text", "step", x=WIDTH - RIGHT, y=HEIGHT - 5, class_="axis", text_anchor="end"),
        *(_drawn(line, x, y) for line in shown),
        element("line", x1=0, x2=0, y1=TOP, y2=HEIGHT - BOTTOM, class_="cursor", visibility="hidden"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{title}: " + "; ".join(_summary(line) for line in lines),
    )
    return element(
        "figure",
        element(
            "figcaption",
            element("strong", title),
            element(
                "span",
                f"at step {number(*last)}" if len(last) == 1 else "last values",
                class_="at faint small",
            ),
        ),
        svg,
        element("ul", *(_key(line) for line in lines), class_="legend small"),
        element("p", "; ".join(notes), class_="faint small") if notes else None,
        class_="chart panel",
    )


def interval_bar(value: float, interval: tuple[float, float], marks: dict[str, float], top: float) -> Markup:
    """A value with its interval on a line from 0 to `top`, and ticks for what it is to be compared with.

    marks: name → position; the first two are told apart by their stroke.
    """
    x = _scale(0, top, 2, BAR - 2)
    low, high = (min(max(bound, 0), top) for bound in interval)
    words = [f"{number(value)} [{number(interval[0])}, {number(interval[1])}]"]
    words += [f"{name} {number(mark)}" for name, mark in marks.items()]
    return element(
        "svg",
        element("title", ", ".join(words)),
        element("line", x1=2, x2=BAR - 2, y1=9, y2=9, class_="ground"),
        *(
            element("line", x1=x(mark), x2=x(mark), y1=1, y2=17, class_=f"mark mark-{n}")
            for n, mark in enumerate(marks.values(), 1)
        ),
        element("line", x1=x(low), x2=x(high), y1=9, y2=9, class_="whisker"),
        element("circle", cx=x(value), cy=9, r=4.5),
        viewBox=f"0 0 {BAR} 18",
        width=BAR,
        height=18,
        role="img",
        class_="interval",
    )


def thinned(points: Sequence[tuple[float, float]], most: int = MOST) -> Sequence[tuple[float, float]]:
    """At most `most` of the points: of each stretch its least and its greatest value, and both ends."""
    if len(points) <= most:
        return points
    inner, stretches = points[1:-1], (most - 2) // 2
    kept = [points[0]]
    for n in range(stretches):
        stretch = inner[n * len(inner) // stretches : (n + 1) * len(inner) // stretches]
        extremes = {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
        kept += sorted(extremes)
    return [*kept, points[-1]]


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers, about so many, of which the first is at most `low` and the last at least `high`."""
    span = high - low
    if span <= 1e-9 * max(abs(low), abs(high)):  # a constant: one unit of its second digit around it
        span = 10.0 ** math.floor(math.log10(abs(low))) / 5 if low else 1.0
        low, high = low - span / 2, high + span / 2
    magnitude = 10.0 ** math.floor(math.log10(span / about))
    step = next(m * magnitude for m in (1, 2, 5, 10, 20) if span / (m * magnitude) <= about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{n * step:.12g}") for n in range(first, last + 1)]


def number(value: float) -> str:
    """As one reads it: 12,000, 0.0731, 5.2e-06."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _scale(low: float, high: float, start: float, end: float):
    span = (high - low) or 1.0
    return lambda value: round(start + (value - low) / span * (end - start), 1)


def _grid(value: float, y) -> Markup:
    at = y(value)
    return element(
        "g",
        element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="ground"),
        element("text", number(value), x=LEFT - 6, y=at + 4, class_="axis", text_anchor="end"),
    )


def _below(step: float, x) -> Markup:
    return element(
        "text", number(step), x=x(step), y=HEIGHT - BOTTOM + 16, class_="axis", text_anchor="middle"
    )


def _drawn(line: Line, x, y) -> Markup:
    positions = [(x(step), y(value)) for step, value in line.points]
    level = None
    if line.level is not None:
        at = y(line.level)
        level = element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="level")
    return element(
        "g",
        level,
        element("polyline", points=" ".join(f"{a},{b}" for a, b in positions)),
        *(
            element("circle", element("title", f"step {number(s)}: {number(v)}"), cx=a, cy=b, r=2.2)
            for (a, b), (s, v) in zip(positions, line.points, strict=True)
        ),
        class_=f"line {_colour(line)}{' sparse' if len(positions) <= 30 else ''}",
    )


def _key(line: Line) -> Markup:
    swatch = element(
        "svg",
        element("line", x1=0, x2=26, y1=5, y2=5),
        viewBox="0 0 26 10",
        width=26,
        height=10,
        aria_hidden="true",
    )
    return element(
        "li",
        swatch,
        element("bdi", line.name),
        element("output", number(line.points[-1][1]), class_="number"),
        class_=f"line {_colour(line)}",
    )


def _colour(line: Line) -> str:
    return f"line-{(line.colour - 1) % COLOURS + 1}"


def _summary(line: Line) -> str:
    (first, start), (last, end) = line.points[0], line.points[-1]
    return f"{line.name} {number(start)} at step {number(first)}, {number(end)} at step {number(last)}"
