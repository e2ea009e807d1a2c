"""Points with intervals, a row for each method: how far apart the methods are, and how far the seeds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from focusclip_jax.ablation.statistics import Interval
from focusclip_jax.files import replacing
from focusclip_jax.plots import BLUE, FAINT, INK, RED, STYLE


@dataclasses.dataclass(frozen=True)
class Panel:
    """names: one a row. intervals: of each. seeds: the mean of each seed, for each row. All are shares.

    line: where chance or no difference is. unit: of the axis, whose numbers are shares times 100.
    """

    names: Sequence[str]
    intervals: Sequence[Interval]
    seeds: Sequence[Sequence[float]]
    line: float
    unit: str


@mpl.rc_context(STYLE)
def draw(path: Path, rows: Mapping[str, Mapping[str, Panel]]) -> Path:
    """rows: title → panels by title, as many in each row."""
    columns = max(len(panels) for panels in rows.values())
    tallest = max(len(panel.names) for panels in rows.values() for panel in panels.values())
    figure = Figure(figsize=(1.2 + 2.9 * columns, len(rows) * (1.2 + 0.3 * tallest)))
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for of_row, (row_title, panels) in zip(axes, rows.items(), strict=True):
        named = None
        for ax, (title, panel) in zip(of_row, panels.items(), strict=True):
            _points(ax, panel)
            # The names stand once, as long as they stay the same.
            ax.set_yticks(range(len(panel.names)), [] if panel.names == named else panel.names)
            ax.set_title(title)
            named = panel.names
        of_row[0].set_ylabel(row_title, fontsize=10)
    FigureCanvasAgg(figure)  # no window system, whatever the user's settings say
    with replacing(path) as temporary:
        figure.savefig(temporary)
    return path


def _points(ax: Axes, panel: Panel) -> None:
    ax.axvline(100 * panel.line, color=FAINT, linewidth=1)
    for y, (interval, seeds) in enumerate(zip(panel.intervals, panel.seeds, strict=True)):
        ax.plot([100 * value for value in seeds], [y + 0.24] * len(seeds), "|", color=INK, markersize=6)
        bounded = math.isfinite(interval.half_width)
        apart = bounded and interval.low > panel.line
        ax.errorbar(
            100 * interval.mean,
            y,
            xerr=100 * interval.half_width if bounded else None,
            fmt="o",
            color=BLUE if apart else RED,
            markerfacecolor=BLUE if apart else "white",  # filled: the interval lies above the line
            capsize=3,
            markersize=5,
        )
    ax.set_ylim(len(panel.names) - 0.5, -0.5)
    ax.set_xlabel(panel.unit)
