"""What is known of OpenAI's models: when they end, what replaces them, what they cost.

Noted on 2026-11-24 from OpenAI's pages on deprecations and prices and from reports of them. Prices
change: `--price=IN,OUT` overrides. Nothing here is said of other services, even where a name is the same.
"""

from __future__ import annotations

import datetime
from urllib.parse import urlsplit

from annotation.errors import UserError

OPENAI = "https://api.openai.com/v1"
NOTED = "2026-11-24"

# USD per million tokens: prompt, answer.
_PRICES = {
    "gpt-6-luna": (0.10, 0.50),
    "gpt-6-sol": (2.00, 10.00),
    "gpt-6.1-terra": (1.00, 5.00),
    "gpt-6.1-sol": (2.00, 10.00),
    "gpt-5": (1.25, 10.00),
    "gpt-5-mini": (0.25, 2.00),
    "gpt-5-nano": (0.05, 0.40),
    "gpt-5.1": (1.25, 10.00),
    "gpt-5.6-terra": (2.00, 12.00),
    "gpt-4.1": (2.00, 8.00),
    "gpt-4.1-mini": (0.40, 1.60),
    "gpt-4o": (2.50, 10.00),
    "gpt-4o-mini": (0.15, 0.60),
}

# The day from which a model answers no more.
_SHUT_DOWN = {
    **dict.fromkeys(("gpt-3.5-turbo-0301", "gpt-3.5-turbo-0613"), "2024-09-13"),
    **dict.fromkeys(
        (
            *("gpt-3.5-turbo", "gpt-3.5-turbo-0125", "gpt-4", "gpt-4-0613", "gpt-4-1106-preview"),
            *("gpt-4-turbo", "gpt-4-turbo-2024-04-09", "gpt-4o-2024-05-13", "gpt-4.1-nano"),
            *("gpt-4.1-nano-2025-04-14", "o1", "o1-2024-12-17", "o3-mini", "o3-mini-2025-01-31"),
            *("o4-mini", "o4-mini-2025-04-16"),
        ),
        "2026-10-23",
    ),
    **dict.fromkeys(
        (
            *("gpt-5", "gpt-5-2025-08-07", "gpt-5-mini", "gpt-5-mini-2025-08-07", "gpt-5-nano"),
            *("gpt-5-nano-2025-08-07", "o3", "o3-2025-04-16"),
        ),
        "2026-12-11",
    ),
    **dict.fromkeys(
        (
            *("gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-2024-11-20", "gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
            *("gpt-4.1", "gpt-4.1-2025-04-14", "gpt-4.1-mini", "gpt-4.1-mini-2025-04-14"),
        ),
        "2027-01-14",
    ),
    "gpt-5.1": "2027-04-01",
}

# The models of the paper whose captions were released.
_RELEASED = ("gpt-3.5-turbo-0301", "gpt-3.5-turbo-0613", "gpt-4-0613", "gpt-4")
_ALTERNATIVES = "gpt-6-luna or gpt-6.1-terra"


def host(base_url: str) -> str:
    return urlsplit(base_url).netloc


def is_openai(base_url: str) -> bool:
    return host(base_url) == host(OPENAI)


def price(model: str, base_url: str) -> tuple[float, float] | None:
    """USD per million tokens of prompt and of answer; None where it is not known."""
    return _PRICES.get(model) if is_openai(base_url) else None


def refuse_retired(model: str, base_url: str, today: datetime.date | None = None) -> str | None:
    """Raises UserError where the model has ended. Where its end is known, returns the date."""
    day = _SHUT_DOWN.get(model) if is_openai(base_url) else None
    if day is None or (today or datetime.date.today()) < datetime.date.fromisoformat(day):
        return day
    released = "import the released captions (annotate import-captions), or " if model in _RELEASED else ""
    raise UserError(
        f"--model={model}: OpenAI retired it on {day}; {released}"
        f"pass another --model, such as {_ALTERNATIVES}"
    )
