"""What every reader returns, and how one image of it, or one person in it, is read."""

import csv
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import PIL.Image
from tqdm import tqdm

from focusclip_jax.data.images import load_rgb
from focusclip_jax.errors import UserError

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the photograph


@dataclasses.dataclass(frozen=True, eq=False)
class EvaluationSet:
    """N labelled images, read one by one when they are needed.

    names: (N,) file names or record ids, for messages and pictures.
    labels: (N,) class names as in `tasks.Task.classes`; names and not numbers, so that no reader's order
        can disagree with the prompts' order. For a task with several labels an image (`Task.several`),
        (N,) tuples of them, each with at least one.
    read: index → uint8 (H, W, 3) RGB; raises `UserError` naming the file where it cannot be decoded.
    expected: images of the complete split, as published.
    source: which files were read ("fer2013.csv, Usage PrivateTest").
    groups: by name ("gender"), (N,) group of each image, as perceived by annotators.
    left_out: files or records without a usable label, or whose box holds no pixel of the image. They are
        counted, not guessed.
    """

    names: tuple[str, ...]
    labels: tuple[str | tuple[str, ...], ...]
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
            sentence += f"; {len(self.left_out):,} left out for want of a usable label or box: {examples}"
        return sentence + "."


def image_reader(paths: Sequence[Path]) -> Callable[[int], np.ndarray]:
    """An `EvaluationSet.read` for images that lie in files."""
    return lambda i: load_rgb(paths[i])


def crop_reader(paths: Sequence[Path], boxes: Sequence[Box]) -> Callable:
    """An `EvaluationSet.read` for parts of images. boxes: as `clipped` gives them."""

    def read(i: int) -> np.ndarray:
        left, top, right, bottom = boxes[i]
        return load_rgb(paths[i])[top:bottom, left:right]

    return read


def clipped(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The whole pixels of a box that lie in an image of size (width, height); None where there are none.

    Edges are rounded to the nearest pixel, as PIL's crop does in the 2023 code; unlike there, what lies
    outside the image is cut off and not padded with black.
    """
    if not all(math.isfinite(edge) for edge in box):
        return None
    left, top = (max(0, round(edge)) for edge in box[:2])
    right, bottom = (min(end, round(edge)) for end, edge in zip(size, box[2:], strict=True))
    return (left, top, right, bottom) if left < right and top < bottom else None


def clip_all(
    paths: Iterable[Path], boxes: Iterable[Box], title: str
) -> Iterator[tuple[int, int, int, int] | None]:
    """`clipped` for each box, by the size in the header of its image. Raises `UserError` naming the image."""
    last, size = None, (0, 0)
    for path, box in tqdm(list(zip(paths, boxes, strict=True)), desc=title, delay=2, leave=False):
        if path != last:  # the people of one image follow each other
            last, size = path, _size(path)
        yield clipped(box, size)


def _size(path: Path) -> tuple[int, int]:
    try:
        with PIL.Image.open(path) as image:
            return image.size
    except (OSError, PIL.Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: not a readable image ({reason})") from None


def table(path: Path, columns: Iterable[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a csv, each after "PATH, line N" for messages.

    Raises `UserError` where the file cannot be read, or a column or field is missing.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(
                file, skipinitialspace=True
            )  # a circulating fer2013.csv has ", " in its header
            header = rows.fieldnames or ()
            if not set(columns) <= set(header):
                raise UserError(f"{path}: expected the columns {', '.join(columns)}, found {rows.fieldnames}")
            for row in rows:
                where = f"{path}, line {rows.line_num}"
                if any(row[name] is None for name in columns):
                    raise UserError(f"{where}: expected {len(header)} fields, found fewer")
                yield where, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: not a readable csv ({reason})") from None


def first_missing(root: Path, *patterns: str) -> str | None:
    """The first of the glob patterns that nothing below `root` matches."""
    return next((pattern for pattern in patterns if not any(root.glob(pattern))), None)
