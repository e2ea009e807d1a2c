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
    usage = _usage(response) or _estimated_usage(body, choice)
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


def _usage(response: Any) -> dict[str, int] | None:
    usage = response.get("usage") if isinstance(response, dict) else None
    if not isinstance(usage, dict):
        return None
    reasoning = usage.get("completion_tokens_details")
    reasoning = reasoning.get("reasoning_tokens") if isinstance(reasoning, dict) else None
    found = {name: usage.get(name) for name in ("prompt_tokens", "completion_tokens")}
    found["reasoning_tokens"] = reasoning or 0
    return found if all(isinstance(n, int) and n >= 0 for n in found.values()) else None


def _estimated_usage(body: dict[str, Any], choice: dict[str, Any]) -> dict[str, Any]:
    """For servers that do not say it."""
    prompt = "".join(message["content"] for message in body["messages"])
    return {
        "prompt_tokens": budget.estimate_tokens(prompt),
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
