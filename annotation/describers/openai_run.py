"""Many requests at once to one service, each announced in the journal, within limits and a budget.

A request goes: wait for its turn in the rate limits, reserve its worst cost, announce it, send it, write
what became of it. What is free to try again (a busy server, no network) is tried again after a pause; what
was paid counts towards `attempts`. A reason that no pause mends ends the run with one sentence, after the
requests that are out have been answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import random
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx2
import openai
from tqdm import tqdm

from annotation import budget, journal, models
from annotation.describers import openai_chat
from annotation.describers.openai_chat import Settings
from annotation.errors import UserError
from annotation.limits import Limits
from annotation.records import ImageRecord

# Pauses before the next try of an image: 0.5, 1, 2 … seconds, each up to half as long again at random.
RETRIES = 6
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
# A service that asks for more patience than this is left for another day.
_LONGEST_WAIT = 120.0
# Seconds without any answer after which the network counts as lost; fewer where none ever came.
_NETWORK_PATIENCE, _FIRST_PATIENCE = 30.0, 4.0
# So many images one after the other without an answer: the service is down, not one request odd.
_FAILED_IN_A_ROW, _FAILED_AT_FIRST = 20, 3
# What people put where a server wants any key ("none", "x") is no secret and may occur in a caption.
SHORTEST_SECRET = 12
# Seconds that a connection is kept idle. Many servers (uvicorn, so vLLM too) close theirs after 5 s, and a
# request that meets the closing one may or may not have been served.
_KEPT_IDLE = 4.0
# What happens before a request is on its way, so that it cannot have been paid.
_UNSENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)
# Characters of what a service or the network says that are kept.
_LONGEST_ERROR = 300
# Disk space that is held for each answer on its way.
_ROW_BYTES = 32 * 1024


@dataclasses.dataclass(frozen=True)
class Options:
    """How a run asks; nothing here shapes an answer.

    attempts: paid answers per image before it is given up. timeout: seconds for one answer.
    max_cost: USD that the journal may cost in all, None for no limit.
    """

    concurrency: int = 64
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_cost: float | None = None
    attempts: int = 3
    timeout: float = 120.0


def key(base_url: str) -> str:
    """The key from the environment. A server other than OpenAI's may need none."""
    found = os.environ.get("OPENAI_API_KEY", "").strip()
    if not found and models.is_openai(base_url):
        raise UserError(
            "OPENAI_API_KEY is not set; export it, or pass the --base-url of a server without keys"
        )
    if not (found.isascii() and found.isprintable()) or " " in found:
        raise UserError("OPENAI_API_KEY holds characters that no key has; export it again without them")
    return found or "none"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be asked with one settings: requests, their prompts' tokens in all and of the largest."""

    settings: Settings
    calls: int
    prompt_tokens: int
    largest: int


def plan(settings: list[Settings], records: Iterable[ImageRecord], ledger: journal.Ledger) -> list[Plan]:
    """Count what the journal lacks; tokens are estimated. All settings have the same prompt."""
    asked = [without_refused(one, ledger).describer() for one in settings]
    calls, totals, largest = [0] * len(settings), [0] * len(settings), [0] * len(settings)
    for record in tqdm(records, unit=" images", desc="plan", leave=False):
        input_ = journal.input_hash(record)
        missing = [
            n
            for n, describer in enumerate(asked)
            if journal.attempt_key(describer, input_) not in ledger.done
        ]
        if missing:
            messages = openai_chat.body(settings[0], record)["messages"]
            tokens = sum(budget.estimate_tokens(message["content"]) for message in messages)
            for n in missing:
                calls[n], totals[n], largest[n] = calls[n] + 1, totals[n] + tokens, max(largest[n], tokens)
    return [Plan(*each) for each in zip(settings, calls, totals, largest, strict=True)]


def run(
    plans: list[Plan],
    read: Callable[[], Iterable[ImageRecord]],
    opened: journal.Journal,
    options: Options,
    notes: Counter[str],
    say: Callable[[str], None],
) -> None:
    """Ask for what the journal lacks: every record of `read`, once per plan (all of one base URL).

    Raises UserError, OSError or KeyboardInterrupt where the run had to end early.
    """
    running = _Run(opened, options, plans, notes, say)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(running.describe(read))
    if running.stop:
        raise running.stop


