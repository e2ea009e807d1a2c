"""FER2013, PrivateTest (the official test split): `fer2013.csv`, or folders `test/<class>/`.

The csv numbers its classes 0 … 6 with neutral last, whereas folders sort neutral between happy and sad;
so codes are looked up in the csv's order and folders by their name.
"""

import csv
from pathlib import Path

import numpy as np

from focusclip_jax.errors import UserError
from focusclip_jax.evaluation.datasets.base import EvaluationSet, image_reader
from focusclip_jax.evaluation.tasks import FER2013_CLASSES

HOW_TO_GET = (
    "get fer2013.csv from the Kaggle challenge 'Challenges in Representation Learning: Facial Expression "
    "Recognition' (its terms: research) and put it into {root}; its train.csv and test.csv will not do, "
    "since the latter has no labels"
)
TEST_IMAGES = 3589
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


def load(root: Path) -> EvaluationSet:
    """Read `root/fer2013.csv` where it exists, otherwise the folders `root/test/<class>/`.

    Raises `UserError` where neither exists, and for a folder, row or code that FER2013 does not have.
    """
    table = root / "fer2013.csv"
    if table.is_file():
        return _from_csv(table)
    folder = root / "test"
    if folder.is_dir():
        return _from_folders(folder)
    raise UserError(f"{root}: expected fer2013.csv or the folders test/{{{','.join(FOLDERS)}}}/")


def _from_folders(test: Path) -> EvaluationSet:
    paths, labels = [], []
    for folder in sorted(path for path in test.iterdir() if path.is_dir()):
        if folder.name not in FOLDERS:
            raise UserError(f"{folder}: not a class of FER2013; expected one of {', '.join(FOLDERS)}")
        images = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png"))
        paths += images
        labels += [FOLDERS[folder.name]] * len(images)
    if not paths:
        raise UserError(f"{test}: no image found; expected test/<class>/*.jpg")
    return EvaluationSet(
        names=tuple(str(path.relative_to(test)) for path in paths),
        labels=tuple(labels),
        read=image_reader(paths),
        expected=TEST_IMAGES,
        source="test/<class>/",
    )


def _from_csv(table: Path) -> EvaluationSet:
    names, labels, images = [], [], []
    with table.open(newline="") as file:
        rows = csv.DictReader(file, skipinitialspace=True)  # one circulating copy has ", " in its header
        if not {"emotion", "pixels", "Usage"} <= set(rows.fieldnames or ()):
            raise UserError(
                f"{table}: expected the columns emotion, pixels and Usage, found {rows.fieldnames}"
            )
        for row in rows:
            if row["Usage"] != "PrivateTest":
                continue
            where = f"{table}, line {rows.line_num}"
            names.append(f"{table.name} line {rows.line_num}")
            labels.append(_emotion(row["emotion"], where))
            images.append(_pixels(row["pixels"], where))
    if not names:
        raise UserError(f"{table}: no row with Usage PrivateTest")
    return EvaluationSet(
        names=tuple(names),
        labels=tuple(labels),
        read=lambda i: np.repeat(images[i][:, :, None], 3, axis=2),
        expected=TEST_IMAGES,
        source=f"{table.name}, Usage PrivateTest",
    )


def _emotion(code: str, where: str) -> str:
    if code not in ("0", "1", "2", "3", "4", "5", "6"):
        raise UserError(f"{where}: emotion is {code!r}; expected a code from 0 to 6")
    return FER2013_CLASSES[int(code)]


def _pixels(text: str, where: str) -> np.ndarray:
    try:
        values = np.array(text.split(), np.uint8)
    except (ValueError, OverflowError):
        values = np.empty(0)
    if values.size != SIDE * SIDE:
        raise UserError(f"{where}: expected {SIDE * SIDE} grey values from 0 to 255 in pixels")
    return values.reshape(SIDE, SIDE)
