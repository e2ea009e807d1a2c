"""The released MPII Pose Descriptions, and what `annotate export` writes in their layout.

    MODEL/train.json, MODEL/val.json      a list of rows, one per image and caption:

    image, video_id, video_frame, activity_id, activity "CATEGORY, ACTIVITY", count, description,
    people [{id, center, scale, kpts 16 x [x, y], kpts_vis 16 x 0 or 1}]

The released numbers are those of mmpose's MPII annotations, which the public code that made them copies:
pixels counted from 1. On MPII's photographs these are the numbers of the circulating CSV, too
(`tests/annotation/test_captions.py` compares them). Records count from 0, so 1 is subtracted here; export
adds it again. A joint with kpts_vis = 0, or at [-1, -1], is missing.

Rows that export wrote also say width, height, people_complete and category, and for each person visibility
(0 missing, 1 derived, 2 labelled) and occluded. `extra` keeps every field as it stands in the file.
Layout not verified on the released files themselves.
"""

from __future__ import annotations

import dataclasses
import graphlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from annotation import journal, records, schema
from annotation.errors import UserError
from annotation.sources.reading import Notes, load_json, numbers, objects

# Folders of the release whose name is not the model's own.
MODEL_OF_FOLDER = {"llama-2-70b-chat-hf": "llama-2-70b-chat"}
SPLITS = ("train", "val", "test")


@dataclasses.dataclass
class Described:
    """One image of a split with its captions: {model: texts, in the order of its file}."""

    record: records.ImageRecord
    captions: dict[str, list[str]]


def read(path: Path, notes: Notes) -> Iterator[records.ImageRecord]:
    """The images of one file MODEL/SPLIT.json, to be described anew; its captions are left aside."""
    seen = set()
    for row, where in _rows(path):
        if row["image"] in seen:
            notes["further captions of an image, passed over with the others"] += 1
            continue
        seen.add(row["image"])
        yield _record(row, where)


def files_of(folder: Path, split: str, models: list[str] | None = None) -> dict[str, Path]:
    """{model: its file of `split`}, sorted by model. `models` names models or their folders; None for all.

    A model is the path of its folder in `folder`: "gpt-4-0613", "geometry-1/0".
    """
    found = {}
    for path in sorted(folder.glob(f"**/{split}.json")):
        name = path.parent.relative_to(folder).as_posix()
        if models is None or name in models or MODEL_OF_FOLDER.get(name) in models:
            found[MODEL_OF_FOLDER.get(name, name)] = path
    return dict(sorted(found.items()))


def read_split(files: dict[str, Path], notes: Notes) -> list[Described]:
    """The images of one split with the captions of all its models, in an order that agrees with every file.

    The first model's rows say who is in an image. Where another model's row gives other joints or another
    activity, its caption does not describe this record: it is left out and counted.
    """
    _refuse_replaced_gpt4(files)
    described: dict[str, Described] = {}
    first: dict[str, tuple[str, dict[str, Any]]] = {}
    orders = []
    for model, path in files.items():
        images = []
        for row, where in _rows(path):
            image, text = row["image"], _text(row, where, notes)
            if not text.strip():
                notes[f"empty captions of {model}, left out"] += 1
                continue
            images.append(image)
            if image not in described:
                described[image] = Described(_record(row, where), {})
                first[image] = model, row
            elif not _same(row, first[image][1]):
                if journal.input_hash(_record(row, where)) != journal.input_hash(described[image].record):
                    notes[f"captions of {model} left out: {first[image][0]} gives other joints"] += 1
                    continue
                notes[f"rows of {model} with other fields than {first[image][0]}'s, whose are kept"] += 1
            described[image].captions.setdefault(model, []).append(text)
        orders.append(list(dict.fromkeys(images)))
    return [described[image] for image in _merged(orders, notes)]


