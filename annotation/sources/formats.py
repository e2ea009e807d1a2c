"""The files that `--source=FORMAT:PATH` reads: one line per format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from annotation import records
from annotation.sources import coco, mpii


class Format(NamedTuple):
    """What `--help` says about it, and its reader: read(path, notes), or (path, notes, images)."""

    help: str
    read: Callable[..., Iterator[records.ImageRecord]]
    needs_images: bool = False  # the reader also takes the photographs' folder (or None), for their sizes


FORMATS = {
    "mpii-mat": Format("MPII's official .mat; activities included", mpii.read_mat),
    "mpii-json": Format("mmpose's list of people; no activities", mpii.read_json),
    "mpii-csv": Format("the CSV that circulates; activities included", mpii.read_csv),
    "coco": Format(
        f"COCO-17 ground truth, or results with confidences (below {coco.CONFIDENCE}: missing)", coco.read
    ),
    "coco-dict": Format(
        "{image: 17 x [x, y]}, estimates without confidence", coco.read_dict, needs_images=True
    ),
}


def read(name: str, path: Path, notes: Counter[str], images: Path | None) -> Iterator[records.ImageRecord]:
    """The records of the file `path` in format `name`; `notes` counts what was converted or left out."""
    format_ = FORMATS[name]
    return format_.read(path, notes, images) if format_.needs_images else format_.read(path, notes)


def help_lines() -> str:
    """One line per format, for the end of `--help`."""
    return "\n".join(f"  {name + ':FILE':<19} {format_.help}" for name, format_ in FORMATS.items())
