"""`./launch.sh demo`: a local page that says what a model makes of a photo, and where it looks.

`inputs` reads what a user gives, `answers` asks the models, `results` writes their answers as HTML, `server`
is the page around them. Nothing of it asks another host for anything.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import pathlib

from focusclip_jax.errors import UserError

LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclasses.dataclass(frozen=True)
class Options:
    """workdirs: one or two. port 0: any that is free."""

    workdirs: tuple[pathlib.Path, ...]
    step: int | None
    host: str
    port: int


def main(arguments: list[str]) -> None:
    """Load the models and serve until Ctrl-C. Raises UserError where a workdir or a package is missing."""
    options = parse(arguments)
    if importlib.util.find_spec("gradio") is None:
        raise UserError(
            "the demo needs Gradio, which is not installed: pip install -r requirements-demo.txt, or of the "
            "package focusclip-jax[demo]"
        )
    from focusclip_jax.demo import answers, server  # JAX and Gradio: only once there is something to do

    runs = [answers.open_run(workdir, options.step) for workdir in options.workdirs]
    server.serve(runs, options.host, options.port)


def parse(arguments: list[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="demo", description="What a model makes of a photo, and where it looks: a page on this machine."
    )
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="folder of a training run")
    parser.add_argument(
        "--compare",
        type=pathlib.Path,
        help="folder of another run, shown beside it: one without subject focus, for example",
    )
    parser.add_argument("--step", type=int, help="step of the checkpoints; the newest by default")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at; others than this machine's own let others in (default %(default)s)",
    )
    parser.add_argument(
        "--port", type=int, default=7860, help="default %(default)s; 0 takes any that is free"
    )
    given = parser.parse_args(arguments)
    workdirs = tuple(path for path in (given.workdir, given.compare) if path is not None)
    return Options(workdirs, given.step, given.host, given.port)
