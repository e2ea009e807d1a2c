"""From a source of keypoints to `records.jsonl` and captions in the journal."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from annotation import files, journal, records, schema
from annotation.errors import UserError
from annotation.parts import Part

Notes = Counter[str]


def write_records(
    source: Iterable[records.ImageRecord],
    out: Path,
    limit: int | None,
    notes: Notes,
    part: Part | None = None,
) -> int:
    """Replace `records.jsonl` by the source's images (the first `limit`, of these `part`); returns how many.

    Images in which nobody has a joint hold nothing to describe: they are left out and counted.
    """
    seen: set[str] = set()
    count = 0
    with (
        files.replacing(out / journal.RECORDS) as file,
        tqdm(source, unit=" images", desc="read", leave=False) as bar,
    ):
        for record in itertools.islice(_describable(bar, notes), limit):
            if record.image_id in seen:
                raise UserError(
                    f"image {record.image_id} occurs twice in the source; expected one record per image"
                )
            seen.add(record.image_id)
            if part is None or part.holds(record.image_id):
                file.write(records.to_json(record) + "\n")
                count += 1
    if not seen:
        raise UserError("the source holds no image with a joint; nothing to describe")
    return count


def _describable(source: Iterable[records.ImageRecord], notes: Notes) -> Iterable[records.ImageRecord]:
    for record in source:
        path = PurePosixPath(record.image_id)
        if not record.image_id or path.is_absolute() or ".." in path.parts:
            raise UserError(f"image {record.image_id!r} is not a path inside the image folder")
        if any((person.visibility != schema.MISSING).any() for person in record.people):
            yield record
        else:
            notes["images in which nobody has a joint, left out"] += 1


def describe_records(
    out: Path,
    describer: journal.Describer,
    describe: Callable[[records.ImageRecord], list[records.Description]],
    count: int,
    notes: Notes,
) -> None:
    """Describe every record that the journal does not hold yet."""
    with journal.open_journal(out) as open_journal:
        notes["bytes of a torn last line, dropped from the journal"] += open_journal.dropped_bytes
        for record in tqdm(
            journal.read_records(out), total=count, unit=" images", desc="describe", leave=False
        ):
            input_ = journal.input_hash(record)
            if journal.attempt_key(describer, input_) in open_journal.done:
                notes["images that the journal held already"] += 1
                continue
            open_journal.append(describer, input_, record.image_id, describe(record))
            notes["images described"] += 1
