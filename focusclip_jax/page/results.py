"""The numbers that one looks for first, and every column of every evaluation."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from focusclip_jax.evaluation import frozen, report
from focusclip_jax.evaluation.columns import percent
from focusclip_jax.evaluation.zero_shot import Result
from focusclip_jax.page.layout import columns, folded, run_name, table
from focusclip_jax.page.record import Record, speed
from pages import chart
from pages.markup import Markup, element, join

TILES = 4  # results at the top of the page
BREAK = Markup("<br>")


def tiles(records: Sequence[Record]) -> Markup:
    """The first results of each run, how far it is, and how fast it went."""
    return columns(records, [element("div", *_of_run(record), class_="tiles") for record in records])


def _of_run(record: Record) -> list[Markup]:
    tiles = []
    for result in record.results[:TILES]:
        measure = "mean average precision" if result.k == 0 else f"top-{result.k}"
        tiles.append(
            _tile(
                f"{percent(result.accuracy)} %",
                f"{report.question(result).replace('_', ' ')}, {len(result.classes)} {result.rows} classes",
                f"{measure}, 95 %: {percent(result.interval[0])} to {percent(result.interval[1])}",
                f"chance {percent(result.chance)}",
            )
        )
    if record.step is not None:
        wanted = record.config.get("steps") if record.rows else None
        tiles.append(_tile(f"{record.step:,}", "steps" if wanted is None else f"of {wanted:,} steps"))
    if fast := speed(record):
        tiles.append(_tile(chart.number(fast["images_per_second"]), "images per second", record.devices))
    return tiles


def _tile(value: str, *lines: str) -> Markup:
    return element(
        "div",
        element("b", value, class_="number"),
        *(element("span", line) for line in lines if line),
        class_="tile panel",
    )


def section(records: Sequence[Record]) -> list[Markup]:
    """The table of all runs, its legend and notes, retrieval and probes, and each row class by class."""
    several = len(records) > 1
    rows = report.ordered([(str(n), row) for n, record in enumerate(records, 1) for row in record.results])
    parts = []
    if rows:
        drawn = "Drawn: accuracy (dot), its 95 % interval (bar), chance (solid tick), constant (dashed tick)."
        parts.append(_table_of_results(rows, records))
        parts.append(element("p", f"{drawn} {report.FULL_LEGEND}", class_="faint small"))
    parts.append(element("ul", *(element("li", note) for note in _notes(rows, records)), class_="notes"))
    for n, record in enumerate(records, 1):
        of_run = (" of ", run_name(n, record, True)) if several else ()
        for header, cells, legend, notes in frozen.parts(record.beside):
            parts += [
                element("h3", header[0].capitalize(), *of_run),
                table(header, cells, "results"),
                element("p", legend, class_="faint small"),
                element("ul", *(element("li", note) for note in notes), class_="notes"),
            ]
    for run, row in rows:
        title = f"{report.question(row)}, {len(row.classes)} {row.rows} classes, one by one"
        parts.append(folded(f"{title}, run {run}" if several else title, *_by_class(row)))
    return parts


def _notes(rows: Sequence[tuple[str, Result]], records: Sequence[Record]) -> list[str]:
    """What was read and what is odd; where not all runs have a note, it says whose it is."""
    of_runs = [report.notes_on(record.results) if record.results else [] for record in records]
    common = {note for note, n in Counter(itertools.chain(*of_runs)).items() if n == len(records)}
    notes = [
        note if note in common else f"Run {run}: {note}"
        for run, of_run in enumerate(of_runs, 1)
        for note in of_run
    ]
    notes += report.unlike(rows)
    notes += [f"{record.folder} has no results of an evaluation." for record in records if not record.results]
    return list(dict.fromkeys(notes))


def _table_of_results(rows: Sequence[tuple[str, Result]], records: Sequence[Record]) -> Markup:
    """Every column of an evaluation that any row has, and the interval drawn on one scale for all rows."""
    ends = [max(row.interval[1], row.constant, row.chance) for _, row in rows]
    end = chart.ticks(0, 100 * max(ends), 4)[-1]
    scale = f"0 to {chart.number(end)} %"
    header = ["classes", scale, "accuracy [95 %]"]
    header += [name for name in report.FULL_HEADER[1:] if name not in header]
    cells = [
        dict(zip(report.FULL_HEADER, report.full_cells(row), strict=True))
        | {
            scale: chart.interval_bar(
                100 * row.accuracy,
                (100 * row.interval[0], 100 * row.interval[1]),
                {"chance": 100 * row.chance, "constant": 100 * row.constant},
                end,
            ),
            "step": f"{row.step:,}",
        }
        for _, row in rows
    ]
    header = [name for name in (*header, "step") if any(of_row[name] != "-" for of_row in cells)]
    several = len(records) > 1
    body = []
    for _, group in itertools.groupby(
        zip(rows, cells, strict=True), key=lambda pair: report.row_key(pair[0][1])
    ):
        of_question = list(group)
        for n, ((run, row), of_row) in enumerate(of_question):
            task = element("th", report.question(row), scope="rowgroup", rowspan=len(of_question))
            name = run_name(int(run), records[int(run) - 1], several)
            body.append(
                element(
                    "tr",
                    task if n == 0 else None,
                    element("td", name, class_="text") if several else None,
                    element("td", of_row["classes"], class_="text"),
                    *(element("td", of_row[column]) for column in header[1:]),
                    class_="first" if n == 0 else None,
                )
            )
    texts = ["task", *(["run"] if several else []), "classes"]
    head = element(
        "tr",
        *(element("th", name, scope="col", class_="text") for name in texts),
        *(element("th", join(re.split(r"(?<=:) | (?=\[)", name), BREAK), scope="col") for name in header[1:]),
    )
    return element(
        "div",
        element("table", element("thead", head), element("tbody", *body), class_="results"),
        class_="wide",
    )


def _by_class(row: Result) -> Iterator[Markup]:
    """Classes and groups of a row, as its Markdown file has them."""
    heard = f" Words in no training caption: {', '.join(row.unheard_words)}." if row.unheard_words else ""
    yield element("p", f"Prompts ({row.prompt_set}), such as “{row.prompts[0][0]}”.{heard}", class_="small")
    header = ("n", *report.score_names(row))
    classes = [
        (name, *report.scores(row, row.per_class.get(name, {"n": 0})), f"{row.predictions.get(name, 0):,}")
        for name in row.classes
    ]
    yield table(("class", *header, "times answered"), classes, "results")
    groups = [
        (f"{group}: {value}", *report.scores(row, of_value))
        for group, values in row.per_group.items()
        for value, of_value in values.items()
    ]
    if groups:
        yield table(("group", *header), groups, "results")
