"""What a classifier learns from frozen embeddings: a linear probe, and the nearest neighbours.

Both see the image tower's output as evaluation does: after the projection, scaled to length 1. Nothing is
chosen on test images.
Letters: N images, K classes, D embedding.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize, special
from tqdm import tqdm

from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import datasets, statistics, zero_shot
from focusclip_jax.evaluation.datasets import emotic, fer2013, shards, stanford40
from focusclip_jax.evaluation.datasets.base import EvaluationSet
from focusclip_jax.evaluation.tasks import TASKS
from focusclip_jax.evaluation.zero_shot import Encoder

PENALTIES = tuple((10.0 ** np.arange(1, -6.5, -0.5)).tolist())  # of the mean loss, the strongest first
GRADIENT = 1e-5  # largest entry of the mean loss's gradient at which a fit ends
HELD_OUT = 0.2  # of each class of the training part, to choose the penalty on
NEIGHBOURS, TEMPERATURE = 20, 0.07  # DINO's (arXiv 2104.14294)
CHUNK = 1 << 24  # similarities held at once


@dataclasses.dataclass(frozen=True)
class Parts:
    """The training and the test part of a data set.

    needs: what must be there for both, each a list of glob patterns of which one is enough.
    """

    train: Callable[[Path], EvaluationSet]
    test: Callable[[Path], EvaluationSet]
    needs: tuple[tuple[str, ...], ...]


def _packed(split: str) -> Callable[[Path], EvaluationSet]:
    return lambda root: shards.load(root, TASKS["figures"].classes, split)


# By the task that names the classes: those whose data sets come with a training part.
PARTS = {
    "figures": Parts(_packed("train"), _packed("test"), (("*-train.tfrecord-*",), ("*-test.tfrecord-*",))),
    "stanford40": Parts(
        functools.partial(stanford40.load, split="train"),
        stanford40.load,
        (("ImageSplits/train.txt",), ("ImageSplits/test.txt",), ("JPEGImages/*.jpg",)),
    ),
    "emotic_age": Parts(
        functools.partial(emotic.load, label=emotic.age, split="train"),
        functools.partial(emotic.load, label=emotic.age, split="test"),
        ((emotic.ANNOTATIONS,), ("emotic/*/images/*",)),
    ),
    "fer2013": Parts(
        functools.partial(fer2013.load, split="Training"),
        fer2013.load,
        (("fer2013.csv", "train"), ("fer2013.csv", "test")),
    ),
}


@dataclasses.dataclass(frozen=True)
class Result:
    """One row. Accuracies and chance are shares in [0, 1]."""

    task: str  # "linear_probe" or "knn"
    data: str
    step: int
    classes: tuple[str, ...]
    train: int  # images of the training part
    n: int  # of the test part
    chance: float
    constant: float  # of always answering the commonest class of the test part
    accuracy: float  # top-1
    interval: tuple[float, float]  # Wilson's
    balanced: float
    per_class: dict[str, dict[str, float | int]]  # class → n, top1
    confusion: tuple[tuple[int, ...], ...]  # (K, K), true class in the row
    settings: dict[str, Any]  # what was chosen, and on what
    sources: tuple[str, ...]  # what was read, and what is odd about it, as sentences


def absent(name: str, data_dir: Path) -> str | None:
    """None where both parts of a data set of `PARTS` are there, else one sentence that says what is not."""
    task = TASKS[name]
    sentence, root = datasets.absent(task, data_dir), data_dir / task.dataset
    for patterns in PARTS[name].needs:
        if not sentence and not any(any(root.glob(pattern)) for pattern in patterns):
            sentence = f"{name} was not evaluated, since {root} holds no {' or '.join(patterns)}."
    return sentence and f"Probes: {sentence}"


def evaluate(
    encoder: Encoder, name: str, data_dir: Path, which: Sequence[str], step: int, batch_size: int = 256
) -> list[Result]:
    """Rows of one data set. which: of "linear_probe" and "knn"; the images are encoded once.

    Raises UserError where the data are damaged, the model gives NaN, or the training part has one class only.
    """
    root, classes = data_dir / TASKS[name].dataset, TASKS[name].classes
    parts = {"train": PARTS[name].train(root), "test": PARTS[name].test(root)}
    number: dict[str | tuple[str, ...], int] = {label: c for c, label in enumerate(classes)}
    labels = {part: np.array([number[label] for label in of.labels]) for part, of in parts.items()}
    if len(set(labels["train"])) < 2:
        raise UserError(f"{root}: the training part of {name} shows {parts['train'].labels[0]} only")
    features = {}
    for part, of in parts.items():
        title = f"{name} {part}"
        features[part] = zero_shot.image_embeddings(encoder, of.read, len(of.names), batch_size, title)
        if not np.isfinite(features[part]).all():
            raise UserError(
                f"{name}: the model's embeddings are not finite numbers; its training has diverged"
            )
    sources = (
        f"Training part: {parts['train'].summary()}",
        f"Test part: {parts['test'].summary()}",
        *_odd(features, labels, classes),
    )
    classify = {"linear_probe": linear_probe, "knn": nearest_neighbours}
    return [
        score(
            labels["test"],
            *classify[task](features["train"], labels["train"], features["test"], len(classes)),
            task=task,
            data=name,
            step=step,
            classes=classes,
            train=len(labels["train"]),
            sources=sources,
        )
        for task in which
    ]


def score(
    labels: np.ndarray, predictions: np.ndarray, settings: dict[str, Any], classes: tuple[str, ...], **about
) -> Result:
    """labels, predictions: (N,) class numbers of the test part. about: the other fields of the row."""
    confusion = statistics.confusion_matrix(labels, predictions, len(classes))
    right = predictions == labels
    return Result(
        classes=classes,
        n=len(labels),
        chance=1 / len(classes),
        constant=statistics.constant_predictor(labels, 1),
        accuracy=float(right.mean()),
        interval=statistics.wilson(int(right.sum()), len(labels)),
        balanced=statistics.balanced_accuracy(confusion),
        per_class={
            name: {"n": int((labels == c).sum()), "top1": float(right[labels == c].mean())}
            for c, name in enumerate(classes)
            if (labels == c).any()
        },
        confusion=tuple(map(tuple, confusion.tolist())),
        settings=settings,
        **about,
    )


def linear_probe(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int, seed: int = 0
) -> tuple[np.ndarray, dict[str, Any]]:
    """Multinomial logistic regression: classes (N_test,) and how the penalty was chosen.

    train, test: (N, D). labels: (N_train,). Each dimension is standardised by the training part. A fifth of
    each class of it is held out, the penalty that is most accurate there is chosen (of equals the strongest),
    and the whole training part is fitted with it.
    """
    mean, std = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    scale = np.maximum(std, 1e-6 * max(std.max(), 1e-6))
    train, test = (train - mean) / scale, (test - mean) / scale
    held_out = stratified(labels, HELD_OUT, seed)
    tried, unfinished, weights = {}, 0, None
    for penalty in tqdm(PENALTIES, desc="linear probe", delay=2, leave=False):
        weights, converged = fit(train[~held_out], labels[~held_out], classes, penalty, weights)
        hits = logits(weights, train[held_out]).argmax(axis=1) == labels[held_out]
        tried[f"{penalty:.1e}"] = float(hits.mean())
        unfinished += not converged
    best = PENALTIES[int(np.argmax(list(tried.values())))]
    weights, converged = fit(train, labels, classes, best)
    settings = {
        "penalty": best,
        "held_out": int(held_out.sum()),
        "held_out_accuracy": tried,
        "fits_stopped_early": unfinished + (not converged),
    }
    return logits(weights, test).argmax(axis=1), settings


def fit(
    features: np.ndarray, labels: np.ndarray, classes: int, penalty: float, start: np.ndarray | None = None
) -> tuple[np.ndarray, bool]:
    """Minimise mean cross-entropy + penalty / 2 · |weights|² by L-BFGS, the biases free.

    features: float64 (N, D), of mean about zero. Returns (D + 1, K), the last row the biases, and whether the
    fit converged.
    """
    # Directions of little variance have little curvature, which costs hundreds of iterations. So the weights
    # are sought in coordinates in which the loss is about equally curved everywhere; the optimum is the same.
    variances, axes = np.linalg.eigh(features.T @ features / len(features))
    back = axes / np.sqrt(
        np.maximum(variances, 0) / classes + penalty
    )  # (D, D): weights = back @ coordinates
    turned = features @ back
    stretch = (
        penalty * (back**2).sum(axis=0)[:, None]
    )  # |weights|² = the sum of stretch · coordinates² / penalty
    truth = np.zeros((len(labels), classes))
    truth[np.arange(len(labels)), labels] = 1

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(-1, classes)
        log_probabilities = special.log_softmax(logits(weights, turned), axis=1)
        error = (np.exp(log_probabilities) - truth) / len(labels)
        slope = np.vstack([turned.T @ error + stretch * weights[:-1], error.sum(axis=0)])
        value = -(truth * log_probabilities).sum() / len(labels) + (stretch * weights[:-1] ** 2).sum() / 2
        return value, slope.ravel()

    begin = np.zeros((features.shape[1] + 1, classes))
    if start is not None:
        begin = np.vstack([np.linalg.solve(back, start[:-1]), start[-1]])
    options = {"maxiter": 1000, "gtol": GRADIENT, "ftol": 1e-12}
    found = optimize.minimize(loss, begin.ravel(), jac=True, method="L-BFGS-B", options=options)
    weights = found.x.reshape(-1, classes)
    return np.vstack([back @ weights[:-1], weights[-1]]), bool(found.success)


def logits(weights: np.ndarray, features: np.ndarray) -> np.ndarray:
    """weights: (D + 1, K) as of `fit`, features: (N, D) → (N, K)."""
    return features @ weights[:-1] + weights[-1]


def stratified(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """(N,) bool: a random share of the images of each class, rounded up, but never all of a class."""
    chosen = np.zeros(len(labels), bool)
    rng = np.random.default_rng(seed)
    for c in np.unique(labels):
        of_class = rng.permutation(np.flatnonzero(labels == c))
        chosen[of_class[: min(int(np.ceil(share * len(of_class))), len(of_class) - 1)]] = True
    return chosen


def nearest_neighbours(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, classes: int, neighbours: int = NEIGHBOURS
) -> tuple[np.ndarray, dict[str, Any]]:
    """Classes (N_test,) by the vote of the nearest training images, as DINO weighs it, and the settings.

    train, test: (N, D), rows of length 1. A neighbour counts exp(cosine / 0.07) for its class. Equal votes go
    to the class that comes first.
    """
    neighbours = min(neighbours, len(train))
    predictions = np.empty(len(test), np.int64)
    size = max(1, CHUNK // len(train))
    for start in tqdm(range(0, len(test), size), desc="nearest neighbours", delay=2, leave=False):
        rows = slice(start, start + size)
        cosines = test[rows] @ train.T
        nearest = np.argpartition(-cosines, neighbours - 1, axis=1)[:, :neighbours]
        weights = np.exp(np.take_along_axis(cosines, nearest, axis=1).astype(np.float64) / TEMPERATURE)
        votes = np.zeros((len(cosines), classes))
        np.add.at(votes, (np.arange(len(cosines))[:, None], labels[nearest]), weights)
        predictions[rows] = votes.argmax(axis=1)
    return predictions, {"neighbours": neighbours, "weight": f"exp(cosine / {TEMPERATURE})"}


def _odd(features: dict[str, np.ndarray], labels: dict[str, np.ndarray], classes: Sequence[str]) -> list[str]:
    """What makes a result look better or worse than it is, as sentences."""
    sentences = []
    known = {row.tobytes() for row in features["train"]}
    copies = sum(row.tobytes() in known for row in features["test"])
    if copies:
        sentences.append(f"Test images with exactly the embedding of a training image: {copies:,}.")
    untaught = [classes[c] for c in sorted(set(labels["test"]) - set(labels["train"]))]
    if untaught:
        sentences.append(f"No training image shows {', '.join(untaught)}.")
    return sentences
