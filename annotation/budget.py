"""How many tokens and how much money: guessed before, reserved while a request is out, counted after."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from annotation.journal import Ledger

Price = tuple[float, float]  # USD per million tokens: prompt, answer
Service = tuple[str, str]  # base URL, model

# A description of the paper's style has about 200 words.
EXPECTED_ANSWER = 280

# What a chat format adds to the text of two messages.
_OVERHEAD = 16
_PIECES = re.compile(r"[A-Za-z]+|\d{1,3}|[^\sA-Za-z\d]")


@functools.lru_cache(maxsize=16)  # the system message is the same every time
def estimate_tokens(text: str) -> int:
    """About how many tokens a model makes of `text`: one per word, per three digits and per other mark.

    Tokenizers of services differ and some are not public; the first answers tell the true number.
    """
    return len(_PIECES.findall(text))


def cost(price: Price | None, prompt_tokens: float, completion_tokens: float) -> float | None:
    """USD; None where the price is not known."""
    return priced(price, prompt_tokens, completion_tokens) if price else None


def priced(price: Price, prompt_tokens: float, completion_tokens: float) -> float:
    """USD."""
    return (prompt_tokens * price[0] + completion_tokens * price[1]) / 1e6


def most_tokens(text: str) -> int:
    """The most tokens that a prompt of `text` can have: no tokenizer makes more than one of a byte."""
    return len(text.encode()) + _OVERHEAD


class PromptTokens:
    """The most tokens that a prompt can have, closer after the first answers have told their usage."""

    _STEP = 256  # bytes; prompts of nearly one length are alike

    def __init__(self) -> None:
        # length in steps → the most tokens per byte, and the longest prompt, that it has had
        self._seen: dict[int, tuple[float, int]] = {}

    def at_most(self, text: str) -> int:
        """What prompts of this length had, and a tenth; of a longer one, one more for each byte it is longer.

        No tokenizer makes more than one token of a byte. The joints of more people make a prompt denser.
        """
        size = len(text.encode())
        step = max((step for step in self._seen if step <= size // self._STEP), default=None)
        per_byte, longest = (0.0, 0) if step is None else self._seen[step]
        familiar = min(size, longest)
        return min(size, round(1.1 * per_byte * familiar) + size - familiar) + _OVERHEAD

    def learn(self, text: str, tokens: int) -> None:
        size = len(text.encode())
        per_byte, longest = self._seen.get(size // self._STEP, (0.0, 0))
        self._seen[size // self._STEP] = max(per_byte, tokens / size), max(longest, size)


def committed(ledger: Ledger, prices: Mapping[Service, Price | None]) -> float:
    """USD that a journal has cost or may have cost: the answers, and what is reserved for the unanswered.

    Tokens whose cost the journal does not know are counted at `prices`, and at nothing where these have none.
    """
    total = 0.0
    for service, usage in ledger.usage.items():
        unpriced = cost(prices.get(service), usage.unpriced_prompt, usage.unpriced_completion)
        total += usage.cost + usage.reserved_cost + (unpriced or 0.0)
    return total


def dollars(amount: float) -> str:
    """Money with as many digits as tell it from nothing."""
    return f"${amount:.2f}" if amount >= 100 else f"${amount:.4f}"
