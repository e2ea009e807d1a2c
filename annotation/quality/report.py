"""The quality report: every caption of some journals measured, summed up per split and who wrote it."""

from __future__ import annotations

import functools
import multiprocessing
import os
import platform
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from annotation import validators
from annotation.quality import similarity, text
from annotation.records import ImageRecord
from annotation.viewer.entries import OK, REJECTED, Answer
from annotation.viewer.journals import JournalFolder

_IMAGES_AT_ONCE = 500  # one worker measures, between two messages
_WORTH_A_PROCESS = 1000  # images; a worker takes half a second to start


class Measures(NamedTuple):
    """What is measured of one caption."""

    words: int
    sentences: int
    grade: float
    mtld: float
    repetition_1: float
    repetition_2: float
    repetition_3: float
    repetition_4: float
    claims_confirmed: int
    claims_contradicted: int
    claims_undecided: int
    gendered_words: int
    left: int
    right: int
    refused: bool


class Group:
    """The captions of one source in one split, as they come.

    measures: one row of `Measures` after the other. refused: what the validators of today hold against them,
    by kind. rejected: answers that were refused when they came, by kind. without: answers without a caption,
    by status.
    """

    def __init__(self) -> None:
        self.measures = array("d")
        self.corpus = similarity.Corpus()
        self.refused: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.without: Counter[str] = Counter()

    def extend(self, other: Group) -> None:
        self.measures.extend(other.measures)
        self.corpus.extend(other.corpus)
        for name in ("refused", "rejected", "without"):
            getattr(self, name).update(getattr(other, name))

    def table(self) -> np.ndarray:
        """float64 (C, number of `Measures`)."""
        return np.frombuffer(self.measures, np.float64).reshape(-1, len(Measures._fields))


Groups = dict[tuple[str, str], Group]  # (split, source) → captions


# ------------------------------------------------------------------------------------------------- measuring


def measure(journals: Sequence[Path]) -> Groups:
    """Measure every caption. A split is called as its journal's directory; equal names get their path."""
    names = [path.resolve().name for path in journals]
    groups: Groups = {}
    for path, name in zip(journals, names, strict=True):
        split = name if names.count(name) == 1 else str(path)
        folder = JournalFolder(path, path / "images")
        chunks = [
            range(at, min(at + _IMAGES_AT_ONCE, len(folder))) for at in range(0, len(folder), _IMAGES_AT_ONCE)
        ]
        with tqdm(total=len(folder), unit=" images", desc=f"measure {split}", leave=False) as bar:
            for chunk, measured in zip(chunks, _measured(folder, chunks), strict=True):
                for source, group in measured.items():
                    groups.setdefault((split, source), Group()).extend(group)
                bar.update(len(chunk))
    return groups


def _measured(folder: JournalFolder, chunks: list[range]) -> Iterator[dict[str, Group]]:
    """The chunks in order, on all cores where that is worth it."""
    workers = min(len(os.sched_getaffinity(0)), len(chunks))
    measure_chunk = functools.partial(_measure_chunk, folder)
    if workers < 2 or len(folder) < _WORTH_A_PROCESS:
        yield from map(measure_chunk, chunks)
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(measure_chunk, chunks)


def _measure_chunk(folder: JournalFolder, numbers: range) -> dict[str, Group]:
    groups: dict[str, Group] = {}
    for number in numbers:
        entry = folder.read(number)
        for answer in entry.answers:
            _add(groups.setdefault(answer.source, Group()), answer, entry.record)
    return groups


def _add(group: Group, answer: Answer, record: ImageRecord) -> None:
    if answer.status == REJECTED:
        group.rejected.update({reason.partition(":")[0] for reason in answer.reasons})
        group.without[REJECTED] += 1
    elif answer.status != OK or answer.text is None:
        group.without[answer.status] += 1
    elif answer.current:
        measures, sentences, reasons = of_caption(answer.text, record)
        group.measures.extend(measures)
        group.corpus.add(sentences)
        group.refused.update({reason.partition(":")[0] for reason in reasons})


