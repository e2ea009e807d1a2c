"""Entries as pages: the list with its filters, and one page per image."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from annotation import records, schema
from annotation.records import ImageRecord
from annotation.viewer import drawing, photos
from annotation.viewer.catalogue import Filters
from annotation.viewer.entries import OK, Answer, Entry, objections
from pages.document import Document, document
from pages.markup import Markup, element

PER_PAGE = 24
THUMB, LARGE, HEATMAP = 320, 1280, 640  # longer sides of the pictures made here, pixels
STYLE = (Path(__file__).parent / "viewer.css").read_text("utf-8")
SCRIPT = (Path(__file__).parent / "viewer.js").read_text("utf-8")

_TONES = {"ok": "good", "accepted": "good", "rejected": "bad", "failed": "bad", "objected": "bad"}
_LABELS = {
    "text": "Text",
    "source": "Written by",
    "activity": "Activity",
    "people": "People",
    "verdict": "Validators",
    "status": "Status",
}


@dataclasses.dataclass(frozen=True)
class Links:
    """Where things lie, as relative addresses. index: a page of the list, from 0; the others: of an image."""

    index: Callable[[int], str]
    record: Callable[[int], str]
    thumb: Callable[[int], str]
    photo: Callable[[int], str]
    heatmap: Callable[[int], str]


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """An entry and its photograph. The record's size is the photograph's where its source does not say it.

    missing: why there is no photograph to show; None where there is one.
    warning: what is wrong with its size; None where nothing is.
    """

    number: int
    entry: Entry
    record: ImageRecord
    missing: str | None
    warning: str | None


def shown(source, number: int) -> Shown:
    """Image `number` of a `JournalFolder` or `ShardFolder`."""
    entry = source.read(number)
    record = entry.record
    try:
        width, height = photos.size(source.photo(entry))
    except photos.NoPhoto as error:
        return Shown(number, entry, record, str(error), None)
    warning = None
    expected = entry.stored or (record.width or width, record.height or height)
    if (width, height) != expected:
        warning = (
            f"this photo is {width} × {height} pixels, its annotation says {expected[0]} × {expected[1]}: "
            "joints may lie elsewhere"
        )
    if not (record.width and record.height):
        record = dataclasses.replace(record, width=width, height=height)
    return Shown(number, entry, record, None, warning)


# ----------------------------------------------------------------------------------------------- list


def list_page(
    title: str,
    images: Sequence[tuple[Shown, int]],
    total: int,
    page: int,
    links: Links,
    form: Markup | None = None,
    note: str = "",
) -> Document:
    """One page of the list.

    images: each with how many of its accepted captions the validators object to. total: images that match, on
    all pages. form: the filters, in served pages. note: about the whole.
    """
    first = page * PER_PAGE + 1
    if images:
        which = f"{first:,} to {first + len(images) - 1:,} of {total:,} images"
    else:
        which = "no image matches" if form else "no image"
    results = element(
        "main",
        element("p", which, class_="faint number", role="status"),
        element("ol", *(_card(image, objected, links) for image, objected in images), class_="cards"),
        _pager(page, total, links),
        id="results",
    )
    return document(
        title,
        element("header", element("h1", title), element("span", note, class_="faint small")),
        form,
        results,
        style=STYLE,
        script=SCRIPT if form else "",
    )


def filter_form(filters: Filters, choices: dict[str, list[tuple[str, int | None]]]) -> Markup:
    """Works without its script too, which only saves pressing the button."""
    selects = [
        _labelled(name, _select(name, getattr(filters, name), options)) for name, options in choices.items()
    ]
    text = element(
        "input",
        type="search",
        name="text",
        value=filters.text,
        maxlength=200,
        placeholder="words in captions, names …",
    )
    return element(
        "form",
        _labelled("text", text),
        *selects,
        element("button", "Filter"),
        class_="panel filters",
        method="get",
        action="/",
        role="search",
    )


def _labelled(name: str, control: Markup) -> Markup:
    return element("label", _LABELS[name], control, class_=f"filter-{name}")


def _select(name: str, chosen: str, options: list[tuple[str, int | None]]) -> Markup:
    values = [value for value, _ in options]
    rare = [(chosen, None)] if chosen and chosen not in values else []
    return element(
        "select",
        element("option", "any", value=""),
        *(
            element(
                "option",
                value if count is None else f"{value} ({count:,})",
                value=value,
                selected=value == chosen,
            )
            for value, count in (*rare, *options)
        ),
        name=name,
    )


def _card(image: Shown, objected: int, links: Links) -> Markup:
    current = [answer for answer in image.entry.answers if answer.current]
    text = next((a.text for a in current if a.status == OK), next((a.text for a in current if a.text), None))
    picture = drawing.sketch(image.record, *_photo(image, links.thumb(image.number)))
    return element(
        "li",
        element(
            "a",
            element(
                "div",
                picture,
                element("span", image.missing, class_="missing") if image.missing else None,
                class_="thumb",
            ),
            element("strong", element("bdi", image.record.image_id)),
            href=links.record(image.number),
        ),
        element("p", element("bdi", _activity(image.record)), class_="small excerpt"),
        element("p", *_chips(image, current, objected), class_="row small"),
        element("p", text, dir="auto", class_="faint small excerpt") if text else None,
        class_="panel card",
    )


def _chips(image: Shown, current: Sequence[Answer], objected: int) -> list[Markup]:
    people = len(image.record.people)
    counts = Counter(answer.status for answer in current)
    return [
        element("span", f"{people} {'person' if people == 1 else 'people'}", class_="faint"),
        *(_chip(f"{number} {status}", status) for status, number in counts.items()),
        _chip(f"{objected} objected", "objected") if objected else Markup(""),
        Markup("") if counts else _chip("no answer yet", "none"),
    ]


def _chip(text: str, kind: str) -> Markup:
    return element("span", text, class_=f"chip {_TONES.get(kind, 'unsure')}")


def _pager(page: int, total: int, links: Links) -> Markup | None:
    pages = math.ceil(total / PER_PAGE)
    if pages <= 1:
        return None
    near = sorted({0, pages - 1, *range(max(0, page - 2), min(pages, page + 3))})
    numbers: list[Markup] = []
    for before, at in zip([-1, *near], near, strict=False):
        if at - before > 1:
            numbers.append(element("span", "…"))
        current = at == page
        numbers.append(
            element(
                "b" if current else "a",
                f"{at + 1:,}",
                href=None if current else links.index(at),
                aria_current="page" if current else None,
            )
        )
    return element(
        "nav",
        element("a", "← previous", href=links.index(page - 1), rel="prev") if page else None,
        *numbers,
        element("a", "next →", href=links.index(page + 1), rel="next") if page + 1 < pages else None,
        class_="number pager",
        aria_label="pages",
    )


# --------------------------------------------------------------------------------------------- record


def record_page(image: Shown, links: Links, before: int | None, after: int | None, back: str) -> Document:
    """The page of one image. before, after: its neighbours in the list; back: address of the list."""
    record = image.record
    navigation = element(
        "nav",
        element("a", "← previous", href=links.record(before), rel="prev") if before is not None else None,
        element("a", "list", href=back),
        element("a", "next →", href=links.record(after), rel="next") if after is not None else None,
        aria_label="images",
    )
    current = [answer for answer in image.entry.answers if answer.current]
    earlier = [answer for answer in image.entry.answers if not answer.current]
    return document(
        record.image_id,
        element("header", element("h1", element("bdi", record.image_id)), navigation),
        element(
            "main",
            element("section", *_stage(image, links), class_="picture"),
            element(
                "section",
                element("p", element("bdi", _activity(record)), class_="activity"),
                *(
                    (_answer(answer, record) for answer in current)
                    if current
                    else [element("p", "nothing was asked about this image yet")]
                ),
                _folded(f"{len(earlier)} earlier answers", *(_answer(answer, record) for answer in earlier))
                if earlier
                else None,
                class_="answers",
            ),
            element("section", element("h2", "What is known of it"), *_known(image), class_="known"),
            class_="record",
        ),
        style=STYLE,
    )


def _stage(image: Shown, links: Links) -> list[Markup]:
    """The picture below its switches. They are checkboxes that the style sheet reads, without a script."""
    layers = ["photo"] if image.missing is None else []
    layers += ["skeleton", "ellipses", "heatmap"]
    width, height = drawing.frame(image.record)
    heat = element(
        "image",
        href=links.heatmap(image.number),
        width=width,
        height=height,
        preserveAspectRatio="none",
        class_="heat",
    )
    switches = [
        element(
            "label",
            element(
                "input",
                type="checkbox",
                id=f"show-{layer}",
                checked=layer in ("photo", "skeleton", "ellipses"),
            ),
            layer,
        )
        for layer in layers
    ]
    notes = [note for note in (image.missing, image.warning) if note]
    if not (image.record.width and image.record.height):
        notes.append("the photo's size is not known: the frame is as large as the joints need")
    return [
        element("div", *switches, class_="row switches"),
        element(
            "div",
            drawing.overlay(image.record, *_photo(image, links.photo(image.number)), heat),
            class_="stage",
        ),
        element(
            "p",
            element("span", "right side", class_="key right"),
            element("span", "left side", class_="key left"),
            element("span", "middle", class_="key middle"),
            " of the person; hollow: derived from other joints; faint: hidden in the photo",
            class_="small faint",
        ),
        *(element("p", note, class_="unsure small") for note in notes),
    ]


def _photo(image: Shown, address: str) -> list[Markup]:
    if image.missing:
        return []
    width, height = drawing.frame(image.record)
    return [
        element("image", href=address, width=width, height=height, preserveAspectRatio="none", class_="photo")
    ]


def _answer(answer: Answer, record: ImageRecord) -> Markup:
    against = objections(answer, record)
    verdict = _chip("validators object", "objected") if against else _chip("validators: no objection", "ok")
    return element(
        "article",
        element(
            "p",
            element("strong", element("bdi", answer.source)),
            _chip(answer.status, answer.status),
            None if answer.text is None else verdict,
            class_="row",
        ),
        *(element("p", line, dir="auto") for line in (answer.text or "").splitlines() if line.strip()),
        _reasons("When it came", answer.reasons),
        _reasons("Validators of today", against) if against != answer.reasons else None,
        _facts(answer.facts.items()),
        _folded("all fields", _json(answer.row)) if answer.row else None,
        class_="panel",
    )


def _reasons(title: str, reasons: Sequence[str]) -> Markup | None:
    if not reasons:
        return None
    items = [element("li", reason, dir="auto") for reason in reasons]
    return element("div", f"{title}:", element("ul", *items), class_="small bad")


def _known(image: Shown) -> list[Markup]:
    record = image.record
    rows = [
        (
            "people",
            f"{len(record.people)}{'' if record.people_complete else ', maybe more that are not annotated'}",
        ),
        ("activity", record.activity),
        ("category", record.category),
        (
            "original size",
            f"{record.width} × {record.height} pixels" if record.width and record.height else "not known",
        ),
        ("stored size", "{} × {} pixels".format(*image.entry.stored) if image.entry.stored else ""),
        ("read as", record.source),
    ]
    return [
        _facts([(label, value) for label, value in rows if value]),
        *(_person(n, person) for n, person in enumerate(record.people, 1)),
        _folded("other fields of the image", _json(record.extra)) if record.extra else Markup(""),
    ]


def _person(number: int, person: records.Person) -> Markup:
    words = {schema.MISSING: "missing", schema.DERIVED: "derived", schema.LABELLED: "labelled"}
    rows = [
        element(
            "tr",
            element("td", name),
            element("td", "–" if visible == schema.MISSING else f"{x:g}, {y:g}"),
            element("td", words.get(int(visible), str(visible)) + (", hidden" if hidden else "")),
        )
        for name, (x, y), visible, hidden in zip(
            schema.JOINT_NAMES, person.joints, person.visibility, person.occluded, strict=True
        )
    ]
    missing = int((person.visibility == schema.MISSING).sum())
    title = f"person {number}: {schema.JOINT_COUNT - missing} joints"
    return _folded(
        title, element("table", *rows, class_="number small"), _json(person.extra) if person.extra else None
    )


# --------------------------------------------------------------------------------------------- pieces


def message_page(title: str, sentence: str) -> Document:
    """A page that only says something, with a way back."""
    return document(
        title,
        element("h1", title),
        element("p", sentence),
        element("p", element("a", "to the list", href="/")),
    )


def _facts(rows: Iterable[tuple[str, str]]) -> Markup:
    """(label, text) pairs as a list of terms; nothing where there are none."""
    rows = list(rows)
    if not rows:
        return Markup("")
    terms = [(element("dt", label), element("dd", value, dir="auto")) for label, value in rows]
    return element("dl", *(part for term in terms for part in term))


def _folded(summary: str, *content: object) -> Markup:
    return element("details", element("summary", summary), *content)


def _json(value: object) -> Markup:
    return element("pre", json.dumps(value, indent=2, ensure_ascii=False), dir="auto")


def _activity(record: ImageRecord) -> str:
    return ", ".join(filter(None, (record.category, record.activity))) or "activity not known"
