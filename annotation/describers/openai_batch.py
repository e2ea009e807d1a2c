"""Requests by the file: written and announced, and what their answers leave in the journal. Sends nothing.

OUT/batches holds for each part, a file of requests of one model:

    part-00001.jsonl           the requests, as OpenAI's Batch API and `vllm run-batch` read them
    part-00001.records.jsonl   the images they are about, line by line, as they were when they were asked
    part-00001.output.jsonl, part-00001.errors.jsonl   the answers, as the service gave them

and batches.jsonl, append-only: rows {"part": name, …} of which each adds to the earlier ones of its part what
became known (the fields of `Part`). A request's `custom_id` is its attempt in the journal, whose intent
names the part (`reserved["batch"]`). The order of writing makes every kill harmless:

    intents, files, row of the part, upload, its file's id, batch, its id, answers, outcomes, "collected"

Intents of a part without a row were never sent. A part without ids is uploaded again, which costs nothing;
one whose batch may have been made is looked for first (`batch_service.Service.create`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from annotation import budget, files, journal, records
from annotation.describers import openai_chat
from annotation.describers.openai_chat import Settings
from annotation.errors import UserError

ENDPOINT: Final = "/v1/chat/completions"

# Of one input file, says OpenAI. A megabyte is taken as a million bytes.
MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000

_REGISTER = "batches.jsonl"

_Kept = TypeVar("_Kept")


@dataclasses.dataclass(frozen=True)
class Part:
    """One file of requests and how far it has come.

    sha256, requests: of the file. files_only: it is answered by hand, not by a service.
    file, batch: the service's ids of the uploaded file and of the batch; None while they are not known.
    collected: every request has an outcome.
    """

    name: str
    sha256: str
    requests: int
    settings: Settings
    created: str
    files_only: bool = False
    file: str | None = None
    batch: str | None = None
    collected: bool = False


def path(out: Path, name: str, kind: str = "") -> Path:
    """kind: "", ".records", ".output" or ".errors"."""
    return out / "batches" / f"{name}{kind}.jsonl"


def read_parts(out: Path) -> list[Part]:
    """All parts in the order in which they were written. Raises UserError where the register is damaged."""
    register = out / "batches" / _REGISTER
    fields: dict[str, dict[str, Any]] = {}
    lines = register.read_bytes().splitlines(keepends=True) if register.exists() else []
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            break  # a killed run's
        try:
            row = json.loads(line)
            fields.setdefault(row["part"], {}).update(row)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{register}: line {number}: not a row about a part ({error})") from None
    try:
        return [_part(**row) for row in fields.values()]
    except TypeError as error:
        raise UserError(f"{register}: a part's rows do not say all about it ({error})") from None


def _part(part: str, settings: dict[str, Any], **rest: Any) -> Part:
    return Part(part, settings=Settings(**settings), **rest)


def note(out: Path, name: str, **fields: Any) -> None:
    """Add to the register what became known of a part; it outlives a power cut."""
    register = out / "batches" / _REGISTER
    with open(register, "ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)  # without a killed run's torn line
        file.write(json.dumps({"part": name} | fields).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def waiting(out: Path) -> dict[str, str]:
    """Attempt → key of the requests of open parts that have no outcome yet."""
    names = {part.name for part in read_parts(out) if not part.collected}
    return _without_outcome(out, names, lambda row: row["key"])


def settle_unsent(opened: journal.Journal, out: Path) -> int:
    """Mark requests whose part was never finished, since a run was killed, as failed; returns how many."""
    named = {reserved["batch"] for reserved in opened.ledger.unanswered.values() if "batch" in reserved}
    unsent = _without_outcome(out, named - {part.name for part in read_parts(out)}, lambda row: row)
    for row in unsent.values():
        describer = journal.Describer(row["describer"], row["version"], row["params"])
        attempt = journal.Attempt(row["attempt"], describer, row["input"], row["image_id"])
        opened.outcome(attempt, journal.FAILED, error="never sent: the run ended before its file was written")
    return len(unsent)


def _without_outcome(out: Path, names: set[str], keep: Callable[[dict[str, Any]], _Kept]) -> dict[str, _Kept]:
    """Attempt → what to keep of its intent, for requests of some parts about which nothing else is known."""
    found: dict[str, _Kept] = {}
    for row in journal.read_rows(out) if names else ():
        if row["status"] != journal.INTENT:
            found.pop(row.get("attempt", ""), None)
        elif row["reserved"].get("batch") in names:
            found[row["attempt"]] = keep(row)
    return found


# -------------------------------------------------------------------------------------------- writing


@dataclasses.dataclass(frozen=True)
class Request:
    """One request that is to be written. reserved: the most that it may cost."""

    record: records.ImageRecord
    input: str
    body: dict[str, Any]
    reserved: dict[str, Any]


def missing(
    settings: Settings, images: Iterable[records.ImageRecord], opened: journal.Journal
) -> Iterator[Request]:
    """Requests for the images that have no accepted caption."""
    describer, bound = settings.describer(), budget.PromptTokens()
    for record in images:
        input_ = journal.input_hash(record)
        if journal.attempt_key(describer, input_) not in opened.done:
            body = openai_chat.body(settings, record)
            tokens = bound.at_most("".join(message["content"] for message in body["messages"]))
            reserved = {
                "prompt_tokens": tokens,
                "completion_tokens": settings.max_tokens,
                "cost": budget.cost(settings.price, tokens, settings.max_tokens),
            }
            yield Request(record, input_, body, reserved)


def write(
    out: Path,
    opened: journal.Journal,
    settings: Settings,
    requests: Iterable[Request],
    files_only: bool = False,
    most_requests: int = MOST_REQUESTS,
    most_bytes: int = MOST_BYTES,
) -> Iterator[Part]:
    """Announce requests of one settings and write them into parts; yields each part when it is complete.

    A request is taken from `requests` only after the one before it is in the journal. One that is larger
    than `most_bytes` makes a part of its own.
    """
    requests = iter(requests)
    request = next(requests, None)
    path(out, "").parent.mkdir(exist_ok=True)
    while request:
        name = f"part-{len(read_parts(out)) + 1:05d}"
        digest, count, size = hashlib.sha256(), 0, 0
        with files.replacing(path(out, name)) as lines, files.replacing(path(out, name, ".records")) as kept:
            while request and count < most_requests:
                size += len(_line("0" * 32, request.body))
                if count and size > most_bytes:
                    break
                attempt = opened.intent(
                    settings.describer(),
                    request.input,
                    request.record.image_id,
                    request.reserved | {"batch": name},
                )
                line = _line(attempt.id, request.body)
                digest.update(line)
                lines.write(line.decode())
                kept.write(records.to_json(request.record) + "\n")
                count += 1
                request = next(requests, None)
        asyncio.run(opened.synced())
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        part = Part(name, digest.hexdigest(), count, settings, created, files_only)
        fields = dataclasses.asdict(part)
        note(out, fields.pop("name"), **fields)
        yield part


def _line(custom_id: str, body: dict[str, Any]) -> bytes:
    request = {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": body}
    return json.dumps(request, ensure_ascii=False).encode() + b"\n"


# ----------------------------------------------------------------------------------------- collecting


class OpenRequests:
    """The requests of `parts` and which of them wait for an answer. Their images stay on disk."""

    def __init__(self, out: Path, parts: Iterable[Part]):
        self._out = out
        self._places: dict[str, tuple[Part, int]] = {}  # custom_id → part, offset of its image
        for part in parts:
            offset = 0
            with open(path(out, part.name), "rb") as lines, open(_images(out, part), "rb") as kept:
                for line, record in zip(lines, kept, strict=True):
                    self._places[json.loads(line)["custom_id"]] = part, offset
                    offset += len(record)
        self._waiting = self._places.keys() & waiting(out).keys()

    def part_of(self, custom_id: str) -> Part | None:
        return self._places.get(custom_id, (None,))[0]

    def of(self, part: Part) -> list[str]:
        """Those of the part that wait, in the order of its file."""
        return [id_ for id_, (its, _) in self._places.items() if its is part and id_ in self._waiting]

    def waits(self, custom_id: str) -> bool:
        return custom_id in self._waiting

    def take(self, custom_id: str) -> tuple[journal.Attempt, records.ImageRecord]:
        """A request that waits, and no more from now on."""
        self._waiting.remove(custom_id)
        part, offset = self._places[custom_id]
        with open(_images(self._out, part), "rb") as kept:
            kept.seek(offset)
            record = records.from_json(kept.readline(), kept.name)
        describer, input_ = part.settings.describer(), journal.input_hash(record)
        return journal.Attempt(custom_id, describer, input_, record.image_id), record


def _images(out: Path, part: Part) -> Path:
    return path(out, part.name, ".records")


@dataclasses.dataclass
class Harvest:
    """What lines of answers held.

    parts: names of those that had a line. delivered: lines with a completion. repeated: lines for requests
    that had an outcome before. strangers: lines for requests that were not made here. unreadable: lines that
    name no request. errors: why requests failed, counted.
    """

    parts: set[str] = dataclasses.field(default_factory=set)
    delivered: int = 0
    repeated: int = 0
    strangers: int = 0
    unreadable: int = 0
    errors: Counter[str] = dataclasses.field(default_factory=Counter)


def harvest(requests: OpenRequests, opened: journal.Journal, lines: Iterable[bytes]) -> Harvest:
    """Write what became of each request that has a line, in whatever order they come."""
    found = Harvest()
    for line in lines:
        answer = _answer(line)
        if answer is None:
            found.unreadable += bool(line.strip())
            continue
        part = requests.part_of(answer["custom_id"])
        if part is None:
            found.strangers += 1
            continue
        found.parts.add(part.name)
        completion = _completion(answer)
        found.delivered += completion is not None
        if not requests.waits(answer["custom_id"]):
            found.repeated += 1
            continue
        attempt, record = requests.take(answer["custom_id"])
        if completion is None:
            fields = _failure(part.settings, answer, opened.ledger)
        else:
            body = openai_chat.body(part.settings, record)
            request_id = answer["response"].get("request_id") or ""
            fields = openai_chat.outcome(part.settings, body, completion, record, request_id)
        if "error" in fields:
            found.errors[fields["error"]] += 1
        if "told" in fields.get("answer", {}).get("usage", ()):
            found.errors[openai_chat.IMPOSSIBLE_USAGE] += 1
        opened.outcome(attempt, **fields)
    return found


def close(
    out: Path, opened: journal.Journal, requests: OpenRequests, part: Part, error: str, perhaps_paid: int
) -> int:
    """Mark the part's requests without an answer as failed, and the part as collected; returns how many.

    perhaps_paid: so many of them the service may have answered all the same. Which ones cannot be told, so
    the reservations of as many are kept.
    """
    left = requests.of(part)
    for number, custom_id in enumerate(left):
        attempt, _ = requests.take(custom_id)
        opened.outcome(attempt, journal.UNKNOWN if number < perhaps_paid else journal.FAILED, error=error)
    asyncio.run(opened.synced())
    note(out, part.name, collected=True)
    return len(left)


def _answer(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(found.get("custom_id"), str):
        return None
    return found if found.get("response") is not None or found.get("error") is not None else None


def _completion(answer: dict[str, Any]) -> Any:
    """The body of an answer with HTTP status 200; None where it was refused or never asked."""
    response = answer.get("response")
    if not isinstance(response, dict) or response.get("status_code") != 200:
        return None
    return response.get("body") or {}


def _failure(settings: Settings, answer: dict[str, Any], ledger: journal.Ledger) -> dict[str, Any]:
    """The row of a request that was refused or never run, which costs nothing."""
    response, error = answer.get("response"), answer.get("error")
    status = response.get("status_code") if isinstance(response, dict) else None
    # OpenAI puts a refusal into the response's body and what went wrong before into `error`; vLLM puts
    # both into `error`, some versions one level deeper.
    body = response.get("body") if isinstance(response, dict) else None
    places = [found.get("error") for found in (body, error) if isinstance(found, dict)] + [error, body]
    said: dict[str, Any] = next((one for one in places if isinstance(one, dict) and one.get("message")), {})
    what = f"HTTP {status}" if status else said.get("code") or "no answer"
    message = " ".join(str(said.get("message", "")).split())[:300]
    fields: dict[str, Any] = {
        "status": journal.FAILED,
        "error": f"{what}: {message}" if message else str(what),
    }
    parameter = said.get("param")
    took = ledger.took.get((settings.base_url, settings.model), ())
    if isinstance(parameter, str) and parameter not in took and settings.without(parameter):
        fields["refused"] = {parameter: message}  # the next requests go without it
    return fields
