"""The source `figures:SEED`: its flags, and its images written as files."""

from __future__ import annotations

import argparse
import dataclasses
import io
import itertools
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from annotation import records
from annotation.errors import UserError
from annotation.sources.figures import Figures, generate

QUALITY = 95

# Below this many images per process, starting a process costs more than it saves.
IMAGES_PER_PROCESS = 1000

_HELP = {
    "count": "how many images (default 1000)",
    "size": "width and height in pixels",
    "activities": "trained, held-out or all",
    "people": "most people in an image",
    "scale": "size of a person relative to the image, 0.1 to 1",
    "clutter": "amount of distracting shapes, 0 to 1",
    "occlusion": "probability that an object hides part of a person, 0 to 1",
    "correlation": "probability that the background is the activity's own, 0 to 1",
    "styles": "drawing styles: train, test (never in train), all, or confirmation (in none of these)",
    "scenes": "stream of the backgrounds: 0 is each image's own; the same people stand in other scenes with "
    "another number, other people in the same scenes with another seed",
}


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """One flag per field of `Figures`, with its default."""
    for field in dataclasses.fields(Figures):
        if field.name == "seed":
            continue
        default = 1000 if field.default is dataclasses.MISSING else field.default
        group.add_argument(
            f"--figures-{field.name}",
            type=type(default),
            default=default,
            metavar="VALUE",
            help=_HELP[field.name] if field.name == "count" else f"{_HELP[field.name]} (default {default})",
        )


def parameters(args: argparse.Namespace, seed: str) -> Figures:
    """The `Figures` of `--source=figures:SEED` and its flags. Raises UserError."""
    if not seed.isdecimal():
        raise UserError(f"--source=figures:{seed}: expected a whole number, the seed")
    flags = {
        field.name: getattr(args, f"figures_{field.name}")
        for field in dataclasses.fields(Figures)
        if field.name != "seed"
    }
    return Figures(seed=int(seed), **flags)


def write_images(figures: Figures, directory: Path) -> Iterator[records.ImageRecord]:
    """Draw every image into `directory` as JPEG (4:4:4) and yield its record.

    Each image depends on nothing but the parameters and its index, so the bytes are the same whatever the
    number of processes. A file that holds these bytes already is left alone.
    """
    directory.mkdir(parents=True, exist_ok=True)
    processes = min(os.cpu_count() or 1, figures.count // IMAGES_PER_PROCESS)
    jobs = (itertools.repeat(figures), range(figures.count))
    if processes < 2:
        yield from _written(map(_draw, *jobs), directory)
    else:
        # Not forked: the caller's progress bar runs a thread, and a fork would copy its locks.
        with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
            try:
                yield from _written(pool.map(_draw, *jobs, chunksize=64), directory)
            finally:
                pool.shutdown(cancel_futures=True)  # where the caller stops early, the rest is not drawn


def _draw(figures: Figures, index: int) -> tuple[records.ImageRecord, bytes]:
    record, image = generate(figures, index)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, subsampling="4:4:4")
    return record, buffer.getvalue()


def _written(
    drawn: Iterator[tuple[records.ImageRecord, bytes]], directory: Path
) -> Iterator[records.ImageRecord]:
    for record, jpeg in drawn:
        path = directory / record.image_id
        if not path.exists() or path.read_bytes() != jpeg:
            partial = directory / f"{record.image_id}.partial"
            partial.write_bytes(jpeg)
            os.replace(partial, path)
        yield record
