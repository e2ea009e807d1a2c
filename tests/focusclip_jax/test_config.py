"""Mistakes in the configuration are answered with one sentence and exit code 2."""

from __future__ import annotations

import pytest
from ml_collections import ConfigDict

from focusclip_jax import config as configs
from focusclip_jax.errors import UserError

MISTAKES = {
    "no config": ([], "--config=FILE is missing"),
    "missing file": (["--config=configs/nowhere.py"], "no such file"),
    "unknown key": (["--config.model.depht=3"], "depht"),
    "unknown section": (["--config.modle.patch_size=3"], "modle"),
    "wrong type": (["--config.batch_size=many"], "many"),
    "text for a number": (["--config.optimizer.learning_rate=fast"], "fast"),
    "tuple too long": (["--config.data.crop_area=(0.5,0.7,1.0)"], "expected 2 numbers"),
    "tuple too short": (["--config.model.pixel_mean=(0.5,)"], "expected 3 numbers"),
    "unknown choice": (["--config.loss.kind=triplet"], "expected one of infonce, ntxent, sigmoid"),
    "heads": (["--config.model.image.heads=3"], "does not divide the width"),
    "patch": (["--config.model.patch_size=7"], "not a multiple of the patch size 7"),
    "buckets": (["--config.text.buckets=(48,32)"], "expected rising lengths"),
    "no loss": (["--config.loss.image_text=0.", "--config.loss.focus_text=0."], "every term has weight 0"),
    "zero batch": (["--config.batch_size=0"], "expected at least 1"),
    "stray word": (["fast"], "unexpected argument 'fast'"),
    "unknown flag": (["--wrokdir=x"], "wrokdir"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(run_module, mistake):
    arguments, expected = MISTAKES[mistake]
    config = [] if mistake in ("no config", "missing file") else ["--config=configs/focusclip_tiny.py"]
    done = run_module("focusclip_jax", "prepare", *config, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_config_survives_json():
    config = configs.default()
    copy = ConfigDict(configs._tuples(__import__("json").loads(configs.to_json(config))))
    assert copy.to_dict() == config.to_dict()


def test_a_missing_workdir_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="expected the workdir of a training run"):
        configs.from_json(tmp_path / "config.json")


def test_a_choice_in_a_workdir_that_is_none_of_this_version_is_one_sentence(tmp_path):
    older = configs.to_json(configs.default()).replace('"remat": "none"', '"remat": true')
    (tmp_path / "config.json").write_text(older)
    with pytest.raises(UserError, match=r"config.json: model.remat is True, expected one of none, full"):
        configs.from_json(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["--config.data.train=nowhere"], "no shards at --config.data.train=nowhere"),
        (["--config.data.train=nowhere/*.tfrecord-*"], "nowhere"),
        (["--config.mesh.data=3"], "does not make up the 1 devices"),
        (["--config.evaluation.tasks=('juggling',)"], "no task is named 'juggling'"),
    ],
)
def test_a_mistake_that_only_the_machine_shows_is_one_sentence(
    run_module, figures, tmp_path, changes, expected
):
    arguments = [
        "--config=configs/focusclip_tiny.py",
        f"--config.data.train={figures}",
        f"--workdir={tmp_path}",
    ]
    done = run_module("focusclip_jax", "train", *arguments, *changes)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_a_workdir_that_cannot_be_written_is_one_sentence(run_module, figures, tmp_path):
    (tmp_path / "file").write_text("")
    arguments = ["--config=configs/focusclip_tiny.py", f"--config.data.train={figures}"]
    done = run_module("focusclip_jax", "train", *arguments, f"--workdir={tmp_path / 'file' / 'run'}")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
