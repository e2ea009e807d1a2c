"""The few numbers behind a results row. Pure NumPy: N images, K classes."""

import math

import numpy as np

Z95 = 1.959963984540054  # two-sided 95 % point of the standard normal


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion; it stays inside [0, 1] and is right for few or no hits."""
    if n == 0:
        return 0.0, 1.0
    p = hits / n
    shrink = 1 + Z95**2 / n
    centre = (p + Z95**2 / (2 * n)) / shrink
    half = Z95 / shrink * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2))
    # At 0 and n hits a bound equals p except for rounding, which must not leave p outside.
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))


def ranked(similarities: np.ndarray) -> np.ndarray:
    """(N, K) similarities → (N, K) classes, best first.

    Ties go to the lower class: a collapsed model then scores as the constant predictor that it is.
    """
    return np.argsort(-similarities, axis=1, kind="stable")


def top_k_hits(ranking: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """(N,) bool: is the label (N,) among the first k classes of its ranking (N, K)?"""
    return (ranking[:, :k] == labels[:, None]).any(axis=1)


def constant_predictor(labels: np.ndarray, k: int) -> float:
    """Top-k accuracy of always answering the k commonest labels."""
    return float(np.sort(np.bincount(labels))[::-1][:k].sum() / len(labels))


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """(K, K) counts: row = true class, column = predicted class."""
    return np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)


def balanced_accuracy(confusion: np.ndarray) -> float:
    """Mean over the classes that occur of the share predicted right: every class counts alike."""
    total = confusion.sum(axis=1)
    return float((np.diag(confusion)[total > 0] / total[total > 0]).mean())
