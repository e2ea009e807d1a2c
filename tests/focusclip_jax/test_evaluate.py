"""The verb `evaluate`: what it reads, writes, draws and says. The model is a stand-in, the files are real."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import PIL.Image
import pytest

from focusclip_jax import config as configs
from focusclip_jax import evaluate
from focusclip_jax.data.images import model_input
from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import tasks, training_text
from focusclip_jax.evaluation.datasets import fer2013
from focusclip_jax.workdir import Workdir


class Stub:
    """Embeds an image by its mean grey level, a text by its length."""

    def prepare(self, image):
        return model_input(image, (4, 4), "stretch", "bilinear")

    def encode_images(self, images):
        return self._circle(images.mean(axis=(1, 2, 3)) / 40)

    def encode_texts(self, texts):
        return self._circle(np.array([len(text) for text in texts]) / 10)

    def _circle(self, angles):
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    """The folder of a run whose captions told of happy people, and a stand-in for its model at step 7."""
    workdir = Workdir(tmp_path / "run")
    workdir.root.mkdir()
    workdir.config.write_text(configs.to_json(configs.default()))
    (workdir.checkpoints / "7").mkdir(parents=True)
    (workdir.checkpoints / "7" / "manifest.json").write_text("{}")
    workdir.tokenizer.write_text("{}")
    training_text.write(workdir.training_text, training_text.collect(["a happy face"], tasks.class_names()))
    monkeypatch.setattr(evaluate, "load_encoder", lambda workdir, step: (Stub(), 7))
    return workdir


@pytest.fixture
def data(tmp_path):
    """Two faces of each emotion of FER2013, and five of UTKFace."""
    root = tmp_path / "data"
    for c, name in enumerate(fer2013.FOLDERS):
        (root / "fer2013" / "test" / name).mkdir(parents=True)
        for i in range(2):
            image = PIL.Image.fromarray(np.full((48, 48), 30 * c + i, np.uint8))
            image.save(root / "fer2013" / "test" / name / f"PrivateTest_{i}.jpg")
    (root / "utkface").mkdir()
    for i, age in enumerate((1, 5, 15, 25, 60)):
        image = PIL.Image.fromarray(np.full((20, 20, 3), 40 * i, np.uint8))
        image.save(root / "utkface" / f"{age}_{i % 2}_{i % 5}_2016122321481500{i}.jpg.chip.jpg")
    return root


def run(workdir, data, *arguments):
    evaluate.main([f"--workdir={workdir.root}", f"--data-dir={data}", *arguments])


def test_everything_present_is_evaluated_and_everything_absent_is_named(workdir, data, capsys):
    run(workdir, data)
    printed = capsys.readouterr().out
    absent = {name for name, task in tasks.TASKS.items() if not task.opt_in} - {"utkface_age", "fer2013"}
    for name in absent:
        assert f"{name} was not evaluated" in printed
    assert "No headline macro-average" in printed
    paths = [line for line in printed.splitlines() if line.startswith(str(workdir.evaluation))]
    assert [path.rpartition("/")[2] for path in paths] == [
        f"step-000007-data.{s}" for s in ("md", "tex", "json")
    ]
    rows = json.loads((workdir.evaluation / "step-000007-data.json").read_text())
    assert [(row["task"], row["rows"], row["n"]) for row in rows] == [
        ("utkface_age", "unseen", 5),
        ("fer2013", "mixed", 14),
        ("fer2013", "seen", 2),
        ("fer2013", "unseen", 12),
    ]
    assert "stanford40 was not evaluated" in (workdir.evaluation / "step-000007-data.md").read_text()
    pictures = {f"{path.name}" for path in workdir.plots.iterdir()}
    assert pictures == {
        *("predictions-utkface_age.png", "confusion-utkface_age-unseen.png"),
        *("predictions-fer2013.png", "confusion-fer2013-mixed.png"),
        *("confusion-fer2013-seen.png", "confusion-fer2013-unseen.png"),
    }
    assert all(str(workdir.plots / name) in printed for name in pictures)


def test_other_tasks_or_prompts_do_not_replace_what_was_written(workdir, data):
    run(workdir, data, "--tasks=fer2013")
    run(workdir, data, "--tasks=fer2013", "--prompts=ensemble-v1")
    names = {path.name for path in workdir.evaluation.glob("*.json")}
    assert names == {"step-000007-data-fer2013.json", "step-000007-data-ensemble-v1-fer2013.json"}
    (row, *_) = json.loads((workdir.evaluation / "step-000007-data-ensemble-v1-fer2013.json").read_text())
    assert row["prompt_set"] == "ensemble-v1"
    assert len(row["prompts"][0]) > 1
    assert (workdir.plots / "confusion-fer2013-ensemble-v1-mixed.png").is_file()


def test_a_task_that_fails_ends_the_evaluation_but_loses_nothing(workdir, data, capsys):
    (data / "utkface" / "60_0_4_20161223214815004.jpg.chip.jpg").write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r"60_0_4_.*not a readable image"):
        run(workdir, data, "--tasks=fer2013,utkface_age")
    (path,) = workdir.evaluation.glob("*.json")
    assert {row["task"] for row in json.loads(path.read_text())} == {"fer2013"}
    assert "fer2013" in capsys.readouterr().out


def test_a_task_with_terms_runs_only_when_named_and_its_terms_stand_below_the_table(
    workdir, data, capsys, monkeypatch
):
    terms = "Labels are as others perceived them."
    task = dataclasses.replace(tasks.FER2013, name="faces", opt_in=True, terms=terms)
    monkeypatch.setitem(tasks.TASKS, "faces", task)
    run(workdir, data, "--tasks=faces")
    assert terms in capsys.readouterr().out
    assert terms in (workdir.evaluation / "step-000007-data-faces.md").read_text()
    shutil.rmtree(workdir.plots)
    run(workdir, data)
    assert terms not in capsys.readouterr().out
    assert not list(workdir.plots.glob("*faces*"))


@pytest.mark.parametrize("arguments", [("--tasks=fer2031",), ("--prompts=ensembel",)])
def test_a_name_that_does_not_exist_is_answered_with_those_that_do(workdir, data, arguments):
    with pytest.raises(UserError, match=r"fer2013|ensemble-v1"):
        run(workdir, data, *arguments)
