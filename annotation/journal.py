"""What has been described, in a directory that a killed run can take up again.

`records.jsonl` holds the images, one `records.to_json` row each; it is replaced as a whole.
`journal.jsonl` is append-only, one row per attempt:

    key        sha256 over describer, version, params and the record's canonical input: an attempt that
               is there with status "ok" is never made again
    input      sha256 over the canonical input alone: ties the row to the record as it stands now
    image_id   the record's
    describer  who wrote it: "geometry"
    version    of the describer
    params     everything else that shapes its answer, as JSON: {"detail": "full"}
    status     "ok"; a row of any other status never counts as done
    captions   [{"text", "source"}], its `Description`s in order
    created    UTC time
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from annotation import records
from annotation.errors import UserError

RECORDS, JOURNAL = "records.jsonl", "journal.jsonl"


@dataclasses.dataclass(frozen=True)
class Describer:
    """Who describes: its name, its version and everything else that shapes its answer, as JSON values."""

    name: str
    version: str
    params: dict[str, Any]


def input_hash(record: records.ImageRecord) -> str:
    """sha256 of the canonical input: the record without what only its source cares about."""
    row = records.to_row(record)
    for fields in (row, *row["people"]):
        del fields["extra"]
    del row["source"]
    return _sha256(row)


def attempt_key(describer: Describer, input_: str) -> str:
    return _sha256([describer.name, describer.version, describer.params, input_])


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_records(directory: Path) -> Iterator[records.ImageRecord]:
    """The images of a journal's directory, in the order of their source."""
    path = directory / RECORDS
    if not path.exists():
        raise UserError(f"{path}: not there; `annotate describe … --out={directory}` makes it")
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            yield records.from_json(line, f"{path}: line {number}")


def read_rows(directory: Path) -> Iterator[dict[str, Any]]:
    """The journal's complete rows. A torn last line, which a killed run leaves, is passed over."""
    path = directory / JOURNAL
    if not path.exists():
        return
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            try:
                row = json.loads(line)
                row["key"], row["status"]
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{path}: line {number}: not a journal row ({error}); expected one JSON object per line"
                ) from None
            yield row


def captions_by_input(directory: Path) -> dict[str, list[records.Description]]:
    """Input hash → captions, in an order that does not depend on who came first.

    Every describer and every set of parameters contributes. Of several versions of one describer the one
    written last counts, since it replaces the others.
    """
    latest: dict[str, dict[tuple[str, str], list[records.Description]]] = {}
    for row in read_rows(directory):
        if row["status"] == "ok":
            writer = (row["describer"], json.dumps(row["params"], sort_keys=True))
            latest.setdefault(row["input"], {})[writer] = [
                records.Description(row["image_id"], **caption) for caption in row["captions"]
            ]
    return {
        input_: [caption for writer in sorted(writers) for caption in writers[writer]]
        for input_, writers in latest.items()
    }


class Journal:
    """A journal open for appending. `done` holds the keys of all successful attempts.

    `dropped_bytes` is the length of the torn last line that was cut off when it was opened.
    """

    def __init__(self, file: IO[bytes], done: set[str], dropped_bytes: int):
        self._file = file
        self.done = done
        self.dropped_bytes = dropped_bytes

    def append(
        self, describer: Describer, input_: str, image_id: str, descriptions: Sequence[records.Description]
    ) -> None:
        """Write one successful attempt; it outlives this process as soon as this returns."""
        row = {
            "key": attempt_key(describer, input_),
            "input": input_,
            "image_id": image_id,
            "describer": describer.name,
            "version": describer.version,
            "params": describer.params,
            "status": "ok",
            "captions": [{"text": d.text, "source": d.source} for d in descriptions],
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        self.done.add(row["key"])


@contextlib.contextmanager
def open_journal(directory: Path) -> Iterator[Journal]:
    """Take up the journal of `directory`, or start it. Raises UserError where a row is damaged.

    The caller holds the directory (`files.exclusive`): two writers would tear each other's lines.
    """
    done = {row["key"] for row in read_rows(directory) if row["status"] == "ok"}
    with open(directory / JOURNAL, "ab") as file:
        size = file.tell()
        end = _end_of_last_line(directory / JOURNAL, size)
        file.truncate(end)
        yield Journal(file, done, dropped_bytes=size - end)
        os.fsync(file.fileno())


def _end_of_last_line(path: Path, size: int) -> int:
    with open(path, "rb") as file:
        while size:
            start = max(0, size - 65536)
            file.seek(start)
            newline = file.read(size - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            size = start
    return 0
