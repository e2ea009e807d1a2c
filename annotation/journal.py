"""What has been described, in a directory that a killed run can take up again.

`records.jsonl` holds the images, one `records.to_json` row each; it is replaced as a whole.
`journal.jsonl` is append-only, one JSON row per line:

    key        sha256 over describer, version, params and the record's canonical input: what has a row with
               status "ok" under its key is never described again
    input      sha256 over the canonical input alone: ties the row to the record as it stands now
    image_id   the record's
    describer  who wrote it: "geometry", "openai"
    version    of the describer; for "openai" that of the prompt
    params     everything else that shapes its answer, as JSON: {"detail": "full"}
    status     see below
    created    UTC time

A describer that costs nothing leaves one row per image, with status "ok" and

    captions   [{"text", "source"}], its `Description`s in order

Asking a service may cost money, so each time leaves two rows that share a unique `attempt`. The first, on
disk before the request is sent:

    "intent"    reserved  {"prompt_tokens", "completion_tokens", "cost"}: the most that it may cost
                and "batch", the part that it goes out in, where it is asked by the file (`openai_batch`)

and then, as soon as it is known, what became of it:

    "ok"        captions, and `answer`: who answered and what it cost (`openai_chat.outcome`)
    "rejected"  captions, reasons and answer: paid for, but a validator refused it
    "failed"    error, and `answer` where the service said what it cost; a request without `answer` was free.
                `refused` {parameter: why} where the model does not take a parameter
    "unknown"   error: it was sent and no answer could be read, so it may have been paid

An intent without one of the first three is *unknown*: its reservation counts as spent. Money is in USD;
`cost` is null where the price is not known.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import hashlib
import json
import math
import os
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from annotation import records
from annotation.errors import UserError

RECORDS, JOURNAL = "records.jsonl", "journal.jsonl"
INTENT, OK, REJECTED, FAILED, UNKNOWN = "intent", "ok", "rejected", "failed", "unknown"


@dataclasses.dataclass(frozen=True)
class Describer:
    """Who describes: its name, its version and everything else that shapes its answer, as JSON values."""

    name: str
    version: str
    params: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One request that was announced in the journal and has no outcome yet."""

    id: str
    describer: Describer
    input: str
    image_id: str


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
                row["key"], row["status"], row["input"], row["describer"], row["params"]
                if row["status"] == OK:
                    row["captions"]
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise UserError(
                    f"{path}: line {number}: not a journal row ({error}); expected one JSON object per line"
                ) from None
            yield row


