"""The verb `ablate`: what a cell is, what is measured, and which conclusions the numbers allow."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from focusclip_jax import train
from focusclip_jax.ablation import attention, grid, measure, report, results, run, statistics
from focusclip_jax.ablation.grid import Figures, Grid, Method
from focusclip_jax.config import default
from focusclip_jax.errors import UserError
from focusclip_jax.models import transformer
from focusclip_jax.models.transformer import Shape, Transformer

SMALL_GRID = """
from configs.ablation_figures import CLIP
from configs.focusclip_tiny import get_config
from focusclip_jax.ablation.grid import Figures, Grid, Method

def get_grid():
    config = get_config()
    config.data.image_size = 16
    config.model.image.depth = config.model.text.depth = 1
    config.batch_size = 16
    config.steps = 32
    config.log_every = 4
    config.checkpoint_every = 8
    return Grid(
        name="small",
        purpose="selection",
        base=config,
        methods={"clip": Method(CLIP, "baseline", compute_of="dual"), "dual": Method({}, "focus")},
        experiment=Figures("data", 10, train_images=96, test_images=48, styles="test", correlations=(0.5,)),
        seeds=(0, 1),
        fewest_seeds=1,
    )
"""


def small_grid(**changes) -> Grid:
    base = default()
    base.data.image_size = 32
    base.steps = 100
    return Grid(
        **{
            "name": "small",
            "purpose": "confirmation",
            "base": base,
            "methods": {
                "clip": Method({"loss.focus_text": 0.0}, "baseline"),
                "equal": Method({"loss.focus_text": 0.0}, "baseline", compute_of="dual"),
                "dual": Method({}, "focus"),
                "control": Method({"model.focus_tower": "separate"}, "control"),
            },
            "experiment": Figures("data", 0, 100, 100, "test", (0.5,)),
            "seeds": (0, 1, 2, 3, 4),
            "fewest_seeds": 3,
            **changes,
        }
    )


# Statistics


def test_an_interval_of_seeds_that_differ_alone_is_students():
    values = np.repeat([[0.0], [0.1], [0.2]], 50, axis=1)
    found = statistics.interval(values)
    # Standard deviation 0.1, standard error 0.1 / √3, Student's t of 2 degrees of freedom 4.303.
    assert found.mean == pytest.approx(0.1)
    assert found.half_width == pytest.approx(4.303 * 0.1 / 3**0.5, rel=0.05)


def test_an_interval_of_images_that_differ_alone_is_the_normal_one():
    values = np.repeat([[0, 1] * 200], 3, axis=0)
    found = statistics.interval(values)
    assert found.mean == 0.5
    assert found.half_width == pytest.approx(1.96 * 0.5 / 400**0.5, rel=0.05)


def test_one_seed_allows_no_interval_and_equal_methods_have_a_difference_of_nothing():
    assert statistics.interval(np.ones((1, 9))).low == -np.inf
    assert statistics.interval(np.zeros((3, 9))).half_width == 0


@pytest.mark.parametrize("deviations", [(0.03, 0.0, 0.5), (0.02, 0.4, 0.4), (0.0, 0.4, 0.4)])
def test_intervals_of_three_seeds_hold_the_truth_as_often_as_they_say(deviations):
    """Of seeds, images and the rest. A percentile of resampled seeds alone would hold it in about 3 of 4."""
    of_seeds, of_images, rest = deviations
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(300):
        values = 0.05 + of_seeds * rng.standard_normal((3, 1)) + of_images * rng.standard_normal((1, 200))
        values = values + rest * rng.standard_normal((3, 200))
        found = statistics.interval(values, resamples=400, seed=trial)
        held += found.low <= 0.05 <= found.high
    assert 0.925 <= held / 300 <= 0.995


# Attention


@pytest.fixture(scope="module")
def layers():
    shape = Shape(depth=3, width=16, heads=2, mlp=32)
    stacked = nnx.to_pure_dict(nnx.state(Transformer(shape, rngs=nnx.Rngs(0)), nnx.Param))
    # Far from uniform attention.
    return shape, stacked | {"qkv_kernel": 4 * stacked["qkv_kernel"]}


def test_attention_weights_are_those_that_the_tower_mixes_values_with(layers):
    shape, stacked = layers
    one = dataclasses.replace(shape, heads=1)
    first = {name: value[:1] for name, value in stacked.items()}
    x = jax.random.normal(jax.random.key(0), (2, 5, 16))
    weights = attention.layer_weights(x, first, one)[0]
    layer = {name: value[0] for name, value in first.items()}
    normed = transformer.layer_norm(
        x, layer["attention_norm_scale"], layer["attention_norm_bias"], shape.norm_epsilon
    )
    qkv = transformer.dense(normed, layer["qkv_kernel"], layer["qkv_bias"])
    expected = transformer.attention(qkv, None, one)
    np.testing.assert_allclose(weights @ qkv[..., 32:], expected, atol=2e-5)
    assert weights.max() > 0.5


def test_rollout_follows_attention_through_all_layers(layers):
    shape, stacked = layers
    x = jax.random.normal(jax.random.key(1), (2, 5, 16))
    weights = attention.layer_weights(x, stacked, shape)
    assert weights.shape == (3, 2, 5, 5)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    halves = (np.asarray(weights) + np.eye(5)) / 2
    np.testing.assert_allclose(attention.rollout(weights), halves[2] @ halves[1] @ halves[0], atol=1e-5)


def test_the_pooled_output_reads_the_class_token_or_the_mean():
    weights = jnp.array([[[0.6, 0.1, 0.3], [0.0, 1.0, 0.0], [0.0, 0.5, 0.5]]])
    np.testing.assert_allclose(attention.read_out(weights, "class"), [[0.25, 0.75]], atol=1e-6)
    np.testing.assert_allclose(attention.read_out(weights, "mean"), [[0.2, 1.6 / 3, 0.8 / 3]], atol=1e-6)


def test_the_share_on_the_subject_is_that_of_the_area_where_attention_is_even():
    heatmap = np.zeros((2, 4, 4), np.float32)
    heatmap[0, :2, :2] = 1.0  # a whole patch
    heatmap[0, 2, 2] = 0.5  # a quarter of another
    subject = attention.subject_share(heatmap, 2)
    np.testing.assert_array_equal(subject, [[1, 0, 0, 0.25], [0, 0, 0, 0]])
    even = np.full((2, 4), 0.25)
    assert attention.inside(even, subject) == (1.25 / 4, 1.25 / 4)  # the image without a subject is left out
    assert attention.inside(np.eye(4)[[0, 0]], subject) == (1.0, 1.25 / 4)


# Grids and cells


def test_equal_compute_is_as_many_more_steps_as_the_second_view_costs():
    of = {cell.method: cell for cell in small_grid().cells((0,))}
    assert of["clip"].config.steps == of["dual"].config.steps == 100
    assert of["equal"].flops == pytest.approx(of["dual"].flops, rel=0.01)
    assert of["equal"].config.steps > 100
    assert of["equal"].config.loss.focus_text == 0


def test_the_key_tells_settings_seed_and_code(monkeypatch):
    cells = small_grid().cells()
    assert len({cell.key for cell in cells}) == len({cell.settings for cell in cells}) == len(cells)
    assert [cell.key for cell in small_grid().cells()] == [cell.key for cell in cells]
    monkeypatch.setattr(grid, "code_version", lambda _: "another")
    other = small_grid().cells()
    assert [cell.settings for cell in other] == [cell.settings for cell in cells]
    assert not {cell.key for cell in other} & {cell.key for cell in cells}


def test_comments_and_docstrings_are_not_code():
    plain = "def f(x):\n    return x\n"
    commented = (
        '"""Module."""\n\n# why\ndef f(x):\n    """What.\n\n    More.\n    """\n    # how\n    return x\n'
    )
    assert grid.essence(commented) == grid.essence(plain)
    assert grid.essence(plain.replace("x", "y")) != grid.essence(plain)


def test_the_code_that_decides_a_number_is_there():
    for pattern in grid.CODE:
        assert list(grid.ROOT.glob(pattern)), pattern


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"methods": {"dual": Method({"loss.fokus": 1.0}, "focus")}},
            "method dual: there is no setting loss.fokus",
        ),
        ({"methods": {"dual": Method({"loss.focus_text": "much"}, "focus")}}, "method dual: "),
        ({"methods": {"dual": Method({}, "focus", compute_of="trial")}}, "dual spends the compute of no"),
        ({"fewest_seeds": 6}, "fewest_seeds=6 of 5 seeds"),
    ],
)
def test_a_mistake_in_a_grid_is_one_sentence(changes, sentence):
    with pytest.raises(UserError, match="grid small: ") as error:
        small_grid(**changes).cells()
    assert sentence in str(error.value)


def test_shipped_grids_resolve(monkeypatch):
    monkeypatch.chdir(grid.ROOT)
    reduced = grid.load("configs/ablation_figures.py")
    assert [cell.name for cell in reduced.cells()][:3] == ["clip-c0.5-s0", "dual-c0.5-s0", "swap-c0.5-s0"]
    full = grid.load("configs/ablation_figures_full.py")
    assert full.purpose == "confirmation"
    assert not set(full.seeds) & set(reduced.seeds)
    assert full.experiment.styles != reduced.experiment.styles
    assert abs(full.experiment.seed - reduced.experiment.seed) > 2
    assert {cell.condition for cell in full.cells((100,))} == {0.0, 0.5, 0.9}
    variants = grid.load("configs/ablation_figures_variants.py")
    chosen = dict(full.methods["swap"].settings)
    assert chosen == dict(variants.methods["swap-three-term"].settings)
    for control in ("shuffled", "constant", "centred", "random"):
        assert dict(full.methods[control].settings) == chosen | {"data.heatmap": control}
    with pytest.raises(UserError, match="no get_grid"):
        grid.load("configs/focusclip_tiny.py")


# Results and conclusions


def test_bits_come_back_as_they_went():
    bits = np.random.default_rng(0).random(1601) < 0.3
    np.testing.assert_array_equal(measure.unpack_bits(measure.pack_bits(bits), 1601), bits)


def invented(cell, accuracy: float, images: int = 800) -> results.Result:
    """A result of a given accuracy; the same images are hard for everyone."""
    hard = np.random.default_rng(7).random(images)
    luck = 0.02 * np.random.default_rng(cell.seed).standard_normal()
    right = hard < accuracy + luck
    names = [f"{name}/{group}" for name in Figures.reading.columns for group in grid.GROUPS]
    about = {
        "method": cell.method,
        "settings": cell.settings,
        "key": cell.key,
        "code": "c",
        "steps": cell.config.steps,
        "device": "2 CPU cores",
        "seconds": {"training": 9.0, "testing": 1.0},
    }
    looked = {reading: {"inside": 0.4, "area": 0.2} for reading in ("last layer", "rollout")}
    return results.Result(about, dict.fromkeys(names, right), looked, [(100, 0.3)], [(100, 2.0)])


def write_all(experiment: Grid, folder: pathlib.Path, accuracies: dict[str, float], seeds) -> None:
    for cell in experiment.cells(seeds):
        results.write(results.path_of(folder, cell), invented(cell, accuracies[cell.method]))


@pytest.mark.parametrize(("control", "verdict"), [(0.30, "**yes**"), (0.395, "no, not control")])
def test_focus_helps_only_if_it_beats_every_control(tmp_path, control, verdict):
    experiment = small_grid()
    accuracies = {"clip": 0.2, "equal": 0.3, "dual": 0.4, "control": control}
    write_all(experiment, tmp_path, accuracies, (0, 1, 2))
    data = report.gather(experiment, tmp_path)
    assert data.seeds == (0, 1, 2)
    said = report.verdicts(experiment, data)
    assert "Does it beat equal and control?" in said
    assert f"| dual | background correlation 0.5 (3 seeds) | {verdict} | {verdict} |" in said


def test_one_seed_has_no_verdict(tmp_path):
    experiment = small_grid()
    write_all(experiment, tmp_path, {"clip": 0.2, "equal": 0.3, "dual": 0.9, "control": 0.3}, (0,))
    said = report.verdicts(experiment, report.gather(experiment, tmp_path))
    assert said.startswith("Background correlation 0.5: 1 seed has no interval and no verdict.")
    assert "Does it beat" not in said


def test_the_report_is_made_from_the_files_alone(tmp_path):
    experiment = small_grid()
    write_all(experiment, tmp_path, {"clip": 0.2, "equal": 0.3, "dual": 0.4, "control": 0.3}, (0, 1, 2, 3))
    (tmp_path / "equal-c0.5-s3.json").unlink()  # then its seed is left out for all methods
    written = report.write(experiment, tmp_path)
    assert [path.name for path in written] == ["report.md", "report.png"]
    text = written[0].read_text()
    assert "seeds 0, 1 and 2" in text
    assert "for want of 1: equal-c0.5-s3" in text
    row = next(line for line in text.splitlines() if line.startswith("| dual | clip | no |"))
    found = float(row.split("|")[4].split()[0])
    assert found == pytest.approx(20, abs=3)
    assert written[1].stat().st_size > 5000
    first = [path.read_bytes() for path in written]
    assert [path.read_bytes() for path in report.write(experiment, tmp_path)] == first


def test_a_result_of_other_settings_is_not_taken(tmp_path):
    experiment = small_grid()
    write_all(experiment, tmp_path, dict.fromkeys(experiment.methods, 0.3), (0,))
    longer = small_grid()
    longer.base.steps = 200
    assert results.find(tmp_path, longer.cells((0,))[0]) is None
    broken = results.path_of(tmp_path, experiment.cells((0,))[0])
    broken.write_text(broken.read_text()[:500])
    with pytest.raises(UserError, match="not the result of a cell"):
        report.gather(experiment, tmp_path)


@pytest.mark.parametrize(("half_width", "used"), [(1.0, 3), (0.0, 5)])
def test_seeds_are_added_until_intervals_are_narrow_enough(tmp_path, monkeypatch, half_width, used):
    experiment = small_grid(half_width=half_width)
    trained = []

    def run_cell(_grid, cell, _config, _root, _deadline):
        trained.append(cell.name)
        return invented(cell, 0.3 if cell.method == "dual" else 0.2)

    monkeypatch.setattr(Figures, "prepared", lambda _figures, config, _correlation: config)
    monkeypatch.setattr(run, "run_cell", run_cell)
    folders = run.Folders(tmp_path / "results", tmp_path / "runs")
    said = run.run(experiment, folders, "", (run.DONE,), None)
    assert trained == [cell.name for cell in experiment.cells((0, 1, 2, 3, 4)[:used])]
    assert said.startswith("All 5 seeds are used") == (used == 5)
    # Results of other code are done again, unless one takes them.
    monkeypatch.setattr(grid, "code_version", lambda _: "another")
    before = len(trained)
    run.run(experiment, folders, "", (run.DONE, run.OTHER_CODE), None)
    assert len(trained) == before
    assert f"{4 * used} done by other code" in run.listing(experiment, folders.results)
    run.run(experiment, folders, "dual-*-s0", (run.DONE,), None)
    assert trained[before:] == ["dual-c0.5-s0"]
    with pytest.raises(UserError, match="no cell has such a name"):
        run.run(experiment, folders, "dual", (run.DONE,), None)


# Real processes


def ablate(run_module, root, *arguments, **settings):
    return run_module("focusclip_jax", "ablate", "--config=grid.py", *arguments, cwd=root, **settings)


def numbers(root: pathlib.Path) -> dict[str, dict]:
    """What does not depend on the clock or on the checkout."""
    outside = ("seconds", "commit", "dirty")
    found = sorted((root / "results/small").glob("*.json"))
    return {
        path.name: {k: v for k, v in json.loads(path.read_text()).items() if k not in outside}
        for path in found
    }


class Constant:
    """An encoder that sees the same in all images."""

    def prepare(self, image):
        return image

    def encode_images(self, images):
        return np.tile([1.0, 0.0], (len(images), 1)).astype(np.float32)

    def encode_texts(self, texts):
        angle = np.arange(len(texts)) / len(texts)
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


@pytest.mark.slow
def test_a_grid_that_is_killed_goes_on_and_what_is_done_is_not_done_again(run_module, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for root in (whole, killed):
        root.mkdir()
        (root / "grid.py").write_text(SMALL_GRID)
    done = ablate(run_module, whole, "--cells=*-s0")
    assert done.returncode == 0, done.stderr
    expected = numbers(whole)
    assert list(expected) == ["clip-c0.5-s0.json", "dual-c0.5-s0.json"]

    shutil.copytree(whole / "data", killed / "data")
    process = ablate(run_module, killed, "--cells=*-s0", wait=False)
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if any(killed.glob("runs/ablation/small/dual-*/checkpoints/8/manifest.json")):
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    said = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, f"it ended before it could be killed: {said[-2000:]}"
    assert list(numbers(killed)) == ["clip-c0.5-s0.json"]

    resumed = ablate(run_module, killed, "--cells=*-s0")
    assert resumed.returncode == 0, resumed.stderr
    assert "Going on from step" in resumed.stdout
    assert "cell 1 of the 1 owed" in resumed.stdout
    assert numbers(killed) == expected
    (shared,) = (killed / "runs/ablation/small").glob("captions-*")
    assert len(list((shared / "cache").iterdir())) == 1  # tokenised once for both cells

    shutil.rmtree(killed / "data")  # neither data nor workdirs are needed any more
    shutil.rmtree(killed / "runs")
    again = ablate(run_module, killed, "--cells=*-s0")
    assert again.returncode == 0, again.stderr
    assert "owed" not in again.stdout
    assert not (killed / "runs").exists()
    assert "2 done, 2 owed" in ablate(run_module, killed, "--list").stdout

    short = ablate(run_module, killed, "--cells=*-s1", "--budget-minutes=0.0001")
    assert "The budget is spent: 2 of 2 cells are owed" in short.stdout

    figures = Figures(str(whole / "data"), 10, 96, 48, "test", (0.5,))
    found = measure.measures(Constant(), figures, 0.5, 16)
    assert found["independent/trained"].sum() == 2  # 32 images of 16 activities, always the first answered
    assert found["same answer on another background/trained"].all()
    np.testing.assert_array_equal(found["right on both backgrounds/trained"], found["matching/trained"])
    # Numbers 0 to 47 start with activity 11 in one set and 12 in the other: 30 pairs are of trained ones.
    assert len(found["right on both subjects/trained"]) == 30
    assert not found["right on both subjects/trained"].any()


def test_a_budget_ends_the_training_though_every_batch_sets_an_alarm():
    came = []
    former = signal.signal(signal.SIGTERM, lambda *_: came.append(time.monotonic()))
    try:
        with run.stopping_at(time.monotonic()):
            assert train.next_batch(iter([{}]), None) == {}
            patience = time.monotonic() + 60  # a second is enough
            while not came and time.monotonic() < patience:
                time.sleep(0.05)
        with run.stopping_at(time.monotonic() + 3600):
            pass
    finally:
        signal.signal(signal.SIGTERM, former)
    assert len(came) == 1
