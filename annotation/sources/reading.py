"""What the readers share: every value is checked where it enters, and named where it is wrong."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from annotation import records, schema, skeletons
from annotation.errors import UserError

Notes = Counter[str]

# A joint that an estimator gives with less confidence than this is missing.
CONFIDENCE = 0.3

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def load_json(path: Path) -> Any:
    """The file's value; NaN and Infinity, which JSON does not know, become None. Raises UserError.

    A name that occurs twice in an object is refused: one of two people or photographs would be lost.
    """
    try:
        return json.loads(Path(path).read_bytes(), parse_constant=lambda _: None, object_pairs_hook=_object)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"{twice!r} occurs twice in one object")
    return made


def objects(value: Any, where: str) -> list[dict[str, Any]]:
    """`value` as a list of JSON objects. Raises UserError."""
    if not isinstance(value, list):
        raise UserError(f"{where}: expected a list, found {type(value).__name__}")
    for number, item in enumerate(value, 1):
        if not isinstance(item, dict):
            raise UserError(f"{where}, entry {number}: expected an object, found {item!r:.50}")
    return value


def numbers(value: Any, shape: tuple[int, ...], where: str) -> np.ndarray:
    """`value` as float64 of `shape`, all finite. Raises UserError."""
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        array = None
    if array is None or array.shape != shape or not np.isfinite(array).all():
        found = "something else" if array is None else " x ".join(map(str, array.shape)) or "one value"
        raise UserError(f"{where}: expected {' x '.join(map(str, shape))} finite numbers, found {found}")
    return array


def estimated(
    source: skeletons.Skeleton,
    points: np.ndarray,
    confidence: np.ndarray,
    least: float,
    extra: dict[str, Any],
    notes: Notes,
) -> list[records.Person]:
    """An estimator's person, without the joints of less than `least` confidence; nobody where none is left.

    points: (K, 2) pixels, 0-based. confidence: (K,). Who is left out is counted.
    """
    points = np.where((confidence >= least)[:, None], points, np.nan)
    person = skeletons.to_mpii(source, points, extra=extra)
    if (person.visibility == schema.MISSING).all():
        notes[f"people without any joint of confidence {least:g}, left out"] += 1
        return []
    return [person]


def image_size(path: Path) -> tuple[int, int] | None:
    """Width and height from the file's header; None where the photograph is not there. Raises UserError."""
    try:
        if not path.is_file():
            return None
        with Image.open(path) as image:
            return image.size
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"{path}: cannot be read as an image ({error})") from None


def needed_size(name: str, images: Path | None, where: str) -> tuple[int, int]:
    """Width and height of the photograph `name`, without which normalised joints mean nothing."""
    size = None if images is None else image_size(images / name)
    if size is None:
        missing = (
            "add --images=DIR, the photographs' folder" if images is None else f"{images / name} is missing"
        )
        raise UserError(f"{where}: the joints are parts of the photograph's width and height; {missing}")
    return size


def photos_by_stem(images: Path | None, source: str) -> dict[str, str]:
    """{name without suffix: file name} of the photographs in `images`, for files that are named after them.

    Raises UserError where no folder is given; a stem of several photographs is told apart by nothing, so
    it is refused.
    """
    if images is None:
        raise UserError(
            f"{source}: it is named after its photograph, whose suffix it does not tell; add --images=DIR"
        )
    found: dict[str, str] = {}
    for path in sorted(images.iterdir()):
        if path.suffix.lower() in PHOTO_SUFFIXES:
            other = found.setdefault(path.stem, path.name)
            if other != path.name:
                raise UserError(
                    f"{images}: {other} and {path.name} differ in their suffix only; keep one of them"
                )
    return found


def json_files(path: Path) -> list[Path]:
    """The JSON files of the folder `path`, in order, or the file `path` itself. Raises UserError."""
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.json"))
    if not files:
        raise UserError(f"{path}: no .json file in this folder")
    return files
