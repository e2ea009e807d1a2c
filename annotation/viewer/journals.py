"""The entries of a journal's directory, read one at a time from where their lines lie."""

from __future__ import annotations

import bisect
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from annotation import journal, parts, records
from annotation.errors import UserError
from annotation.viewer import photos
from annotation.viewer.entries import OK, UNKNOWN, Answer, Entry


class JournalFolder:
    """The images of `records.jsonl`, numbered from 0, with their rows of `journal.jsonl`.

    directory: OUT of `annotate describe`, whole or in parts; the parts' images follow one another.
    Only the places of the lines are in memory. What a running `annotate describe` appends later is not seen.
    `strangers` counts the journal's rows on images that `records.jsonl` does not hold as they were described.
    Safe to share between threads. Raises UserError where there is no journal, or a part of one is missing.
    """

    def __init__(self, directory: Path, images: Path):
        self.name = str(directory)
        self.images = images
        self._journals = [_Journal(folder) for folder in parts.journals(directory)]
        self._starts = list(itertools.accumulate((len(one.places) for one in self._journals), initial=0))
        self.strangers = sum(one.strangers for one in self._journals)

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, number: int) -> Entry:
        """Image `number` as both files tell it. Raises UserError where a line has changed since."""
        part = bisect.bisect_right(self._starts, number) - 1
        return self._journals[part].read(number - self._starts[part])

    def photo(self, entry: Entry) -> Path:
        """The photograph's file. Raises `photos.NoPhoto` with the reason where there is none to be shown."""
        return photos.path_inside(self.images, entry.record.image_id)


class _Journal:
    """One folder with `records.jsonl` and `journal.jsonl`: where the lines of each image lie."""

    def __init__(self, folder: Path):
        self._records = folder / journal.RECORDS
        self._journal = folder / journal.JOURNAL
        inputs: dict[str, int] = {}
        places: list[int] = []
        for place, line in _lines(self._records, "records"):
            where = f"{self._records}: line {len(places) + 1}"
            inputs[journal.input_hash(records.from_json(line, where))] = len(places)
            places.append(place)
        self.places = np.array(places, np.int64)
        self._rows, self.strangers = self._rows_by_record(inputs)

    def read(self, number: int) -> Entry:
        with open(self._records, "rb") as file:
            line = _line_at(file, self.places[number])
        record = records.from_json(line, f"{self._records}: record {number + 1}")
        rows = []
        if self._rows[number]:
            with open(self._journal, "rb") as file:
                rows = [_row(_line_at(file, place), self._journal) for place in self._rows[number]]
        return Entry(record, tuple(_answers(rows)))

    def _rows_by_record(self, inputs: dict[str, int]) -> tuple[list[list[int]], int]:
        """Where each record's rows lie, in their order, and how many rows belong to no record."""
        rows: list[list[int]] = [[] for _ in self.places]
        strangers = 0
        if self._journal.is_file():
            for place, line in _lines(self._journal, "journal"):
                number = inputs.get(_row(line, self._journal)["input"])
                if number is None:
                    strangers += 1
                else:
                    rows[number].append(place)
        return rows, strangers


def _lines(path: Path, name: str) -> Iterator[tuple[int, bytes]]:
    """(place in bytes, line) of the complete lines: a killed run may leave a torn one at the end."""
    place = 0
    with (
        open(path, "rb") as lines,
        tqdm(total=path.stat().st_size, unit="B", unit_scale=True, desc=f"read {name}", leave=False) as bar,
    ):
        for line in lines:
            if line.endswith(b"\n"):
                yield place, line
            place += len(line)
            bar.update(len(line))


def _line_at(file, place: int) -> bytes:
    file.seek(place)
    return file.readline()


def _row(line: bytes, path: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
        row["input"], row["status"], row["describer"], row["params"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path}: holds a line that is no journal row ({error}): {line[:60]!r} …; "
            "if the file was replaced, start the viewer again"
        ) from None
    return row


# -------------------------------------------------------------------------------------------- answers


def _answers(rows: list[dict[str, Any]]) -> Iterator[Answer]:
    """What the rows of one record hold: an answer per caption, one per attempt without any."""
    answered = {row.get("attempt") for row in rows if row["status"] != "intent"}
    outcomes = [row for row in rows if row["status"] != "intent" or row.get("attempt") not in answered]
    counting = _counting(outcomes)
    for row in outcomes:
        for caption in row.get("captions") or [{"text": None, "source": _writer(row)}]:
            yield Answer(
                source=caption["source"],
                status=UNKNOWN if row["status"] == "intent" else row["status"],
                text=caption["text"],
                current=any(row is one for one in counting),
                reasons=_reasons(row),
                facts=_facts(row),
                row=row,
            )


def _reasons(row: dict[str, Any]) -> tuple[str, ...]:
    if row["status"] == "intent":
        return ("it was sent and no answer is known, so it may have been paid for",)
    return (*row.get("reasons", ()), *((str(row["error"]),) if "error" in row else ()))


def _counting(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The row that counts of each describer and its parameters: its last caption, or else last attempt."""
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        writer = (row["describer"], json.dumps(row["params"], sort_keys=True))
        if row["status"] == OK or last.get(writer, row)["status"] != OK:
            last[writer] = row
    return list(last.values())


def _writer(row: dict[str, Any]) -> str:
    return f"{row['params'].get('model', row['describer'])}/{row.get('version', '?')}"


def _facts(row: dict[str, Any]) -> dict[str, str]:
    """The provenance that a reader looks for first; the whole row is shown folded away."""
    answer = row.get("answer") or {}
    usage = answer.get("usage") or {}
    facts = {
        "model": row["params"].get("model"),
        "returned model": answer.get("returned_model"),
        "describer": row["describer"],
        "prompt version" if "model" in row["params"] else "version": row.get("version"),
        "written": row.get("created"),
        "cost": f"${answer['cost']:.6f}" if isinstance(answer.get("cost"), int | float) else None,
        "tokens": ", ".join(
            f"{n} {name.removesuffix('_tokens')}" for name, n in usage.items() if type(n) is int
        ),
        "end": answer.get("finish_reason"),
    }
    return {label: str(value) for label, value in facts.items() if value}
