"""Zero-shot classification: class prompts against images, by cosine.

`evaluate` is a pure function of encoder, task, images and what the training captions said, so the number
inside the training loop and the number computed offline from the same checkpoint are the same.
Letters: N images, K classes, D embedding.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
from tqdm import tqdm

from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import statistics
from focusclip_jax.evaluation.datasets.base import EvaluationSet
from focusclip_jax.evaluation.tasks import Task
from focusclip_jax.evaluation.training_text import TrainingText


class Encoder(Protocol):
    """What evaluation needs of a model."""

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3) RGB of any size → uint8 (S, S, 3)."""

    def encode_images(self, images: np.ndarray) -> np.ndarray:
        """uint8 (B, S, S, 3) → float32 (B, D), rows of length 1."""

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        """B texts → float32 (B, D), rows of length 1."""


@dataclasses.dataclass(frozen=True)
class Result:
    """One row of the results table. Accuracies and chance are shares in [0, 1]."""

    task: str
    kind: str
    split: str
    step: int  # of the checkpoint
    # "seen": the training text names these classes, "unseen": it does not, "mixed": both kinds of classes,
    # "unknown": the model is an imported one, and what it was trained on is not known.
    rows: str
    classes: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    n: int
    expected: int  # images of the complete split
    data: str  # what was read, as a sentence
    complete: bool  # every image of the split was present
    k: int
    chance: float
    constant: float  # top-k accuracy of always answering the k commonest labels
    accuracy: float  # top-k
    interval: tuple[float, float]  # Wilson, 95 %
    top1: float
    balanced_top1: float
    per_class: dict[str, dict[str, float | int]]  # class → n, top-1, top-k; classes without images are absent
    per_group: dict[str, dict[str, dict[str, float | int]]]  # group → value → n, top-1, top-k
    predictions: dict[str, int]  # class → times it was the top prediction
    confusion: tuple[tuple[int, ...], ...]  # (K, K), true class in the row, top prediction in the column


def evaluate(
    encoder: Encoder,
    task: Task,
    images: EvaluationSet,
    training: TrainingText | None,
    step: int,
    batch_size: int = 256,
) -> list[Result]:
    """Classify all images and score them: see `score` for the rows."""
    return score(task, images, similarities(encoder, task, images, batch_size), training, step)


def similarities(encoder: Encoder, task: Task, images: EvaluationSet, batch_size: int = 256) -> np.ndarray:
    """float32 (N, K), cosine of each image with each class. `UserError` where the model gives NaN."""
    classes = class_embeddings(encoder, task.prompts, batch_size)
    result = image_embeddings(encoder, images.read, len(images.names), batch_size, task.name) @ classes.T
    if not np.isfinite(result).all():
        raise UserError(
            f"{task.name}: the model's embeddings are not finite numbers; its training has diverged"
        )
    return result


def class_embeddings(encoder: Encoder, prompts: Sequence[Sequence[str]], batch_size: int = 256) -> np.ndarray:
    """(K, D): for each class the mean of its prompts' embeddings, scaled back to length 1."""
    embeddings = text_embeddings(encoder, [text for of_class in prompts for text in of_class], batch_size)
    ends = np.cumsum([len(of_class) for of_class in prompts])
    means = np.stack([rows.mean(axis=0) for rows in np.split(embeddings, ends[:-1])])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def text_embeddings(encoder: Encoder, texts: Sequence[str], batch_size: int = 256) -> np.ndarray:
    """(N, D)."""
    batch_size = _few(batch_size, len(texts))
    embeddings = []
    for start in range(0, len(texts), batch_size):
        batch = list(texts[start : start + batch_size])
        embeddings.append(encoder.encode_texts(_padded(batch, batch_size))[: len(batch)])
    return np.concatenate(embeddings)


