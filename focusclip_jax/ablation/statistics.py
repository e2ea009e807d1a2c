"""Intervals for few seeds and many images. Pure NumPy: S seeds, N images, B resamples.

Every seed of every method answers the same N images, so seeds and images are crossed: the two are resampled
apart from each other and an image that is drawn counts in all seeds (Owen 2007, "The pigeonhole bootstrap",
which never understates the error). Two corrections make few seeds honest:
- S - 1 of the S seeds are drawn, which makes the variance between seeds unbiased (Rao and Wu 1988); drawing
  S would give (S - 1) / S of it, a third too little for three seeds.
- the half-width is Student's t with S - 1 degrees of freedom times the standard error, not a percentile:
  three seeds have too few resamples for percentiles to mean anything.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

RESAMPLES = 4000
CHUNK = 2_000_000  # weights that are held at once

# Two-sided 95 % points of Student's t by degrees of freedom.
_T95 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788)
_T95 += (2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639)
_T95 += (2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423)


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean over seeds and images, and its 95 % interval; infinitely wide for a single seed."""

    mean: float
    half_width: float
    seeds: int
    images: int

    @property
    def low(self) -> float:
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        return self.mean + self.half_width


def interval(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """values: (S, N): right or wrong, or the difference of two methods paired by seed and image."""
    seeds, images = values.shape
    mean = float(values.mean())
    if seeds < 2:
        return Interval(mean, math.inf, seeds, images)
    error = standard_error(values.astype(np.float64), resamples, seed)
    return Interval(mean, student(seeds - 1) * error, seeds, images)


def standard_error(values: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Of the mean of (S, N) values, by resampling S - 1 seeds and N images with replacement."""
    rng = np.random.default_rng(seed)
    seeds, images = values.shape
    means = []
    per_chunk = max(1, CHUNK // images)
    for start in range(0, resamples, per_chunk):
        size = min(per_chunk, resamples - start)
        of_seeds = _weights(rng, size, seeds, seeds - 1)
        of_images = _weights(rng, size, images, images)
        means.append(((of_seeds @ values) * of_images).sum(axis=1))
    return float(np.concatenate(means).std(ddof=1))


def _weights(rng: np.random.Generator, size: int, n: int, drawn: int) -> np.ndarray:
    """(size, n): how often each of n was drawn, as a share of `drawn`."""
    picks = rng.integers(n, size=(size, drawn)) + n * np.arange(size)[:, None]
    return np.bincount(picks.ravel(), minlength=size * n).reshape(size, n) / drawn


def student(degrees: int) -> float:
    """Two-sided 95 % point of Student's t; above 30 degrees of freedom by its expansion, to 3 digits."""
    if degrees <= len(_T95):
        return _T95[degrees - 1]
    z = 1.959963984540054
    return z + (z**3 + z) / (4 * degrees)