def of_caption(caption: str, record: ImageRecord) -> tuple[Measures, list[list[str]], list[str]]:
    """A caption's measures, the words of its sentences, and what validators hold against it."""
    review = validators.review(caption, record)
    sentences = review.sentences
    words = [word for sentence in sentences for word in sentence]
    measures = Measures(
        words=len(words),
        sentences=len(sentences),
        grade=text.grade(words, len(sentences)) if words else float("nan"),
        mtld=text.mtld(words),
        repetition_1=text.repetition(words, 1),
        repetition_2=text.repetition(words, 2),
        repetition_3=text.repetition(words, 3),
        repetition_4=text.repetition(words, 4),
        claims_confirmed=review.judged.confirmed,
        claims_contradicted=len(review.judged.contradicted),
        claims_undecided=review.judged.undecided,
        gendered_words=len(review.gendered),
        left=words.count("left"),
        right=words.count("right"),
        refused=bool(review.reasons),
    )
    return measures, sentences, review.reasons


# ------------------------------------------------------------------------------------------------ summing up


def summary(groups: Groups) -> dict[str, Any]:
    """The whole report as JSON values: {"groups": [...], "method": {...}}. Means are over captions."""
    return {
        "groups": [
            {"split": split, "source": source, **_summary(group)}
            for (split, source), group in sorted(groups.items())
        ],
        "method": method(),
    }


def _summary(group: Group) -> dict[str, Any]:
    columns = dict(zip(Measures._fields, group.table().T, strict=True))
    words = columns["words"]
    confirmed, contradicted, undecided = (
        int(columns[f"claims_{verdict}"].sum()) for verdict in ("confirmed", "contradicted", "undecided")
    )
    left, right = int(columns["left"].sum()), int(columns["right"].sum())
    style, coherence = group.corpus.style_and_coherence()
    return {
        "captions": len(words),
        "answers_without_caption": dict(sorted(group.without.items())),
        "rejected_when_asked": _by_frequency(group.rejected),
        "captions_refused_today": int(columns["refused"].sum()),
        "refused_today": _by_frequency(group.refused),
        "words": _spread(words),
        "sentences": _spread(columns["sentences"]),
        "flesch_kincaid_grade": _spread(columns["grade"]),
        "mtld": _spread(columns["mtld"]),
        "repeated_ngrams": {str(n): _mean(columns[f"repetition_{n}"]) for n in (1, 2, 3, 4)},
        "style_similarity": _number(style),
        "sentence_coherence": _number(coherence),
        "claims": {
            "confirmed": confirmed,
            "contradicted": contradicted,
            "undecided": undecided,
            "agreement": _ratio(confirmed, confirmed + contradicted),
            "captions_with_contradiction": int((columns["claims_contradicted"] > 0).sum()),
        },
        "gendered_words": {
            "per_1000_words": _ratio(1000 * columns["gendered_words"].sum(), words.sum()),
            "captions": int((columns["gendered_words"] > 0).sum()),
        },
        "left_and_right": {"left": left, "right": right, "left_share": _ratio(left, left + right)},
    }


def _by_frequency(counts: Counter[str]) -> dict[str, int]:
    """The most frequent first, in the same order every time."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _spread(values: np.ndarray) -> dict[str, float | None]:
    """Of the values that are numbers; std is that of the population."""
    values = values[np.isfinite(values)]
    if not len(values):
        return dict.fromkeys(("min", "max", "mean", "std"))
    return {name: _number(getattr(np, name)(values)) for name in ("min", "max", "mean", "std")}


def _mean(values: np.ndarray) -> float | None:
    return _number(values.mean()) if len(values) else None


def _ratio(part: float, whole: float) -> float | None:
    return _number(part / whole) if whole else None


def _number(value: float) -> float | None:
    """JSON has no NaN."""
    return round(float(value), 6) if np.isfinite(value) else None


def method() -> dict[str, Any]:
    """How the numbers were made: they change with every tokeniser."""
    return {
        "version": text.VERSION,
        "words": "lower-case runs of letters and digits with inner apostrophes and hyphens",
        "sentences": "split after . ! ? before white space, and at line ends",
        "syllables": "vowel groups with rules for silent e and double vowels, no dictionary",
        "mtld": "threshold 0.72, mean of both directions, partial factors",
        "repeated_ngrams": "per caption, 1 - distinct / all",
        "style_similarity": "mean cosine of all pairs of captions, not with themselves; TF-IDF, smooth idf",
        "sentence_coherence": "mean cosine of neighbouring sentences, idf of the captions",
        "claims": "validators' reading of arms and legs, judged by the joints",
        "left_out": "grammar (needs Java and a download), CLIPScore (needs a model's weights)",
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("numpy", "scipy", "matplotlib")},
    }
