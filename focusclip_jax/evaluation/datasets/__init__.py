"""Readers of evaluation data sets in their own on-disk layouts, one module each."""

import dataclasses
from pathlib import Path

from focusclip_jax.evaluation.datasets import fer2013, shards, stanford40, utkface
from focusclip_jax.evaluation.datasets.base import EvaluationSet
from focusclip_jax.evaluation.tasks import Task

_PHOTOGRAPHS = {"stanford40": stanford40, "utkface": utkface, "fer2013": fer2013}


def load(task: Task, data_dir: Path) -> EvaluationSet:
    """Read `data_dir/<task.dataset>`. Raises `UserError` naming the file that is missing or wrong."""
    root = data_dir / task.dataset
    if task.dataset in _PHOTOGRAPHS:
        return _PHOTOGRAPHS[task.dataset].load(root)
    packed = shards.load(root, task.classes, task.split)
    return dataclasses.replace(packed, source=f"synthetic; {packed.source}") if task.synthetic else packed


def absent(task: Task, data_dir: Path) -> str | None:
    """None where the data set's folder exists, else one sentence that says how to get it and its terms."""
    root = data_dir / task.dataset
    if root.is_dir():
        return None
    if task.dataset in _PHOTOGRAPHS:
        how = _PHOTOGRAPHS[task.dataset].HOW_TO_GET.format(root=root)
    else:
        how = f"pack its {task.split} split into {root} with ./launch.sh annotate pack"
    return f"{task.name} was not evaluated, since {root} does not exist: {how}."
