"""A run as one page that needs nothing else: results, curves, pictures, settings, and what it was made from.

`write` makes `report.html` in a workdir; of several workdirs it also makes a page of all, side by side.
Everything that is read from a workdir is text to this package and is escaped; pictures are inside the page.
"""

from __future__ import annotations

import datetime
import math
import pathlib
import re
from collections.abc import Sequence

import focusclip_jax
from focusclip_jax.files import write_text
from focusclip_jax.page import curves, origin, pictures, results
from focusclip_jax.page.layout import run_name
from focusclip_jax.page.record import Record, labelled, read
from pages import chart
from pages.document import document
from pages.markup import Markup, element

STYLE = chart.STYLE + (pathlib.Path(__file__).parent / "page.css").read_text("utf-8")


def write(workdirs: Sequence[pathlib.Path]) -> pathlib.Path:
    """Write `report.html` into each workdir, and where there are several a page of all into the first one.

    Returns the path of that page, or of the only one. Raises UserError as `record.read` does.
    """
    records = [read(workdir) for workdir in workdirs]
    for record in records:
        path = record.folder / "report.html"
        write_text(path, page([record]))
    if len(records) > 1:
        names = [re.sub(r"[^\w.-]+", "-", workdir.resolve().name) for workdir in workdirs[1:]]
        path = workdirs[0] / f"report-beside-{'-'.join(names)}.html"
        write_text(path, page(labelled(records)))
    return path


def page(records: Sequence[Record]) -> str:
    """The HTML of one run, or of several in columns. Its footer says its own weight."""
    sections = [
        ("results", "Results", results.section(records)),
        ("curves", "Curves", curves.section(records)),
        *pictures.sections(records),
        ("throughput", "Throughput", origin.throughput(records)),
        ("settings", "Settings", origin.settings(records)),
        ("origin", "Data, code and machine", origin.provenance(records)),
    ]
    sections = [(name, title, content) for name, title, content in sections if content]
    title = " beside ".join(record.label for record in records)
    several = len(records) > 1
    body = (
        element(
            "header",
            element(
                "h1",
                *_beside([run_name(n, record, several) for n, record in enumerate(records, 1)]),
            ),
            element("span", "FocusCLIP-JAX", class_="faint small"),
        ),
        element(
            "nav",
            *(element("a", title, href=f"#{name}") for name, title, _ in sections),
            aria_label="sections",
        ),
        element("main", results.tiles(records), *(_section(*section) for section in sections)),
    )
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")

    def whole(weight: str) -> str:
        footer = (
            f"Written {made} by FocusCLIP-JAX {focusclip_jax.__version__} from "
            f"{', '.join(str(record.folder) for record in records)}. This page is one file of {weight} and "
            "asks for nothing else."
        )
        return document(title, *body, element("footer", footer), style=STYLE, script=chart.SCRIPT).html

    size = len(whole("0,000 kB").encode())
    return whole(f"{math.ceil(size / 1000):,} kB")


def _section(name: str, title: str, content: Sequence[Markup]) -> Markup:
    return element("section", element("h2", title), *content, id=name)


def _beside(names: Sequence[Markup]) -> list[Markup]:
    return [part for name in names for part in (Markup(" beside "), name)][1:]
