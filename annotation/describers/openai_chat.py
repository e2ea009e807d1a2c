"""One chat completion per image: the request, and what its answer means. Nothing here sends anything.

`openai_run.py` sends one request after the other, the batch verbs whole files of them; both write what
`outcome` returns into the journal.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from annotation import budget, journal, models, prompts, validators
from annotation.records import Description, ImageRecord

# What the paper sent. A model may refuse some of it; see `Settings.without`.
SAMPLING = {"temperature": 0.5, "max_tokens": 512, "frequency_penalty": 1.0}

# Parameters that a newer model takes under another name.
RENAMED = {"max_tokens": "max_completion_tokens"}

# More tokens than any model takes at once; and so many characters of a nonsensical count are kept.
_MOST_TOKENS, _TOLD = 10_000_000, 200
IMPOSSIBLE_USAGE = (
    "answers with an impossible count of tokens (usage.told in the journal), counted at the worst case"
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that shapes the answers of one model.

    sampling: the parameters sent beside model and messages.
    wording: 0, 1, …: the same request asked once more, for several captions per image.
    price: None where it is not known. It is no part of the identity.
    """

    model: str
    prompt: str = "paper"
    base_url: str = models.OPENAI
    sampling: dict[str, Any] = dataclasses.field(default_factory=lambda: dict(SAMPLING))
    wording: int = 0
    price: budget.Price | None = None

    @property
    def source(self) -> str:
        """Who wrote a caption, as shards name it: "gpt-4.1-mini/paper"."""
        return f"{self.model}/{self.prompt}"

    @property
    def max_tokens(self) -> int:
        """The most tokens that an answer may have."""
        return next(self.sampling[name] for name in (*RENAMED, *RENAMED.values()) if name in self.sampling)

    def describer(self) -> journal.Describer:
        wording = {"wording": self.wording} if self.wording else {}
        params = {"model": self.model, "base_url": self.base_url} | self.sampling | wording
        return journal.Describer("openai", self.prompt, params)

    def without(self, parameter: str) -> Settings | None:
        """The settings for a model that refuses `parameter`: its new name, or the model's own default.

        None where it cannot be done without: it was not sent, is the limit of tokens, or was asked for.
        """
        if parameter not in self.sampling or parameter not in SAMPLING:
            return None
        sampling = {
            RENAMED[name] if name == parameter else name: value
            for name, value in self.sampling.items()
            if name != parameter or name in RENAMED
        }
        return dataclasses.replace(self, sampling=sampling)


def body(settings: Settings, record: ImageRecord) -> dict[str, Any]:
    """The JSON body of POST /chat/completions for one image."""
    return {
        "model": settings.model,
        "messages": prompts.messages(record, settings.prompt),
        **settings.sampling,
    }


def outcome(
    settings: Settings, body: dict[str, Any], response: Any, record: ImageRecord, request_id: str = ""
) -> dict[str, Any]:
    """The fields of a journal row for one answer (`Journal.outcome(attempt, **fields)`).

    response: the JSON of a chat completion. What can be read is "ok", "rejected" (a validator's reasons) or
    "failed" (empty, cut off); what cannot be read is "unknown", since it may have been paid.
    """
    choice = _first_choice(response)
    if choice is None:
        return {"status": journal.UNKNOWN, "error": "an answer without choices[0].message"}
    usage = _usage(response, settings, body, choice)
    finish = choice.get("finish_reason")
    answer = {
        "model": settings.model,
        "returned_model": response.get("model"),
        "fingerprint": response.get("system_fingerprint"),
        "id": response.get("id"),
        "request_id": request_id,
        "finish_reason": finish,
        "usage": usage,
        "cost": budget.cost(settings.price, usage["prompt_tokens"], usage["completion_tokens"]),
        "sent": {name: value for name, value in body.items() if name not in ("model", "messages")},
        "prompt": prompts.digest(settings.prompt),
    }
    text = choice["message"].get("content")
    if finish == "length":
        error = f"the answer was cut off at {settings.max_tokens} tokens{_advice(usage)}"
        return {"status": journal.FAILED, "error": error, "answer": answer}
    if not isinstance(text, str) or not text.strip():
        error = f"an empty answer (finish_reason {finish}){_advice(usage)}"
        return {"status": journal.FAILED, "error": error, "answer": answer}
    text = text.strip()
    captions = [Description(record.image_id, text, settings.source)]
    if reasons := validators.check(text, record):
        return {"status": journal.REJECTED, "captions": captions, "reasons": reasons, "answer": answer}
    return {"status": journal.OK, "captions": captions, "answer": answer}


def _usage(
    response: dict[str, Any], settings: Settings, body: dict[str, Any], choice: dict[str, Any]
) -> dict:
    """Tokens as the service counts them, estimated where it does not, the most possible where it cannot be.

    A count that no request has (negative, a text, astronomic, none for a prompt that was sent) must not make
    spending look lower than it may be; `told` keeps what was said.
    """
    usage = response.get("usage")
    if usage is None or usage == {}:
        return _estimated_usage(body, choice)
    of = usage if isinstance(usage, dict) else {}
    prompt, completion = _count(of.get("prompt_tokens")), _count(of.get("completion_tokens"))
    if not prompt or completion is None or (completion == 0 and choice["message"].get("content")):
        return {
            "prompt_tokens": budget.most_tokens(_prompt(body)),
            "completion_tokens": settings.max_tokens,
            "reasoning_tokens": 0,
            "estimated": True,
            "told": repr(usage)[:_TOLD],
        }
    details = of.get("completion_tokens_details")
    reasoning = details.get("reasoning_tokens") if isinstance(details, dict) else None
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "reasoning_tokens": _count(reasoning) or 0,
    }


def _count(value: Any) -> int | None:
    """A number of tokens; None for what cannot be one. Some servers write whole numbers as 12.0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST_TOKENS:
        return None
    return int(value) if value == int(value) else None


def _prompt(body: dict[str, Any]) -> str:
    return "".join(message["content"] for message in body["messages"])


def _estimated_usage(body: dict[str, Any], choice: dict[str, Any]) -> dict[str, Any]:
    """For servers that do not say it."""
    return {
        "prompt_tokens": budget.estimate_tokens(_prompt(body)),
        "completion_tokens": budget.estimate_tokens(str(choice["message"].get("content"))),
        "reasoning_tokens": 0,
        "estimated": True,
    }


def _first_choice(response: Any) -> dict[str, Any] | None:
    choices = response.get("choices") if isinstance(response, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    return choice if isinstance(choice, dict) and isinstance(choice.get("message"), dict) else None


def _advice(usage: dict[str, int]) -> str:
    if not usage["reasoning_tokens"]:
        return "; raise --max-tokens if this happens often"
    return (
        f", {usage['reasoning_tokens']} of them spent on reasoning; "
        "pass --reasoning-effort=none or a larger --max-tokens"
    )