def _rows(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Each row that names its image, and where it stands, for messages."""
    for number, row in enumerate(objects(load_json(path), str(path)), 1):
        if not isinstance(row.get("image"), str) or not row["image"]:
            raise UserError(f"{path}, entry {number}: no field 'image' (the image's file name)")
        yield row, f"{path}: image {row['image']}"


def _same(row: dict[str, Any], other: dict[str, Any]) -> bool:
    return row | {"description": None} == other | {"description": None}


def _merged(orders: list[list[str]], notes: Notes) -> Iterator[str]:
    """All images, each list's in its order."""
    sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
    for order in orders:
        for image in order:
            sorter.add(image)
        for before, after in itertools.pairwise(order):
            sorter.add(after, before)
    try:
        yield from list(sorter.static_order())
    except graphlib.CycleError:
        notes["models whose rows are in another order; images are in the order of the first"] += 1
        yield from dict.fromkeys(itertools.chain(*orders))


def _refuse_replaced_gpt4(files: dict[str, Path]) -> None:
    """The release's card points gpt-4's validation at another model's file; here no model stands in."""
    if not {"gpt-4-0613", "gpt-3.5-turbo-0613"} <= files.keys():
        return
    texts = [
        [row.get("description") for row in objects(load_json(files[model]), str(files[model]))]
        for model in ("gpt-4-0613", "gpt-3.5-turbo-0613")
    ]
    if texts[0] == texts[1]:
        raise UserError(
            f"{files['gpt-4-0613']}: holds the captions of gpt-3.5-turbo-0613, which the release gives in "
            "place of gpt-4's; delete it, or name the other models with --models"
        )


# ------------------------------------------------------------------------------------------------- row


def _record(row: dict[str, Any], where: str) -> records.ImageRecord:
    people = objects(row.get("people"), f"{where}, field 'people'")
    category, activity = _activity(row, where)
    return records.ImageRecord(
        image_id=row["image"],
        people=tuple(_person(p, f"{where}, person {n}") for n, p in enumerate(people, 1)),
        width=_field(row, "width", int, where),
        height=_field(row, "height", int, where),
        # mmpose's annotations list only people with joints: others may be in the photograph.
        people_complete=_field(row, "people_complete", bool, where, False),
        activity=activity,
        category=category,
        source="captions",
        # The empty places keep the order of the fields.
        extra=row | {"people": None, "description": None},
    )


def _activity(row: dict[str, Any], where: str) -> tuple[str, str]:
    """(category, activity). None of MPII's twenty categories has a comma in its name."""
    both, category = _field(row, "activity", str, where) or "", _field(row, "category", str, where)
    if category is None:
        head, comma, tail = both.partition(", ")
        return (head, tail) if comma else ("", both)
    return category, both.removeprefix(f"{category}, ") if category else both


def _person(person: dict[str, Any], where: str) -> records.Person:
    count = (schema.JOINT_COUNT,)
    joints = numbers(person.get("kpts"), (*count, 2), f"{where}, field 'kpts'")
    visible = numbers(person.get("kpts_vis"), count, f"{where}, field 'kpts_vis'") != 0
    if "visibility" not in person:
        joints[~visible | (joints == -1).all(1)] = np.nan
        return records.person(joints - 1, extra=person)
    visibility, occluded = (
        numbers(person.get(name), count, f"{where}, field {name!r}") for name in ("visibility", "occluded")
    )
    return records.person(joints - 1, visibility, occluded, extra=person)


def _field(row: dict[str, Any], name: str, kind: type, where: str, default: Any = None) -> Any:
    value = row.get(name, default)
    if value is not None and type(value) is not kind:
        raise UserError(f"{where}, field {name!r}: expected {kind.__name__}, found {value!r:.50}")
    return value


def _text(row: dict[str, Any], where: str, notes: Notes) -> str:
    """The caption: text, or a list of paragraphs, which become one text with empty lines between."""
    text = row.get("description")
    if isinstance(text, list) and all(isinstance(paragraph, str) for paragraph in text):
        notes["captions given as a list of paragraphs, joined"] += 1
        text = "\n\n".join(text)
    if not isinstance(text, str):
        raise UserError(
            f"{where}, field 'description': expected text or a list of paragraphs, found {text!r:.50}"
        )
    return text
