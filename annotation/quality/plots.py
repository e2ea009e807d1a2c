"""The report's pictures. They are drawn without a display and need nothing but matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from annotation.quality.report import Groups, Measures

_INK, _GRID = "#222222", "#dddddd"
_CONFIRMED, _UNDECIDED, _CONTRADICTED, _BAR = "#3b7d4f", "#c9c9c9", "#b5403a", "#3f6fa3"
_PLAIN: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
}
_ROW = 0.34  # inches for a source


def write(groups: Groups, summary: dict[str, Any], out: Path) -> list[Path]:
    """lengths.png, style.png and joints.png in `out`."""
    rows = [row for row in summary["groups"] if row["captions"]]
    paths = []
    with matplotlib.rc_context(_PLAIN):
        for name, figure in (
            ("lengths", _lengths(groups, rows)),
            ("style", _style(rows)),
            ("joints", _joints(rows)),
        ):
            path = out / f"{name}.png"
            partial = path.with_name(f"{path.name}.partial")
            figure.savefig(partial, dpi=130, format="png")
            partial.replace(path)
            paths.append(path)
    return paths


def label(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The source; with its split where there are several."""
    several = len({r["split"] for r in rows}) > 1
    return f"{row['source']} · {row['split']}" if several else row["source"]


def _lengths(groups: Groups, rows: list[dict[str, Any]]) -> Figure:
    """A histogram of words a caption for every source, below one another on one scale."""
    figure = Figure(figsize=(7, 0.9 + 0.95 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    longest = max(row["words"]["max"] for row in rows)
    bins = np.linspace(0, longest + 1, 61)
    for axis, row in zip(axes, rows, strict=True):
        words = groups[row["split"], row["source"]].table()[:, Measures._fields.index("words")]
        axis.hist(words, bins, color=_BAR)
        axis.axvline(row["words"]["mean"], color=_INK, linewidth=1)
        spread = f"{row['words']['mean']:.0f} ± {row['words']['std']:.0f}"
        axis.set_title(f"{label(row, rows)}: {row['captions']:,} captions, {spread} words")
        axis.set_yticks([])
        axis.spines["left"].set_visible(False)
    axes[-1].set_xlabel("words in a caption")
    return figure


def _style(rows: list[dict[str, Any]]) -> Figure:
    """One panel for every measure of style, a bar for every source."""
    panels = {
        "Flesch-Kincaid grade": [row["flesch_kincaid_grade"]["mean"] for row in rows],
        "MTLD (lexical diversity)": [row["mtld"]["mean"] for row in rows],
        "repeated 3-grams": [row["repeated_ngrams"]["3"] for row in rows],
        "similarity of captions": [row["style_similarity"] for row in rows],
        "coherence of sentences": [row["sentence_coherence"] for row in rows],
        "gendered words / 1000": [row["gendered_words"]["per_1000_words"] for row in rows],
    }
    figure = Figure(figsize=(10, 2 * (0.8 + _ROW * len(rows))), layout="constrained")
    axes = figure.subplots(2, 3, sharey=True)
    for axis, (title, values) in zip(axes.flat, panels.items(), strict=True):
        axis.set_title(title)
        _bars(axis, rows, [0 if value is None else value for value in values])
        for y, value in enumerate(values):
            said = "–" if value is None else f"{value:.3g}"
            axis.annotate(said, (value or 0, y), (3, 0), textcoords="offset points", va="center", fontsize=8)
        low, high = min(0, *(value or 0 for value in values)), max(value or 0 for value in values)
        axis.set_xlim(low, low + 1.2 * (high - low) or 1)
    return figure


def _joints(rows: list[dict[str, Any]]) -> Figure:
    """What the joints say to the claims, and the sides that captions speak of."""
    figure = Figure(figsize=(9, 1.3 + _ROW * len(rows)), layout="constrained")
    claims, sides = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    start = np.zeros(len(rows))
    for verdict, colour in (
        ("confirmed", _CONFIRMED),
        ("undecided", _UNDECIDED),
        ("contradicted", _CONTRADICTED),
    ):
        totals = [sum(row["claims"][v] for v in ("confirmed", "contradicted", "undecided")) for row in rows]
        shares = np.array(
            [row["claims"][verdict] / max(total, 1) for row, total in zip(rows, totals, strict=True)]
        )
        _bars(claims, rows, shares, start, colour, verdict)
        start += shares
    claims.set_xlim(0, 1)
    claims.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1))
    claims.set_title("claims about arms and legs, held against the joints", pad=20)
    claims.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=8, borderpad=0)
    _bars(sides, rows, [row["left_and_right"]["left_share"] or 0 for row in rows])
    sides.axvline(0.5, color=_INK, linewidth=1)
    sides.set_xlim(0, 1)
    sides.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1))
    sides.set_title("“left” among “left” and “right”", pad=20)
    return figure


def _bars(
    axis: Axes,
    rows: list[dict[str, Any]],
    widths,
    start=0.0,
    colour: str = _BAR,
    name: str | None = None,
) -> None:
    axis.barh(range(len(rows)), widths, 0.7, left=start, color=colour, label=name)
    axis.set_yticks(range(len(rows)), [label(row, rows) for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.grid(axis="x", color=_GRID)
    axis.tick_params(axis="y", length=0)
