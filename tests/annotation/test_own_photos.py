"""docs/own_photos.md is what a newcomer types: its commands are run, and print what the page says."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "own_photos.md").read_text("utf-8")
COMMANDS = [
    (command, printed)
    for command, printed in re.findall(
        r"```bash\n((?:(?!```).)*)```\n\n```\n((?:(?!```).)*)```", PAGE, re.DOTALL
    )
    if "tools/mediapipe_joints.py" not in command  # it needs an environment of its own
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """It looks like the project's folder from the outside, so that nothing is written into the project."""
    folder = tmp_path_factory.mktemp("own_photos")
    (folder / "docs").symlink_to(REPOSITORY / "docs")
    door = folder / "launch.sh"
    door.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -m annotation "$@"\n')
    door.chmod(0o755)
    return folder


def shown(output):
    """What is left on a screen, where progress bars overwrite their line, without the shards' fingerprint."""
    # It differs between JPEG libraries.
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in output.split("\n")]
    return re.sub(r"fingerprint \w+", "fingerprint", "\n".join(lines)).strip("\n")


def test_the_commands_print_what_the_page_says(folder, monkeypatch):
    assert len(COMMANDS) == 4
    for command, printed in COMMANDS:
        done = subprocess.run(
            ["bash", "-e", "-c", command],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert shown(done.stdout.decode()) == shown(printed), command
    assert (folder / "runs/own/pages/index.html").is_file()

    code = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "pictures" in block)
    monkeypatch.chdir(folder)
    exec(code, {})
    assert (folder / "runs/own/heatmap.png").read_bytes()[:4] == b"\x89PNG"


def test_the_page_shows_the_joints_that_are_read():
    assert (REPOSITORY / "docs/own_photos/joints.json").read_text("utf-8").strip() in PAGE
