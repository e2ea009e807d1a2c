"""tools/mediapipe_joints.py with a stand-in for MediaPipe, which cannot be installed beside the project."""

import json
import subprocess
import sys
from collections import Counter

import pytest
from PIL import Image

from annotation.sources import mediapipe

STAND_IN = """
import types

__version__ = "0.0"

class Pose:
    def __init__(self, static_image_mode, model_complexity, min_detection_confidence):
        assert static_image_mode and model_complexity == 1
        self.least = min_detection_confidence

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def process(self, pixels):
        assert pixels.dtype == "uint8" and pixels.shape[2] == 3
        sure = pixels.mean() / 255
        mark = types.SimpleNamespace(x=0.25, y=0.5, z=-1.0, visibility=0.8)
        marks = types.SimpleNamespace(landmark=[mark] * 33)
        return types.SimpleNamespace(pose_landmarks=marks if sure >= self.least else None)

solutions = types.SimpleNamespace(pose=types.SimpleNamespace(Pose=Pose))
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "mediapipe.py").write_text(STAND_IN)
    script = mediapipe.__file__.split("annotation")[0] + "tools/mediapipe_joints.py"

    def run(*arguments):
        command = [sys.executable, script, *map(str, arguments)]
        environment = {"PYTHONPATH": str(tmp_path)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "in").mkdir(parents=True)
    Image.new("RGB", (40, 20), "white").save(folder / "in" / "bright.JPG", "JPEG")
    Image.new("L", (40, 20), 90).save(folder / "dim.png")
    (folder / "damaged.jpg").write_bytes(b"no image")
    (folder / "notes.txt").write_text("")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20), "white").save(folder / "turned.jpg", exif=exif)
    return folder


def test_what_it_writes_is_what_annotate_reads(run, photos, tmp_path):
    out = tmp_path / "joints.json"
    done = run(photos, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "somebody found in 1 of 4 photos" in done.stderr
    assert "1 left out, since a viewer turns them" in done.stderr
    assert "turned.jpg for one" in done.stderr
    assert "left out, cannot be read: damaged.jpg" in done.stderr
    dim, bright = mediapipe.read(out, Counter())
    assert (bright.image_id, bright.width, bright.height) == ("in/bright.JPG", 40, 20)
    assert bright.people[0].joints[0].tolist() == [0.25 * 40 - 0.5, 0.5 * 20 - 0.5]
    assert dim.people == ()
    detector = {"mediapipe": "0.0", "model_complexity": 1, "min_detection_confidence": 0.5}
    assert dim.extra == bright.extra == {"detector": detector}
    assert not list(tmp_path.glob("*.partial"))


def test_less_confidence_finds_more(run, photos, tmp_path):
    out = tmp_path / "joints.json"
    assert "somebody found in 2 of 4" in run(photos, "--out", out, "--confidence", "0.2").stderr
    assert len(json.loads(out.read_text())["dim.png"]["people"]) == 1


def test_mistakes_are_named_before_anything_is_written(run, photos, tmp_path):
    out = tmp_path / "joints.json"
    assert "--confidence=1.5: expected 0 to 1" in run(photos, "--out", out, "--confidence", "1.5").stderr
    assert "no photo (.jpg" in run(tmp_path / "nowhere", "--out", out).stderr
    assert not out.exists()
