"""Make the embedded data set that a config names, by the commands of `annotate`, in their own process."""

from __future__ import annotations

import contextlib
import fcntl
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence

from ml_collections import ConfigDict

from focusclip_jax.errors import UserError
from focusclip_jax.files import write_text


def run(config: ConfigDict) -> None:
    """Run `config.data.prepare` unless exactly these commands were run to their end before.

    A config that was pointed at other shards than its own needs none of them. Of several processes on one
    file system one runs them while the others wait.
    """
    commands = config.data.prepare
    outputs = [_output(command) for command in commands]
    if not commands or config.data.train not in outputs:
        return
    wanted = "\n".join(commands) + "\n"
    # One stamp: other commands for the same folder replace what these made.
    stamp = pathlib.Path(config.data.train) / "prepared.txt"
    if _is(stamp, wanted):
        return
    with _alone(pathlib.Path(config.data.train)):
        if not _is(stamp, wanted):  # nor did whoever was first
            _run(commands)
            write_text(stamp, wanted)


def _is(stamp: pathlib.Path, wanted: str) -> bool:
    return stamp.exists() and stamp.read_text() == wanted


@contextlib.contextmanager
def _alone(folder: pathlib.Path) -> Iterator[None]:
    """Wait until no other process is in such a block for this folder. The lock ends with the process."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{folder}: another process is making it; waiting for that", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(commands: Sequence[str]) -> None:
    for command in commands:
        print(f"annotate {command}", file=sys.stderr, flush=True)
        code = subprocess.run(
            [sys.executable, "-m", "annotation", *shlex.split(command)], check=False
        ).returncode
        if code:
            raise UserError(f"annotate {command}: ended with {code}; its message is above")


def _output(command: str) -> str:
    return next(
        (word.removeprefix("--out=") for word in shlex.split(command) if word.startswith("--out=")), ""
    )
