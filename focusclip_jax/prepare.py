"""Make the embedded data set that a config names, by the commands of `annotate`, in their own process."""

from __future__ import annotations

import pathlib
import shlex
import subprocess
import sys

from ml_collections import ConfigDict

from focusclip_jax.errors import UserError
from focusclip_jax.files import write_text


def run(config: ConfigDict) -> None:
    """Run `config.data.prepare` unless exactly these commands were run to their end before.

    A config that was pointed at other shards than its own needs none of them.
    """
    commands = config.data.prepare
    outputs = [_output(command) for command in commands]
    if not commands or config.data.train not in outputs:
        return
    wanted = "\n".join(commands) + "\n"
    # One stamp: other commands for the same folder replace what these made.
    stamp = pathlib.Path(config.data.train) / "prepared.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    for command in commands:
        print(f"annotate {command}", file=sys.stderr, flush=True)
        code = subprocess.run(
            [sys.executable, "-m", "annotation", *shlex.split(command)], check=False
        ).returncode
        if code:
            raise UserError(f"annotate {command}: ended with {code}; its message is above")
    write_text(stamp, wanted)


def _output(command: str) -> str:
    return next(
        (word.removeprefix("--out=") for word in shlex.split(command) if word.startswith("--out=")), ""
    )
