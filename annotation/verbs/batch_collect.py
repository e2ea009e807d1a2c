"""`annotate batch collect`: the answers of batches, or of files by hand, taken into the journal."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from annotation import budget, files, journal
from annotation.describers import openai_batch
from annotation.describers.openai_batch import Part
from annotation.errors import UserError
from annotation.verbs import asking
from annotation.verbs.asking import say


def collect(args: argparse.Namespace) -> None:
    if not openai_batch.read_parts(args.out):
        raise UserError(f"{args.out}: holds no batch; `annotate batch submit … --out={args.out}` makes them")
    for path in args.results or ():
        if not path.is_file():
            raise UserError(f"--results={path}: not a file")
    states: dict[str, str] = {}
    while True:
        try:
            if not _look(args, states):
                return
        except files.Busy:
            if not args.wait:
                raise
        time.sleep(args.poll)  # with the journal free for others


def _look(args: argparse.Namespace, states: dict[str, str]) -> bool:
    """Take over all answers that are there; whether there is something to wait for."""
    with files.exclusive(args.out), journal.open_journal(args.out) as opened:
        before = asking.totals(opened.ledger)
        openai_batch.settle_unsent(opened, args.out)
        parts = [part for part in openai_batch.read_parts(args.out) if not part.collected]
        if args.results:
            _from_files(args, opened, parts)
        elif args.give_up:
            _give_up(args.out, opened, parts)
        else:
            _from_services(args, opened, [part for part in parts if part.batch], states)
        waits = args.wait and any(
            part.batch and not part.collected for part in openai_batch.read_parts(args.out)
        )
        after = asking.totals(opened.ledger)
        if after != before or not waits:
            say(asking.summary(before, after))
        if not waits:
            say_next(args.out, opened)
        return waits


def _from_services(
    args: argparse.Namespace, opened: journal.Journal, parts: list[Part], states: dict[str, str]
) -> None:
    """Look at every batch and take over those that ended. states: what was said of each before."""
    from annotation.describers import batch_service

    for base_url in dict.fromkeys(part.settings.base_url for part in parts):
        with batch_service.Service(base_url) as service:
            for part in (part for part in parts if part.settings.base_url == base_url):
                try:
                    _look_at(args.out, opened, part, service, states)
                except batch_service.Gone as error:
                    say(f"{part.name}: {error}; with its key and project again it may, or pass --give-up")
                except batch_service.Unreachable as error:
                    if not args.wait:
                        raise
                    say(f"{error}; looking again in {args.poll:g} s")


def _look_at(out: Path, opened: journal.Journal, part: Part, service, states: dict[str, str]) -> None:
    from annotation.describers import batch_service

    batch = service.look(part.batch)
    state = _state(batch)
    if states.get(part.name) != state:
        say(f"{part.name}: {part.batch} is {state}")
        states[part.name] = state
    if batch.get("status") in batch_service.ENDED:
        _take_over(out, opened, part, batch, service)


def _state(batch: dict[str, Any]) -> str:
    counts = _counts(batch)
    return f"{batch.get('status')}, {counts['completed']} of {counts['total']} answered"


def _counts(batch: dict[str, Any]) -> Counter[str]:
    counts = batch.get("request_counts")
    found = counts.items() if isinstance(counts, dict) else ()
    return Counter({name: count for name, count in found if isinstance(count, int)})


def _take_over(out: Path, opened: journal.Journal, part: Part, batch: dict[str, Any], service) -> None:
    """The answers and errors of a batch that ended; either file may be missing."""
    from annotation.describers import batch_service

    paths = []
    for kind, field in ((".output", "output_file_id"), (".errors", "error_file_id")):
        if isinstance(batch.get(field), str) and batch[field]:
            path = openai_batch.path(out, part.name, kind)
            try:
                service.download(batch[field], path)
                paths.append(path)
            except batch_service.Gone as gone:
                say(f"{part.name}: {gone}: what it held is lost")
    requests = openai_batch.OpenRequests(out, [part])
    found = _harvest(requests, opened, paths, part.requests)
    lost = max(found.unreadable, _counts(batch)["completed"] - found.delivered)
    error = f"no answer came; the batch ended as {batch['status']}{_why(batch)}"
    _close(out, opened, requests, part, error, lost)


def _why(batch: dict[str, Any]) -> str:
    """Why the service took none of a batch's requests."""
    errors = batch.get("errors")
    listed = errors.get("data") if isinstance(errors, dict) else None
    first = listed[0] if isinstance(listed, list) and listed else None
    message = first.get("message") if isinstance(first, dict) else None
    return f" ({' '.join(str(message).split())[:300]})" if message else ""


