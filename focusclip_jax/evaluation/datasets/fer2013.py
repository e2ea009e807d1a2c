"""FER2013, PrivateTest (the official test split) or Training: `fer2013.csv`, or folders `test/<class>/`.

The csv numbers its classes 0 … 6 with neutral last, whereas folders sort neutral between happy and sad;
so codes are looked up in the csv's order and folders by their name.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from focusclip_jax.errors import UserError
from focusclip_jax.evaluation.datasets.base import EvaluationSet, image_reader, table
from focusclip_jax.evaluation.tasks import FER2013_CLASSES

HOW_TO_GET = (
    "get fer2013.csv from the Kaggle challenge 'Challenges in Representation Learning: Facial Expression "
    "Recognition' (its terms: research) and put it into {root}; its train.csv and test.csv will not do, "
    "since the latter has no labels"
)
IMAGES = {"PrivateTest": 3589, "Training": 28709}
SPLIT_FOLDERS = {"PrivateTest": "test", "Training": "train"}
SIDE = 48

FOLDERS = {
    "angry": "angry",
    "disgust": "disgusted",
    "fear": "fearful",
    "happy": "happy",
    "sad": "sad",
    "surprise": "surprised",
    "neutral": "neutral",
}


def lacking(root: Path, split: str) -> str | None:
    """Which part of the data set is not below `root`."""
    folder = SPLIT_FOLDERS[split]
    here = (root / "fer2013.csv").is_file() or (root / folder).is_dir()
    return None if here else f"fer2013.csv or {folder}/<class>/"


def load(root: Path, split: str = "PrivateTest") -> EvaluationSet:
    """Read `root/fer2013.csv` where it exists, otherwise the folders of the split.

    split: of `IMAGES`.
    Raises `UserError` where neither exists, and for a folder, row or code that FER2013 does not have.
    """
    csv = root / "fer2013.csv"
    if csv.is_file():
        return _from_csv(csv, split)
    folder = root / SPLIT_FOLDERS[split]
    if folder.is_dir():
        return _from_folders(folder, split)
    raise UserError(f"{root}: expected fer2013.csv or the folders {folder.name}/{{{','.join(FOLDERS)}}}/")


def table_rows(csv: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """All rows of `fer2013.csv`, each after "PATH, line N"."""
    return table(csv, ("emotion", "pixels", "Usage"))


def pixels(text: str, where: str) -> np.ndarray:
    """Grey uint8 (48, 48) from numbers between spaces. Raises `UserError` beginning with `where`."""
    try:
        values = np.array(text.split(), np.uint8)
    except (ValueError, OverflowError):
        values = np.empty(0, np.uint8)
    if values.size != SIDE * SIDE:
        raise UserError(f"{where}: expected {SIDE * SIDE} grey values from 0 to 255 in pixels")
    return values.reshape(SIDE, SIDE)


def rgb(grey: np.ndarray) -> np.ndarray:
    """Grey uint8 (H, W) to (H, W, 3)."""
    return np.repeat(grey[:, :, None], 3, axis=2)


def _from_folders(folder: Path, split: str) -> EvaluationSet:
    paths, labels = [], []
    for of_class in sorted(path for path in folder.iterdir() if path.is_dir()):
        if of_class.name not in FOLDERS:
            raise UserError(f"{of_class}: not a class of FER2013; expected one of {', '.join(FOLDERS)}")
        images = sorted(
            path
            for path in of_class.iterdir()
            # A circulating copy has PublicTest, the validation split, in the same folders.
            if path.suffix in (".jpg", ".png") and not path.name.startswith("PublicTest")
        )
        paths += images
        labels += [FOLDERS[of_class.name]] * len(images)
    if not paths:
        raise UserError(f"{folder}: no image found; expected {folder.name}/<class>/*.jpg")
    return EvaluationSet(
        names=tuple(str(path.relative_to(folder)) for path in paths),
        labels=tuple(labels),
        read=image_reader(paths),
        expected=IMAGES[split],
        source=f"{folder.name}/<class>/",
    )


def _from_csv(csv: Path, split: str) -> EvaluationSet:
    names, labels, images = [], [], []
    for where, row in table_rows(csv):
        if row["Usage"] != split:
            continue
        names.append(f"{csv.name} line {where.rpartition(' ')[2]}")
        labels.append(_emotion(row["emotion"], where))
        images.append(pixels(row["pixels"], where))
    if not names:
        raise UserError(f"{csv}: no row with Usage {split}")
    return EvaluationSet(
        names=tuple(names),
        labels=tuple(labels),
        read=lambda i: rgb(images[i]),
        expected=IMAGES[split],
        source=f"{csv.name}, Usage {split}",
    )


def _emotion(code: str, where: str) -> str:
    if code not in ("0", "1", "2", "3", "4", "5", "6"):
        raise UserError(f"{where}: emotion is {code!r}; expected a code from 0 to 6")
    return FER2013_CLASSES[int(code)]
