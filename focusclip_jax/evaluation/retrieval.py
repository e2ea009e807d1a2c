"""Retrieval between the images and the descriptions of a packed split, in both directions.

Captions of the same text are one caption, which belongs to all of their images: to a query, any of its images
(or any of an image's captions) is right. The rank of a query is one plus the number of wrong entries that
score at least as high as its best right one: a tie counts against the model, so one that maps everything to
the same point finds nothing.
Letters: N images, C distinct captions, Q queries, G entries of a gallery, D embedding, B resamples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy import sparse
from tqdm import tqdm

from focusclip_jax.data import images
from focusclip_jax.data.shards import Shards
from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import zero_shot
from focusclip_jax.evaluation.zero_shot import Encoder

KS = (1, 5, 10)
TEXT_TO_IMAGE, IMAGE_TO_TEXT = "text → image", "image → text"
TIE = 1e-6  # cosines of float32 rows that differ by less are equal
RESAMPLES = 1000
CHUNK = 1 << 23  # similarities, or weights of resamples, held at once


@dataclasses.dataclass(frozen=True, eq=False)
class Gallery:
    """N images and the C distinct captions that they have.

    read: index → uint8 (H, W, 3) RGB. belongs: (C, N) bool, is the caption one of the image's?
    source: what was read, as a sentence.
    """

    images: int
    captions: tuple[str, ...]
    belongs: sparse.csr_array
    read: Callable[[int], np.ndarray]
    source: str


@dataclasses.dataclass(frozen=True)
class Figure:
    """A number, its 95 % bootstrap interval, and what a random order of the gallery is expected to give."""

    value: float
    interval: tuple[float, float]
    chance: float


@dataclasses.dataclass(frozen=True)
class Result:
    """One direction. recall: k → share of the queries with a right entry among the first k."""

    data: str
    split: str
    step: int
    direction: str
    queries: int
    gallery: int
    right: float  # entries that are right for a query, on average
    recall: dict[int, Figure]
    median_rank: Figure
    source: str


def load(path: Path, split: str) -> Gallery:
    """The examples of a packed split that have captions; the others are counted in `source`.

    Raises UserError where there is no such split, no example has a caption, or a record is damaged.
    """
    shards = Shards.open(path, split)
    kept: list[int] = []
    number: dict[str, int] = {}
    pairs: set[tuple[int, int]] = set()
    written = 0
    for i in tqdm(range(len(shards)), desc="reading captions", delay=2, leave=False):
        captions = shards.read(i).captions
        written += len(captions)
        pairs |= {(number.setdefault(caption, len(number)), len(kept)) for caption in captions}
        kept += [i] if captions else []
    if not kept:
        raise UserError(f"{path}: none of the {len(shards):,} examples of its split {split} has a caption")
    belongs = sparse.csr_array(
        (np.ones(len(pairs), bool), np.array(sorted(pairs)).T), shape=(len(number), len(kept))
    )
    source = f"{written:,} captions, {len(number):,} of them distinct, of {len(kept):,} images"
    if len(kept) < len(shards):
        source += f"; left out for want of a caption: {len(shards) - len(kept):,}"

    def read(i: int) -> np.ndarray:
        return images.decode(shards.read(kept[i]).image, shards.where(kept[i]))

    return Gallery(len(kept), tuple(number), belongs, read, f"{source}.")


def evaluate(
    encoder: Encoder, gallery: Gallery, data: str, split: str, step: int, batch_size: int = 256
) -> list[Result]:
    """Both directions. data: the data set's name. Raises UserError where the model gives NaN."""
    shown = zero_shot.image_embeddings(encoder, gallery.read, gallery.images, batch_size, f"{data} images")
    said = zero_shot.text_embeddings(encoder, gallery.captions, batch_size)
    if not (np.isfinite(shown).all() and np.isfinite(said).all()):
        raise UserError(f"{data}: the model's embeddings are not finite numbers; its training has diverged")
    return score(shown, said, gallery.belongs, data=data, split=split, step=step, source=gallery.source)


