"""What every reader returns, and how one image of it is read."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from focusclip_jax.data.images import load_rgb


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationSet:
    """N labelled images, read one by one when they are needed.

    names: (N,) file names or record ids, for messages and pictures.
    labels: (N,) class names as in `tasks.Task.classes`; names and not numbers, so that no reader's order
        can disagree with the prompts' order.
    read: index → uint8 (H, W, 3) RGB; raises `UserError` naming the file where it cannot be decoded.
    expected: images of the complete split, as published.
    source: which files were read ("fer2013.csv, Usage PrivateTest").
    groups: by name ("gender"), (N,) group of each image, as perceived by annotators.
    left_out: files or records without a usable label. They are counted, not guessed.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    read: Callable[[int], np.ndarray]
    expected: int
    source: str
    groups: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return len(self.names) + len(self.left_out) >= self.expected

    def summary(self) -> str:
        """One sentence, such as "1,200 of 5,532 images present (ImageSplits/test.txt)."."""
        sentence = f"{len(self.names):,} of {self.expected:,} images present ({self.source})"
        if self.left_out:
            examples = ", ".join(self.left_out[:3]) + (", …" if len(self.left_out) > 3 else "")
            sentence += f"; {len(self.left_out):,} left out for want of a usable label: {examples}"
        return sentence + "."


def image_reader(paths: Sequence[Path]) -> Callable[[int], np.ndarray]:
    """An `EvaluationSet.read` for images that lie in files."""
    return lambda i: load_rgb(paths[i])
