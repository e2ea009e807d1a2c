"""What is measured of a trained cell. Every measure is one bit an image, in an order that all cells share.

Four test sets of `grid.Figures`, in drawing styles that training never shows:
    independent  people in scenes that say nothing about the activity
    matching     the same people, in scenes correlated with the activity as in training
    background   the same people, in other independent scenes: only the background differs from "independent"
    subject      other people with other activities, in the scenes of "independent": only the subject differs
"""

from __future__ import annotations

import base64
import dataclasses
import re

import numpy as np

from focusclip_jax.ablation.grid import GROUPS, Figures
from focusclip_jax.encoder import Encoder
from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import statistics, zero_shot
from focusclip_jax.evaluation.datasets import shards as packed
from focusclip_jax.evaluation.tasks import Task


@dataclasses.dataclass(frozen=True)
class Answers:
    """A model's top-1 answers to a test set, ordered by the number of the image.

    numbers: (N,) of the generator. labels, answers: (N,) class numbers.
    """

    numbers: np.ndarray
    labels: np.ndarray
    answers: np.ndarray

    @property
    def right(self) -> np.ndarray:
        return self.labels == self.answers


def measures(
    encoder: Encoder, figures: Figures, correlation: float, batch_size: int
) -> dict[str, np.ndarray]:
    """By name, bool (N,), for trained and held-out activities apart. "NAME/GROUP":

    independent, matching, background, subject: is the answer right?
    same answer on another background: is it the one of "independent"? right on both backgrounds.
    right on both subjects: over pairs of images with one scene and two people, both of whose activities are
        in the group.
    """
    folders = {
        "independent": figures.tests,
        "matching": figures.train(correlation),
        "background": figures.tests,
        "subject": figures.tests,
    }
    result: dict[str, np.ndarray] = {}
    for group, task in GROUPS.items():
        got = {name: answer(encoder, folder, name, task, batch_size) for name, folder in folders.items()}
        result |= {f"{name}/{group}": answers.right for name, answers in got.items()}
        first, second = got["independent"], got["background"]
        result[f"same answer on another background/{group}"] = first.answers == second.answers
        result[f"right on both backgrounds/{group}"] = first.right & second.right
        pairs = np.intersect1d(first.numbers, got["subject"].numbers, return_indices=True)[1:]
        result[f"right on both subjects/{group}"] = first.right[pairs[0]] & got["subject"].right[pairs[1]]
    return result


def answer(encoder: Encoder, folder: str, split: str, task: Task, batch_size: int) -> Answers:
    """Zero-shot, with the prompts of the task, on one test set."""
    found = packed.load(folder, task.classes, split)
    similarities = zero_shot.similarities(encoder, task, found, batch_size)
    numbers = np.array([number(name) for name in found.names])
    order = np.argsort(numbers)
    labels = np.array([task.classes.index(label) for label in found.labels])
    return Answers(numbers[order], labels[order], statistics.ranked(similarities)[order, 0])


def number(image_id: str) -> int:
    """The generator's number of an image, at the end of its id."""
    found = re.search(r"-(\d+)\.jpg$", image_id)
    if not found:
        raise UserError(f"{image_id}: no image of the figures generator, expected …-NUMBER.jpg")
    return int(found[1])


def pack_bits(bits: np.ndarray) -> str:
    """bool (N,) as base64, eight images a byte."""
    return base64.b64encode(np.packbits(bits).tobytes()).decode()


def unpack_bits(text: str, n: int) -> np.ndarray:
    """Inverse of `pack_bits`."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=n).astype(bool)
