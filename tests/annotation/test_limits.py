"""Limits against the clock: a simulated one for exactness, the real one in test_openai_run."""

import asyncio
import bisect
import random

import pytest

from annotation import limits
from annotation.errors import UserError


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only where somebody waits."""

    class Clock:
        now = 1000.0

    async def wait_for(awaitable, delay):
        awaitable.close()
        Clock.now += delay * 1.01 + 0.0005  # timers fire late, never early
        raise TimeoutError

    monkeypatch.setattr(limits.time, "monotonic", lambda: Clock.now)
    monkeypatch.setattr(limits.asyncio, "wait_for", wait_for)
    return Clock


def send(clock, seconds, requests, tokens, reserve, used):
    """(time, tokens) of all requests that the limits let through in `seconds`."""
    sent = []

    async def run():
        rates = limits.Limits(requests, tokens, largest=reserve, stopped=asyncio.Event())
        while clock.now < 1000 + seconds:
            await rates.wait(reserve)
            amount = used()
            sent.append((clock.now, amount))
            clock.now += 0.001  # something else to do
            rates.used(reserve, amount)

    asyncio.run(run())
    return sent


def busiest_minute(sent, amount):
    times = [t for t, _ in sent]
    sums = [0]
    for row in sent:
        sums.append(sums[-1] + amount(row))
    return max(sums[bisect.bisect_left(times, t + 60)] - sums[n] for n, t in enumerate(times))


@pytest.mark.parametrize("limit", [60, 500, 3000, 10_000])
def test_requests_per_minute_are_nearly_used_and_never_passed(clock, limit):
    sent = send(clock, 300, limit, None, 1000, lambda: 700)
    assert busiest_minute(sent, lambda row: 1) <= limit
    assert len(sent) / 5 >= 0.95 * limit


@pytest.mark.parametrize("limit", [90_000, 200_000, 2_000_000])
def test_tokens_per_minute_are_nearly_used_and_never_passed(clock, limit):
    draw = random.Random(0)
    sent = send(clock, 300, None, limit, 1300, lambda: draw.randint(700, 1300))
    assert busiest_minute(sent, lambda row: row[1]) <= limit
    assert sum(tokens for _, tokens in sent) / 5 >= 0.95 * limit


def test_both_limits_hold_at_once(clock):
    sent = send(clock, 200, 1000, 90_000, 1000, lambda: 900)
    assert busiest_minute(sent, lambda row: 1) <= 1000
    assert busiest_minute(sent, lambda row: row[1]) <= 90_000


def test_a_pause_holds_everybody(clock):
    async def run():
        rates = limits.Limits(None, None, 10, asyncio.Event())
        rates.pause(20)
        await rates.wait(5)

    asyncio.run(run())
    assert clock.now >= 1020


def test_limits_are_learned_from_headers_unless_they_were_given():
    rates = limits.Limits(100, None, 1000, asyncio.Event())
    headers = {"x-ratelimit-limit-requests": "500", "x-ratelimit-limit-tokens": "30000"}
    assert rates.learn(headers) == {"tokens": 30_000}
    assert rates.learn(headers) == {}
    assert rates.learn({"x-ratelimit-limit-tokens": "60000"}) == {"tokens": 60_000}
    assert rates.learn({"x-ratelimit-limit-tokens": "many"}) == {}


def test_a_limit_below_one_request_is_one_sentence():
    with pytest.raises(
        UserError, match="1000 tokens per minute: one request takes up to 1300; pass a larger"
    ):
        limits.Limits(None, 1000, 1300, asyncio.Event())


def test_a_stopped_run_waits_no_longer():
    async def run():
        stopped = asyncio.Event()
        rates = limits.Limits(None, None, 10, stopped)
        rates.pause(60)
        asyncio.get_running_loop().call_later(0.05, stopped.set)
        await asyncio.wait_for(rates.wait(5), 5)

    asyncio.run(run())
