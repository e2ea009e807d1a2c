"""Pictures: what can be tested is that they exist whole, survive odd input, and draw what they are given."""

import dataclasses

import matplotlib.figure
import numpy as np
import PIL.Image
import pytest

from focusclip_jax import plots
from focusclip_jax.evaluation import training_text, zero_shot
from focusclip_jax.evaluation.datasets.base import EvaluationSet
from focusclip_jax.evaluation.tasks import FER2013


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved, in order."""
    figures = []
    save = matplotlib.figure.Figure.savefig

    def savefig(figure, *args, **kwargs):
        figures.append(figure)
        return save(figure, *args, **kwargs)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", savefig)
    return figures


def opened(path):
    """The picture's RGB pixels; also checks that nothing else was left in its folder."""
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    return np.asarray(PIL.Image.open(path).convert("RGB"))


def focus_view(people, height=40, width=60):
    rng = np.random.default_rng(0)
    joints = rng.uniform(0, 40, (people, 16, 2))
    visibility = rng.integers(0, 3, (people, 16))
    joints[visibility == 0] = np.nan
    heatmap = rng.random((height, width))
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    ellipses = rng.uniform(1, 30, (2, 10 * people, 2))
    return plots.FocusView(image, joints, visibility, *ellipses, heatmap, image / 255 * heatmap[..., None])


def test_focus_figure_draws_a_row_per_view_with_every_part(tmp_path, drawn):
    path = tmp_path / "plots" / "focus.png"
    views = {
        "as packed": focus_view(2),
        "after crop and flip": focus_view(2, 50, 50),
        "nobody": focus_view(0),
    }
    assert plots.focus_figure(path, views) == path
    assert opened(path).std() > 10
    axes = drawn[0].axes
    assert len([ax for ax in axes if ax.get_images()]) == 3 * 4
    assert [len(ax.patches) for ax in axes[1:12:4]] == [20, 20, 0]
    shown = (focus_view(2).visibility > 0).sum()
    markers = [line for line in axes[0].lines if line.get_marker() == "o"]
    assert len(markers) == shown


def test_an_image_grid_has_an_axis_for_each_image_and_none_besides(tmp_path, drawn):
    image, heatmap = np.full((8, 8, 3), 0.5), np.eye(8)
    rows = {"titled": {"a": image, "b": heatmap, "c": image}, "plain": [heatmap]}
    path = plots.image_grid(tmp_path / "grid.png", rows)
    assert opened(path).std() > 10
    axes = drawn[0].axes
    assert [ax.get_title(loc="left") for ax in axes] == ["a", "b", "c", ""]
    assert [ax.get_ylabel() for ax in axes] == ["titled", "", "", "plain"]
    (in_b,) = axes[1].get_images()
    np.testing.assert_array_equal(in_b.get_array(), heatmap)
    assert in_b.get_clim() == (0, 1)


def test_bones_and_sides_are_the_persons_own():
    assert len(plots.BONES) == 15
    assert {joint for bone in plots.BONES for joint in bone} == set(range(16))
    assert plots._side_colour(0, 1) == plots._side_colour(12, 7) == plots.SIDE_COLOUR["own right"]
    assert plots._side_colour(15, 14) == plots._side_colour(6, 3) == plots.SIDE_COLOUR["own left"]
    assert plots._side_colour(8, 9) == plots.SIDE_COLOUR["middle"]


def test_curves_have_a_panel_for_what_was_logged_only(tmp_path, drawn):
    rows = [{"step": s, "loss": 1 / s, "image_text": 1 / s, "alpha": 0.5, "speed": 9.0} for s in range(1, 50)]
    rows += [
        {"step": 40, "zero_shot/figures": 0.25, "zero_shot/figures/chance": 0.0625, "validation/loss": 2.0}
    ]
    opened(plots.curves(tmp_path / "curves.png", rows))
    panels = {ax.get_title(loc="left"): ax for ax in drawn[0].axes}
    assert list(panels) == [
        "training loss",
        "validation loss",
        "zero-shot accuracy (%), dashed: chance",
        "α, weight of the background",
    ]
    assert len(panels["training loss"].lines) == 2
    accuracy, chance = panels["zero-shot accuracy (%), dashed: chance"].lines
    np.testing.assert_allclose(accuracy.get_xydata(), [[40, 25]])
    assert set(chance.get_ydata()) == {6.25}


def test_similarity_matrix_states_own_and_other_means(tmp_path, drawn):
    images = np.eye(4)
    texts = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]])
    opened(plots.similarity_matrix(tmp_path / "similarity.png", images, texts, "step 5"))
    title = drawn[0].axes[0].get_title(loc="left")
    assert title == "step 5\nmean cosine: own text 0.750, other texts 0.083"


