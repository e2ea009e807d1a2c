"""Kinetics-400, test split: one frame a clip.

`test.csv` (label, youtube_id, time_start, time_end, split), in `root` or its folder `annotations`, and
below the folder `test` a frame for each clip named as the clip is by those who distribute it,
`<youtube_id>_<start, 6 digits>_<end, 6 digits>.jpg`, in a folder for each class or in none: the csv has the
label.
"""

from pathlib import Path

from focusclip_jax.errors import UserError
from focusclip_jax.evaluation.datasets.base import EvaluationSet, first_missing, image_reader, table
from focusclip_jax.evaluation.kinetics400 import CLASSES

HOW_TO_GET = (
    "get the test clips and annotations/test.csv from https://github.com/cvdfoundation/kinetics-dataset "
    "(annotations CC BY 4.0; the videos belong to their makers), put the csv into {root} and a frame of each "
    "clip, such as its middle one, into {root}/test (docs/data_sets.md has a command)"
)
COLUMNS = ("label", "youtube_id", "time_start", "time_end")


def lacking(root: Path, split: str) -> str | None:
    """Which part of the data set is not below `root`."""
    return first_missing(root, "test/**/*.jpg") if _listing(root) else "test.csv"


def load(root: Path) -> EvaluationSet:
    """The clips of the csv whose frame exists; those without a label are left out.

    Raises `UserError` where the csv or all frames are missing, or a label is not of Kinetics-400.
    """
    listing = _listing(root)
    if listing is None:
        raise UserError(f"{root / 'test.csv'}: not found; expected the list of the test clips")
    frames = {path.stem: path for path in sorted((root / "test").rglob("*.jpg"))}
    names, labels, left_out, expected = [], [], [], 0
    for where, row in table(listing, COLUMNS):
        expected += 1
        name = _clip(row, where)
        if row["label"] and row["label"] not in CLASSES:
            raise UserError(f"{where}: {row['label']!r} is no class of Kinetics-400")
        if name in frames and row["label"]:
            names.append(name)
            labels.append(row["label"])
        elif name in frames:
            left_out.append(name)
    if not names:
        raise UserError(f"{root / 'test'}: no frame of the {expected:,} clips of {listing} is there")
    return EvaluationSet(
        names=tuple(names),
        labels=tuple(labels),
        read=image_reader([frames[name] for name in names]),
        expected=expected,
        source=listing.name,
        left_out=tuple(left_out),
    )


def _listing(root: Path) -> Path | None:
    return next(
        (path for path in (root / "test.csv", root / "annotations" / "test.csv") if path.is_file()), None
    )


def _clip(row: dict[str, str], where: str) -> str:
    try:
        return f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}"
    except ValueError:
        raise UserError(f"{where}: expected whole seconds in time_start and time_end") from None
