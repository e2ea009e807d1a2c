"""A run as one page that needs nothing else: results, curves, pictures, settings, and what it was made from.

`write` makes `report.html` in a workdir; with several workdirs their runs stand side by side, and each also
gets its own page. Everything that is read from a workdir is text to this module and is escaped; pictures are
inside the page. It does not need JAX.
"""

from __future__ import annotations

import dataclasses
import datetime
import io
import json
import math
import pathlib
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import PIL.Image

import focusclip_jax
from focusclip_jax import config as configs
from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import frozen, report
from focusclip_jax.evaluation.zero_shot import Result
from focusclip_jax.files import write_text
from pages import chart
from pages.document import document
from pages.markup import Markup, element, picture

STYLE = chart.STYLE + (pathlib.Path(__file__).parent / "run_page.css").read_text("utf-8")
LARGE = 250_000  # bytes of a picture file, above which it is of photographs and is compressed with loss
LONGER_SIDE = 1500  # of that, in pixels
QUALITY = 86
SHORT = 90  # characters of a value that is shown without being unfolded
TILES = 4  # results at the top of the page

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
UNDRAWN = {"step", "step_seconds"}  # the second is images_per_second once more
NAMES = {
    "validation/positive_similarity": "own caption",
    "validation/negative_similarity": "others' captions",
}

# What the file names of `plots/` begin with → section, and what its picture shows.
PICTURES = {
    "predictions-": ("answers", "Images answered right and wrong, spread evenly over the set: {}"),
    "confusion-": ("confusions", "What was taken for what, in % of the true class: {}"),
    "precision-": ("confusions", "Average precision of each label: {}"),
    "focus": ("views", "From joints to body parts, heatmap and highlighted image"),
    "second_views": ("views", "What the model is shown in training: image, heatmap, second view"),
    "similarity": ("space", "Cosine of every image with every caption; the diagonal belongs together"),
    "embeddings": ("space", "Images, highlighted images and captions on their two principal axes"),
}
SKIPPED = "curves"  # is drawn anew, as lines with values


@dataclasses.dataclass(frozen=True)
class Record:
    """What a workdir holds. label: the run's name on the page. What is absent is empty."""

    folder: pathlib.Path
    label: str
    config: dict[str, Any]  # setting → value, all of them
    about: dict[str, Any]  # run.json
    rows: list[dict[str, float]]  # of metrics.jsonl
    results: list[Result]
    beside: list[frozen.Result]
    parameters: str

    @property
    def step(self) -> int | None:
        steps = [row["step"] for row in self.rows] + [result.step for result in self.results]
        return max(steps, default=None)

    @property
    def devices(self) -> str:
        counts = Counter(map(str, self.about.get("devices", ())))
        return ", ".join(f"{n} × {name}" for name, n in counts.items())


def write(workdirs: Sequence[pathlib.Path]) -> pathlib.Path:
    """Write `report.html` into each workdir, and where there are several a page of all into the first one.

    Returns the path of that page, or of the only one. Raises UserError for a folder that does not exist and
    for a damaged file in it, which it names.
    """
    records = [read(workdir) for workdir in workdirs]
    for record in records:
        path = record.folder / "report.html"
        write_text(path, page([dataclasses.replace(record, label=record.folder.resolve().name)]))
    if len(records) > 1:
        names = [re.sub(r"[^\w.-]+", "-", workdir.resolve().name) for workdir in workdirs[1:]]
        path = workdirs[0] / f"report-beside-{'-'.join(names)}.html"
        write_text(path, page(_labelled(records)))
    return path


def read(workdir: pathlib.Path) -> Record:
    """Raises UserError as `write` does."""
    if not workdir.is_dir():
        raise UserError(f"{workdir}: no such folder; expected the workdir of a run")
    config = workdir / "config.json"
    parameters = workdir / "parameters.txt"
    return Record(
        folder=workdir,
        label=workdir.resolve().name,
        config=dict(configs.leaves(configs.from_json(config))) if config.exists() else {},
        about=report.read_object(workdir / "run.json"),
        rows=read_metrics(workdir / "metrics.jsonl"),
        results=report.latest(workdir),
        beside=frozen.latest(workdir),
        parameters=parameters.read_text("utf-8") if parameters.exists() else "",
    )


