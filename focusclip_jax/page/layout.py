"""Pieces that every section of the page is made of."""

from __future__ import annotations

from collections.abc import Sequence

from focusclip_jax.page.record import Record
from pages import chart
from pages.markup import Markup, element

SHORT = 90  # characters of a value that is shown without being unfolded


def run_name(number: int, record: Record, several: bool) -> Markup:
    """The run's name, with its line as in the curves where there are several."""
    if not several:
        return element("bdi", record.label)
    line = element("line", x1=0, x2=26, y1=5, y2=5)
    swatch = element("svg", line, viewBox="0 0 26 10", width=26, height=10, aria_hidden="true")
    return element(
        "span",
        swatch,
        f"{number} ",
        element("bdi", record.label),
        class_=f"run line-{(number - 1) % chart.COLOURS + 1}",
    )


def columns(records: Sequence[Record], contents: Sequence[Markup | None]) -> Markup:
    """A column for each run, under its name where there are several."""
    if len(records) == 1:
        return element("div", *contents)
    columns = [
        element("div", element("p", run_name(n, record, True)), content)
        for n, (record, content) in enumerate(zip(records, contents, strict=True), 1)
    ]
    return element("div", *columns, class_="columns")


def folded(summary: str, *content: Markup) -> Markup:
    return element("details", element("summary", summary), *content)


def table(header: Sequence[str], rows: Sequence[Sequence[object]], kind: str) -> Markup:
    """kind: a class of the style, "results" or "words"."""
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:]))
        for row in rows
    ]
    head = element("tr", *(element("th", name, scope="col") for name in header))
    return element(
        "div",
        element("table", element("thead", head), element("tbody", *body), class_=kind),
        class_="wide",
    )


def facts_table(
    records: Sequence[Record],
    facts: Sequence[tuple[str, Sequence[object]]],
    mark: bool = True,
    first: Sequence[str] = ("",),
) -> Markup:
    """A table with a column for each run. mark: highlight the rows in which the runs differ."""
    several = len(records) > 1
    head = [
        *(element("th", name, scope="col") for name in first),
        *(element("th", run_name(n, record, several), scope="col") for n, record in enumerate(records, 1)),
    ]
    body = []
    for name, values in facts:
        differs = mark and several and len(set(map(str, values[-len(records) :]))) > 1
        body.append(
            element(
                "tr",
                element("th", name, " ≠" if differs else None, scope="row"),
                *(element("td", _value(value)) for value in values),
                class_="differs" if differs else None,
            )
        )
    table = element("table", element("thead", element("tr", *head)), element("tbody", *body), class_="words")
    return element("div", table, class_="wide")


def _value(value: object) -> Markup | str:
    text = str(value)
    if isinstance(value, Markup) or len(text) <= SHORT:
        return value if isinstance(value, Markup) else text
    return element("details", element("summary", f"{text[: SHORT - 20]} …"), text)