def score(
    shown: np.ndarray,
    said: np.ndarray,
    belongs: sparse.csr_array,
    data: str,
    split: str,
    step: int,
    source: str,
) -> list[Result]:
    """Results from embeddings with rows of length 1. shown: (N, D), said: (C, D), belongs: (C, N) bool."""
    images_of, captions_of = belongs.tocsr(), belongs.T.tocsr()
    return [
        Result(
            data=data,
            split=split,
            step=step,
            direction=direction,
            queries=right.shape[0],
            gallery=right.shape[1],
            right=float(right.sum() / right.shape[0]),
            **_figures(ranks(queries, entries, right), right, shares),
            source=source,
        )
        for direction, queries, entries, right, shares in (
            (TEXT_TO_IMAGE, said, shown, images_of, _shares(images_of)),
            (IMAGE_TO_TEXT, shown, said, captions_of, sparse.eye_array(len(shown), format="csr")),
        )
    ]


def ranks(queries: np.ndarray, entries: np.ndarray, right: sparse.csr_array) -> np.ndarray:
    """(Q,) rank of each query's best right entry, from 1, with ties counted against it.

    queries: (Q, D), entries: (G, D), rows of length 1. right: bool (Q, G), in each row at least one.
    """
    result = np.empty(len(queries), np.int64)
    size = max(1, CHUNK // len(entries))
    for start in tqdm(range(0, len(queries), size), desc="ranking", delay=2, leave=False):
        rows = slice(start, start + size)
        similarities = queries[rows] @ entries.T
        query, entry = right[rows].nonzero()
        best = np.full(len(similarities), -np.inf)
        np.maximum.at(best, query, similarities[query, entry])
        similarities[query, entry] = -np.inf  # right entries do not stand in each other's way
        result[rows] = 1 + (similarities >= best[:, None] - TIE).sum(axis=1)
    return result


def chance(right: np.ndarray, gallery: int, k: int) -> np.ndarray:
    """(Q,) probability that one of the right entries is among the first k of a random order.

    right: (Q,) number of right entries m. It is 1 - C(G - m, k) / C(G, k), a product of k shares. An order
    that keeps an image's captions together, as any text tower's does, reaches less without knowing less.
    """
    drawn = np.arange(min(k, gallery))
    return 1 - (np.maximum(gallery - right[:, None] - drawn, 0) / (gallery - drawn)).prod(axis=1)


def chance_median(right: np.ndarray, gallery: int) -> int:
    """The median rank in random orders: the first that at least half of the queries are expected to reach."""
    low, high = 1, gallery
    counts, times = np.unique(right, return_counts=True)
    while low < high:
        middle = (low + high) // 2
        reached = np.average(chance(counts, gallery, middle), weights=times) >= 0.5
        low, high = (low, middle) if reached else (middle + 1, high)
    return low


def _shares(images_of: sparse.csr_array) -> sparse.csr_array:
    """(C, N): a caption counts once, in equal shares with all images that have it."""
    return (images_of / images_of.sum(axis=1)[:, None]).tocsr()


def _figures(found: np.ndarray, right: sparse.csr_array, shares: sparse.csr_array) -> dict:
    """Recalls and median rank, with a bootstrap over images: the captions of an image stand or fall together.

    found: (Q,) ranks. shares: (Q, N), what of a query belongs to each image; rows sum to 1. The gallery stays
    as it is; a resample decides how often each query counts.
    """
    order = np.argsort(found, kind="stable")
    found, shares = found[order], shares[order]
    counts, gallery = np.asarray(right.sum(axis=1)), right.shape[1]
    hits = {k: found <= k for k in KS}
    resampled: dict[int | str, list[float]] = {name: [] for name in (*KS, "median")}
    for drawn in _resamples(shares.shape[1], RESAMPLES, len(found)):
        weights = (shares @ drawn.T).T  # (B, Q)
        total = weights.sum(axis=1)
        for k in KS:
            resampled[k] += list(weights @ hits[k] / total)
        half = (weights.cumsum(axis=1) < 0.5 * total[:, None] * (1 - 1e-12)).sum(axis=1)
        resampled["median"] += list(found[np.minimum(half, len(found) - 1)])
    interval = {name: tuple(np.percentile(of, [2.5, 97.5]).tolist()) for name, of in resampled.items()}
    return {
        "recall": {
            k: Figure(float(hits[k].mean()), interval[k], float(chance(counts, gallery, k).mean()))
            for k in KS
        },
        "median_rank": Figure(
            float(found[(len(found) - 1) // 2]), interval["median"], chance_median(counts, gallery)
        ),
    }


def _resamples(n: int, resamples: int, queries: int, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each of n images is drawn when n are drawn with replacement: (B, N), few rows at a time."""
    rng = np.random.default_rng(seed)
    size = max(1, CHUNK // max(n, queries))
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)
