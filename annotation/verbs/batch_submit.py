"""`annotate batch submit`: requests written into files, and a batch started of each."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from annotation import budget, describe, files, journal
from annotation.describers import openai_batch
from annotation.describers.openai_batch import Part, Request
from annotation.describers.openai_chat import Settings
from annotation.errors import UserError
from annotation.verbs import asking, source
from annotation.verbs.asking import say
from annotation.verbs.batch_collect import say_next


def submit(args: argparse.Namespace) -> None:
    if not args.model:
        raise UserError("batch submit: no --model given")
    settings = [_at_batch_price(one, args) for one in asking.settings(args)]
    asking.refuse_unpriced(args, settings)
    in_source: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    with files.exclusive(args.out):
        images = source.read(args, in_source, notes)
        say(f"{args.out}: {describe.write_records(images, args.out, args.limit, notes)} images")
        try:
            with journal.open_journal(args.out) as opened:
                _submit(args, settings, opened, notes)
        finally:
            source.say_what_was_noticed(in_source, notes)


def _at_batch_price(settings: Settings, args: argparse.Namespace) -> Settings:
    if args.price or settings.price is None:
        return settings
    prompt, answer = settings.price
    return dataclasses.replace(settings, price=(prompt / 2, answer / 2))


def _submit(
    args: argparse.Namespace, settings: list[Settings], opened: journal.Journal, notes: Counter[str]
) -> None:
    from annotation.describers import batch_service, openai_run  # the client takes a second to import

    base_url = settings[0].base_url
    notes["requests of an interrupted run, never sent"] += openai_batch.settle_unsent(opened, args.out)
    unsent = [] if args.files_only else list(_unsent(args.out, base_url))
    plans = asking.plan(settings, opened, args.out, notes)
    _say_where(args, base_url)
    if args.dry_run:
        if unsent:
            say(f"{len(unsent)} parts of an earlier run are still to be sent, too")
        return
    with contextlib.nullcontext() if args.files_only else batch_service.Service(base_url) as service:
        for part in unsent:
            _send(service, args.out, part)
        for asked, calls in ((plan.settings, plan.calls) for plan in plans if plan.calls):
            asked = openai_run.without_refused(asked, opened.ledger)
            _warn_if_untried(asked, opened.ledger)
            requests = _affordable(args, opened, settings, _not_given_up(args, opened, asked, notes), notes)
            with tqdm(requests, total=calls, unit=" requests", desc="write", leave=False) as bar:
                for part in openai_batch.write(args.out, opened, asked, bar, args.files_only):
                    if service:
                        _send(service, args.out, part)
                    else:
                        say(f"{openai_batch.path(args.out, part.name)}: {part.requests} requests")
    say_next(args.out, opened)


def _say_where(args: argparse.Namespace, base_url: str) -> None:
    if args.files_only:
        say(f"sending nothing; the files are for {base_url}")
    else:
        verb = "a real run sends" if args.dry_run else "sending"
        say(f"{verb} {asking.WHAT_LEAVES} to {base_url}")


def _unsent(out: Path, base_url: str) -> Iterator[Part]:
    """Parts that a run was about to send when it ended."""
    for part in openai_batch.read_parts(out):
        if part.batch is None and not part.files_only and not part.collected:
            if part.settings.base_url == base_url:
                yield part
            else:
                say(f"{part.name} is not sent yet; submit with --base-url={part.settings.base_url}")


def _send(service, out: Path, part: Part) -> None:
    """Upload and create what has no id yet, and keep each id at once."""
    from annotation.describers import batch_service

    file = part.file
    try:
        if file is None:
            file = service.upload(openai_batch.path(out, part.name))
            openai_batch.note(out, part.name, file=file)
        batch = service.create(part, file, look_first=part.file is not None)
    except batch_service.Gone as error:
        raise UserError(f"{error}; a server without a batch API is served by submit --files-only") from None
    openai_batch.note(out, part.name, batch=batch)
    say(f"{part.name}: {part.requests} requests of {part.settings.model} in {batch}")


def _warn_if_untried(settings: Settings, ledger: journal.Ledger) -> None:
    """A batch of refusals costs nothing but a day."""
    service = settings.base_url, settings.model
    if service not in ledger.took and service not in ledger.refused:
        say(
            f"nothing in OUT tells whether {settings.model} takes {', '.join(settings.sampling)}; "
            "`annotate describe … --limit=1` with the same flags finds out in seconds"
        )


def _not_given_up(
    args: argparse.Namespace, opened: journal.Journal, settings: Settings, notes: Counter[str]
) -> Iterator[Request]:
    for request in openai_batch.missing(settings, journal.read_records(args.out), opened):
        key = journal.attempt_key(settings.describer(), request.input)
        if opened.ledger.refusals[key] < args.attempts:
            yield request
        else:
            notes[f"images given up after {args.attempts} answers (--attempts)"] += 1


def _affordable(
    args: argparse.Namespace,
    opened: journal.Journal,
    settings: list[Settings],
    requests: Iterable[Request],
    notes: Counter[str],
) -> Iterator[Request]:
    """The requests that --max-cost allows, should each cost the most it may."""
    prices = {(one.base_url, one.model): one.price for one in settings}
    for request in requests:
        if args.max_cost is not None:
            spent = budget.committed(opened.ledger, prices)
            if spent + request.reserved["cost"] > args.max_cost:
                notes["requests left for after the next collect, since --max-cost is reserved"] += 1
                continue
        yield request
