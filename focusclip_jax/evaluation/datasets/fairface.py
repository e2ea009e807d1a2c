"""FairFace, validation split (it has no test split): faces with perceived race, gender and age.

`fairface_label_val.csv` (file, age, gender, race, service_test) and the images it names, `val/<n>.jpg`, in
`root` or in the folder that the official archive of one of its two margins unpacks to.
"""

from pathlib import Path

from focusclip_jax.errors import UserError
from focusclip_jax.evaluation.datasets.base import EvaluationSet, image_reader, table
from focusclip_jax.evaluation.tasks import FAIRFACE_RACES

HOW_TO_GET = (
    "get fairface_label_val.csv and fairface-img-margin025-trainval.zip from "
    "https://github.com/joojs/fairface (CC BY 4.0) and unpack both into {root}"
)
LABELS = "fairface_label_val.csv"
FOLDERS = ("val", "fairface-img-margin025-trainval/val", "fairface-img-margin125-trainval/val")


def lacking(root: Path, split: str) -> str | None:
    """Which part of the data set is not below `root`."""
    if not (root / LABELS).is_file():
        return LABELS
    return None if _folder(root) else "val/<n>.jpg"


def load(root: Path) -> EvaluationSet:
    """The listed faces that exist, labelled by race.

    Raises `UserError` where the csv or all images are missing, or a race is not one of the seven.
    """
    folder = _folder(root)
    names, labels, ages, genders, expected = [], [], [], [], 0
    for where, row in table(root / LABELS, ("file", "age", "gender", "race")):
        expected += 1
        if row["race"] not in FAIRFACE_RACES:
            raise UserError(f"{where}: race is {row['race']!r}; expected one of {', '.join(FAIRFACE_RACES)}")
        name = row["file"].rpartition("/")[2]  # before it stands "val/" or "fairface/val/", by the copy
        if folder is None or not (folder / name).is_file():
            continue
        names.append(name)
        labels.append(row["race"])
        ages.append(row["age"])
        genders.append(row["gender"].lower())
    if folder is None or not names:
        raise UserError(f"{root}: none of the {expected:,} images of {LABELS} is in {' or '.join(FOLDERS)}")
    return EvaluationSet(
        names=tuple(names),
        labels=tuple(labels),
        read=image_reader([folder / name for name in names]),
        expected=expected,
        source=f"{LABELS}, {folder.relative_to(root)}",
        groups={"perceived gender": tuple(genders), "perceived age": tuple(ages)},
    )


def _folder(root: Path) -> Path | None:
    return next((root / name for name in FOLDERS if (root / name).is_dir()), None)
