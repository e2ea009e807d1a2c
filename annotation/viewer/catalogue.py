"""What the list can be filtered by, in a temporary database: built once, and gone with the viewer."""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from annotation.viewer.entries import Entry

_TABLES = """
CREATE TABLE images (number INTEGER PRIMARY KEY, activity TEXT, people INTEGER, text TEXT);
CREATE TABLE answers (number INTEGER, source TEXT, status TEXT, verdict TEXT);
"""
_INDICES = """
CREATE INDEX answers_by_image ON answers (number);
CREATE INDEX images_by_activity ON images (activity);
CREATE INDEX images_by_people ON images (people);
"""
ACCEPTED, OBJECTED, NO_CAPTION = "accepted", "objected", "no caption"
NONE = "none"  # the status of an image of which nothing was asked yet
MAX_CHOICES = 500


@dataclasses.dataclass(frozen=True)
class Filters:
    """Which images to list; "" means any. `source`, `status` and `verdict` must hold of one same answer.

    text: words that all occur in the image's id, activity, category or captions, in upper or lower case.
    """

    text: str = ""
    source: str = ""
    activity: str = ""
    people: str = ""
    verdict: str = ""
    status: str = ""


class Catalogue:
    """Numbers of images by what is said of them. Safe to share between threads."""

    def __init__(self, source):
        """source: a `JournalFolder` or `ShardFolder`. Every entry is read and validated once."""
        self._folder = tempfile.TemporaryDirectory(prefix="annotate-view-")
        self._path = Path(self._folder.name) / "catalogue.sqlite"
        with contextlib.closing(sqlite3.connect(self._path)) as database:
            database.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;" + _TABLES)
            for number in tqdm(range(len(source)), unit=" images", desc="index", leave=False):
                _insert(database, number, source.read(number))
            database.executescript(_INDICES + "ANALYZE;")
            database.commit()
        with self._reading() as database:
            self.count = database.execute("SELECT count(*) FROM images").fetchone()[0]
            self.choices = {
                "source": _choices(database, "answers", "source"),
                "activity": _choices(database, "images", "activity"),
                "people": sorted(_choices(database, "images", "people"), key=lambda choice: int(choice[0])),
                "verdict": _choices(database, "answers", "verdict"),
                "status": _choices(database, "answers", "status"),
            }

    def close(self) -> None:
        self._folder.cleanup()

    def find(self, filters: Filters, start: int, count: int) -> tuple[list[int], int]:
        """(numbers of the images from the `start`th on, at most `count`; how many there are in all)."""
        where, values = _conditions(filters)
        with self._reading() as database:
            total = database.execute(f"SELECT count(*) FROM images WHERE {where}", values).fetchone()[0]
            rows = database.execute(
                f"SELECT number FROM images WHERE {where} ORDER BY number LIMIT ? OFFSET ?",
                (*values, count, start),
            )
            return [number for (number,) in rows], total

    def neighbours(self, filters: Filters, number: int) -> tuple[int | None, int | None]:
        """The images before and after `number` among those that match."""
        where, values = _conditions(filters)
        with self._reading() as database:
            return tuple(
                database.execute(
                    f"SELECT {end}(number) FROM images WHERE number {side} ? AND {where}", (number, *values)
                ).fetchone()[0]
                for end, side in (("max", "<"), ("min", ">"))
            )

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        # A connection belongs to one thread, and opening one takes a tenth of a millisecond.
        with contextlib.closing(sqlite3.connect(f"{self._path.as_uri()}?immutable=1", uri=True)) as database:
            yield database


def _insert(database: sqlite3.Connection, number: int, entry: Entry) -> None:
    record = entry.record
    current = [answer for answer in entry.answers if answer.current]
    texts = (record.image_id, record.activity, record.category, *(a.text for a in current if a.text))
    database.execute(
        "INSERT INTO images VALUES (?, ?, ?, ?)",
        (number, _clean(record.activity), len(record.people), _clean("\n".join(texts).casefold())),
    )
    database.executemany(
        "INSERT INTO answers VALUES (?, ?, ?, ?)",
        [
            (
                number,
                _clean(answer.source),
                answer.status,
                NO_CAPTION if answer.text is None else OBJECTED if answer.objections else ACCEPTED,
            )
            for answer in current
        ]
        or [(number, "", NONE, NO_CAPTION)],
    )


def _clean(text: str) -> str:
    """Without lone surrogates, which JSON may hold and a database may not."""
    return text.encode("utf-8", "replace").decode()


def _choices(database: sqlite3.Connection, table: str, column: str) -> list[tuple[str, int]]:
    """(value, images with it) of the MAX_CHOICES commonest, sorted; "" is no value and is left out."""
    rows = database.execute(
        f"SELECT {column}, count(DISTINCT number) AS images FROM {table} WHERE {column} != '' "
        f"GROUP BY {column} ORDER BY images DESC, {column} LIMIT {MAX_CHOICES}"
    )
    return sorted((str(value), images) for value, images in rows)


def _conditions(filters: Filters) -> tuple[str, list[str]]:
    """The filters as SQL with a ? for each of the values."""
    conditions, values = ["1"], []
    for word in _clean(filters.text).casefold().split():
        conditions.append("instr(text, ?)")
        values.append(word)
    if filters.activity:
        conditions.append("activity = ?")
        values.append(_clean(filters.activity))
    if filters.people:
        conditions.append("people = CAST(? AS INTEGER)")
        values.append(filters.people)
    answer = [name for name in ("source", "status", "verdict") if getattr(filters, name)]
    if answer:
        same = " AND ".join(f"{name} = ?" for name in answer)
        conditions.append(f"number IN (SELECT number FROM answers WHERE {same})")
        values += [_clean(getattr(filters, name)) for name in answer]
    return " AND ".join(conditions), values