@pytest.mark.parametrize("views", [("image", "focus", "text"), ("image", "text")])
def test_embedding_pca_keeps_distances_in_the_plane(tmp_path, drawn, views):
    rng = np.random.default_rng(0)
    plane = np.linalg.qr(rng.normal(size=(16, 2)))[0].T  # points that lie in a plane anyway
    points = {name: rng.normal(size=(9, 2)) @ plane for name in views}
    opened(plots.embedding_pca(tmp_path / "pca.png", points))
    lines, *dots = drawn[0].axes[0].collections
    assert len(lines.get_segments()) == 9
    shown = np.stack([dot.get_offsets() for dot in dots])
    given = np.stack(list(points.values()))
    np.testing.assert_allclose(
        np.linalg.norm(shown[0] - shown[1], axis=1), np.linalg.norm(given[0] - given[1], axis=1)
    )


def test_embedding_pca_of_a_collapsed_model_is_still_a_picture(tmp_path):
    opened(plots.embedding_pca(tmp_path / "pca.png", {"image": np.ones((5, 8)), "text": np.ones((5, 8))}))


@pytest.fixture
def faces():
    """56 images, half of which the similarities put into the next class."""
    rng = np.random.default_rng(0)
    labels = np.arange(56) % 7
    similarities = np.eye(7)[(labels + (np.arange(56) >= 28)) % 7] + rng.random((56, 7)) / 2
    names = tuple(FER2013.classes[c] for c in labels)
    images = EvaluationSet(
        tuple(map(str, range(56))), names, lambda i: np.full((30, 20 + i, 3), 4 * i, np.uint8), 56, "a test"
    )
    return images, similarities


def test_confusion_shows_shares_of_the_true_class(tmp_path, drawn, faces):
    training = training_text.collect(["nothing"], FER2013.classes)
    (result,) = zero_shot.score(FER2013, *faces, training, step=1400)
    opened(plots.confusion(tmp_path / "confusion.png", result))
    ax = drawn[0].axes[0]
    np.testing.assert_allclose(ax.get_images()[0].get_array().sum(axis=1), 100)
    assert ax.get_yticklabels()[1].get_text() == "disgusted (8)"
    assert "fer2013 (unseen classes), step 1,400: 56 images" in ax.get_title(loc="left")
    assert "top-1 50.0 %, balanced 50.0 %, chance 14.3 %" in ax.get_title(loc="left")


def test_predictions_show_right_and_wrong_images_with_their_names(tmp_path, drawn, faces):
    opened(plots.predictions(tmp_path / "predictions.png", FER2013, *faces))
    right, wrong = drawn[0].subfigs
    assert right.get_suptitle() == "fer2013, top prediction right: 50.0 % of 56 images"
    assert [len([ax for ax in part.axes if ax.get_images()]) for part in (right, wrong)] == [12, 12]
    first, last = right.axes[0], wrong.axes[-1]
    assert first.get_images()[0].get_array()[0, 0, 0] == 0
    assert first.get_xlabel().startswith("✓ angry (1.")
    assert last.get_images()[0].get_array()[0, 0, 0] == 4 * 55
    assert last.get_xlabel().startswith("✗ angry (1.")
    assert "label: neutral (0." in last.get_xlabel()


def test_predictions_of_a_model_that_is_never_right(tmp_path, faces):
    images, _ = faces
    labels = np.array([FER2013.classes.index(name) for name in images.labels])
    opened(plots.predictions(tmp_path / "predictions.png", FER2013, images, np.eye(7)[(labels + 1) % 7]))


def test_images_with_several_labels_have_a_bar_for_each_label_that_occurs(tmp_path, drawn, faces):
    images, similarities = faces
    task = dataclasses.replace(FER2013, several=True)
    labels = tuple((name, "neutral") if name != "sad" else ("neutral",) for name in images.labels)
    images = dataclasses.replace(images, labels=labels)
    training = training_text.collect(["nothing"], FER2013.classes)
    (result,) = zero_shot.score(task, images, similarities, training, step=1400)
    opened(plots.precisions(tmp_path / "precision" / "fer2013.png", result))
    ax = drawn[0].axes[0]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == [
        f"{name} ({56 if name == 'neutral' else 8})" for name in FER2013.classes if name != "sad"
    ]
    widths = [100 * result.per_class[name]["average_precision"] for name in result.per_class]
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], widths)
    opened(plots.predictions(tmp_path / "predictions" / "fer2013.png", task, images, similarities))
    right, wrong = drawn[1].subfigs
    assert right.get_suptitle().endswith(f"right: {100 * result.top1:.1f} % of 56 images")
    assert any("), neutral (" in " ".join(ax.get_xlabel().split()) for ax in wrong.axes)


def test_many_classes_are_numbered(tmp_path, drawn, faces):
    names = tuple(f"class {c}" for c in range(61))
    prompts = tuple((name,) for name in names)
    task = dataclasses.replace(FER2013, classes=names, prompts=prompts, prompt_sets={})
    images = dataclasses.replace(faces[0], labels=names[:56])
    (result,) = zero_shot.score(task, images, np.eye(56, 61), None, step=0)
    opened(plots.confusion(tmp_path / "confusion.png", result))
    assert not any("class" in label.get_text() for label in drawn[0].axes[0].get_yticklabels())


def test_the_users_matplotlib_settings_are_left_alone(tmp_path, faces):
    before = dict(matplotlib.rcParams)
    plots.similarity_matrix(tmp_path / "similarity.png", np.eye(3), np.eye(3))
    assert dict(matplotlib.rcParams) == before
