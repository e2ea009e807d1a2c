"""The probe against its optimum, the neighbours against a count by hand, and parts that stay apart."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
from scipy import optimize, special

from focusclip_jax.data.images import model_input
from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import probes
from focusclip_jax.evaluation.datasets import fer2013


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def blobs(rng, centres, each, spread):
    """`each` rows of length 1 around each centre, and their classes."""
    labels = np.repeat(np.arange(len(centres)), each)
    return unit(centres[labels] + spread * rng.normal(size=(len(labels), centres.shape[1]))), labels


def test_the_fit_is_the_optimum_of_the_stated_loss():
    # One feature, two classes, symmetric: the weights are ±w and the biases equal, so w solves one equation.
    features, labels = np.array([[1.0], [1.0], [1.0], [-1.0], [-1.0], [-1.0]]), np.array([1, 1, 0, 0, 0, 1])
    penalty = 0.1

    def slope(w):  # of -(2 log σ(2w) + log σ(-2w)) / 3 + penalty · w²
        return -(4 * special.expit(-2 * w) - 2 * special.expit(2 * w)) / 3 + 2 * penalty * w

    w = optimize.brentq(slope, 0, 10)
    weights, converged = probes.fit(features, labels, 2, penalty)
    assert converged
    np.testing.assert_allclose(weights[0], [-w, w], atol=1e-4)
    assert weights[1, 0] == pytest.approx(weights[1, 1], abs=1e-4)


def test_the_fit_of_correlated_features_has_no_slope_left():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 6)) @ np.diag([3, 1, 1, 0.1, 0.01, 0]) @ rng.normal(size=(6, 6))
    labels = rng.integers(3, size=200)
    for penalty in (1.0, 1e-3):
        weights, converged = probes.fit(features, labels, 3, penalty)
        error = special.softmax(features @ weights[:-1] + weights[-1], axis=1) - np.eye(3)[labels]
        assert converged
        np.testing.assert_allclose(features.T @ error / 200 + penalty * weights[:-1], 0, atol=1e-4)
        np.testing.assert_allclose(error.mean(axis=0), 0, atol=1e-4)


def test_biases_are_free_of_the_penalty():
    features, labels = np.zeros((10, 3)), np.array([0] * 7 + [1] * 2 + [2])
    weights, _ = probes.fit(features, labels, 3, penalty=10.0)
    np.testing.assert_allclose(special.softmax(weights[-1]), [0.7, 0.2, 0.1], atol=1e-4)


def test_the_probe_finds_classes_in_features_that_a_large_common_part_hides():
    rng = np.random.default_rng(0)
    centres = 20 * np.ones(16) + rng.normal(size=(5, 16))  # cosines between all rows are near 1
    train, labels = blobs(rng, centres, 60, 0.5)
    test, truth = blobs(rng, centres, 40, 0.5)
    predictions, settings = probes.linear_probe(train, labels, test, 5)
    assert (predictions == truth).mean() > 0.9
    assert settings["held_out"] == 5 * 12
    assert settings["fits_stopped_early"] == 0
    again, _ = probes.linear_probe(train, labels, test, 5)
    np.testing.assert_array_equal(predictions, again)


def test_a_strong_penalty_is_chosen_where_most_features_say_nothing(monkeypatch):
    monkeypatch.setattr(probes, "PENALTIES", (3.0, 1e-6))
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 300)
    features = rng.normal(size=(600, 400))
    features[:, :40] += 0.2 * (2 * labels[:, None] - 1)
    _, settings = probes.linear_probe(features, labels, features, 2)
    tried = settings["held_out_accuracy"]
    assert settings["penalty"] == 3.0
    assert tried["3.0e+00"] > tried["1.0e-06"] + 0.05  # which learns the noise by heart


def test_a_share_of_every_class_is_held_out_and_never_all_of_one():
    labels = np.array([0] * 10 + [1] * 3 + [2])
    for seed in range(3):
        held_out = probes.stratified(labels, 0.2, seed)
        assert np.bincount(labels[held_out], minlength=3).tolist() == [2, 1, 0]
    assert (probes.stratified(labels, 0.2, 0) != probes.stratified(labels, 0.2, 1)).any()


def test_near_neighbours_outvote_more_numerous_far_ones(monkeypatch):
    angles = np.array([0.0, 0.5, 0.52, 0.54, 2.0])
    train = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    labels = np.array([1, 0, 0, 0, 2])
    at = np.array([[1.0, 0.0], [np.cos(0.51), np.sin(0.51)], [np.cos(1.9), np.sin(1.9)]], np.float32)
    # At 0: exp(1 / 0.07) against 3 exp(0.87 / 0.07), so one neighbour outvotes three.
    predictions, settings = probes.nearest_neighbours(train, labels, at, 3, neighbours=4)
    assert predictions.tolist() == [1, 0, 2]
    assert settings["neighbours"] == 4
    assert probes.nearest_neighbours(train, labels, at, 3)[1]["neighbours"] == 5  # there are no more
    monkeypatch.setattr(probes, "CHUNK", 5)  # one test image at a time
    assert probes.nearest_neighbours(train, labels, at, 3, neighbours=4)[0].tolist() == [1, 0, 2]


class Grey:
    """Embeds an image by its mean level."""

    def prepare(self, image):
        return model_input(image, (4, 4), "stretch", "bilinear")

    def encode_images(self, images):
        angle = images.mean(axis=(1, 2, 3)) / 100
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


@pytest.fixture
def faces(tmp_path):
    """FER2013 in folders: each emotion has a grey level, three training faces and two for the test."""
    for split, levels in (("train", (0, 2, 4)), ("test", (0, 3))):
        for c, name in enumerate(fer2013.FOLDERS):
            folder = tmp_path / "fer2013" / split / name
            folder.mkdir(parents=True)
            for i, more in enumerate(levels):
                PIL.Image.new("L", (48, 48), 30 * c + more).save(folder / f"{i}.png")
    return tmp_path


def test_both_probes_read_both_parts_and_say_what_is_odd(faces):
    assert probes.absent("fer2013", faces) is None
    rows = probes.evaluate(Grey(), "fer2013", faces, ("linear_probe", "knn"), step=9, batch_size=4)
    assert [row.task for row in rows] == ["linear_probe", "knn"]
    for row in rows:
        assert (row.train, row.n, row.chance, row.step) == (21, 14, 1 / 7, 9)
        assert row.constant == 2 / 14
        assert sum(map(sum, row.confusion)) == 14
        assert row.per_class["neutral"]["n"] == 2
        assert any("exactly the embedding of a training image: 7" in sentence for sentence in row.sources)
    assert rows[1].accuracy == 1
    assert rows[1].interval[0] < 1


def test_a_part_that_is_missing_is_named(faces, tmp_path):
    assert "stanford40 does not exist" in probes.absent("stanford40", faces)
    for path in sorted((faces / "fer2013" / "train").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (faces / "fer2013" / "train").rmdir()
    assert "holds no fer2013.csv or train" in probes.absent("fer2013", faces)
    # A folder with one split answers to every split's name, so the training part must be looked for.
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "figures-test.tfrecord-00000-of-00001").touch()
    assert "holds no *-train.tfrecord-*" in probes.absent("figures", tmp_path)


def test_one_class_alone_cannot_be_learned(faces):
    for name in list(fer2013.FOLDERS)[1:]:
        for path in (faces / "fer2013" / "train" / name).iterdir():
            path.unlink()
    with pytest.raises(UserError, match="training part of fer2013 shows angry only"):
        probes.evaluate(Grey(), "fer2013", faces, ("knn",), step=9)


def test_stanford40_has_a_training_part(tmp_path):
    root = tmp_path / "stanford40"
    (root / "ImageSplits").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    for split, name in (("train", "jumping_001.jpg"), ("test", "jumping_002.jpg")):
        (root / "ImageSplits" / f"{split}.txt").write_text(f"{name}\n")
        PIL.Image.new("RGB", (8, 8)).save(root / "JPEGImages" / name)
    assert probes.PARTS["stanford40"].train(root).names == ("jumping_001.jpg",)
    assert probes.PARTS["stanford40"].train(root).summary().startswith("1 of 4,000 images present")
    assert probes.PARTS["stanford40"].test(root).names == ("jumping_002.jpg",)
    (root / "ImageSplits" / "train.txt").unlink()
    assert "holds no ImageSplits/train.txt" in probes.absent("stanford40", tmp_path)
