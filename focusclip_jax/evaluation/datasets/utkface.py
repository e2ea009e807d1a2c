"""UTKFace: aligned face crops named `<age>_<gender>_<race>_<date and time>.jpg[.chip.jpg]`.

Age, gender and race are labels as others perceived them. There is no official split: all images are used.
A few published file names lack a field; they are counted and left out.
"""

import re
from pathlib import Path

from focusclip_jax.errors import UserError
from focusclip_jax.evaluation.datasets.base import EvaluationSet, first_missing, image_reader
from focusclip_jax.evaluation.tasks import UTKFACE_AGES, UTKFACE_RACES

HOW_TO_GET = (
    "download the aligned and cropped faces from https://susanqq.github.io/UTKFace/ "
    "(non-commercial research only) and unpack them into {root}"
)
IMAGES = 23708  # files of the aligned and cropped release, those with malformed names included

GENDERS = ("male", "female")
NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_\d+\.jpg(\.chip\.jpg)?")


def lacking(root: Path, split: str) -> str | None:
    """Which part of the data set is not below `root`."""
    return "<age>_<gender>_<race>_<time>.jpg" if first_missing(_folder(root), "*.jpg") else None


def load(root: Path, by: str = "age") -> EvaluationSet:
    """Read the faces in `root/images`, or directly in `root`.

    by: "age" or "race", what they are labelled by; the other one is a group.
    Raises `UserError` where no file there is named in the form above.
    """
    folder = _folder(root)
    names, ages, genders, races, left_out = [], [], [], [], []
    for name in sorted(path.name for path in folder.glob("*.jpg")):
        match = NAME.fullmatch(name)
        if match is None:
            left_out.append(name)
            continue
        names.append(name)
        ages.append(age_group(int(match[1])))
        genders.append(GENDERS[int(match[2])])
        races.append(UTKFACE_RACES[int(match[3])])
    if not names:
        raise UserError(f"{folder}: no face found; expected files named <age>_<gender>_<race>_<time>.jpg")
    perceived = {"age": tuple(ages), "gender": tuple(genders), "race": tuple(races)}
    return EvaluationSet(
        names=tuple(names),
        labels=perceived.pop(by),
        read=image_reader([folder / name for name in names]),
        expected=IMAGES,
        source=f"{folder.relative_to(root.parent)}/*.jpg",
        groups={f"perceived {name}": of_images for name, of_images in perceived.items()},
        left_out=tuple(left_out),
    )


def age_group(years: int) -> str:
    """The class of `tasks.UTKFACE_AGES` that an age in years falls into."""
    return next(name for name, oldest in UTKFACE_AGES.items() if oldest is None or years <= oldest)


def _folder(root: Path) -> Path:
    return root / "images" if (root / "images").is_dir() else root
