"""Readers of evaluation data sets in their own on-disk layouts, one module each."""

import dataclasses
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

# By `Task.dataset`: how its folder is read for a task.
_READERS: dict[str, Callable[[Path, Task], EvaluationSet]] = {
    "stanford40": lambda root, task: stanford40.load(root),
    "kinetics400": lambda root, task: kinetics400.load(root),
    "emotic": lambda root, task: emotic.load(root, _emotic_label(task), task.split),
    "lagenda": lambda root, task: lagenda.load(root, task.crop),
    "utkface": lambda root, task: utkface.load(root, by=task.kind),
    "fer2013": lambda root, task: fer2013.load(root, task.split),
    "ferplus": lambda root, task: ferplus.load(root),
    "fairface": lambda root, task: fairface.load(root),
}


def _emotic_label(task: Task) -> Callable[[emotic.Person], str | tuple[str, ...] | None]:
    if task.kind == "age":
        return emotic.age
    return emotic.emotions if task.several else emotic.first_emotion


def load(task: Task, data_dir: Path) -> EvaluationSet:
    """Read `data_dir/<task.dataset>`. Raises `UserError` naming the file that is missing or wrong."""
    root = data_dir / task.dataset
    if task.dataset in _READERS:
        return _READERS[task.dataset](root, task)
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
        lacking, how = module.lacking(root, task.split), module.HOW_TO_GET.format(root=root)
    if not root.is_dir():
        return f"{task.name} was not evaluated, since {root} does not exist: {how}."
    if lacking:
        return f"{task.name} was not evaluated, since {root} holds no {lacking}: {how}."
    return None
