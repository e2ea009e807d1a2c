"""LAGENDA: bodies and faces cut out of photographs of Open Images, with perceived age and gender.

`lagenda_annotation.csv`, one row a person (img_name, age, gender, face_x0 … face_y1, person_x0 … person_y1;
-1 where there is none), and the photographs `<img_name>`, such as `lag_benchmark/<id>.jpg`. Most rows have
a box but no age: they are other people in the photographs and no part of the benchmark. The boxes are a
detector's.

The 2023 code uses the people that have both boxes; here each task uses all that have its own.
"""

from pathlib import Path

from focusclip_jax.errors import UserError
from focusclip_jax.evaluation.datasets.base import (
    Box,
    EvaluationSet,
    clip_all,
    crop_reader,
    first_missing,
    table,
)
from focusclip_jax.evaluation.tasks import AGES

HOW_TO_GET = (
    "get lagenda_annotation.csv and lagenda_benchmark_images.zip from "
    "https://wildchlamydia.github.io/lagenda/ (its terms are there) and unpack both into {root}"
)
ANNOTATIONS = "lagenda_annotation.csv"
EDGES = ("x0", "y0", "x1", "y1")
GENDERS = {"M": "male", "F": "female"}


def lacking(root: Path, split: str) -> str | None:
    """Which part of the data set is not below `root`."""
    return first_missing(root, ANNOTATIONS, "*/*.jpg")


def load(root: Path, crop: str) -> EvaluationSet:
    """crop: "body" or "face", the box that is cut out.

    Raises `UserError` where the csv or all photographs are missing, or a field is not a number.
    """
    path = root / ANNOTATIONS
    part = {"body": "person", "face": "face"}[crop]  # as the columns are named
    columns = ("img_name", "age", "gender", *(f"{part}_{edge}" for edge in EDGES))
    names, labels, genders, paths, boxes, expected = [], [], [], [], [], 0
    for where, row in table(path, columns):
        years = _number(row, "age", where)
        x0, y0, x1, y1 = (_number(row, f"{part}_{edge}", where) for edge in EDGES)
        box = (x0, y0, x1, y1)
        if years < 0 or box == (-1, -1, -1, -1):
            continue
        expected += 1
        if not (root / row["img_name"]).is_file():
            continue
        names.append(f"{row['img_name']} line {where.rpartition(' ')[2]}")
        labels.append(age_group(years))
        genders.append(GENDERS.get(row["gender"], "unknown"))
        paths.append(root / row["img_name"])
        boxes.append(box)
    if not names:
        raise UserError(
            f"{root}: none of the {expected:,} {crop} boxes with an age in {path.name} has its image"
        )
    return _cut(names, labels, genders, paths, boxes, expected, f"{path.name}, rows with age and {crop} box")


def age_group(years: float) -> str:
    """The class of `tasks.AGES` that an age in years falls into."""
    return next(name for name, oldest in AGES.items() if oldest is None or years <= oldest)


def _cut(
    names: list[str],
    labels: list[str],
    genders: list[str],
    paths: list[Path],
    boxes: list[Box],
    expected: int,
    source: str,
) -> EvaluationSet:
    within = list(clip_all(paths, boxes, "image sizes of LAGENDA"))
    there = {i: box for i, box in enumerate(within) if box}
    return EvaluationSet(
        names=tuple(names[i] for i in there),
        labels=tuple(labels[i] for i in there),
        read=crop_reader([paths[i] for i in there], list(there.values())),
        expected=expected,
        source=source,
        groups={"perceived gender": tuple(genders[i] for i in there)},
        left_out=tuple(names[i] for i, box in enumerate(within) if not box),
    )


def _number(row: dict[str, str], name: str, where: str) -> float:
    try:
        return float(row[name])
    except ValueError:
        raise UserError(
            f"{where}: {name} is {row[name]!r}; expected a number, -1 where there is none"
        ) from None