def image_embeddings(
    encoder: Encoder,
    read: Callable[[int], np.ndarray],
    n: int,
    batch_size: int = 256,
    title: str = "images",
) -> np.ndarray:
    """(N, D). read: index → uint8 (H, W, 3) RGB; threads read a batch while the one before is encoded."""
    batch_size = _few(batch_size, n)
    embeddings = []
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=n, desc=title, unit="image", leave=False, delay=2) as progress,
    ):

        def square(i: int) -> np.ndarray:
            return encoder.prepare(read(i))

        def decode(start: int) -> list[Future]:
            indices = range(start, min(start + batch_size, n))
            return [pool.submit(square, i) for i in indices]

        ahead = decode(0)
        for start in range(0, n, batch_size):
            decoding, ahead = ahead, decode(start + batch_size)
            batch = [future.result() for future in decoding]
            embeddings.append(encoder.encode_images(np.stack(_padded(batch, batch_size)))[: len(batch)])
            progress.update(len(batch))
    return np.concatenate(embeddings)


def _few(batch_size: int, n: int) -> int:
    """The batch size, or for fewer entries the next power of two: few shapes are compiled."""
    return min(batch_size, 1 << (n - 1).bit_length())


def _padded(batch: list, size: int) -> list:
    """Repeat the last entry up to `size`, so that the encoder is compiled for one shape."""
    return batch + batch[-1:] * (size - len(batch))


def score(
    task: Task, images: EvaluationSet, similarities: np.ndarray, training: TrainingText | None, step: int
) -> list[Result]:
    """Rows of the results table from (N, K) similarities.

    One row where all classes are seen in the training text or all are unseen. Otherwise three: "mixed"
    ranks all classes; "seen" and "unseen" keep the images of those classes and rank only among them. A row
    whose classes have no image is left out. training: None gives one row, "unknown".
    """
    labels = np.array([task.classes.index(name) for name in images.labels])
    return [
        _result(task, images, similarities, labels, step, rows, classes)
        for rows, classes in _parts(task, training).items()
        if np.isin(labels, classes).any()
    ]


def _parts(task: Task, training: TrainingText | None) -> dict[str, np.ndarray]:
    """The class numbers of each row of the table."""
    everything = np.arange(len(task.classes))
    if training is None:
        return {"unknown": everything}
    seen = np.array([training.mentions(name) for name in task.classes])
    parts = {"seen": np.flatnonzero(seen), "unseen": np.flatnonzero(~seen)}
    return {"mixed": everything, **parts} if seen.any() and not seen.all() else parts


def _result(
    task: Task,
    images: EvaluationSet,
    similarities: np.ndarray,
    labels: np.ndarray,
    step: int,
    rows: str,
    classes: np.ndarray,
) -> Result:
    """One row: the images of `classes` (ascending class numbers), ranked among these classes only."""
    kept = np.flatnonzero(np.isin(labels, classes))
    ranking = statistics.ranked(similarities[np.ix_(kept, classes)])
    labels = np.searchsorted(classes, labels[kept])
    names = [task.classes[c] for c in classes]
    k = max(1, min(task.k, len(names) - 1))  # top-3 of three classes would be right whatever the model says
    first = ranking[:, 0] == labels
    among_k = statistics.top_k_hits(ranking, labels, k)
    confusion = statistics.confusion_matrix(labels, ranking[:, 0], len(names))

    def shares(selected: np.ndarray) -> dict[str, float | int]:
        return {
            "n": int(selected.sum()),
            "top1": float(first[selected].mean()),
            "topk": float(among_k[selected].mean()),
        }

    groups = {group: np.array(values)[kept] for group, values in images.groups.items()}
    return Result(
        task=task.name,
        kind=task.kind,
        split=task.split,
        step=step,
        rows=rows,
        classes=tuple(names),
        prompts=tuple(task.prompts[c] for c in classes),
        n=len(kept),
        expected=images.expected,
        data=images.summary(),
        complete=images.complete,
        k=k,
        chance=k / len(names),
        constant=statistics.constant_predictor(labels, k),
        accuracy=float(among_k.mean()),
        interval=statistics.wilson(int(among_k.sum()), len(kept)),
        top1=float(first.mean()),
        balanced_top1=statistics.balanced_accuracy(confusion),
        per_class={name: shares(labels == c) for c, name in enumerate(names) if (labels == c).any()},
        per_group={
            group: {str(value): shares(values == value) for value in np.unique(values)}
            for group, values in groups.items()
        },
        predictions=dict(zip(names, confusion.sum(axis=0).tolist(), strict=True)),
        confusion=tuple(map(tuple, confusion.tolist())),
    )