def read_metrics(path: pathlib.Path) -> list[dict[str, float]]:
    """Rows in the order of their steps; a last line that a killed process left unfinished is dropped.

    Raises UserError naming a line that is not a row.
    """
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text("utf-8").split("\n")[:-1], 1):
        try:
            row = json.loads(line)
            rows.append({str(name): float(value) for name, value in row.items()} | {"step": int(row["step"])})
        except (ValueError, TypeError, KeyError, AttributeError):
            raise UserError(f"{path}, line {number}: expected a JSON object of numbers with a step") from None
    return sorted(rows, key=lambda row: row["step"])


def page(records: Sequence[Record]) -> str:
    """The HTML of one run, or of several in columns. Its footer says its own weight."""
    sections = [
        ("results", "Results", _results(records)),
        ("curves", "Curves", _curves(records)),
        *_pictures(records),
        ("throughput", "Throughput", _throughput(records)),
        ("settings", "Settings", _settings(records)),
        ("origin", "Data, code and machine", _origin(records)),
    ]
    sections = [(name, title, content) for name, title, content in sections if content]
    title = " beside ".join(record.label for record in records)
    several = len(records) > 1
    body = (
        element(
            "header",
            element("h1", *_between([_run(n, record, several) for n, record in enumerate(records, 1)])),
            element("span", "FocusCLIP-JAX", class_="faint small"),
        ),
        element(
            "nav",
            *(element("a", title, href=f"#{name}") for name, title, _ in sections),
            aria_label="sections",
        ),
        element("main", _top(records), *(_section(*section) for section in sections)),
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


def _labelled(records: Sequence[Record]) -> list[Record]:
    """Folders with equal names are told apart by their paths."""
    names = Counter(record.label for record in records)
    return [
        dataclasses.replace(record, label=record.label if names[record.label] == 1 else str(record.folder))
        for record in records
    ]


def _section(name: str, title: str, content: Sequence[Markup]) -> Markup:
    return element("section", element("h2", title), *content, id=name)


def _run(number: int, record: Record, several: bool) -> Markup:
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


def _between(names: Sequence[Markup]) -> list[Markup]:
    parts = [part for name in names for part in (Markup(" beside "), name)]
    return parts[1:]


def _columns(records: Sequence[Record], contents: Sequence[Markup | None]) -> Markup:
    """A column for each run, under its name where there are several."""
    if len(records) == 1:
        return element("div", *contents)
    columns = [
        element("div", element("p", _run(n, record, True)), content)
        for n, (record, content) in enumerate(zip(records, contents, strict=True), 1)
    ]
    return element("div", *columns, class_="columns")


# ------------------------------------------------------------------------------------------------ top


def _top(records: Sequence[Record]) -> Markup:
    return _columns(records, [element("div", *_tiles(record), class_="tiles") for record in records])


def _tiles(record: Record) -> list[Markup]:
    """The numbers that one looks for first."""
    tiles = []
    for result in record.results[:TILES]:
        measure = "mean average precision" if result.k == 0 else f"top-{result.k}"
        tiles.append(
            _tile(
                f"{100 * result.accuracy:.1f} %",
                f"{report.question(result).replace('_', ' ')}, {len(result.classes)} {result.rows} classes",
                f"{measure}, 95 %: {100 * result.interval[0]:.1f} to {100 * result.interval[1]:.1f}; "
                f"chance {100 * result.chance:.1f}",
            )
        )
    if record.step is not None:
        wanted = record.config.get("steps") if record.rows else None
        tiles.append(_tile(f"{record.step:,}", "steps" if wanted is None else f"of {wanted:,} steps"))
    speed = _speed(record)
    if speed:
        tiles.append(_tile(chart.number(speed["images_per_second"]), "images per second", record.devices))
    return tiles


def _tile(value: str, *lines: str) -> Markup:
    return element(
        "div",
        element("b", value, class_="number"),
        *(element("span", line) for line in lines if line),
        class_="tile panel",
    )


# -------------------------------------------------------------------------------------------- results


def _results(records: Sequence[Record]) -> list[Markup]:
    several = len(records) > 1
    rows = report.ordered([(str(n), row) for n, record in enumerate(records, 1) for row in record.results])
    parts = []
    if rows:
        parts += [_table_of_results(rows, records), element("p", report.FULL_LEGEND, class_="faint small")]
    notes = [note for record in records for note in report.notes_on(record.results)] if rows else []
    notes += report.unlike(rows) if several else []
    notes += [f"{record.folder} has no results of an evaluation." for record in records if not record.results]
    parts.append(element("ul", *(element("li", note) for note in dict.fromkeys(notes)), class_="notes"))
    for n, record in enumerate(records, 1):
        for header, cells, legend, notes in frozen.parts(record.beside):
            parts += [
                element("h3", header[0].capitalize(), *((" of ", _run(n, record, True)) if several else ())),
                _table(header, cells, "results"),
                element("p", legend, class_="faint small"),
                element("ul", *(element("li", note) for note in notes), class_="notes"),
            ]
    parts += [
        _folded(
            f"{report.question(row)}, {len(row.classes)} {row.rows} classes, one by one"
            + (f" · run {run}" if several else ""),
            *_by_class(row),
        )
        for run, row in rows
    ]
    return parts


def _table_of_results(rows: Sequence[tuple[str, Result]], records: Sequence[Record]) -> Markup:
    """Every column of the evaluation, and its interval as a picture on one scale for all rows."""
    several = len(records) > 1
    top = max(max(row.interval[1], row.constant, row.chance) for _, row in rows)
    top = chart.ticks(0, 100 * top, 4)[-1]
    header = list(report.FULL_HEADER)
    at = header.index("accuracy [95 %]")
    header = [*header[:at], f"0 to {chart.number(top)} %", *header[at:], "step"]
    body, before = [], None
    for run, row in rows:
        cells = [report.question(row), *report.full_cells(row)[1:]]
        bar = chart.interval_bar(
            100 * row.accuracy,
            tuple(100 * bound for bound in row.interval),
            {"chance": 100 * row.chance, "constant": 100 * row.constant},
            top,
        )
        cells = [*cells[:at], bar, *cells[at:], f"{row.step:,}"]
        name = _run(int(run), records[int(run) - 1], True) if several else None
        body.append(
            element(
                "tr",
                element("th", cells[0], element("br"), name, scope="row")
                if several
                else element("th", cells[0], scope="row"),
                *(element("td", cell) for cell in cells[1:]),
                class_="first" if report.row_key(row) != before else None,
            )
        )
        before = report.row_key(row)
    caption = "Drawn: accuracy (dot), its 95 % interval (bar), chance (solid tick), constant (dashed tick)."
    return element(
        "div",
        element(
            "table",
            element("caption", caption),
            element("thead", element("tr", *(element("th", name, scope="col") for name in header))),
            element("tbody", *body),
            class_="results",
        ),
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
    yield _table(("class", *header, "times answered"), classes, "results")
    groups = [
        (f"{group}: {value}", *report.scores(row, of_value))
        for group, values in row.per_group.items()
        for value, of_value in values.items()
    ]
    if groups:
        yield _table(("group", *header), groups, "results")


def _table(header: Sequence[str], rows: Sequence[Sequence[object]], kind: str) -> Markup:
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


def _folded(summary: str, *content: Markup) -> Markup:
    return element("details", element("summary", summary), *content)


# --------------------------------------------------------------------------------------------- curves


def _curves(records: Sequence[Record]) -> list[Markup]:
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


# ------------------------------------------------------------------------------------------- pictures


def _pictures(records: Sequence[Record]) -> list[tuple[str, str, list[Markup]]]:
    """The sections of what `plots/` holds, a picture of each run beside the same picture of the others."""
    titles = {
        "answers": "Right and wrong answers",
        "views": "What the model was shown",
        "space": "Images and captions in one space",
        "other": "Other pictures",
    }
    contents: dict[str, list[Markup]] = {name: [] for name in titles}
    folded: dict[str, list[Markup]] = {}
    stems = dict.fromkeys(
        path.stem for record in records for path in sorted((record.folder / "plots").glob("*.png"))
    )
    for stem in stems:
        if stem == SKIPPED:
            continue
        section, caption = _shown(stem)
        shown = [_figure(record.folder / "plots" / f"{stem}.png", caption) for record in records]
        if section == "confusions":
            folded[caption] = shown
        else:
            contents[section] += [_columns(records, shown)] if len(records) > 1 else shown
    if len(records) == 1:  # different pictures side by side, where they have room
        contents = {name: [element("div", *c, class_="columns")] if c else [] for name, c in contents.items()}
    contents["answers"] += [_folded(caption, _columns(records, shown)) for caption, shown in folded.items()]
    return [(name, titles[name], content) for name, content in contents.items()]


def _shown(stem: str) -> tuple[str, str]:
    """The section of a picture and its caption."""
    for start, (section, caption) in PICTURES.items():
        if stem == start or (start.endswith("-") and stem.startswith(start)):
            of = stem.removeprefix(start)
            of = ", ".join(of.rsplit("-", 1)) if section == "confusions" else of  # task and rows
            return section, caption.format(of.replace("_", " "))
    return "other", stem.replace("_", " ")


def _figure(path: pathlib.Path, caption: str) -> Markup:
    if not path.exists():
        return element("p", f"This run has no {path.name}.", class_="faint small")
    content, media_type, width, height = embedded(path)
    image = picture(content, media_type, caption, width=width, height=height)
    enlarge = element("input", type="checkbox", aria_label=f"enlarge: {caption}")  # the style does it
    return element(
        "figure", element("label", enlarge, image), element("figcaption", caption), class_="picture"
    )


def embedded(path: pathlib.Path) -> tuple[bytes, str, int, int]:
    """A picture's bytes, media type, width and height: the file as it is, or if that is large a smaller WebP.

    Raises UserError where the file is not a PNG.
    """
    content = path.read_bytes()
    try:
        with PIL.Image.open(io.BytesIO(content), formats=["PNG"]) as opened:
            if len(content) <= LARGE:
                return content, "image/png", *opened.size
            image = opened.convert("RGB")
    except (PIL.UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UserError(f"{path}: not a PNG that can be read ({error})") from None
    image.thumbnail((LONGER_SIDE, LONGER_SIDE), PIL.Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=QUALITY)
    return stream.getvalue(), "image/webp", *image.size


# ----------------------------------------------------------------------------------------- throughput


def _speed(record: Record) -> dict[str, float]:
    """Medians over the rows of training, without the first one where there are others: it compiled."""
    rows = [row for row in record.rows if "images_per_second" in row]
    steady = rows[1:] or rows
    if not steady:
        return {}
    names = ("images_per_second", "step_seconds", "data_wait")
    medians = {name: statistics.median(row[name] for row in steady if name in row) for name in names}
    taken, before = 0.0, 0
    for row in rows:
        taken += row["step_seconds"] * (row["step"] - before)
        before = row["step"]
    return medians | {"taken": taken}


def _throughput(records: Sequence[Record]) -> list[Markup]:
    speeds = [_speed(record) for record in records]
    if not any(speeds):
        return []

    def row(name: str, value) -> tuple[str, list[str]]:
        return name, [value(s, r) if s else "–" for s, r in zip(speeds, records, strict=True)]

    def per_device(speed: dict[str, float], record: Record) -> str:
        return chart.number(speed["images_per_second"] / max(1, len(record.about.get("devices", ()))))

    facts = [
        row("images per second", lambda s, _: chart.number(s["images_per_second"])),
        row("images per second and device", per_device),
        row("seconds per step", lambda s, _: chart.number(s["step_seconds"])),
        row("waiting for data", lambda s, _: f"{100 * s['data_wait']:.1f} % of the time"),
        row("time in steps, compilation included", lambda s, _: _duration(s["taken"])),
        row("devices", lambda _, r: r.devices or "–"),
        row("batch", lambda _, r: f"{r.config['batch_size']:,} images" if r.config else "–"),
    ]
    note = (
        "Medians over the rows of metrics.jsonl but the first, whose time holds the compilation. Evaluation "
        "and checkpoints are not in them. The second view of an image is not counted as another image."
    )
    return [_facts(records, facts, mark=False), element("p", note, class_="faint small")]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


# ---------------------------------------------------------------------------- settings and provenance


def _facts(
    records: Sequence[Record],
    facts: Sequence[tuple[str, Sequence[object]]],
    mark: bool = True,
    first: Sequence[str] = ("",),
) -> Markup:
    """A table with a column for each run. mark: highlight the rows in which the runs differ."""
    several = len(records) > 1
    head = [
        *(element("th", name, scope="col") for name in first),
        *(element("th", _run(n, record, several), scope="col") for n, record in enumerate(records, 1)),
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


def _settings(records: Sequence[Record]) -> list[Markup]:
    """What differs between the runs, then what differs from the defaults, then everything, folded."""
    if not any(record.config for record in records):
        return [element("p", "No config.json is here.", class_="faint")]
    defaults = dict(configs.leaves(configs.recorded(configs.default())))
    names = list(dict.fromkeys([*defaults, *(name for record in records for name in record.config)]))

    def shown(settings: dict[str, Any], name: str) -> str:
        return json.dumps(settings[name], ensure_ascii=False) if name in settings else "–"

    rows = [
        (name, [shown(defaults, name), *(shown(record.config, name) for record in records)])
        for name in sorted(names)
    ]
    changed = [(name, values) for name, values in rows if set(values[1:]) != {values[0]}]
    changed.sort(key=lambda row: len(set(row[1][1:])) == 1)
    parts = []
    if len(records) > 1:
        differing = sum(len(set(values[1:])) > 1 for _, values in rows)
        about = (
            f"{differing} of {len(rows)} settings differ between the runs: the first rows, marked ≠. Below "
            "them those that differ from their defaults."
        )
        parts.append(element("p", about, class_="faint small"))
    else:
        about = f"{len(changed)} of {len(rows)} settings differ from their defaults."
        parts.append(element("p", about, class_="faint small"))
    first = ("setting", "default")
    parts.append(_facts(records, changed, first=first))
    parts.append(_folded(f"all {len(rows)} settings", _facts(records, rows, first=first)))
    return parts


def _origin(records: Sequence[Record]) -> list[Markup]:
    """Where the numbers come from: data, code, versions, devices."""
    abouts = [record.about for record in records]
    packages = dict.fromkeys(name for about in abouts for name in about.get("packages", {}))
    facts = [
        ("folder", [str(record.folder) for record in records]),
        ("training shards", [record.config.get("data.train") or "–" for record in records]),
        ("fingerprint of the shards", [about.get("shards") or "–" for about in abouts]),
        ("hash of the tokenizer", [about.get("tokenizer") or "–" for about in abouts]),
        ("imported from", [_imported(about) for about in abouts]),
        ("seed", [about.get("seed", "–") for about in abouts]),
        ("commit", [_commit(about) for about in abouts]),
        ("started", [about.get("started", "–") for about in abouts]),
        ("devices", [record.devices or "–" for record in records]),
        ("processes", [about.get("processes", "–") for about in abouts]),
        ("Python", [about.get("python", "–") for about in abouts]),
        *((name, [about.get("packages", {}).get(name, "–") for about in abouts]) for name in packages),
    ]
    facts = [(name, values) for name, values in facts if set(values) != {"–"}]
    parts = [_facts(records, facts)]
    if any(record.parameters for record in records):
        texts = [element("pre", record.parameters) for record in records]
        parts.append(
            _folded("parameters: shapes and how they are split over devices", _columns(records, texts))
        )
    return parts


def _imported(about: dict[str, Any]) -> str:
    imported = about.get("imported")
    if not imported:
        return "–"
    commit = imported.get("commit")
    return f"{imported.get('source')}{f' at {commit}' if commit else ''}"


def _commit(about: dict[str, Any]) -> str:
    commit = about.get("commit") or "–"
    return f"{commit}, with changes that were not committed" if about.get("dirty") else commit
