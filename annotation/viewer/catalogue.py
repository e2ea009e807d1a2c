"""What the list can be filtered by, in a temporary database: built once, and gone with the viewer."""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from annotation.viewer.entries import OK, Entry

_TABLES = """
CREATE TABLE images (number INTEGER PRIMARY KEY, activity TEXT, people INTEGER);
CREATE TABLE texts (number INTEGER PRIMARY KEY, text TEXT);
CREATE TABLE answers (number INTEGER, position INTEGER, source TEXT, status TEXT, verdict TEXT);
"""
_INDICES = """
CREATE INDEX answers_by_image ON answers (number);
CREATE INDEX images_by_activity ON images (activity);
CREATE INDEX images_by_people ON images (people);
CREATE INDEX answers_by_source ON answers (source, status, verdict, number);
CREATE INDEX answers_by_verdict ON answers (verdict, number);
"""
# What the validators of today say of an answer. Their work takes longer than all the rest, so it is done in
# the background by `verdicts`.
FINE, OBJECTED, UNCHECKED, NO_CAPTION = "no objection", "objected", "not checked yet", "no caption"
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
    """Numbers of images by what is said of them. Safe to share between threads.

    path: of the database.
    """

    def __init__(self, source):
        """source: a `JournalFolder` or `ShardFolder`. Every entry is read once."""
        self._folder = tempfile.TemporaryDirectory(prefix="annotate-view-")
        self.path = Path(self._folder.name) / "catalogue.sqlite"
        with connection(self.path) as database:
            # With a log beside the database, pages do not wait for the one who writes verdicts.
            database.executescript("PRAGMA journal_mode = WAL;" + _TABLES)
            for number in tqdm(range(len(source)), unit=" images", desc="index", leave=False):
                _insert(database, number, source.read(number))
            database.executescript(_INDICES)
            database.commit()
            self.choices: dict[str, list[tuple[str, int | None]]] = {
                "source": _choices(database, "answers", "source"),
                "activity": _choices(database, "images", "activity"),
                "people": sorted(_choices(database, "images", "people"), key=lambda choice: int(choice[0])),
                "status": _choices(database, "answers", "status"),
                "verdict": [(verdict, None) for verdict in (FINE, OBJECTED, UNCHECKED, NO_CAPTION)],
            }
        self.count = len(source)

    def close(self) -> None:
        self._folder.cleanup()

    def find(self, filters: Filters) -> list[int]:
        """The numbers of all images that match, in their order."""
        where, values = _conditions(filters)
        with connection(self.path) as database:
            rows = database.execute(f"SELECT number FROM images WHERE {where} ORDER BY number", values)
            return [number for (number,) in rows]

    def neighbours(self, filters: Filters, number: int) -> tuple[int | None, int | None]:
        """The images before and after `number` among those that match."""
        where, values = _conditions(filters)
        with connection(self.path) as database:
            before, after = (
                database.execute(
                    f"SELECT {end}(number) FROM images WHERE number {side} ? AND {where}", (number, *values)
                ).fetchone()[0]
                for end, side in (("max", "<"), ("min", ">"))
            )
        return before, after

    def objected(self, numbers: Sequence[int]) -> list[int]:
        """How many accepted captions of each image the validators of today object to, as far as known."""
        query = "SELECT count(*) FROM answers WHERE number = ? AND status = ? AND verdict = ?"
        with connection(self.path) as database:
            return [database.execute(query, (n, OK, OBJECTED)).fetchone()[0] for n in numbers]

    def checked(self) -> int:
        """How many images, from the first on, the validators have seen."""
        query = "SELECT min(number) FROM answers WHERE verdict = ?"
        with connection(self.path) as database:
            first = database.execute(query, (UNCHECKED,)).fetchone()[0]
        return self.count if first is None else first


@contextlib.contextmanager
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """The database for the thread that asks; opening it takes a tenth of a millisecond."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA synchronous = OFF")  # nothing in it needs to outlive this process
        yield database


def _insert(database: sqlite3.Connection, number: int, entry: Entry) -> None:
    record = entry.record
    current = [(n, answer) for n, answer in enumerate(entry.answers) if answer.current]
    texts = (record.image_id, record.activity, record.category, *(a.text for _, a in current if a.text))
    database.execute(
        "INSERT INTO images VALUES (?, ?, ?)", (number, _clean(record.activity), len(record.people))
    )
    database.execute("INSERT INTO texts VALUES (?, ?)", (number, _clean("\n".join(texts).casefold())))
    database.executemany(
        "INSERT INTO answers VALUES (?, ?, ?, ?, ?)",
        [
            (number, n, _clean(a.source), a.status, NO_CAPTION if a.text is None else UNCHECKED)
            for n, a in current
        ]
        or [(number, 0, "", NONE, NO_CAPTION)],
    )


def _clean(text: str) -> str:
    """Without lone surrogates, which JSON may hold and a database may not."""
    return text.encode("utf-8", "replace").decode()


def _choices(database: sqlite3.Connection, table: str, column: str) -> list[tuple[str, int | None]]:
    """(value, images with it) of the MAX_CHOICES commonest, sorted; "" is no value and is left out."""
    rows = database.execute(
        f"SELECT {column}, count(DISTINCT number) AS images FROM {table} WHERE {column} != '' "
        f"GROUP BY {column} ORDER BY images DESC, {column} LIMIT {MAX_CHOICES}"
    )
    return sorted((str(value), images) for value, images in rows)


def _conditions(filters: Filters) -> tuple[str, list[str]]:
    """The filters as SQL with a ? for each of the values."""
    conditions, words, values = ["1"], [], []
    for word in _clean(filters.text).casefold().split():
        words.append("instr(text, ?)")
        values.append(word)
    if words:
        conditions.append(f"number IN (SELECT number FROM texts WHERE {' AND '.join(words)})")
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
