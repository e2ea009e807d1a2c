"""What `metrics.jsonl` holds, as lines over the step."""

from __future__ import annotations

import math
from collections.abc import Sequence

from focusclip_jax.page.record import Record
from pages import chart
from pages.markup import Markup, element

# Panels of the curves of one run: title → what is drawn together, by its name in metrics.jsonl.
PANELS = {
    "training loss (nats)": ("loss", "image_text", "focus_text", "focus_image"),
    "validation loss (nats)": tuple(
        f"validation/{term}" for term in ("loss", "image_text", "focus_text", "focus_image")
    ),
    "cosines, validation": (
        "validation/positive_similarity",
        "validation/negative_similarity",
    ),
    "α, background that stays": ("alpha",),
    "temperature": ("temperature",),
    "learning rate": ("learning_rate",),
    "gradient norm": ("gradient_norm",),
    "images per second": ("images_per_second",),
    "waiting for data (%)": ("data_wait",),
}
ACCURACY = "zero-shot accuracy (%)"
# All but the first are images_per_second once more, or nearly constant.
UNDRAWN = {
    "step",
    "step_seconds",
    "images_per_second_per_chip",
    "teraflops_per_second_per_chip",
    "mfu",
    "device_memory_gib",
    "host_memory_gib",
}
NAMES = {
    "validation/positive_similarity": "own caption",
    "validation/negative_similarity": "others' captions",
}


def section(records: Sequence[Record]) -> list[Markup]:
    """Quantities of one run that belong together share a panel; of several runs each one has its own."""
    names = list(dict.fromkeys(name for record in records for row in record.rows for name in row))
    names = [name for name in names if not name.endswith("/chance") and name not in UNDRAWN]
    panels = {ACCURACY: tuple(name for name in names if name.startswith("zero_shot/"))} | PANELS
    known = {name for wanted in panels.values() for name in wanted}
    panels |= {name: (name,) for name in names if name not in known}
    if len(records) > 1:
        panels = {
            title if len(wanted) == 1 else f"{title}: {_quantity(name)}": (name,)
            for title, wanted in panels.items()
            for name in wanted
        }
    figures = []
    for title, wanted in panels.items():
        of_panel = [(record, name) for record in records for name in wanted]
        lines = [
            line
            for colour, (record, name) in enumerate(of_panel, 1)
            if (line := _line(record, name, 100.0 if "%" in title else 1.0, colour, len(records) > 1))
        ]
        if lines:
            dotted = any(line.level is not None for line in lines)
            figures.append(chart.line_chart(title, lines, "dotted: chance" if dotted else ""))
    if not figures:
        return []
    about = "Point at a line for its values at a step; the legends show the last ones."
    unfit = sum(not math.isfinite(value) for r in records for row in r.rows for value in row.values())
    if unfit:
        about += f" Left out: {unfit:,} values that are not finite numbers."
    return [element("p", about, class_="faint small"), element("div", *figures, class_="charts")]


def _line(record: Record, name: str, factor: float, colour: int, several: bool) -> chart.Line | None:
    """A quantity of a run, with the level of chance where that is logged; None where there are no values."""
    points = [(row["step"], factor * row[name]) for row in record.rows if name in row]
    points = [point for point in points if math.isfinite(point[1])]
    levels = [factor * row[f"{name}/chance"] for row in record.rows if f"{name}/chance" in row]
    if not points:
        return None
    title = record.label if several else _quantity(name)
    return chart.Line(title, points, colour, levels[-1] if levels else None)


def _quantity(name: str) -> str:
    return NAMES.get(name, name.split("/", 1)[-1].replace("_", " "))
