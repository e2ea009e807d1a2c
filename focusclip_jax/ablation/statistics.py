"""Intervals for few seeds and many images. Pure NumPy: S seeds, N images, B resamples.

A "seed" is whatever was repeated: for photographs it is a partition into seen and unseen classes, and then
not every one asks about all images. Those that it does not ask about are NaN: they take no part in its mean,
and an image that is drawn counts for the seeds that asked about it.

Every seed of every method answers the same N images, so seeds and images are crossed and each can deviate
for all of the other. A hierarchical bootstrap of both levels: seeds are drawn with replacement, images are,
and a resample is the mean plus the deviations of the two. What is left, seed by image, is counted in both
and so once too often, which errs on the safe side. Two corrections make few seeds honest:
- S - 1 of the S seeds are drawn, which makes the variance between seeds unbiased (Rao and Wu 1988); drawing
  S would give (S - 1) / S of it, a third too little for three seeds.
- the half-width is Student's t times the standard error, not a percentile: three seeds have too few resamples
  for percentiles to mean anything. Degrees of freedom by Satterthwaite: S - 1 where seeds alone deviate, more
  the larger the images' part is.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
from scipy import special

RESAMPLES = 4000


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
    """values: (S, N): right or wrong, or the difference of two methods paired by seed and image.

    NaN where a seed did not ask about an image; the mean is that of the seeds' means.
    """
    seeds, images = values.shape
    mean = float(np.nanmean(values, axis=1).mean())
    if seeds < 2:
        return Interval(mean, math.inf, seeds, images)
    of_seeds, of_images = deviations(values.astype(np.float64), resamples, seed)
    whole = float((of_seeds + of_images).var(ddof=1))
    between_seeds = float(of_seeds.var(ddof=1))
    if whole == 0:
        return Interval(mean, 0.0, seeds, images)
    degrees = (seeds - 1) * max(1.0, whole / between_seeds) ** 2 if between_seeds else math.inf
    quantile = float(special.stdtrit(min(degrees, 1e6), 0.975))
    return Interval(mean, quantile * math.sqrt(whole), seeds, images)


def deviations(values: np.ndarray, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How the mean of (S, N) values moves with the seeds that are drawn, and with the images: (B,) each."""
    seeds, images = values.shape
    means = np.nanmean(values, axis=1)
    of_seeds = _drawn(resamples, seeds, seeds - 1, 2 * seed) @ (means - means.mean())
    asked = ~np.isnan(values)
    apart = np.where(asked, values - means[:, None], 0)
    drawn = _drawn(resamples, images, images, 2 * seed + 1)
    if asked.all():
        return of_seeds, drawn @ apart.mean(axis=0)
    # A seed's mean over the images drawn, of which it asked about some; it asked about many more than a few.
    of_images = (drawn @ apart.T) / (drawn @ asked.T.astype(np.float32))
    return of_seeds, of_images.mean(axis=1)


@functools.lru_cache(maxsize=8)  # a report asks for the same few again and again; each is some 25 MB
def _drawn(size: int, n: int, drawn: int, seed: int) -> np.ndarray:
    """float32 (size, n): how often each of n was drawn, as a share of `drawn`."""
    picks = np.random.default_rng(seed).integers(n, size=(size, drawn)) + n * np.arange(size)[:, None]
    counts = np.bincount(picks.ravel(), minlength=size * n).reshape(size, n)
    return (counts / drawn).astype(np.float32)
