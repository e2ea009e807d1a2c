"""The shares of array jobs: several machines, one command line, one result.

`--part=3/8` is the third of eight. Which part an image belongs to is a hash of its id, so it does not
depend on the order or the number of images, and a part can be run again, or before another one.
`describe --part` keeps a journal of its own for each part, `OUT/part-3-of-8`, since two machines must not
append to one file; whoever reads a journal takes all parts as one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path

from annotation import journal
from annotation.errors import UserError

_FOLDER = re.compile(r"part-(\d+)-of-(\d+)")


@dataclasses.dataclass(frozen=True)
class Part:
    """Part `number` (from 1) of `count`."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def holds(self, image_id: str) -> bool:
        return bucket(image_id, self.count) == self.number - 1

    def folder(self, directory: Path) -> Path:
        """Where this part of the journal `directory` lives."""
        return directory / f"part-{self.number}-of-{self.count}"


def bucket(image_id: str, buckets: int) -> int:
    """Which of `buckets`, from 0, an image falls into; depends on nothing else."""
    return int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:8], "big") % buckets


def journals(directory: Path) -> list[Path]:
    """The folders that together are the journal `directory`: itself, or all of its parts.

    Raises UserError where there is none, or not each part.
    """
    found = sorted(
        (int(match[2]), int(match[1]), path)
        for path in directory.glob("part-*-of-*")
        if (match := _FOLDER.fullmatch(path.name))
    )
    if not found:
        if not (directory / journal.RECORDS).exists():
            raise UserError(
                f"{directory / journal.RECORDS}: not there; `annotate describe … --out={directory}` makes it"
            )
        return [directory]
    names = ", ".join(path.name for _, _, path in found)
    if (directory / journal.RECORDS).exists():
        raise UserError(
            f"{directory}: holds a whole journal and parts of one ({names}); keep the parts in a folder of "
            "their own"
        )
    count = found[0][0]
    if {n for n, _, _ in found} != {count}:
        raise UserError(f"{directory}: holds parts of different divisions ({names}); keep one of them")
    written = {number for _, number, path in found if (path / journal.RECORDS).exists()}
    if absent := [str(Part(n, count)) for n in range(1, count + 1) if n not in written]:
        raise UserError(
            f"{directory}: {len(written)} of {count} parts are there; run `annotate describe` with "
            f"--part={absent[0]}" + (f" and {len(absent) - 1} more" if len(absent) > 1 else "")
        )
    return [path for _, _, path in found]
