"""The verb `train` as a user runs it: real processes, killed and started again."""

from __future__ import annotations

import json
import math
import pathlib
import random
import shutil
import signal
import time

import jax
import numpy as np
import pytest

from focusclip_jax import config as configs
from focusclip_jax import optimizer, sharding, state
from focusclip_jax import workdir as workdirs
from focusclip_jax.checkpoint import Checkpoints
from focusclip_jax.data.shards import Shards
from focusclip_jax.data.text import Tokenizer
from focusclip_jax.errors import UserError
from focusclip_jax.evaluate import mesh_here
from focusclip_jax.evaluation import training_text
from focusclip_jax.meter import OF_MACHINE
from focusclip_jax.run import settle_training_text
from focusclip_jax.train import check_finite

STEPS = 24


@pytest.fixture(scope="session")
def arguments(figures):
    """The tiny config made smaller still, on the small shards."""
    return [
        "train",
        "--config=configs/focusclip_tiny.py",
        f"--config.data.train={figures}",
        f"--config.data.validation={figures}",
        f"--config.evaluation.data_dir={figures.parent}",
        "--config.data.image_size=16",
        "--config.model.image.depth=1",
        "--config.model.text.depth=1",
        "--config.batch_size=16",
        f"--config.steps={STEPS}",
        "--config.log_every=4",
        "--config.checkpoint_every=4",
        "--config.evaluate_every=12",
    ]


@pytest.fixture(scope="session")
def finished(run_module, arguments, tmp_path_factory):
    """An uninterrupted run: its workdir and what it printed."""
    root = tmp_path_factory.mktemp("run") / "finished"
    done = run_module("focusclip_jax", *arguments, f"--workdir={root}")
    assert done.returncode == 0, done.stderr
    return root, done.stdout


def final_params(root: pathlib.Path):
    config = configs.from_json(root / "config.json")
    tokenizer = Tokenizer.load(root / "tokenizer.json")
    mesh = sharding.make_mesh(1, 1, jax.devices()[:1])
    architecture = state.architecture(config, tokenizer.vocab_size)
    abstract = state.abstract(architecture, optimizer.make(config.optimizer, config.steps), mesh)
    checkpoints = Checkpoints(root / "checkpoints")
    try:
        return jax.device_get(checkpoints.restore(STEPS, abstract))
    finally:
        checkpoints.close()


def metrics(root: pathlib.Path):
    """The logged values that do not depend on the clock."""
    rows = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in OF_MACHINE} for row in rows]


