"""How alike texts are, by the cosine of TF-IDF vectors, without comparing every pair.

The mean cosine over all pairs follows from the sum of the unit vectors u: since |Σu|² = n + Σ over pairs, it
is (|Σu|² - n) / (n (n - 1)), exactly and in one pass. A text is not compared with itself.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy as np
import scipy.sparse

SENTENCE_END, TEXT_END = -1, -2
_TEXTS_AT_ONCE = 2000


class Corpus:
    """Texts as numbers of words, four bytes a word: a sentence ends in SENTENCE_END, a text in TEXT_END."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._flat = array("i")

    def add(self, sentences: list[list[str]]) -> None:
        numbers = self._numbers
        for sentence in sentences:
            self._flat.extend([numbers.setdefault(word, len(numbers)) for word in sentence])
            self._flat.append(SENTENCE_END)
        self._flat.append(TEXT_END)

    def extend(self, other: Corpus) -> None:
        """Append the texts of another corpus, whose words have other numbers."""
        if not other._flat:
            return
        ours = [self._numbers.setdefault(word, len(self._numbers)) for word in other._numbers]
        table = np.array([*ours, TEXT_END, SENTENCE_END], np.int32)  # -2 and -1 index it from its end
        self._flat.frombytes(table[np.frombuffer(other._flat, np.int32)].tobytes())

    def style_and_coherence(self) -> tuple[float, float]:
        """The mean cosine of two texts, and of neighbouring sentences of a text; NaN where there are none.

        Weights are tf · (ln((1 + n) / (1 + df)) + 1), df among the n texts, for sentences too.
        """
        texts, vocabulary = 0, len(self._numbers)
        df = np.zeros(vocabulary)
        for by_text, _, _ in self._blocks():
            texts += by_text.shape[0]
            df += np.bincount(by_text.indices, minlength=vocabulary)
        idf = np.log((1 + texts) / (1 + df)) + 1
        total, squares = np.zeros(vocabulary), 0.0
        neighbours, pairs = 0.0, 0
        for by_text, by_sentence, text_of_sentence in self._blocks():
            unit = _unit_rows(by_text, idf)
            total += np.asarray(unit.sum(axis=0)).ravel()
            squares += unit.multiply(unit).sum()  # n but for empty texts
            unit = _unit_rows(by_sentence, idf)
            cosines = np.asarray(unit[:-1].multiply(unit[1:]).sum(axis=1)).ravel()
            same_text = text_of_sentence[:-1] == text_of_sentence[1:]
            neighbours += cosines[same_text].sum()
            pairs += int(same_text.sum())
        style = (total @ total - squares) / (texts * (texts - 1)) if texts > 1 else float("nan")
        return float(style), float(neighbours / pairs) if pairs else float("nan")

    def _blocks(self) -> Iterator[tuple[scipy.sparse.csr_array, scipy.sparse.csr_array, np.ndarray]]:
        """Word counts of some texts and of their sentences, and which text each sentence belongs to."""
        flat = np.frombuffer(self._flat, np.int32) if self._flat else np.zeros(0, np.int32)
        ends = np.flatnonzero(flat == TEXT_END) + 1
        for first in range(0, len(ends), _TEXTS_AT_ONCE):
            last = min(first + _TEXTS_AT_ONCE, len(ends))
            block = flat[ends[first - 1] if first else 0 : ends[last - 1]]
            is_word = block >= 0
            text = np.cumsum(block == TEXT_END)
            sentence = np.cumsum(block == SENTENCE_END)
            yield (
                self._counts(text[is_word], block[is_word], last - first),
                self._counts(sentence[is_word], block[is_word], int(sentence[-1])),
                text[block == SENTENCE_END],
            )

    def _counts(self, rows: np.ndarray, columns: np.ndarray, height: int) -> scipy.sparse.csr_array:
        ones = np.ones(len(rows))
        counts = scipy.sparse.coo_array((ones, (rows, columns)), shape=(height, len(self._numbers))).tocsr()
        counts.sum_duplicates()
        return counts


def _unit_rows(counts: scipy.sparse.csr_array, idf: np.ndarray) -> scipy.sparse.csr_array:
    weighted = counts.multiply(idf).tocsr()
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    inverse = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    weighted.data *= np.repeat(inverse, np.diff(weighted.indptr))
    return weighted
