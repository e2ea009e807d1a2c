"""The verb `ablate` on photographs: what is held out, what is measured, and what is paired with what."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import pathlib

import numpy as np
import PIL.Image
import pytest

from focusclip_jax import optimizer, sharding, state
from focusclip_jax.ablation import grid, photographs, report, results, run, statistics
from focusclip_jax.ablation.grid import Method
from focusclip_jax.ablation.photographs import PARTITIONS, Photographs
from focusclip_jax.data.shards import Shards
from focusclip_jax.errors import UserError
from focusclip_jax.evaluation.tasks import FER2013_CLASSES, STANFORD40_CLASSES
from focusclip_jax.evaluation.training_text import collect
from focusclip_jax.run import check_inputs

SMALL_GRID = """
import dataclasses
from configs.ablation_photos import get_grid as photos

def get_grid():
    grid = photos()
    config = grid.base
    config.data.image_size = 24
    config.model.image.depth = config.model.text.depth = 1
    config.batch_size = 16
    config.steps = 2
    config.log_every = 1
    config.evaluation.batch_size = 16
    return dataclasses.replace(grid, name="small", base=config)
"""

# A standing person in a photograph of 128 x 192, COCO's 17 joints.
STANDING = [
    *([60, 30], [63, 27], [57, 27], [67, 30], [53, 30]),
    *([75, 60], [45, 60], [80, 85], [40, 85], [80, 110], [40, 110]),
    *([70, 110], [50, 110], [70, 145], [50, 145], [70, 180], [50, 180]),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> pathlib.Path:
    """Two training and two test photographs an activity, stored at half the size that the table states."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    photos, rows, lists = root / "stanford40/JPEGImages", [], {"train": [], "test": []}
    photos.mkdir(parents=True)
    for activity in STANFORD40_CLASSES:
        for number, split in enumerate(("train", "train", "test", "test"), 1):
            name = f"{activity}_{number:03d}.jpg"
            PIL.Image.fromarray(rng.integers(256, size=(96, 64, 3), dtype=np.uint8)).save(photos / name)
            rows.append({"image": name, "action": activity, "width": 128, "height": 192})
            lists[split].append(name)
    (root / "stanford40/ImageSplits").mkdir()
    for split, names in lists.items():
        (root / f"stanford40/ImageSplits/{split}.txt").write_text("\n".join(reversed(names)))
    with open(root / "stanford40/annotations.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    poses = {row["image"]: STANDING for row in rows}
    (root / "stanford40/poses_yolo_coco17.json").write_text(json.dumps(poses))
    (root / "fer2013/test").mkdir(parents=True)
    for folder in ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"):
        (root / "fer2013/test" / folder).mkdir()
        for number in range(3):
            grey = rng.integers(256, size=(48, 48), dtype=np.uint8)
            PIL.Image.fromarray(grey).save(root / f"fer2013/test/{folder}/PrivateTest_{number}.jpg")
    return root


@pytest.fixture
def shipped(monkeypatch):
    """A shipped grid by name."""
    monkeypatch.chdir(grid.ROOT)
    return lambda name: grid.load(f"configs/{name}.py")


# What is held out


def test_partitions_follow_the_rule_that_is_written_beside_them():
    def order(number: int) -> list[str]:
        return sorted(STANFORD40_CLASSES, key=lambda a: hashlib.sha256(f"{number}/{a}".encode()).hexdigest())

    first, second = order(1), order(2)
    tens = [first[0:10], first[10:20], first[20:30], first[30:40], second[:10]]
    assert [set(ten) for ten in PARTITIONS] == [set(ten) for ten in tens]
    assert all(len(ten) == len(set(ten)) == 10 for ten in PARTITIONS)


def test_a_cell_is_known_by_what_it_holds_out_and_not_by_where_the_data_are(shipped):
    photos = shipped("ablation_photos")
    cells = photos.cells((0,))
    assert [cell.name for cell in cells][:6] == [
        "clip-p0-s0",
        "clip-equal-compute-p0-s0",
        "focusclip-p0-s0",
        "swap-p0-s0",
        "shuffled-p0-s0",
        "clip-p1-s0",
    ]
    assert len({cell.settings for cell in cells}) == len(cells) == 25
    elsewhere = dataclasses.replace(photos, experiment=photos.experiment.at(pathlib.Path("/else where")))
    assert [cell.key for cell in elsewhere.cells((0,))] == [cell.key for cell in cells]
    for pattern in Photographs.code:
        assert list(grid.ROOT.glob(pattern)), pattern


def test_joints_move_to_the_size_that_a_photograph_is_stored_at(data, tmp_path):
    scaled = photographs.scaled_poses(data / "stanford40", ["cooking_001.jpg", "reading_004.jpg"])
    np.testing.assert_allclose(scaled["cooking_001.jpg"], np.array(STANDING) / 2)
    assert list(scaled) == ["cooking_001.jpg", "reading_004.jpg"]
    (tmp_path / "JPEGImages").mkdir()
    for name in ("annotations.csv", "poses_yolo_coco17.json"):
        (tmp_path / name).write_bytes((data / "stanford40" / name).read_bytes())
    PIL.Image.new("RGB", (96, 64)).save(tmp_path / "JPEGImages/cooking_001.jpg")
    with pytest.raises(UserError, match=r"cooking_001\.jpg: is 96 x 64, which is not the shape 128 x 192"):
        photographs.scaled_poses(tmp_path, ["cooking_001.jpg"])


# A real cell


@pytest.mark.slow
def test_a_cell_is_trained_without_the_held_out_activities_and_tested_on_all(
    run_module, data, tmp_path, monkeypatch
):
    (tmp_path / "grid.py").write_text(SMALL_GRID)
    arguments = ("ablate", "--config=grid.py", f"--data-dir={data}")
    done = run_module("focusclip_jax", *arguments, "--cells=focusclip-p0-s0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "80 of 4,000 training and 80 of 5,532 test images present" in done.stdout
    assert "utkface_age was not evaluated" in done.stdout

    (packed,) = (tmp_path / "data/ablation/photos").glob("*/partition-0")
    shards = Shards.open(packed, "train")
    examples = [shards.read(i) for i in range(len(shards))]
    seen = set(STANFORD40_CLASSES) - set(PARTITIONS[0])
    assert sorted(e.image_id for e in examples) == sorted(f"{a}_00{n}.jpg" for a in seen for n in (1, 2))
    said = collect([text for e in examples for text in (e.activity, *e.captions)], STANFORD40_CLASSES)
    assert {name for name in STANFORD40_CLASSES if said.mentions(name)} == seen
    joints = next(e.joints[0] for e in examples if e.image_id == "cooking_001.jpg")
    np.testing.assert_allclose(joints[0], [25, 90], atol=0.5)  # the right ankle, halved

    folder = tmp_path / "results/small"
    result = results.read(folder / "focusclip-p0-s0.json")
    sizes = {"seen": 60, "unseen": 20, "mixed": 80, "emotions": 21}
    assert {name: len(bits) for name, bits in result.measures.items()} == {
        f"{top}/{group}": n for group, n in sizes.items() for top in ("top-1", "top-3")
    }
    assert (result.measures["top-1/seen"] <= result.measures["top-3/seen"]).all()
    assert result.about["partition"] == 0
    assert result.about["images"] == dict.fromkeys(STANFORD40_CLASSES, 2)
    assert result.about["tests"]["emotions"]["constant"] == {"top-1": 0.142857, "top-3": 0.428571}
    assert 0 < result.attention["rollout"]["area"] < 1
    # A list needs neither data nor shards.
    again = run_module("focusclip_jax", *arguments[:2], "--list", cwd=tmp_path)
    assert "1 done, 49 owed" in again.stdout

    # As a grid that has this method alone, and so nothing to beat, would report it.
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(grid.ROOT)
    alone = dataclasses.replace(grid.load("grid.py"), methods={"focusclip": Method({}, "baseline")})
    text = report.markdown(alone, report.gather(alone, folder))
    assert "## Partition 0" in text
    assert "| always the commonest | – | 14.3 | 42.9 |" in text
    assert "ages of faces" not in text.lower()  # they were not there


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("ablation_photos", "nowhere/stanford40: holds no JPEGImages/*.jpg"),
        ("ablation_figures", "--data-dir=nowhere: this grid draws its images"),
    ],
)
def test_data_that_are_not_there_or_not_wanted_are_one_sentence(shipped, tmp_path, config, sentence):
    shipped(config)
    arguments = [f"--config=configs/{config}.py", "--data-dir=nowhere", f"--results={tmp_path / 'results'}"]
    with pytest.raises(UserError) as error:
        run.main([*arguments, f"--runs={tmp_path / 'runs'}"])
    assert sentence in str(error.value)