def _from_files(args: argparse.Namespace, opened: journal.Journal, parts: list[Part]) -> None:
    requests = openai_batch.OpenRequests(args.out, parts)
    found = _harvest(requests, opened, args.results, None)
    if not found.parts and not found.repeated:
        raise UserError(
            f"--results={args.results[0]}: answers no request that waits in {args.out}; expected lines "
            'such as {"custom_id": …, "response": …}, as `vllm run-batch -o` writes them'
        )
    for part in parts:
        if part.name in found.parts:
            _close(args.out, opened, requests, part, "no answer in the results", found.unreadable)


def _give_up(out: Path, opened: journal.Journal, parts: list[Part]) -> None:
    """Wait no more for what nobody will answer, or only somebody who cannot be asked."""
    from annotation.describers import batch_service

    requests = openai_batch.OpenRequests(out, parts)
    for part in parts:
        try:
            if part.batch:
                with batch_service.Service(part.settings.base_url) as service:
                    service.look(part.batch)
                say(f"{part.name}: {part.batch} is known to its service and not given up")
                continue
        except batch_service.Gone:
            pass
        _close(out, opened, requests, part, "given up", part.requests)


def _harvest(
    requests: openai_batch.OpenRequests, opened: journal.Journal, paths: list[Path], total: int | None
) -> openai_batch.Harvest:
    with tqdm(_lines(paths), total=total, unit=" answers", desc="collect", leave=False) as lines:
        found = openai_batch.harvest(requests, opened, lines)
    for count, what in (
        (found.repeated, "answers to requests that had one"),
        (found.strangers, "answers to requests that were not made from here, passed over"),
        (found.unreadable, "lines that are no answer, passed over"),
    ):
        if count:
            say(f"  {count} {what}")
    for error, count in found.errors.most_common(5):
        say(f"  {count} × {error}")
    return found


def _lines(paths: list[Path]) -> Iterator[bytes]:
    for path in paths:
        with open(path, "rb") as lines:
            yield from lines


def _close(
    out: Path,
    opened: journal.Journal,
    requests: openai_batch.OpenRequests,
    part: Part,
    error: str,
    perhaps_paid: int,
) -> None:
    left = openai_batch.close(out, opened, requests, part, error, perhaps_paid)
    if left:
        say(f"  {part.name}: {left} requests: {error}")
        if paid := min(left, perhaps_paid):
            say(f"  {paid} of them may have been paid, so what was reserved for them stays so")


def say_next(out: Path, opened: journal.Journal) -> None:
    """What is still out, and the command that goes on."""
    parts = [part for part in openai_batch.read_parts(out) if not part.collected]
    by_hand = [str(openai_batch.path(out, part.name)) for part in parts if part.files_only]
    batches = [part for part in parts if part.batch]
    unsent = len(parts) - len(by_hand) - len(batches)
    if batches:
        reserved = asking.totals(opened.ledger)["reserved"]
        most = f"; what has no answer may cost {budget.dollars(reserved)} at most" if reserved else ""
        say(f"{len(batches)} batches are out{most}")
        say(f"next: annotate batch collect --out={out} --wait")
    if by_hand:
        names = ", ".join(by_hand[:3]) + ", …" * (len(by_hand) > 3)
        say(
            f"{len(by_hand)} files are to be answered ({names}); "
            f"next: vllm run-batch -i FILE -o ANSWERS --model NAME, then "
            f"annotate batch collect --results=ANSWERS --out={out}"
        )
    if unsent:
        say(f"{unsent} files are not sent yet; run annotate batch submit again")
    if not parts:
        say(
            f"nothing is out; next: annotate pack --journal={out} …, or annotate batch submit again for the "
            "images without a caption"
        )
