"""The flags of everything that asks a language model, and what is said before and after asking."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from annotation import budget, journal, models, prompts
from annotation.describers import openai_chat
from annotation.describers.openai_chat import Settings
from annotation.errors import UserError
from annotation.verbs.arguments import positive

WHAT_LEAVES = "joints and activities (no pixels, names or paths)"


def add_model_arguments(group: argparse._ArgumentGroup) -> None:
    """What shapes the answers."""
    group.add_argument(
        "--model", action="append", metavar="NAME", help="as the service names it; may be given several times"
    )
    group.add_argument(
        "--base-url", default=models.OPENAI, metavar="URL", help=f"of the service (default {models.OPENAI})"
    )
    group.add_argument("--prompt", default="paper", choices=prompts.VERSIONS, help="version (default paper)")
    group.add_argument(
        "--captions", type=positive, default=1, metavar="N", help="per image and model (default 1)"
    )
    group.add_argument(
        "--max-tokens", type=positive, metavar="N", help="the most of one answer (default 512, the paper's)"
    )
    group.add_argument(
        "--reasoning-effort", metavar="WORD", help="sent as it is; none for models that reason by default"
    )
    group.add_argument(
        "--price",
        type=_price,
        metavar="IN,OUT",
        help="USD per million tokens of prompt and answer; known for OpenAI's models as of " + models.NOTED,
    )


def add_spending_arguments(group: argparse._ArgumentGroup) -> None:
    """For how much."""
    group.add_argument("--dry-run", action="store_true", help="say what it would take and send nothing")
    group.add_argument(
        "--max-cost",
        type=amount,
        metavar="USD",
        help="the most that this journal may cost, over all runs (with --part: each part's journal)",
    )
    group.add_argument(
        "--attempts", type=positive, default=3, metavar="N", help="paid answers per caption (default 3)"
    )


def add_sending_arguments(group: argparse._ArgumentGroup) -> None:
    """How fast, one request at a time."""
    group.add_argument(
        "--concurrency", type=positive, default=64, metavar="N", help="requests out at once (64)"
    )
    for name in ("requests", "tokens"):
        group.add_argument(
            f"--{name}-per-minute", type=positive, metavar="N", help="default: what the service's answers say"
        )
    group.add_argument(
        "--timeout", type=amount, default=120.0, metavar="SECONDS", help="for one answer (default 120)"
    )


def settings(args: argparse.Namespace) -> list[Settings]:
    """One per model and caption. Raises UserError where a model is retired or a flag makes no sense."""
    if not args.model:
        raise UserError("--describer=openai: no --model given")
    if args.price and len(args.model) > 1:
        raise UserError("--price: is of one model; describe with one --model at a time, into the same --out")
    base_url = _base_url(args.base_url)
    sampling = dict(openai_chat.SAMPLING)
    if args.max_tokens:
        sampling["max_tokens"] = args.max_tokens
    if args.reasoning_effort:
        sampling["reasoning_effort"] = args.reasoning_effort
    found = []
    for model in dict.fromkeys(args.model):
        if end := models.refuse_retired(model, base_url):
            say(f"{model} will be retired on {end}")
        price = args.price or models.price(model, base_url)
        found += [
            Settings(model, args.prompt, base_url, sampling, wording, price)
            for wording in range(args.captions)
        ]
    return found


def ask(args: argparse.Namespace, settings: list[Settings], out: Path, notes: Counter[str]) -> None:
    """Plan, say what it takes, and unless --dry-run ask for what the journal of `out` lacks."""
    from annotation.describers import openai_run  # the client takes a second to import

    refuse_unpriced(args, settings)
    if not args.dry_run:  # which sends nothing, so it needs no key
        openai_run.key(settings[0].base_url)
    with journal.open_journal(out) as opened:
        plans = plan(settings, opened, out, notes)
        say(f"{'a real run sends' if args.dry_run else 'sending'} {WHAT_LEAVES} to {settings[0].base_url}")
        if args.dry_run or not any(one.calls for one in plans):
            return
        options = openai_run.Options(
            concurrency=args.concurrency,
            requests_per_minute=args.requests_per_minute,
            tokens_per_minute=args.tokens_per_minute,
            max_cost=args.max_cost,
            attempts=args.attempts,
            timeout=args.timeout,
        )
        before = totals(opened.ledger)
        try:
            openai_run.run(plans, lambda: journal.read_records(out), opened, options, notes, say)
        finally:
            say(summary(before, totals(opened.ledger)))


def refuse_unpriced(args: argparse.Namespace, settings: list[Settings]) -> None:
    """A limit of money needs prices."""
    unpriced = sorted({one.model for one in settings if one.price is None})
    if args.max_cost is not None and unpriced:
        raise UserError(f"--max-cost: the price of {unpriced[0]} is not known; give --price=IN,OUT")


def plan(settings: list[Settings], opened: journal.Journal, out: Path, notes: Counter[str]) -> list:
    """Count what the journal lacks, and say what that takes: one `openai_run.Plan` per settings.

    What is out in a batch counts as there, for the rest of this run: it will come, and is not bought twice.
    """
    from annotation.describers import openai_batch, openai_run

    notes["bytes of a torn last line, dropped from the journal"] += opened.dropped_bytes
    if waiting := openai_batch.waiting(out):
        opened.ledger.done.update(waiting.values())
        say(f"{len(waiting)} requests are out in batches; `annotate batch collect --out={out}` gets them")
    plans = openai_run.plan(settings, journal.read_records(out), opened.ledger)
    for one in plans:
        say(_expectation(one))
    _say_what_is_there(opened.ledger, {(one.base_url, one.model): one.price for one in settings})
    return plans


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def _expectation(plan) -> str:
    settings, answers = plan.settings, plan.calls * budget.EXPECTED_ANSWER
    most = plan.calls * settings.max_tokens
    text = (
        f"{settings.model}{f', caption {settings.wording + 1}' if settings.wording else ''}: "
        f"{plan.calls} requests, about {plan.prompt_tokens} prompt and {answers} answer tokens"
    )
    if settings.price is None:
        return f"{text}; its price is not known, --price=IN,OUT tells the cost"
    about = budget.dollars(budget.priced(settings.price, plan.prompt_tokens, answers))
    at_most = budget.dollars(budget.priced(settings.price, plan.prompt_tokens, most))
    return f"{text}, about {about}, {at_most} if every answer had {settings.max_tokens} tokens"


def _say_what_is_there(ledger: journal.Ledger, prices: dict[budget.Service, budget.Price | None]) -> None:
    """What earlier runs cost, and what that sum leaves out."""
    if not ledger.usage:
        return
    spent = budget.dollars(budget.committed(ledger, prices))
    unanswered = len(ledger.unanswered)
    say(f"the journal has cost {spent}, with {unanswered} requests without an answer counted in full")
    for service, usage in ledger.usage.items():
        if usage.unpriced_prompt and not prices.get(service):
            tokens = usage.unpriced_prompt + usage.unpriced_completion
            say(f"  without {tokens} tokens of {service[1]}, whose price is not known")


def totals(ledger: journal.Ledger) -> dict[str, float]:
    usage = ledger.usage.values()
    return {
        **{status: ledger.counts[status] for status in (journal.OK, journal.REJECTED, journal.FAILED)},
        "unknown": len(ledger.unanswered),
        "prompt": sum(of_model.prompt_tokens for of_model in usage),
        "answer": sum(of_model.completion_tokens for of_model in usage),
        "cost": sum(of_model.cost for of_model in usage),
        "reserved": sum(of_model.reserved_cost for of_model in usage),
    }


def summary(before: dict[str, float], after: dict[str, float]) -> str:
    new = {name: max(0, after[name] - before[name]) for name in after}
    return (
        f"{new['ok']} accepted, {new['rejected']} rejected, {new['failed']} failed, "
        f"{new['unknown']} unknown; {new['prompt']} prompt and {new['answer']} answer tokens; "
        f"{budget.dollars(new['cost'])} spent, {budget.dollars(new['reserved'])} more at most if the unknown "
        f"were paid; {budget.dollars(after['cost'] + after['reserved'])} in all runs"
    )


def _base_url(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise UserError(f"--base-url={text}: expected http(s)://HOST/PATH, such as http://localhost:8000/v1")
    if url.username or url.password or url.query or url.fragment:
        raise UserError(
            "--base-url: expected no user, password, query or fragment, since the URL is written down; "
            "a key belongs in OPENAI_API_KEY"
        )
    return text.rstrip("/")


def _price(text: str) -> budget.Price:
    prices = [amount(part) for part in text.split(",")]
    if len(prices) != 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers, such as 0.4,1.6")
    return prices[0], prices[1]


def amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return value
