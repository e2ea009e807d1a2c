"""The few numbers behind a results row. Pure NumPy: N images, K classes, B resamples."""

import math

import numpy as np

Z95 = 1.959963984540054  # two-sided 95 % point of the standard normal
RESAMPLES = 200  # they give a standard error to about 5 %


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


def simulated_random(n: int, k: int, classes: int, seed: int = 0) -> float:
    """Top-k accuracy of one run that ranks the classes of each of n images at random.

    The label is then among the first k with probability k / classes, whatever the labels are. The paper's
    column "simulated random" is such a run; its expectation is our column "chance".
    """
    return float((np.random.default_rng(seed).random(n) < k / classes).mean())


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """(K, K) counts: row = true class, column = predicted class."""
    return np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)


def balanced_accuracy(confusion: np.ndarray) -> float:
    """Mean over the classes that occur of the share predicted right: every class counts alike."""
    total = confusion.sum(axis=1)
    return float((np.diag(confusion)[total > 0] / total[total > 0]).mean())


def average_precision(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """(B, K) average precision of each class: the mean of the precision at each of its positive images.

    scores: (N, K), higher is more likely. truth: bool (N, K). weights: int (N, B), how often each image
    counts; None: once, B = 1. Images of the same score have no order, so they share the precision at the end
    of their group: constant scores give the frequency of the label. NaN for a class without a positive image.
    """
    weights = np.ones((len(scores), 1), np.int32) if weights is None else weights
    result = np.full((weights.shape[1], scores.shape[1]), np.nan)
    for c in range(scores.shape[1]):
        order = np.argsort(-scores[:, c], kind="stable")
        positive = np.flatnonzero(truth[order, c])
        if not len(positive):
            continue
        ends = np.flatnonzero(np.diff(scores[order, c], append=np.nan) != 0)  # of the groups of equal score
        end = ends[np.searchsorted(ends, positive)]
        counted = weights[order]
        found = counted[positive].cumsum(axis=0)[np.searchsorted(positive, end, side="right") - 1]
        precision = found / np.maximum(counted.cumsum(axis=0, dtype=np.int32)[end], 1)
        positives = counted[positive].sum(axis=0)
        some = positives > 0
        result[some, c] = (counted[positive] * precision).sum(axis=0)[some] / positives[some]
    return result


def over_classes(precisions: np.ndarray) -> np.ndarray:
    """(B, K) of `average_precision` → (B,), the mean over the classes that have one; NaN where none has."""
    some = ~np.isnan(precisions)
    total, count = np.where(some, precisions, 0).sum(axis=1), some.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def mean_average_precision_interval(
    scores: np.ndarray, truth: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the mean over classes of `average_precision`: ± 1.96 bootstrap standard errors.

    A resample draws N of the N images with replacement. Its percentiles would not do: an image that is drawn
    twice counts in its own precision, so resamples lie above the sample. A class that a resample leaves
    without a positive is left out of its mean. scores, truth: (N, K), with at least one positive.
    """
    n = len(scores)
    rng = np.random.default_rng(seed)
    weights = np.stack(
        [np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(resamples)], axis=1
    ).astype(np.int32)
    error = float(np.nanstd(over_classes(average_precision(scores, truth, weights)), ddof=1))
    value = float(over_classes(average_precision(scores, truth))[0])
    return max(0.0, value - Z95 * error), min(1.0, value + Z95 * error)