@pytest.mark.parametrize("method", ["focusclip", "swap"])
def test_a_text_tower_without_its_weights_is_one_sentence_and_with_them_frozen(
    shipped, tmp_path, monkeypatch, method
):
    cells = {cell.method: cell for cell in shipped("ablation_photos_bert").cells((0,))}
    cell = cells[method]
    monkeypatch.chdir(tmp_path)
    cell.config.data.train = str(tmp_path)
    with pytest.raises(UserError) as error:
        check_inputs(cell.config)
    assert "no weights at --config.weights.text=weights/all-MiniLM-L6-v2 (get them: " in str(error.value)
    assert "no vocabulary at --config.text.tokenizer=weights/all-MiniLM-L6-v2/vocab.txt" in str(error.value)

    architecture = state.architecture(cell.config, cell.config.text.vocabulary)
    params = state.abstract_params(architecture, sharding.make_mesh(-1, 1))
    trained = optimizer.trainable(cell.config.optimizer, params)
    assert {name for name, train in trained["text"].items() if train is True} == {
        "projection_kernel",
        "projection_bias",
    }
    assert not any(trained["text"]["blocks"].values())
    assert all(trained["image"]["blocks"].values())
    assert trained["alpha_parameter"] == (method == "focusclip")


# What is paired with what


