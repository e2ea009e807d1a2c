"""UTKFace: aligned face crops named `<age>_<gender>_<race>_<date and time>.jpg[.chip.jpg]`.

Age, gender and race are labels as others perceived them. There is no official split: all images are used.
A few published file names lack a field; they are counted and left out.
"""

import re
from pathlib import Path

from focusclip_jax.errors import UserError
from focusclip_jax.evaluation.datasets.base import EvaluationSet, image_reader
from focusclip_jax.evaluation.tasks import UTKFACE_AGES

HOW_TO_GET = (
    "download the aligned and cropped faces from https://susanqq.github.io/UTKFace/ "
    "(non-commercial research only) and unpack them into {root}"
)
IMAGES = 23708  # files of the aligned and cropped release, those with malformed names included

GENDERS = ("male", "female")
RACES = ("white", "black", "asian", "indian", "others")
NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_\d+\.jpg(\.chip\.jpg)?")


def load(root: Path) -> EvaluationSet:
    """Read the faces in `root/images`, or directly in `root`.

    Raises `UserError` where no file there is named in the form above.
    """
    folder = root / "images" if (root / "images").is_dir() else root
    names, labels, genders, races, left_out = [], [], [], [], []
    for name in sorted(path.name for path in folder.glob("*.jpg")):
        match = NAME.fullmatch(name)
        if match is None:
            left_out.append(name)
            continue
        names.append(name)
        labels.append(age_group(int(match[1])))
        genders.append(GENDERS[int(match[2])])
        races.append(RACES[int(match[3])])
    if not names:
        raise UserError(f"{folder}: no face found; expected files named <age>_<gender>_<race>_<time>.jpg")
    return EvaluationSet(
        names=tuple(names),
        labels=tuple(labels),
        read=image_reader([folder / name for name in names]),
        expected=IMAGES,
        source=f"{folder.relative_to(root.parent)}/*.jpg",
        groups={"perceived gender": tuple(genders), "perceived race": tuple(races)},
        left_out=tuple(left_out),
    )


def age_group(years: int) -> str:
    """The class of `tasks.UTKFACE_AGES` that an age in years falls into."""
    return next(name for name, oldest in UTKFACE_AGES.items() if oldest is None or years <= oldest)
