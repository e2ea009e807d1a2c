"""A packed split as an evaluation set: the label is the record's activity (the test sets of `figures`)."""

import os
from collections.abc import Sequence

import numpy as np

from focusclip_jax.data import images
from focusclip_jax.data.shards import Shards
from focusclip_jax.errors import UserError
from focusclip_jax.evaluation.datasets.base import EvaluationSet


def load(path: str | os.PathLike, classes: Sequence[str], split: str = "test") -> EvaluationSet:
    """The examples whose activity is one of `classes`.

    path: folder or glob pattern of shards; split: which, where the folder holds several. Examples of other
    activities belong to other tasks; those without any activity are left out and counted.
    Raises `UserError` where no example has one of the activities, or a record is damaged.
    """
    shards = Shards.open(path, split)
    chosen, names, labels, left_out = [], [], [], []
    for i in range(len(shards)):
        example = shards.read(i)
        if example.activity in classes:
            chosen.append(i)
            names.append(example.image_id)
            labels.append(example.activity)
        elif not example.activity:
            left_out.append(example.image_id)
    if not chosen:
        raise UserError(f"{path}: none of its {len(shards):,} examples shows one of {', '.join(classes)}")

    def read(i: int) -> np.ndarray:
        return images.decode(shards.read(chosen[i]).image, shards.where(chosen[i]))

    return EvaluationSet(
        names=tuple(names),
        labels=tuple(labels),
        read=read,
        expected=len(chosen) + len(left_out),
        source=f"{len(shards):,} packed examples",
        left_out=tuple(left_out),
    )
