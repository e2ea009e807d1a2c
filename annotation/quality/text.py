"""Measures of one text. Words and sentences are those of `validators.words` and `validators.sentences_of`."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

# Every number depends on how words and syllables are told apart; reports name this version.
VERSION = "1"

_MTLD_THRESHOLD = 0.72


def grade(words: Sequence[str], sentences: int) -> float:
    """Flesch-Kincaid grade level: the school year (US) in which the text can be read."""
    syllable_count = sum(map(syllables, words))
    return 0.39 * len(words) / sentences + 11.8 * syllable_count / len(words) - 15.59


# A last e is silent ("pose", "whole"; not "ankle", "centre"), and so is that of -es and -ed after most
# consonants ("moves", "raised"; not "poses", "ankles", "lifted", "angled").
_SILENT = re.compile(
    r"(?:[^aeiouylr]|[aeiouy][lr])e$|(?:[^aeiouylrsxzcgh]|[aeiouy][lr])es$|(?:[^aeiouylrtd]|[aeiouy][lr])ed$"
)
# Vowels side by side in two syllables: "medial", "stadium", "being", "science", "quiet", "create", "idea".
_TWO_IN_ONE = re.compile(r"ia|(?<![tscg])io|iu|(?<!q)ua(?!r)|[aeiouy]ing|ien|iet|rea(?=te|$)|dea$")


@functools.lru_cache(maxsize=65536)
def syllables(word: str) -> int:
    """Groups of vowels, but for silent and doubled ones. A rule of thumb: exceptions are not listed."""
    letters = re.sub(r"[^a-z]", "", word)
    count = len(re.findall(r"[aeiouy]+", letters)) + len(_TWO_IN_ONE.findall(letters))
    return max(1, count - bool(_SILENT.search(letters)))


def mtld(words: Sequence[str]) -> float:
    """Lexical diversity that does not depend on length (McCarthy and Jarvis 2010): how many words it takes
    until only 72 % of them are different, read from both ends. NaN where no word comes twice."""
    factors = (_factors(words), _factors(words[::-1]))
    return sum(len(words) / f for f in factors) / 2 if all(factors) else float("nan")


def _factors(words: Sequence[str]) -> float:
    factors, seen, count = 0.0, set(), 0
    different = 0
    for word in words:
        if word not in seen:
            seen.add(word)
            different += 1
        count += 1
        if different <= _MTLD_THRESHOLD * count:
            factors, different, count = factors + 1, 0, 0
            seen.clear()
    rest = (1 - different / count) / (1 - _MTLD_THRESHOLD) if count else 0.0
    return factors + rest


def repetition(words: Sequence[str], n: int) -> float:
    """The share of n-grams that were there before; 0 for a text shorter than n words."""
    total = len(words) - n + 1
    return 1 - len(set(zip(*(words[i:] for i in range(n)), strict=False))) / total if total > 0 else 0.0
