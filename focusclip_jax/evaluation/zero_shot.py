"""Zero-shot classification: class prompts against images, by cosine.

`evaluate` is a pure function of encoder, task, images and what the training captions said, so the number
inside the training loop and the number computed offline from the same checkpoint are the same.
Letters: N images, K classes, D embedding.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import published, statistics
from focusclip_jax.evaluation.datasets.base import EvaluationSet
from focusclip_jax.evaluation.tasks import Task
from focusclip_jax.evaluation.training_text import TrainingText

ACCURACY = "top-k accuracy"
MEAN_AVERAGE_PRECISION = "mean average precision"


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
    """One row of the results table. Accuracies, precisions and chance are shares in [0, 1].

    The fields with a default came later: a row that was written before them is read with the default.
    """

    task: str
    kind: str
    split: str
    step: int  # of the checkpoint
    # "seen": the training text names these classes, "unseen": it does not, "mixed": both kinds of classes,
    # "unknown": nobody searched the training text for them, or the model is an imported one.
    rows: str
    classes: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    n: int
    expected: int  # images of the complete split
    data: str  # what was read, as a sentence
    complete: bool  # every image of the split was present
    k: int  # 0 where the metric is mean average precision
    chance: float  # expectation of random answers: k / K, or the mean frequency of a label
    constant: float  # of always answering the k commonest labels, or of scoring all images alike
    accuracy: float  # by `metric`
    interval: tuple[float, float]  # 95 %: Wilson's, or of a bootstrap over images
    top1: float  # the top prediction is right, or one of the image's labels
    balanced_top1: float | None  # None where images have several labels
    # class → n, top1, topk; or n (its images) and average_precision. Classes without images are absent.
    per_class: dict[str, dict[str, float | int]]
    per_group: dict[str, dict[str, dict[str, float | int]]]  # group → value → as in per_class
    predictions: dict[str, int]  # class → times it was the top prediction
    # (K, K), true class in the row, top prediction in the column; () where images have several labels
    confusion: tuple[tuple[int, ...], ...]
    metric: str = ACCURACY  # or MEAN_AVERAGE_PRECISION
    simulated_random: float | None = None  # one run of random answers, as in the paper
    prompt_set: str = "paper"  # which of the task's sets `prompts` is
    heard_words: float | None = None  # share of the distinct words of `prompts` that a training caption has
    unheard_words: tuple[str, ...] = ()  # the others
    # By the paper, where all of its classes are asked: random, clip, focusclip
    published: dict[str, float] = dataclasses.field(default_factory=dict)
    terms: str = ""  # what must be read beside the row


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
    """The batch size, or for fewer entries the next power of two, above 32 the next eighth of one.

    So few shapes are compiled (ten up to 64), and of many rows one in five at most is idle.
    """
    power = 1 << (n - 1).bit_length()
    step = power // 8 if power > 32 else power
    return min(batch_size, -(-n // step) * step)


def _padded(batch: list, size: int) -> list:
    """Repeat the last entry up to `size`, so that the encoder is compiled for one shape."""
    return batch + batch[-1:] * (size - len(batch))


def score(
    task: Task, images: EvaluationSet, similarities: np.ndarray, training: TrainingText | None, step: int
) -> list[Result]:
    """Rows of the results table from (N, K) similarities.

    One row where all classes are seen in the training text or all are unseen. Otherwise three: "mixed"
    ranks all classes; "seen" and "unseen" keep the images of those classes and rank only among them. A row
    whose classes have no image is left out. training: None gives one row, "unknown", and so does a training
    text that was not searched for these classes.
    """
    truth = _truth(task, images)
    score_row = _precision if task.several else _accuracy
    return [
        Result(
            **_about(task, images, training, step, classes),
            **score_row(task, images, similarities, truth, classes),
            rows=rows,
        )
        for rows, classes in _parts(task, training).items()
        if truth[:, classes].any()
    ]


def _truth(task: Task, images: EvaluationSet) -> np.ndarray:
    """(N, K) bool: has the image this label?"""
    number = {name: c for c, name in enumerate(task.classes)}
    truth = np.zeros((len(images.names), len(task.classes)), bool)
    for i, labels in enumerate(images.labels):
        for name in (labels,) if isinstance(labels, str) else labels:
            truth[i, number[name]] = True
    return truth


def _parts(task: Task, training: TrainingText | None) -> dict[str, np.ndarray]:
    """The class numbers of each row of the table."""
    everything = np.arange(len(task.classes))
    if training is None or not training.answers(task.classes):
        return {"unknown": everything}
    seen = np.array([training.mentions(name) for name in task.classes])
    parts = {"seen": np.flatnonzero(seen), "unseen": np.flatnonzero(~seen)}
    return {"mixed": everything, **parts} if seen.any() and not seen.all() else parts


def _about(
    task: Task, images: EvaluationSet, training: TrainingText | None, step: int, classes: np.ndarray
) -> dict[str, Any]:
    """The fields of a row that do not depend on the answers."""
    prompts = tuple(task.prompts[c] for c in classes)
    unheard, words = (
        training.unheard(text for of_class in prompts for text in of_class) if training else ([], 0)
    )
    return {
        "task": task.name,
        "kind": task.kind,
        "split": task.split,
        "step": step,
        "classes": tuple(task.classes[c] for c in classes),
        "prompts": prompts,
        "expected": images.expected,
        "data": images.summary(),
        "complete": images.complete,
        "prompt_set": task.prompt_set,
        "terms": task.terms,
        "heard_words": 1 - len(unheard) / words if training else None,
        "unheard_words": tuple(unheard),
        "published": published.shares(task.name) if len(classes) == len(task.classes) else {},
    }


def _accuracy(
    task: Task, images: EvaluationSet, similarities: np.ndarray, truth: np.ndarray, classes: np.ndarray
) -> dict[str, Any]:
    """One label an image: the images of `classes` (ascending class numbers), ranked among these only."""
    kept = np.flatnonzero(truth[:, classes].any(axis=1))
    labels = truth[np.ix_(kept, classes)].argmax(axis=1)
    ranking = statistics.ranked(similarities[np.ix_(kept, classes)])
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

    return {
        "metric": ACCURACY,
        "n": len(kept),
        "k": k,
        "chance": k / len(names),
        "simulated_random": statistics.simulated_random(len(kept), k, len(names)),
        "constant": statistics.constant_predictor(labels, k),
        "accuracy": float(among_k.mean()),
        "interval": statistics.wilson(int(among_k.sum()), len(kept)),
        "top1": float(first.mean()),
        "balanced_top1": statistics.balanced_accuracy(confusion),
        "per_class": {name: shares(labels == c) for c, name in enumerate(names) if (labels == c).any()},
        "per_group": _per_group(images, kept, shares),
        "predictions": dict(zip(names, confusion.sum(axis=0).tolist(), strict=True)),
        "confusion": tuple(map(tuple, confusion.tolist())),
    }


def _precision(
    task: Task, images: EvaluationSet, similarities: np.ndarray, truth: np.ndarray, classes: np.ndarray
) -> dict[str, Any]:
    """Several labels an image: the mean over `classes` of the average precision over all images."""
    scores, truth = similarities[:, classes], truth[:, classes]
    names = [task.classes[c] for c in classes]
    top = statistics.ranked(scores)[:, 0]
    first = truth[np.arange(len(truth)), top]
    of_class = statistics.average_precision(scores, truth)[0]
    labelled = np.flatnonzero(truth.any(axis=0))
    frequency = float(truth[:, labelled].mean())
    random = np.random.default_rng(0).random(scores.shape)

    def mean_precision(of: np.ndarray, selected=np.s_[:]) -> float:
        return float(statistics.over_classes(statistics.average_precision(of[selected], truth[selected]))[0])

    def shares(selected: np.ndarray) -> dict[str, float | int]:
        about = {"n": int(selected.sum()), "top1": float(first[selected].mean())}
        some = truth[selected].any()  # in a small group nobody may have one of these labels
        return about | ({"average_precision": mean_precision(scores, selected)} if some else {})

    return {
        "metric": MEAN_AVERAGE_PRECISION,
        "n": len(truth),
        "k": 0,
        "chance": frequency,
        "simulated_random": mean_precision(random),
        "constant": frequency,
        "accuracy": mean_precision(scores),
        "interval": statistics.mean_average_precision_interval(scores, truth),
        "top1": float(first.mean()),
        "balanced_top1": None,
        "per_class": {
            names[c]: {"n": int(truth[:, c].sum()), "average_precision": float(of_class[c])} for c in labelled
        },
        "per_group": _per_group(images, np.arange(len(truth)), shares),
        "predictions": dict(zip(names, np.bincount(top, minlength=len(names)).tolist(), strict=True)),
        "confusion": (),
    }


def _per_group(
    images: EvaluationSet, kept: np.ndarray, shares: Callable[[np.ndarray], dict[str, float | int]]
) -> dict[str, dict[str, dict[str, float | int]]]:
    """`shares` of the kept images of each value of each group."""
    groups = {group: np.array(values)[kept] for group, values in images.groups.items()}
    return {
        group: {str(value): shares(values == value) for value in np.unique(values)}
        for group, values in groups.items()
    }