def without_refused(settings: Settings, ledger: journal.Ledger) -> Settings:
    """The settings without what, as the journal says, this model refuses."""
    for parameter in ledger.refused.get((settings.base_url, settings.model), {}):
        settings = settings.without(parameter) or settings
    return settings


@dataclasses.dataclass(frozen=True)
class _Result:
    """What became of one request. paid: or perhaps. retry: it brought nothing that could be read.

    pause: seconds before the next try, as the service says.
    """

    paid: bool
    retry: bool = False
    pause: float | None = None


class _Run:
    def __init__(
        self,
        opened: journal.Journal,
        options: Options,
        plans: list[Plan],
        notes: Counter[str],
        say: Callable[[str], None],
    ):
        self._journal, self._options, self._notes, self._say = opened, options, notes, say
        self._plans = plans
        self._settings = plans[0].settings
        self._host = models.host(self._settings.base_url)
        self._prices = {(p.settings.base_url, p.settings.model): p.settings.price for p in plans}
        self._key = key(self._settings.base_url)
        _refuse_socks(self._settings.base_url)
        self._prompt_tokens = budget.PromptTokens()
        self.stop: BaseException | None = None
        self._stopped = asyncio.Event()
        self._settled = asyncio.Condition()  # notified when a reservation is given back
        self._in_flight = 0
        self._failed_in_a_row = 0
        self._first_try = self._last_answer = time.monotonic()
        self._ever_answered = False

    async def describe(self, read: Callable[[], Iterable[ImageRecord]]) -> None:
        self._answer_ctrl_c()
        self._journal.keep_spare(self._options.concurrency * _ROW_BYTES)
        # aiohttp counts what comes before connecting, as looking up the name, as waiting for the pool.
        connect = min(10.0, self._options.timeout)
        self._client = openai.AsyncOpenAI(
            api_key=self._key,
            base_url=self._settings.base_url,
            max_retries=0,  # every try has a row of its own
            timeout=httpx2.Timeout(self._options.timeout, connect=connect, pool=connect),
            # aiohttp takes less processor time a call than httpx2, and opens 100 connections if not told.
            http_client=openai.DefaultAioHttpClient(
                limits=httpx2.Limits(max_connections=self._options.concurrency, keepalive_expiry=_KEPT_IDLE)
            ),
        )
        async with self._client:
            with tqdm(
                total=sum(plan.calls for plan in self._plans),
                unit=" captions",
                desc="describe",
                leave=False,
                mininterval=0.5,
            ) as self._bar:
                for plan in (plan for plan in self._plans if plan.calls):
                    await self._describe_all(plan, read())

    def _answer_ctrl_c(self) -> None:
        """The first one lets the answers that are out come in; the second leaves them unknown."""
        task = asyncio.current_task()

        def interrupt() -> None:
            if self.stop and task:
                task.cancel()
            self._halt(KeyboardInterrupt())
            self._say(f"stopping: waiting for {self._in_flight} answers; Ctrl-C again leaves them unknown")

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, interrupt)

    def _halt(self, reason: BaseException) -> None:
        self.stop = self.stop or reason
        self._stopped.set()

    async def _describe_all(self, plan: Plan, records: Iterable[ImageRecord]) -> None:
        self._settings = self._known(plan.settings)
        self._limits = Limits(
            self._options.requests_per_minute,
            self._options.tokens_per_minute,
            largest=plan.largest + plan.settings.max_tokens,
            stopped=self._stopped,
        )
        waiting = self._waiting(records)
        # One request alone finds out which parameters the model takes and how fast it may be asked.
        self._probing = True
        while self._probing and not self.stop and (item := next(waiting, None)):
            await self._until_described(*item)
        workers = [asyncio.create_task(self._work(waiting)) for _ in range(self._options.concurrency)]
        try:
            await asyncio.gather(*workers)
        except BaseException:
            for worker in workers:
                worker.cancel()
            raise

    def _known(self, settings: Settings) -> Settings:
        for parameter, why in self._journal.ledger.refused.get(
            (settings.base_url, settings.model), {}
        ).items():
            self._say(
                f"{settings.model} does not take {parameter} ({why}), says the journal: {_instead(parameter)}"
            )
        return without_refused(settings, self._journal.ledger)

    def _waiting(self, records: Iterable[ImageRecord]) -> Iterator[tuple[ImageRecord, str]]:
        """The records that lack a caption, with their input hashes."""
        for record in records:
            if self.stop:
                return
            input_ = journal.input_hash(record)
            if journal.attempt_key(self._settings.describer(), input_) in self._journal.done:
                self._notes["captions that the journal held already"] += 1
            else:
                yield record, input_

    async def _work(self, waiting: Iterator[tuple[ImageRecord, str]]) -> None:
        for record, input_ in waiting:
            await self._until_described(record, input_)

    async def _until_described(self, record: ImageRecord, input_: str) -> None:
        unknown = tries = 0
        try:
            while True:
                key = journal.attempt_key(self._settings.describer(), input_)
                ledger = self._journal.ledger
                if key in ledger.done:
                    self._notes["captions accepted"] += 1
                    return
                if self.stop:
                    return
                if ledger.refusals[key] + unknown >= self._options.attempts:
                    self._notes[f"images given up after {self._options.attempts} answers (--attempts)"] += 1
                    return
                result = await self._ask(record, input_)
                if result is None:
                    return
                unknown += result.paid and result.retry
                if not result.paid and not self.stop:
                    tries += 1
                    if not result.retry or tries > RETRIES:
                        self._give_up()
                        return
                if result.retry:
                    await self._pause(result.pause or _backoff(tries))
        except (UserError, OSError) as error:  # a full disk, or a reason to end the run
            self._halt(error)
        finally:
            self._bar.update()

    def _give_up(self) -> None:
        self._notes["images without an answer; run again to try them again"] += 1
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= (_FAILED_AT_FIRST if self._probing else _FAILED_IN_A_ROW):
            raise UserError(
                f"{self._host}: {self._failed_in_a_row} images one after the other got no answer "
                f"({self._last_error}); what was answered is in the journal, run again when it is mended"
            )

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    async def _ask(self, record: ImageRecord, input_: str) -> _Result | None:
        """One request from its turn to its outcome; None where the run ended before it was sent."""
        settings = self._settings
        body = openai_chat.body(settings, record)
        text = _text(body)
        prompt_tokens = self._prompt_tokens.at_most(text)
        tokens = prompt_tokens + settings.max_tokens
        await self._limits.wait(tokens)
        reserved = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": settings.max_tokens,
            "cost": budget.cost(settings.price, prompt_tokens, settings.max_tokens),
        }
        if not await self._affordable(reserved["cost"]):
            return None
        attempt = self._journal.intent(settings.describer(), input_, record.image_id, reserved)
        self._in_flight += 1
        used = tokens
        try:
            await self._journal.synced()
            fields, result = await self._send(settings, body, record, attempt)
            if "answer" in fields:
                usage = fields["answer"]["usage"]
                used = usage["prompt_tokens"] + usage["completion_tokens"]
                if "told" in usage:
                    self._notes[openai_chat.IMPOSSIBLE_USAGE] += 1
                elif not usage.get("estimated"):
                    self._prompt_tokens.learn(text, usage["prompt_tokens"])
                self._failed_in_a_row = 0
            self._journal.outcome(attempt, **fields)
        finally:
            self._in_flight -= 1
            self._limits.used(tokens, used)
            async with self._settled:
                self._settled.notify_all()
        if fields["status"] in _NOTES:
            self._notes[_NOTES[fields["status"]]] += 1
        self._show_spending()
        return result

    async def _affordable(self, cost: float | None) -> bool:
        """Whether --max-cost allows it, once those that are out have settled. If not, the run ends."""
        if self._options.max_cost is None:
            return not self.stop
        assert cost is not None, "--max-cost is refused where the price is not known"
        async with self._settled:
            while not self.stop:
                spent = budget.committed(self._journal.ledger, self._prices)
                if spent + cost <= self._options.max_cost:
                    return True
                if not self._in_flight:
                    self._halt(
                        UserError(
                            f"--max-cost={self._options.max_cost:g} is reached: {budget.dollars(spent)} are "
                            "spent or reserved for requests without an answer, "
                            f"and the next may cost {budget.dollars(cost)}"
                        )
                    )
                    return False
                await self._settled.wait()
        return False

    async def _send(
        self, settings: Settings, body: dict[str, Any], record: ImageRecord, attempt: journal.Attempt
    ) -> tuple[dict[str, Any], _Result]:
        """The fields of the outcome's row, and what to do next."""
        try:
            response = await self._client.post(
                "/chat/completions",
                cast_to=httpx2.Response,
                body=body,
                options={
                    "follow_redirects": False,  # the host that was named gets the joints, no other
                    "headers": {"X-Client-Request-Id": attempt.id},  # to ask the service about it
                },
            )
        except openai.APIStatusError as error:
            self._heard()
            return self._refused(settings, error)
        except (openai.APIConnectionError, aiohttp.ClientError, OSError) as error:
            return self._unreached(error)  # the client does not wrap all that aiohttp raises
        self._heard()
        self._probing = False
        self._learn_limits(response.headers)
        try:
            answer = json.loads(self._without_key(response.text))
        except (ValueError, RecursionError):
            return {"status": journal.UNKNOWN, "error": "an answer that is not JSON"}, _Result(True, True)
        fields = openai_chat.outcome(settings, body, answer, record, response.headers.get("x-request-id", ""))
        return fields, _Result(paid=True, retry=fields["status"] == journal.UNKNOWN)

    def _learn_limits(self, headers: httpx2.Headers) -> None:
        try:
            for name, limit in self._limits.learn(headers).items():
                self._say(f"{self._host} allows {limit} {name} per minute")
        except UserError as error:  # too low for even one request; the answer at hand is kept
            self._halt(error)

    def _heard(self) -> None:
        self._last_answer, self._ever_answered = time.monotonic(), True

    def _without_key(self, text: str) -> str:
        """A server may repeat the key that it was sent; it must not reach the journal or the screen."""
        return text.replace(self._key, "[key]") if len(self._key) >= SHORTEST_SECRET else text

    def _refused(self, settings: Settings, error: openai.APIStatusError) -> tuple[dict[str, Any], _Result]:
        status, message = error.status_code, self._without_key(said_by(error))
        self._last_error = f"HTTP {status}: {message}"
        fields = {"status": journal.FAILED, "error": self._last_error}
        if stop := self._reason_to_stop(settings, error, message):
            self._halt(UserError(stop))
            return fields, _Result(paid=False)
        if (
            status in (400, 422)
            and self._probing
            and (changed := self._changed(settings, error.param, message))
        ):
            self._settings = changed
            return fields | {"refused": {error.param: message}}, _Result(False, retry=True, pause=0.001)
        pause = _retry_after(error.response.headers)
        if status == 429:
            self._limits.pause(pause if pause is not None else _FIRST_PAUSE)
        return fields, _Result(False, retry=status in (408, 409, 429) or status >= 500, pause=pause)

    def _reason_to_stop(self, settings: Settings, error: openai.APIStatusError, message: str) -> str | None:
        status, headers = error.status_code, error.response.headers
        if "insufficient_quota" in (error.code, error.type):
            return (
                f"{self._host}: the account's quota is used up; add credit or raise its limit with the "
                "service, then run the same command again"
            )
        if status == 401:
            return f"{self._host} refuses the key in OPENAI_API_KEY; export a valid one and run again"
        if status == 403:
            return (
                f"{self._host} forbids this request ({message}); check what the key in OPENAI_API_KEY may do"
            )
        if status == 404:
            return f"{settings.base_url} has no model {settings.model!r} ({message}); pass another --model"
        if 300 <= status < 400:
            where = headers.get("location", "")
            return f"{self._host} redirects to {where!r}; pass that as --base-url if you trust it"
        if status == 429 and (wait := _retry_after(headers) or 0) > _LONGEST_WAIT:
            return f"{self._host} asks to wait {wait:.0f} s; run the same command again after that"
        return None

    def _changed(self, settings: Settings, parameter: str | None, why: str) -> Settings | None:
        """The settings without a parameter that the model refuses, where it can be done without."""
        if not isinstance(parameter, str):
            return None
        changed = settings.without(parameter)
        if changed and parameter in self._journal.ledger.took.get((settings.base_url, settings.model), ()):
            self._halt(
                UserError(
                    f"{settings.model} refuses {parameter} now and took it before ({why}); its captions here "
                    "would be bought again under other settings, so choose a new --out"
                )
            )
            return None
        if changed:
            self._say(f"{settings.model} does not take {parameter} ({why}): {_instead(parameter)}")
        return changed

    def _unreached(self, error: Exception) -> tuple[dict[str, Any], _Result]:
        cause = _cause(error)
        sent = not isinstance(cause, _UNSENT)
        # Its own text names an SSLContext by its address in memory.
        detail = cause.os_error if isinstance(cause, aiohttp.ClientConnectorError) else cause
        text = " ".join(f"{type(cause).__name__}: {detail}".split()).rstrip(": ")
        self._last_error = self._without_key(text)[:_LONGEST_ERROR]
        silent = time.monotonic() - (self._last_answer if self._ever_answered else self._first_try)
        if not sent and silent > (_NETWORK_PATIENCE if self._ever_answered else _FIRST_PATIENCE):
            self._halt(
                UserError(
                    f"{self._host} cannot be reached ({self._last_error}); "
                    "what was answered is in the journal, run the same command again to go on"
                )
            )
        status = journal.UNKNOWN if sent else journal.FAILED
        return {"status": status, "error": self._last_error}, _Result(paid=sent, retry=True)

    def _show_spending(self) -> None:
        usage = self._journal.ledger.usage[self._settings.base_url, self._settings.model]
        if self._settings.price:
            text = budget.dollars(budget.committed(self._journal.ledger, self._prices))
        else:
            text = f"{usage.prompt_tokens + usage.completion_tokens} tokens"
        self._bar.set_postfix_str(text, refresh=False)


