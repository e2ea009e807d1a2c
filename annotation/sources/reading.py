"""What the readers of JSON share: every value is checked where it enters, and named where it is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from annotation.errors import UserError


def load_json(path: Path) -> Any:
    try:
        return json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from None


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
    except (TypeError, ValueError):
        array = None
    if array is None or array.shape != shape or not np.isfinite(array).all():
        found = "something else" if array is None else " x ".join(map(str, array.shape)) or "one value"
        raise UserError(f"{where}: expected {' x '.join(map(str, shape))} finite numbers, found {found}")
    return array