def invented(cell: grid.Cell, right: float, digest: str = "d") -> results.Result:
    """A result of 3 test photographs an activity, of which `right` are answered: the same for all methods."""
    held_out = PARTITIONS[int(cell.condition)]
    rank = {name: i for i, name in enumerate(STANFORD40_CLASSES)}

    def bits(names) -> np.ndarray:
        """An image is hard by its activity and number, whatever the partition."""
        hard = np.array(
            [np.random.default_rng(3 * rank[name] + n).random() for name in names for n in range(3)]
        )
        return hard < right

    groups = {
        "seen": [name for name in STANFORD40_CLASSES if name not in held_out],
        "unseen": [name for name in STANFORD40_CLASSES if name in held_out],
        "mixed": STANFORD40_CLASSES,
    }
    measures = {
        f"{top}/{group}": bits(names) for group, names in groups.items() for top in ("top-1", "top-3")
    }
    about = {
        "method": cell.method,
        "partition": cell.condition,
        "settings": cell.settings,
        "key": cell.key,
        "code": "c",
        "steps": cell.config.steps,
        "device": "1 CPU core",
        "seconds": {"training": 9.0, "testing": 1.0},
        "held_out": held_out,
        "data": {"digest": digest},
        "images": dict.fromkeys(STANFORD40_CLASSES, 3),
        "tests": {group: {"n": 9, "constant": {"top-1": 0.1, "top-3": 0.3}} for group in groups},
    }
    looked = {reading: {"inside": 0.4, "area": 0.2} for reading in ("last layer", "rollout")}
    return results.Result(about, measures, looked, [(100, 0.3)], [(100, 2.0)])


ACCURACIES = {"clip": 0.3, "clip-equal-compute": 0.3, "focusclip": 0.5, "swap": 0.3, "shuffled": 0.3}


def write_all(experiment: grid.Grid, folder: pathlib.Path, seeds=(0,)) -> None:
    for cell in experiment.cells(seeds):
        results.write(results.path_of(folder, cell), invented(cell, ACCURACIES[cell.method]))


def test_an_image_is_paired_with_itself_in_every_partition(shipped, tmp_path):
    photos = shipped("ablation_photos")
    write_all(photos, tmp_path)
    data = report.gather(photos, tmp_path)
    (over,) = data.comparisons
    assert (over.title, over.repetitions) == ("partitions 0, 1, 2, 3 and 4", "5 partitions")
    whole = data.stack("clip", over, "top-1/mixed")
    assert whole.shape == (5, 120)
    np.testing.assert_array_equal(whole, np.tile(whole[0], (5, 1)))
    for group, asked in (("seen", 90), ("unseen", 30)):
        part = data.stack("clip", over, f"top-1/{group}")
        np.testing.assert_array_equal(part[~np.isnan(part)], whole[~np.isnan(part)])
        np.testing.assert_array_equal((~np.isnan(part)).sum(axis=1), asked)
    assert data.groups == ["seen", "unseen", "mixed"]  # no faces were there
    said = report.verdicts(photos, data)
    where = "partitions 0, 1, 2, 3 and 4 (5 partitions)"
    assert f"| focusclip | {where} | **yes** | **yes** |" in said
    assert f"| swap | {where} | no, none of them | no, none of them |" in said
    assert "This grid is for choosing" in said


def test_a_partition_that_lacks_a_method_is_left_out_alone(shipped, tmp_path):
    photos = shipped("ablation_photos")
    write_all(photos, tmp_path)
    (tmp_path / "shuffled-p3-s0.json").unlink()
    data = report.gather(photos, tmp_path)
    assert data.used == {0: (0,), 1: (0,), 2: (0,), 4: (0,)}
    assert data.missing == ("shuffled-p3-s0",)
    assert [path.name for path in report.write(photos, tmp_path)] == ["report.md", "report.png"]
    assert "for want of 1: shuffled-p3-s0" in (tmp_path / "report.md").read_text()
    # A partition is the mean of its seeds, however many it has.
    write_all(photos, tmp_path, (1,))
    data = report.gather(photos, tmp_path)
    assert data.used[3] == (1,)
    assert data.stack("clip", data.comparisons[0], "top-1/seen").shape == (5, 120)


def test_results_on_other_photographs_are_not_paired(shipped, tmp_path):
    photos = shipped("ablation_photos")
    write_all(photos, tmp_path)
    odd = photos.cells((0,))[7]
    results.write(results.path_of(tmp_path, odd), invented(odd, 0.3, digest="other"))
    with pytest.raises(UserError, match="focusclip-p1-s0: these cells were tested on different data"):
        report.gather(photos, tmp_path)


def test_intervals_over_partitions_that_ask_about_a_part_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(300):
        values = 0.05 + 0.03 * rng.standard_normal((5, 1)) + 0.4 * rng.standard_normal((1, 200))
        values = values + 0.3 * rng.standard_normal((5, 200))
        values[rng.random((5, 200)) < 0.7] = np.nan
        found = statistics.interval(values, resamples=400, seed=trial)
        held += found.low <= 0.05 <= found.high
    assert 0.925 <= held / 300 <= 0.995


def test_faces_are_of_the_classes_that_their_readers_know():
    assert Photographs.reading.groups["emotions"].classes == len(FER2013_CLASSES) == 7