_NOTES = {
    journal.REJECTED: "answers that a validator refused",
    journal.FAILED: "requests that failed",
    journal.UNKNOWN: "requests without a readable answer, perhaps paid",
}


def _text(body: dict[str, Any]) -> str:
    return "".join(message["content"] for message in body["messages"])


def _backoff(tries: int) -> float:
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** max(0, tries - 1)) * (1 + random.random() / 2)


def _retry_after(headers: httpx2.Headers) -> float | None:
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit)
        except (KeyError, ValueError):
            continue  # absent, or a date
    return None


def _refuse_socks(base_url: str) -> None:
    """The client uses the proxies of the environment; aiohttp would speak HTTP to this one."""
    url, proxies = urlsplit(base_url), urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all", "")
    if proxy.startswith("socks") and not urllib.request.proxy_bypass(url.hostname or ""):
        raise UserError(
            f"the environment names a SOCKS proxy for {url.netloc}, and only HTTP proxies can be used; set "
            f"{url.scheme.upper()}_PROXY to one, or NO_PROXY={url.hostname}"
        )


def _cause(error: BaseException) -> BaseException:
    """What aiohttp raised, or the first cause where it raised nothing.

    The client's transport calls every lost connection a ConnectTimeout, also one that was lost after the
    request had been sent and perhaps paid; aiohttp tells them apart.
    """
    cause = error
    while not isinstance(cause, aiohttp.ClientError) and cause.__cause__:
        cause = cause.__cause__
    return cause


def said_by(error: openai.APIStatusError) -> str:
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    return " ".join(str(message or error.response.text).split())[:_LONGEST_ERROR]


def _instead(parameter: str) -> str:
    other = openai_chat.RENAMED.get(parameter)
    return f"sent as {other}" if other else "left out, so the model's own default holds"
