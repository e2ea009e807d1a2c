"""What a page shows: one image with everything that was written of it, wherever it was read from."""

from __future__ import annotations

import dataclasses
from typing import Any

from annotation import validators
from annotation.records import ImageRecord

OK, REJECTED, FAILED, UNKNOWN = "ok", "rejected", "failed", "unknown"


@dataclasses.dataclass(frozen=True)
class Answer:
    """One caption, or one attempt that gave none.

    source: who wrote it. status: OK; REJECTED, refused by a validator when it came; FAILED, no caption came;
    UNKNOWN, asked for, and never known to have been answered.
    text: of the caption; None where there is none. current: whether it still counts, or a later one of the
    same writer has replaced it.
    reasons: what was said against it when it came.
    facts: where it comes from, as label → text. row: everything that is known of it, as JSON values.
    """

    source: str
    status: str
    text: str | None = None
    current: bool = True
    reasons: tuple[str, ...] = ()
    facts: dict[str, str] = dataclasses.field(default_factory=dict)
    row: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """One image. Joints of its record are pixels of the original photograph.

    stored: (width, height) of the image in a shard; None where it is the photograph itself.
    """

    record: ImageRecord
    answers: tuple[Answer, ...]
    stored: tuple[int, int] | None = None


def objections(answer: Answer, record: ImageRecord) -> tuple[str, ...]:
    """What the validators of today say against an answer; nothing where it has no caption.

    It takes about a millisecond: too long for every caption of a long list, so `verdicts` does it beforehand.
    """
    return () if answer.text is None else tuple(validators.check(answer.text, record))
