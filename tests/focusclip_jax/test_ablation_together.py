"""`ablate --together`: seeds that are trained at once are trained as if each were alone."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
from typing import ClassVar

import jax
import numpy as np
import pytest

from configs.focusclip_tiny import get_config
from focusclip_jax import sharding, train
from focusclip_jax.ablation import experiment, run, together
from focusclip_jax.ablation.grid import Figures, Grid, Method
from focusclip_jax.ablation.run import Folders
from focusclip_jax.checkpoint import MANIFEST, Checkpoints
from focusclip_jax.errors import UserError
from focusclip_jax.meter import OF_MACHINE

STEPS = 6
SHORT = ("One arm is bent.",)
LONG = ("The left arm is raised, the right arm hangs down and both legs are bent.",)


@dataclasses.dataclass(frozen=True)
class Photos(Figures):
    """Shards that are there already; tested by which of them a model tells from the next."""

    code: ClassVar[tuple[str, ...]] = ("focusclip_jax/step.py",)
    found: dict[int, dict] = dataclasses.field(default_factory=dict)

    def chosen(self, correlation):
        return {}

    def train(self, correlation):
        return self.folder

    def commands(self, correlation):
        return ()

    def prepared(self, config, correlation):
        return config

    def tested(self, encoder, this, correlation):
        self.found[this.config.seed] = jax.device_get(encoder.params)
        texts = encoder.encode_texts([*SHORT, *LONG])
        images = encoder.encode_images(np.stack([encoder.prepare(picture(i)) for i in range(4)]))
        right = images @ texts[0] > images @ texts[1]
        return experiment.Tested(measures={"independent/trained": right}, attention={}, shards={})


def picture(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (20, 24, 3), np.uint8)


@pytest.fixture
def grid(pack, row):
    rng = np.random.default_rng(0)
    rows = [
        row(
            image_id=f"{i}.jpg",
            image=picture(i),
            joints=rng.uniform(0, 20, (1, 16, 2)),
            captions=LONG if i % 11 == 0 else SHORT,
        )
        for i in range(22)
    ]
    return grid_of(str(pack(rows)))


def grid_of(folder: str) -> Grid:
    config = get_config()
    config.data.image_size = 16
    config.text.update(vocabulary=300, context=64, buckets=(16, 64))
    config.model.embedding = 16
    config.model.image.update(depth=1, width=16, heads=2, mlp=32)
    config.model.text.update(depth=1, width=16, heads=2, mlp=32)
    config.optimizer.warmup_steps = 2
    config.update(batch_size=4, steps=STEPS, log_every=1, checkpoint_every=2)
    return Grid(
        name="small",
        purpose="selection",
        base=config,
        methods={"dual": Method({}, "focus")},
        experiment=Photos(folder, 0, 22, 4, "test", (0.5,)),
        seeds=(3, 4),
        fewest_seeds=2,
    )


class Watched:
    """The batches that were handed out, and a SIGTERM with one of them."""

    def __init__(self, monkeypatch, stop_at: int = 0):
        self.batches: list[dict] = []
        original = train.next_batch

        def next_batch(*arguments):
            self.batches.append(original(*arguments))
            if len(self.batches) == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            return self.batches[-1]

        monkeypatch.setattr(train, "next_batch", next_batch)


def trained(grid: Grid, root: pathlib.Path, at_once: int) -> str:
    folders = Folders(root / "results", root / "runs")
    return run.run_cells(grid, grid.cells(), folders, (run.DONE,), None, at_once)


def rows(root: pathlib.Path) -> list[list[dict]]:
    """What both seeds logged, without what depends on the clock."""
    found = [path.read_text().splitlines() for path in sorted(root.glob("runs/*/metrics.jsonl"))]
    return [
        [{k: v for k, v in json.loads(line).items() if k not in OF_MACHINE} for line in lines]
        for lines in found
    ]


@pytest.mark.slow
def test_seeds_at_once_are_as_alone_and_go_on_bit_for_bit(grid, tmp_path, monkeypatch, capsys):
    alone, at_once, stopped = tmp_path / "alone", tmp_path / "at once", tmp_path / "stopped"
    one_device = sharding.make_mesh(1, 1, jax.devices()[:1])
    monkeypatch.setattr(sharding, "make_mesh", lambda *_: one_device)
    with monkeypatch.context() as patch:
        seen = Watched(patch)
        assert trained(grid, at_once, 2) == ""
    got = dict(grid.experiment.found)
    with monkeypatch.context() as patch:
        seen_alone = Watched(patch)
        assert trained(grid, alone, 1) == ""
    expected = dict(grid.experiment.found)

    # The same batches, each as it is alone, though the texts of the two seeds are padded to other lengths.
    assert len(seen.batches) == len(seen_alone.batches) == 2 * STEPS
    for step in range(STEPS):
        for seed in range(2):
            mine, theirs = seen.batches[2 * step + seed], seen_alone.batches[STEPS * seed + step]
            assert mine.keys() == theirs.keys()
            for name in mine:
                np.testing.assert_array_equal(mine[name], theirs[name])
    lengths = [batch["tokens"].shape[-1] for batch in seen.batches]
    assert any(lengths[2 * step] != lengths[2 * step + 1] for step in range(STEPS))

    # The same numbers but for rounding, in float32 with Adam, whose first steps may magnify it.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), got, expected)
    for mine, theirs in zip(rows(at_once), rows(alone), strict=True):
        assert [row.pop("seeds_together") for row in mine] == [2] * STEPS
        for a, b in zip(mine, theirs, strict=True):
            assert a == pytest.approx(b, rel=1e-3)
    names = [sorted(path.name for path in (root / "results").iterdir()) for root in (alone, at_once)]
    assert names == [["dual-c0.5-s3.json", "dual-c0.5-s4.json"]] * 2
    for name in names[0]:
        result, other = (json.loads((root / "results" / name).read_text()) for root in (alone, at_once))
        assert other.keys() == result.keys()
        assert [result.pop("seeds_together"), other.pop("seeds_together")] == [1, 2]
        for same in ("method", "seed", "settings", "key", "config", "steps", "training_flops", "shards"):
            assert result[same] == other[same]

    # Stopped at step 3, which one seed then turns out not to have finished saving: both go on from step 2.
    with monkeypatch.context() as patch:
        Watched(patch, stop_at=5)
        assert trained(grid, stopped, 2).startswith("Stopped and saved: 2 of 2 cells are owed")
    one, other = sorted(stopped.glob("runs/dual-*"))
    assert [Checkpoints(root / "checkpoints").steps() for root in (one, other)] == [[2, 3], [2, 3]]
    (other / "checkpoints/3" / MANIFEST).unlink()
    capsys.readouterr()
    assert trained(grid, stopped, 2) == ""
    said = capsys.readouterr().out
    assert "dual-c0.5-s3: checkpoint 3 is removed; the seeds trained with it stand at 2." in said
    assert said.count("Going on from step 2") == 2
    jax.tree.map(np.testing.assert_array_equal, dict(grid.experiment.found), got)
    assert rows(stopped) == rows(at_once)


# Small pieces


def test_only_seeds_of_one_method_and_condition_that_share_a_step_are_joined():
    grid = dataclasses.replace(
        grid_of("nowhere"),
        methods={"dual": Method({}, "focus"), "clip": Method({"loss.focus_text": 0.0}, "baseline")},
        seeds=(0, 1, 2, 3),
    )

    def grouped(size, steps):
        found = together.groups(grid.cells(), size, lambda cell: steps.get(cell.name, []))
        return [[f"{cell.method}{cell.seed}" for cell in group] for group in found]

    assert grouped(1, {}) == [[f"{method}{seed}"] for seed in range(4) for method in ("dual", "clip")]
    assert grouped(3, {}) == [["dual0", "dual1", "dual2"], ["clip0", "clip1", "clip2"], ["dual3"], ["clip3"]]
    begun = {"dual-c0.5-s0": [2, 4], "dual-c0.5-s2": [2], "dual-c0.5-s3": [4, 6]}
    clips = ["clip0", "clip1", "clip2", "clip3"]
    assert grouped(4, begun) == [["dual0", "dual2"], clips, ["dual1"], ["dual3"]]


def test_they_go_on_from_the_newest_step_that_all_have():
    assert together.newest_common([[2, 4], [4, 6]]) == 4
    assert together.newest_common([[], []]) == together.newest_common([[2], [4]]) == 0


def test_texts_are_padded_to_the_longest_of_the_seeds():
    short = {"tokens": np.ones((4, 1, 2), np.int32), "image_id": np.arange(4)}
    long = {"tokens": np.ones((4, 1, 3), np.int32), "image_id": np.arange(4, 8)}
    found = together.stacked([short, long], pad_id=9)
    np.testing.assert_array_equal(found["tokens"][0, 0, 0], [1, 1, 9])
    np.testing.assert_array_equal(found["tokens"][1, 0, 0], [1, 1, 1])
    np.testing.assert_array_equal(found["image_id"], np.arange(8).reshape(2, 4))


def test_a_loss_that_is_not_finite_names_its_seed(tmp_path):
    seed = together.Seed("dual-c0.5-s3", None, Checkpoints(tmp_path))
    with pytest.raises(UserError, match=r"^dual-c0\.5-s3: the loss is nan at step 7; no checkpoint"):
        together.check_finite(seed, {"loss": float("nan"), "gradient_norm": 1.0}, 7)


def test_what_cannot_be_trained_at_once_is_said():
    config = get_config()
    config.model.text.pool = "mean_padded"
    config.text.buckets = (16, 40)
    with pytest.raises(UserError, match=r"^--together=2: model\.text\.pool=mean_padded averages over"):
        together.check(config, 2)
    config.text.buckets = (40,)
    together.check(config, 2)
    with pytest.raises(UserError, match="--together=0: expected a number of seeds"):
        run.parse(["--config=grid.py", "--together=0"])
