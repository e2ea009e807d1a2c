"""Readers of evaluation data sets in their own on-disk layouts, one module each."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

from focusclip_jax.evaluation.datasets import (
    emotic,
    fairface,
    fer2013,
    ferplus,
    kinetics400,
    lagenda,
    shards,
    stanford40,
    utkface,
)
from focusclip_jax.evaluation.datasets.base import EvaluationSet
from focusclip_jax.evaluation.tasks import Task

# By `Task.dataset`: the module that knows what belongs to a data set and how to get it.
_PHOTOGRAPHS = {
    "stanford40": stanford40,
    "kinetics400": kinetics400,
    "emotic": emotic,
    "lagenda": lagenda,
    "utkface": utkface,
    "fer2013": fer2013,
    "ferplus": ferplus,
    "fairface": fairface,
}

# By `Task.name`: what the task shows and asks of its data set, read from the folder of that data set.
_READERS: dict[str, Callable[[Path], EvaluationSet]] = {
    "stanford40": stanford40.load,
    "kinetics400": kinetics400.load,
    "emotic_age": functools.partial(emotic.load, label=emotic.age, split="test"),
    "lagenda_body": functools.partial(lagenda.load, part="person"),
    "lagenda_face": functools.partial(lagenda.load, part="face"),
    "utkface_age": utkface.load,
    "emotic_emotion": functools.partial(emotic.load, label=emotic.first_emotion, split="test"),
    "emotic_emotion_map": functools.partial(emotic.load, label=emotic.emotions, split="test"),
    "fer2013": fer2013.load,
    "ferplus": ferplus.load,
    "emotic_age_train": functools.partial(emotic.load, label=emotic.age, split="train"),
    "emotic_emotion_train": functools.partial(emotic.load, label=emotic.first_emotion, split="train"),
    "fer2013_train": functools.partial(fer2013.load, split="Training"),
    "fairface_race": fairface.load,
    "utkface_race": functools.partial(utkface.load, by="race"),
}


def load(task: Task, data_dir: Path) -> EvaluationSet:
    """Read `data_dir/<task.dataset>`. Raises `UserError` naming the file that is missing or wrong."""
    root = data_dir / task.dataset
    if task.name in _READERS:
        return _READERS[task.name](root)
    packed = shards.load(root, task.classes, task.split)
    return dataclasses.replace(packed, source=f"synthetic; {packed.source}") if task.synthetic else packed


def absent(task: Task, data_dir: Path) -> str | None:
    """None where the data set is there, else one sentence: what is not, how to get it, and its terms.

    A part of the images is enough, but there must be images and what labels them.
    """
    root = data_dir / task.dataset
    if task.dataset not in _PHOTOGRAPHS:
        lacking, how = None, f"pack its {task.split} split into {root} with ./launch.sh annotate pack"
    else:
        module = _PHOTOGRAPHS[task.dataset]
        lacking, how = module.lacking(root), module.HOW_TO_GET.format(root=root)
    if not root.is_dir():
        return f"{task.name} was not evaluated, since {root} does not exist: {how}."
    if lacking:
        return f"{task.name} was not evaluated, since {root} holds no {lacking}: {how}."
    return None