def wait_for_step(root: pathlib.Path, process, step: int):
    """Until metrics.jsonl has a row of that step or later."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        rows = workdirs.read_metrics(root / "metrics.jsonl")
        if process.poll() is not None or (rows and rows[-1]["step"] >= step):
            return
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"no step {step} within four minutes: {process.communicate()[1][-2000:]}")


def test_a_run_leaves_everything_that_a_table_of_results_needs(finished):
    root, printed = finished
    run = json.loads((root / "run.json").read_text())
    assert {"commit", "dirty", "packages", "devices", "seed", "shards", "tokenizer"} <= run.keys()
    assert json.loads((root / "config.json").read_text())["steps"] == STEPS
    assert "params" not in (table := (root / "parameters.txt").read_text())
    assert "image/blocks/qkv_kernel" in table
    rows = metrics(root)
    assert [row["step"] for row in rows if "loss" in row] == list(range(4, STEPS + 1, 4))
    assert rows[-1].keys() >= {
        "validation/loss",
        "zero_shot/figures seen",
        "zero_shot/figures_held_out unseen",
    }
    results = json.loads((root / "evaluation" / f"step-{STEPS:06d}.json").read_text())
    assert [(row["task"], row["rows"], row["n"]) for row in results] == [
        ("figures", "seen", 32),
        ("figures_held_out", "unseen", 16),
    ]
    assert "figures_held_out" in printed
    assert "8 unseen" in printed
    pictures = [line.strip() for line in printed.split("Pictures:")[1].splitlines() if line.strip()]
    assert len(pictures) >= 6
    page = (root / "report.html").read_text("utf-8")
    assert f"Report: {root / 'report.html'}" in printed
    assert all(text in page for text in (run["commit"], run["shards"], "figures_held_out", "<polyline"))
    assert page.count("<img") == len(pictures) - 1, "the curves are drawn as lines instead"
    assert all(pathlib.Path(path).stat().st_size > 5000 for path in pictures)


def written(printed: str):
    """The rows of the JSON file whose path `evaluate` printed."""
    (path,) = (line for line in printed.splitlines() if line.endswith(".json"))
    return json.loads(pathlib.Path(path).read_text())


def test_offline_evaluation_gives_the_numbers_of_the_loop(finished, run_module):
    root, _ = finished
    done = run_module("focusclip_jax", "evaluate", f"--workdir={root}", "--tasks=figures,figures_held_out")
    assert done.returncode == 0, done.stderr
    in_loop = json.loads((root / "evaluation" / f"step-{STEPS:06d}.json").read_text())
    offline = written(done.stdout)
    assert offline == in_loop


def test_a_run_is_evaluated_on_another_number_of_devices(finished, run_module, tmp_path):
    """Trained on one device here; evaluated on four, with another order of float32 sums."""
    root = pathlib.Path(shutil.copytree(finished[0], tmp_path / "run"))
    shutil.rmtree(root / "cache" / "embeddings", ignore_errors=True)  # of an evaluation on one device
    devices = "--xla_force_host_platform_device_count=4"
    done = run_module("focusclip_jax", "evaluate", f"--workdir={root}", "--tasks=figures", XLA_FLAGS=devices)
    assert done.returncode == 0, done.stderr
    one = json.loads((root / "evaluation" / f"step-{STEPS:06d}.json").read_text())[0]
    four = written(done.stdout)[0]
    assert one["n"] == four["n"] == 32
    assert abs(one["accuracy"] - four["accuracy"]) <= 1 / 32


@pytest.mark.parametrize(
    ("fsdp", "expected"), [(1, (8, 1)), (4, (2, 4)), (16, (1, 8)), (3, (8, 1)), (-1, (1, 8))]
)
def test_evaluation_takes_a_mesh_that_fits_the_devices_that_are_here(fsdp, expected):
    mesh = mesh_here(fsdp)
    assert (mesh.shape["data"], mesh.shape["fsdp"]) == expected


def test_starting_a_finished_run_again_trains_nothing_and_reports_the_same(finished, run_module, arguments):
    root, printed = finished
    before = metrics(root)
    done = run_module("focusclip_jax", *arguments, f"--workdir={root}")
    assert done.returncode == 0, done.stderr
    assert f"Going on from step {STEPS}" in done.stdout
    assert printed.split("Pictures:")[0].strip() in done.stdout
    assert metrics(root) == before


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_any_moment_a_run_ends_with_the_same_bits(finished, run_module, arguments, tmp_path, kills):
    root = tmp_path / "killed"
    chance = random.Random(kills)
    for kill in range(kills):
        process = run_module("focusclip_jax", *arguments, f"--workdir={root}", wait=False)
        wait_for_step(root, process, min(1 + kill * STEPS // kills, STEPS - 4))
        time.sleep(chance.random() * 0.5)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = run_module("focusclip_jax", *arguments, f"--workdir={root}")
    assert done.returncode == 0, done.stderr
    jax.tree.map(np.testing.assert_array_equal, final_params(root), final_params(finished[0]))
    assert metrics(root) == metrics(finished[0])


def test_sigterm_saves_and_ends_cleanly_and_the_rest_follows_exactly(
    finished, run_module, arguments, tmp_path
):
    root = tmp_path / "stopped"
    process = run_module("focusclip_jax", *arguments, f"--workdir={root}", wait=False)
    wait_for_step(root, process, 4)
    process.send_signal(signal.SIGTERM)
    printed, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert "Stopped and saved at step" in printed
    stopped = int(printed.split("saved at step ")[1].split(";")[0])
    assert 4 <= stopped < STEPS
    assert Checkpoints(root / "checkpoints").steps()[-1] == stopped
    done = run_module("focusclip_jax", *arguments, f"--workdir={root}")
    assert f"Going on from step {stopped}" in done.stdout
    jax.tree.map(np.testing.assert_array_equal, final_params(root), final_params(finished[0]))


@pytest.fixture
def begun(tmp_path):
    workdir = workdirs.create(tmp_path / "run")
    config = configs.default()
    workdirs.begin(workdir, config, "shards", "tokenizer")
    return workdir, config


def test_a_resume_with_other_shards_is_one_sentence(begun):
    workdir, config = begun
    with pytest.raises(UserError, match="other shards"):
        workdirs.begin(workdir, config, "changed", "tokenizer")


def test_a_resume_with_another_tokenizer_is_one_sentence(begun):
    workdir, config = begun
    with pytest.raises(UserError, match="another tokenizer"):
        workdirs.begin(workdir, config, "shards", "changed")


@pytest.mark.parametrize("name", ["model.image.depth", "data.image_size", "text.context", "seed"])
def test_a_resume_with_another_model_is_one_sentence(begun, name):
    workdir, config = begun
    with config.unlocked():
        config.update_from_flattened_dict({name: 999})
    with pytest.raises(UserError, match=rf"{name}=\d+, not 999"):
        workdirs.begin(workdir, config, "shards", "tokenizer")


def test_a_harmless_change_is_allowed_and_said(begun, capsys):
    workdir, config = begun
    config.log_every = 7
    workdirs.begin(workdir, config, "shards", "tokenizer")
    assert "log_every=7 (was 20)" in capsys.readouterr().out
    assert configs.from_json(workdir.config).log_every == 7


def test_a_row_that_was_cut_off_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.5}\n{"step": 3, "lo')
    assert [row["step"] for row in workdirs.read_metrics(path)] == [1, 2]
    workdirs.MetricsLog(path, 1).write(2, {"loss": 1.4})
    assert workdirs.read_metrics(path) == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.4}]


def test_a_diverged_loss_stops_with_the_last_good_step_named(figures, run_module, arguments, tmp_path):
    done = run_module(
        "focusclip_jax",
        *arguments,
        "--config.optimizer.learning_rate=1e30",
        "--config.optimizer.warmup_steps=0",
        "--config.optimizer.clip_norm=1e30",
        f"--workdir={tmp_path / 'diverged'}",
    )
    assert done.returncode == 2
    assert "error: the loss is nan at step 4; no checkpoint was saved" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["loss", "gradient_norm"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_never_saved(tmp_path, name, value):
    """The parameters are lost with the gradient, one step before the loss says so."""
    values = {"loss": 1.0, "gradient_norm": 2.0}
    check_finite(values, 8, Checkpoints(tmp_path))
    with pytest.raises(UserError, match=rf"is {value} at step 8; no checkpoint was saved; lower --config"):
        check_finite({**values, name: value}, 8, Checkpoints(tmp_path))


def test_training_on_from_an_import_collects_what_its_own_captions_say(figures, tmp_path):
    """Nobody knows what an imported model's captions said: its file holds null."""
    workdir = workdirs.Workdir(tmp_path)
    training_text.write(workdir.training_text, None)
    settled = settle_training_text(workdir, Shards.open(figures, "train"))
    assert "standing" in settled.words
    assert training_text.read(workdir.training_text) == settled
