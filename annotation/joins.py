"""What a user adds to a source on the command line: activities, and which images to keep."""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from annotation.errors import UserError
from annotation.records import ImageRecord

Notes = Counter[str]


def read_activities(path: Path) -> dict[str, tuple[str, str]]:
    """Image id → (activity, category), from the columns image, activity (or action) and, if there, category.

    Other columns are ignored. Raises UserError where one image has two different activities.
    """
    table: dict[str, tuple[str, str]] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            names = rows.fieldnames or []
            activity = "activity" if "activity" in names else "action"
            if "image" not in names or activity not in names:
                raise UserError(
                    f"{path}: columns {', '.join(names)}; expected image and activity (or action)"
                )
            for row in rows:
                found = (row[activity] or "", row.get("category") or "")
                if table.setdefault(row["image"], found) != found:
                    raise UserError(
                        f"{path}: line {rows.line_num}: a second activity {found[0]!r} for {row['image']}"
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as CSV ({error})") from None
    return table


def with_activities(
    records: Iterable[ImageRecord], table: dict[str, tuple[str, str]], notes: Notes
) -> Iterator[ImageRecord]:
    """Records with the table's activity and category; one without a row keeps its own, and is counted."""
    for record in records:
        if record.image_id in table:
            activity, category = table[record.image_id]
            yield dataclasses.replace(record, activity=activity, category=category or record.category)
        else:
            notes["images without a row in the activities"] += 1
            yield record


def read_list(path: Path) -> set[str]:
    """The image ids of a text file, one per line; empty lines and repetitions do not matter."""
    try:
        names = {line.strip() for line in Path(path).read_text("utf-8-sig").splitlines()} - {""}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list of images ({error})") from None
    if not names:
        raise UserError(f"{path}: names no image; expected one per line")
    return names


def only_listed(records: Iterable[ImageRecord], names: set[str], notes: Notes) -> Iterator[ImageRecord]:
    """The records named; the others, and the names without a record, are counted."""
    missing = set(names)
    for record in records:
        if record.image_id in names:
            missing.discard(record.image_id)
            yield record
        else:
            notes["images that the list does not name, left out"] += 1
    notes["names of the list without an image in the source"] += len(missing)


def with_one_activity(records: Iterable[ImageRecord], activity: str) -> Iterator[ImageRecord]:
    """Records that all show `activity`; its category is unknown."""
    for record in records:
        yield dataclasses.replace(record, activity=activity, category="")
