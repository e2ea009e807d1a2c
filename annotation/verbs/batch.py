"""`annotate batch submit` and `annotate batch collect`: describing at half the price, within a day."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from annotation import budget, describe, files, journal
from annotation.describers import openai_batch
from annotation.describers.openai_batch import Part, Request
from annotation.describers.openai_chat import Settings
from annotation.errors import UserError
from annotation.verbs import asking, source
from annotation.verbs.asking import say

SUBMIT = f"""\
{source.FORMATS}
OUT is that of `annotate describe`: what one of the two has got, the other does not ask for again. Run the
same command again after an interruption, or when new images or refused answers are to be asked.

Known prices are halved, as OpenAI does for batches; --price is taken as it is given. An account may queue
only so many tokens: begin with a small --limit and raise it after each collect.

examples:
  annotate batch submit --source=coco:people.json --model=gpt-6-luna --reasoning-effort=none \\
      --max-cost=5 --out=runs/people
  annotate batch submit --source=coco:people.json --model=NAME --base-url=http://localhost:8000/v1 \\
      --files-only --out=runs/people
  vllm run-batch -i runs/people/batches/part-00001.jsonl -o answers.jsonl --model NAME
  annotate batch collect --results=answers.jsonl --out=runs/people
"""


def add_parser(verbs: argparse._SubParsersAction) -> None:
    batch = verbs.add_parser(
        "batch",
        help="describe through a batch API, or files for vllm run-batch",
        description="Describe with a language model by the file: half the price, answers within a day.",
    )
    actions = batch.add_subparsers(required=True, metavar="submit|collect")

    parser = actions.add_parser(
        "submit",
        help="write requests into files and start their batches",
        description="Write requests for the images without a caption into files; start a batch of each.",
        epilog=SUBMIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=submit, part=None)
    source.add_arguments(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the journal lives")
    asking.add_model_arguments(parser.add_argument_group("a language model"))
    spending = parser.add_argument_group("how it is asked")
    asking.add_spending_arguments(spending)
    spending.add_argument(
        "--files-only",
        action="store_true",
        help="write the files and send nothing; --base-url then says who will answer them",
    )
    source.add_figures_arguments(parser)

    parser = actions.add_parser(
        "collect",
        help="take over the answers",
        description="Take the answers of ended batches into the journal, in whatever order they come.",
    )
    parser.set_defaults(run=collect)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="OUT of submit")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--wait", action="store_true", help="until every batch has ended")
    how.add_argument(
        "--results",
        action="append",
        type=Path,
        metavar="FILE",
        help="answers that you have as a file, such as the output of vllm run-batch; may be given several "
        "times. Parts of which they answer nothing stay open",
    )
    how.add_argument(
        "--give-up",
        action="store_true",
        help="wait no more for parts that no service answers; what they may have cost stays reserved",
    )
    parser.add_argument(
        "--poll", type=asking.amount, default=60.0, metavar="SECONDS", help="between looks (default 60)"
    )


# --------------------------------------------------------------------------------------------- submit


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
    return dataclasses.replace(settings, price=tuple(price / 2 for price in settings.price))


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
    _say_next(args.out, opened)


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

    may_exist = part.file is not None
    try:
        if part.file is None:
            part = dataclasses.replace(part, file=service.upload(openai_batch.path(out, part.name)))
            openai_batch.note(out, part.name, file=part.file)
        batch = service.create(part, look_first=may_exist)
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


# -------------------------------------------------------------------------------------------- collect


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
            _say_next(args.out, opened)
        return waits


def _from_services(
    args: argparse.Namespace, opened: journal.Journal, parts: list[Part], states: dict[str, str]
) -> None:
    """Look at every batch and take over those that ended. states: what was said of each before."""
    from annotation.describers import batch_service

    for part in parts:
        try:
            with batch_service.Service(part.settings.base_url) as service:
                batch = service.look(part.batch)
                state = _state(batch)
                if states.get(part.name) != state:
                    say(f"{part.name}: {part.batch} is {state}")
                    states[part.name] = state
                if batch.get("status") in batch_service.ENDED:
                    _take_over(args.out, opened, part, batch, service)
        except batch_service.Gone as error:
            say(f"{part.name}: {error}; with its key and project again it may, or pass --give-up")
        except batch_service.Unreachable as error:
            if not args.wait:
                raise
            say(f"{error}; looking again in {args.poll:g} s")


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
            except batch_service.Gone as error:
                say(f"{part.name}: {error}: what it held is lost")
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


def _say_next(out: Path, opened: journal.Journal) -> None:
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
