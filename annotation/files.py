"""Files that are either complete or absent, and directories that one process writes at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from annotation.errors import UserError


class Busy(UserError):
    """Another process holds the directory."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """A UTF-8 text file that appears under its name only once it was written to the end."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "w", encoding="utf-8", newline="\n") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Make `directory` and hold it for this process. The lock ends with the process, however it ends.

    Raises `Busy` where another process holds it.
    """
    _make(directory)
    with open(directory / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Busy(f"{directory}: another run is writing here; wait for it to end") from None
        yield


@contextlib.contextmanager
def shared(directory: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Make `directory` and keep others from holding it alone; waits, and says so, while somebody does."""
    _make(directory)
    with open(directory / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{directory}: waiting for another run to end")
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def _make(directory: Path) -> None:
    """Raises UserError for the address of a bucket, which pathlib would take for a folder named "gs:"."""
    if re.match(r"\w+:/", str(directory)):
        address = str(directory).replace(":/", "://", 1)
        raise UserError(
            f"{address}: expected a folder to write into; copy it to the bucket when it is complete"
        )
    directory.mkdir(parents=True, exist_ok=True)
