"""Halpe-26: AlphaPose's result file. Layout not verified on real files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from annotation import records
from annotation.skeletons import HALPE_26
from annotation.sources import coco
from annotation.sources.reading import CONFIDENCE, Notes


def read(path: Path, notes: Notes, confidence: float = CONFIDENCE) -> Iterator[records.ImageRecord]:
    """AlphaPose's `alphapose-results.json`: COCO's result list with 26 joints and file names for image ids.

    Head, neck and hip are AlphaPose's own; only the thorax is derived. What `coco.read` says of results
    holds here.
    """
    for record in coco.read(path, notes, HALPE_26, confidence):
        yield dataclasses.replace(record, source="halpe")
