"""What the validators say of every caption, found in the background while pages are served already.

A millisecond a caption is a minute and more for a whole data set. Another process does it, so that pages do
not share one interpreter with it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from annotation.viewer import catalogue
from annotation.viewer.entries import objections

_AT_ONCE = 100  # images between two commits


def check_all(source, path: Path) -> None:
    """Write the verdict of every caption of `source` into the database of its catalogue at `path`."""
    with catalogue.connection(path) as database:
        for number in range(len(source)):
            entry = source.read(number)
            verdicts = [
                (catalogue.OBJECTED if objections(answer, entry.record) else catalogue.FINE, number, position)
                for position, answer in enumerate(entry.answers)
                if answer.current and answer.text is not None
            ]
            database.executemany("UPDATE answers SET verdict = ? WHERE number = ? AND position = ?", verdicts)
            if number % _AT_ONCE == _AT_ONCE - 1:
                database.commit()
                server = multiprocessing.parent_process()
                if server is not None and not server.is_alive():  # killed, so it could not end this process
                    return
        database.commit()


@contextlib.contextmanager
def in_background(source, path: Path) -> Iterator[None]:
    """Run `check_all` beside the block, and end it with the block."""
    process = multiprocessing.get_context("spawn").Process(target=_quietly, args=(source, path), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _quietly(source, path: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches both; the server ends this one
    os.nice(10)
    check_all(source, path)
