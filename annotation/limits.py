"""Never more requests or tokens per minute than a service takes, and hardly fewer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping

from annotation.errors import UserError

# Part of a minute's allowance that may be spent at once to make up for a late start.
_CATCH_UP = 0.01


class Rate:
    """At most `per_minute` units in any minute, of which one request takes `largest` at most.

    A bucket that holds `capacity` and fills at `per_second` lets through capacity + 60 * per_second in the
    busiest minute; the two are chosen so that this is `per_minute`.
    """

    def __init__(self, per_minute: float, largest: float):
        self.per_minute = per_minute
        self._capacity = largest + _CATCH_UP * per_minute
        self._per_second = (per_minute - self._capacity) / 60
        self._level, self._filled = self._capacity, time.monotonic()

    def delay(self, amount: float) -> float:
        """Seconds until `amount` may be taken."""
        now = time.monotonic()
        self._level = min(self._capacity, self._level + (now - self._filled) * self._per_second)
        self._filled = now
        return max(0.0, (min(amount, self._capacity) - self._level) / self._per_second)

    def take(self, amount: float) -> None:
        """Negative gives back what was taken in vain."""
        self._level = min(self._capacity, self._level - amount)


class Limits:
    """Requests and tokens per minute of one service. None: as the service's headers say, if they do.

    largest: tokens of the largest request, prompt and answer together. stopped: ends all waiting at once.
    """

    def __init__(self, requests: int | None, tokens: int | None, largest: int, stopped: asyncio.Event):
        self._largest, self._stopped = largest, stopped
        self._given = {"requests": requests is not None, "tokens": tokens is not None}
        self._rates: dict[str, Rate] = {}
        for name, limit in (("requests", requests), ("tokens", tokens)):
            if limit is not None:
                self._set(name, limit)
        self._turn = asyncio.Lock()
        self._paused_until = 0.0

    def _set(self, name: str, per_minute: float) -> None:
        largest = 1 if name == "requests" else self._largest
        if largest > 0.9 * per_minute:
            raise UserError(
                f"{per_minute:.0f} {name} per minute: one request takes up to {largest}; "
                f"pass a larger --{name}-per-minute or a smaller --max-tokens"
            )
        self._rates[name] = Rate(per_minute, largest)

    async def wait(self, tokens: float) -> None:
        """Return when a request of `tokens` may be sent; first come, first served."""
        async with self._turn:
            while (delay := self._delay(tokens)) and not self._stopped.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopped.wait(), delay)
            for name, rate in self._rates.items():
                rate.take(1 if name == "requests" else tokens)

    def _delay(self, tokens: float) -> float:
        paused = self._paused_until - time.monotonic()
        return max(0.0, paused, *(r.delay(1 if n == "requests" else tokens) for n, r in self._rates.items()))

    def used(self, reserved: float, tokens: float) -> None:
        """A request took `tokens` where `wait` was told `reserved`."""
        if rate := self._rates.get("tokens"):
            rate.take(tokens - reserved)

    def pause(self, seconds: float) -> None:
        """Send nothing for so long: the service asked for it."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    def learn(self, headers: Mapping[str, str]) -> dict[str, int]:
        """Take limits that were not given from a service's answer. Returns those that are new."""
        new = {}
        for name, given in self._given.items():
            limit = headers.get(f"x-ratelimit-limit-{name}", "")
            known = self._rates.get(name)
            if given or not limit.isdecimal() or (known and known.per_minute == int(limit)):
                continue
            self._set(name, int(limit))
            new[name] = int(limit)
        return new