def accepted(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """Input hash → its rows with captions, in an order that does not depend on who came first.

    Every describer and every set of parameters contributes. Of several versions of one describer the one
    written last counts, since it replaces the others.
    """
    latest: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
    for row in read_rows(directory):
        if row["status"] == OK:
            writer = (row["describer"], json.dumps(row["params"], sort_keys=True))
            latest.setdefault(row["input"], {})[writer] = row
    return {input_: [writers[writer] for writer in sorted(writers)] for input_, writers in latest.items()}


def captions_by_input(directory: Path) -> dict[str, list[records.Description]]:
    """Input hash → captions, in the order of `accepted`."""
    return {
        input_: [
            records.Description(row["image_id"], **caption) for row in rows for caption in row["captions"]
        ]
        for input_, rows in accepted(directory).items()
    }


class Ledger:
    """What a journal's rows add up to, row by row; it does not grow with the length of the captions.

    done: keys with an accepted caption. unanswered: attempt → reservation, for intents without an outcome.
    refusals: key → paid answers that gave no caption. counts: status → rows with "ok", "rejected", "failed".
    refused: (base URL, model) → {parameter: why}, what that model does not take; took: → what it did take.
    usage: (base URL, model) → tokens and cost of all that was answered or is reserved.
    """

    def __init__(self) -> None:
        self.done: set[str] = set()
        self.unanswered: dict[str, dict[str, Any]] = {}
        self.refusals: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.refused: dict[tuple[str, str], dict[str, str]] = {}
        self.took: dict[tuple[str, str], set[str]] = {}
        self.usage: dict[tuple[str, str], Usage] = {}

    def add(self, row: dict[str, Any]) -> None:
        status, answer = row["status"], row.get("answer")
        service = (row["params"].get("base_url", ""), row["params"].get("model", ""))
        if status == INTENT:
            self.unanswered[row["attempt"]] = row["reserved"]
            self.usage.setdefault(service, Usage()).reserve(row["reserved"], +1)
        elif status in (OK, REJECTED, FAILED):
            if reserved := self.unanswered.pop(row.get("attempt", ""), None):
                self.usage[service].reserve(reserved, -1)
            self.counts[status] += 1
        if status == OK:
            self.done.add(row["key"])
            self.refusals.pop(row["key"], None)
            self.took.setdefault(service, set()).update(row["params"])
        elif answer:
            self.refusals[row["key"]] += 1
        if answer:
            self.usage.setdefault(service, Usage()).add(answer)
        if "refused" in row:
            self.refused.setdefault(service, {}).update(row["refused"])


@dataclasses.dataclass
class Usage:
    """Tokens and money of one model: answered, and reserved for what is unanswered.

    unpriced_*: those tokens, answered or reserved, whose cost the journal does not know.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    reserved_cost: float = 0.0
    unpriced_prompt: int = 0
    unpriced_completion: int = 0

    def add(self, answer: dict[str, Any]) -> None:
        tokens = answer["usage"]
        self.prompt_tokens += _amount(tokens["prompt_tokens"])
        self.completion_tokens += _amount(tokens["completion_tokens"])
        if answer["cost"] is None:
            self._unpriced(tokens, +1)
        else:
            self.cost += _amount(answer["cost"])

    def reserve(self, reserved: dict[str, Any], sign: int) -> None:
        if reserved["cost"] is None:
            self._unpriced(reserved, sign)
        else:
            self.reserved_cost += sign * _amount(reserved["cost"])

    def _unpriced(self, tokens: dict[str, Any], sign: int) -> None:
        self.unpriced_prompt += sign * _amount(tokens["prompt_tokens"])
        self.unpriced_completion += sign * _amount(tokens["completion_tokens"])


def _amount(value: Any) -> Any:
    """Tokens or USD as they are. Raises ValueError for what would make spending look lower, or unknowable."""
    if not 0 <= value < math.inf:
        raise ValueError(f"{value!r} where tokens or USD are expected")
    return value


class Journal:
    """A journal open for appending, and the `ledger` of all that is in it.

    `dropped_bytes` is the length of the torn last line that was cut off when it was opened.
    """

    def __init__(self, path: Path, ledger: Ledger, dropped_bytes: int = 0):
        self.ledger = ledger
        self.dropped_bytes = dropped_bytes
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        self._size = os.fstat(self._file).st_size
        self._on_disk = self._size
        self._syncing = asyncio.Lock()
        self._spare = path.with_name(path.name + ".spare")
        self._full: OSError | None = None

    @property
    def done(self) -> set[str]:
        """Keys of all successful attempts."""
        return self.ledger.done

    def append(
        self, describer: Describer, input_: str, image_id: str, descriptions: Sequence[records.Description]
    ) -> None:
        """Write one description that cost nothing; it outlives this process as soon as this returns."""
        self._write(_row(describer, input_, image_id) | {"status": OK, "captions": _captions(descriptions)})

    def intent(self, describer: Describer, input_: str, image_id: str, reserved: dict[str, Any]) -> Attempt:
        """Announce one request. It may be sent after `synced` returned.

        reserved: {"prompt_tokens", "completion_tokens", "cost"}, the most that it may cost.
        """
        attempt = Attempt(uuid.uuid4().hex, describer, input_, image_id)
        row = _row(describer, input_, image_id)
        self._write(row | {"status": INTENT, "attempt": attempt.id, "reserved": reserved})
        return attempt

    def outcome(self, attempt: Attempt, status: str, **fields: Any) -> None:
        """Write what became of a request; it outlives this process as soon as this returns.

        fields: those of the row's status; captions are `Description`s.
        """
        if "captions" in fields:
            fields["captions"] = _captions(fields["captions"])
        row = _row(attempt.describer, attempt.input, attempt.image_id)
        self._write(row | {"status": status, "attempt": attempt.id} | fields)

    async def synced(self) -> None:
        """Return once all that was written until now would outlive a power cut.

        While one task waits for the disk others write on; the next fsync then serves all of them.
        """
        size = self._size
        async with self._syncing:
            if self._on_disk < size:
                written = self._size
                await asyncio.to_thread(os.fsync, self._file)
                self._on_disk = written

    def keep_spare(self, size: int) -> None:
        """Hold `size` bytes of the disk, so that answers on their way find room when it gets full."""
        with open(self._spare, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)

    def _write(self, row: dict[str, Any]) -> None:
        line = json.dumps(row, ensure_ascii=False).encode(errors="replace") + b"\n"
        if self._full and row["status"] == INTENT:  # what room is left is for the answers on their way
            raise self._full
        try:
            self._write_line(line)
        except OSError as error:
            if row["status"] == INTENT or not self._spare.exists():
                raise
            self._full = error
            self._spare.unlink()
            self._write_line(line)
        self.ledger.add(row)

    def _write_line(self, line: bytes) -> None:
        try:
            written = os.write(self._file, line)
            while written < len(line):  # a full disk takes a part first and fails after
                written += os.write(self._file, line[written:])
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise OSError(error.errno, error.strerror, str(self._path)) from None
        self._size += len(line)

    def close(self) -> None:
        self._spare.unlink(missing_ok=True)
        os.fsync(self._file)
        os.close(self._file)


def _row(describer: Describer, input_: str, image_id: str) -> dict[str, Any]:
    return {
        "key": attempt_key(describer, input_),
        "input": input_,
        "image_id": image_id,
        "describer": describer.name,
        "version": describer.version,
        "params": describer.params,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _captions(descriptions: Sequence[records.Description]) -> list[dict[str, str]]:
    return [{"text": d.text, "source": d.source} for d in descriptions]


def read_ledger(directory: Path) -> Ledger:
    """The sum of a journal's rows. Raises UserError where a row is damaged."""
    ledger = Ledger()
    for number, row in enumerate(read_rows(directory), 1):
        try:
            ledger.add(row)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            what = f"a row without {error}" if isinstance(error, KeyError) else f"{error}"
            raise UserError(
                f"{directory / JOURNAL}: line {number}: {what}; expected the fields that "
                "annotation/journal.py names"
            ) from None
    return ledger


@contextlib.contextmanager
def open_journal(directory: Path) -> Iterator[Journal]:
    """Take up the journal of `directory`, or start it. Raises UserError where a row is damaged.

    The caller holds the directory (`files.exclusive`): two writers would tear each other's lines.
    """
    path = directory / JOURNAL
    ledger = read_ledger(directory)
    size = path.stat().st_size if path.exists() else 0
    end = _end_of_last_line(path, size)
    if end < size:
        os.truncate(path, end)
    journal = Journal(path, ledger, dropped_bytes=size - end)
    try:
        yield journal
    finally:
        journal.close()


def _end_of_last_line(path: Path, size: int) -> int:
    if not size:
        return 0
    with open(path, "rb") as file:
        while size:
            start = max(0, size - 65536)
            file.seek(start)
            newline = file.read(size - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            size = start
    return 0
