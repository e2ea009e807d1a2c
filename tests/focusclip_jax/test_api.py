"""`focusclip_jax.load` and what it returns, on the workdir of a short run and on published folders."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import PIL.Image
import pytest
from flax import nnx
from small_clip import write_small_clip

import focusclip_jax
from focusclip_jax import config as configs
from focusclip_jax import state
from focusclip_jax.api import BATCH_SIZE, Model
from focusclip_jax.data.images import load_rgb, model_input
from focusclip_jax.data.text import Tokenizer
from focusclip_jax.encoder import SHORTEST, Encoder, _padded_length
from focusclip_jax.errors import UserError
from focusclip_jax.evaluate import load_encoder
from focusclip_jax.evaluation import zero_shot
from focusclip_jax.models.focusclip import FocusCLIP
from focusclip_jax.weights import importing, published
from focusclip_jax.workdir import Workdir

REPOSITORY = pathlib.Path(__file__).parents[2]
LABELS = ["running", "bowing", "standing still"]


@pytest.fixture(scope="module")
def trained(run_module, figures, tmp_path_factory) -> pathlib.Path:
    """The workdir of two steps of the tiny config, made smaller still."""
    root = tmp_path_factory.mktemp("run") / "tiny"
    done = run_module(
        "focusclip_jax",
        "train",
        "--config=configs/focusclip_tiny.py",
        f"--config.data.train={figures}",
        "--config.data.validation=",
        "--config.data.image_size=16",
        "--config.evaluation.tasks=()",
        "--config.model.image.depth=1",
        "--config.model.text.depth=1",
        "--config.batch_size=16",
        "--config.steps=2",
        "--config.checkpoint_every=1",
        f"--workdir={root}",
    )
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture(scope="module")
def model(trained) -> Model:
    return focusclip_jax.load(trained)


@pytest.fixture(scope="module")
def photos(figures) -> list[pathlib.Path]:
    return sorted((figures.parent / "journals" / "test" / "images").glob("*.jpg"))


def pixels(height=20, width=30, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def similar(a, b):
    """Equal but for the order in which a compiler may add."""
    np.testing.assert_allclose(a, b, atol=2e-6)


def test_importing_the_package_brings_no_jax():
    program = "import sys, focusclip_jax; sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=False).returncode == 0


def test_the_ten_lines_of_the_readme_run_and_print_what_they_say(
    trained, figures, tmp_path, monkeypatch, capsys
):
    section = (REPOSITORY / "README.md").read_text().split("## Use from Python")[1]
    code, printed = re.findall(r"```(?:python)?\n(.*?)```", section, re.DOTALL)[:2]
    for path, target in {"runs/focusclip_tiny": trained, "data/figures": figures.parent}.items():
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).symlink_to(target)
    monkeypatch.chdir(tmp_path)
    exec(code, {})

    def words(text):
        """Of each line, in any order: another model gives other numbers and ranks."""
        lines = re.sub(r"[-\d.,%\[\]]+", " ", text).splitlines()
        return [sorted(line.split()) for line in lines]

    assert words(capsys.readouterr().out) == words(printed)


def test_a_model_says_what_it_is(model, trained):
    leaves = jax.tree.leaves(load_encoder(Workdir(trained))[0].params)
    parameters = sum(np.asarray(leaf).size for leaf in leaves)
    assert repr(model) == (
        f"Model({trained}, step 2: {parameters:,} parameters, images 16 × 16, embeddings of 128)"
    )
    assert (model.image_size, model.embedding) == (16, 128)


def test_images_get_exactly_the_embeddings_of_evaluation(model, trained, photos):
    encoder, _ = load_encoder(Workdir(trained))
    expected = zero_shot.image_embeddings(encoder, lambda i: load_rgb(photos[i]), 20, BATCH_SIZE)
    embeddings = model.encode_image(photos[:20])
    assert embeddings.dtype == np.float32
    np.testing.assert_array_equal(embeddings, expected)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)


def test_many_images_of_many_sizes_keep_their_order(model):
    images = [pixels(8 + seed % 13, 40 - seed % 7, seed) for seed in range(BATCH_SIZE + 9)]
    together = model.encode_image(images)
    assert together.shape == (BATCH_SIZE + 9, 128)
    for place in (0, 1, BATCH_SIZE - 1, BATCH_SIZE, BATCH_SIZE + 8):
        similar(model.encode_image(images[place])[0], together[place])
    assert np.abs(together[:-1] - together[1:]).max(axis=1).min() > 1e-4  # no two are mistaken for each other


def test_a_path_a_pil_image_and_an_array_are_the_same_image(model, tmp_path):
    image = pixels()
    path = tmp_path / "photo.png"
    PIL.Image.fromarray(image).save(path)
    kinds = [path, str(path), PIL.Image.fromarray(image), image]
    embeddings = model.encode_image(kinds)
    np.testing.assert_array_equal(embeddings, embeddings[:1].repeat(4, axis=0))
    for kind in kinds:
        assert model.encode_image(kind).shape == (1, 128)
    np.testing.assert_array_equal(model.encode_image(iter(kinds)), embeddings)


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGBA", "P", "CMYK", "YCbCr", "HSV"])
def test_an_image_of_any_colours_is_read_as_rgb(model, mode):
    image = PIL.Image.fromarray(pixels()).convert(mode)
    similar(model.encode_image(image), model.encode_image(np.asarray(image.convert("RGB"))))


def test_a_phones_photo_is_turned_upright(model, tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turn the pixels clockwise
    sideways = PIL.Image.fromarray(pixels())
    path = tmp_path / "phone.png"
    sideways.save(path, exif=exif)
    upright = np.rot90(pixels(), -1)
    similar(model.encode_image([path, PIL.Image.open(path)]), model.encode_image([upright, upright]))
    assert np.abs(model.encode_image(path) - model.encode_image(sideways)).max() > 1e-3


def test_texts_get_unit_rows_that_do_not_depend_on_their_company(model):
    long = "The left arm is bent and the right leg is stretched out. " * 9
    together = model.encode_text(["running", long, "bowing"])
    assert (together.shape, together.dtype) == ((3, 128), np.float32)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    similar(model.encode_text("running"), together[:1])
    similar(model.encode_text(["bowing"]), together[2:])
    assert np.abs(together[0] - together[2]).max() > 1e-3


def test_a_mean_over_the_padding_is_over_all_of_it():
    config = configs.default()
    config.data.image_size = 16
    config.model.text.pool = "mean_padded"
    for tower in ("image", "text"):
        config.model[tower].update(depth=1, width=16, heads=2, mlp=16)
    config.text.context = 40
    tokenizer = Tokenizer.train(["a short text"], 300)
    architecture = state.architecture(config, tokenizer.vocab_size)
    graph, params = nnx.split(FocusCLIP(architecture, rngs=nnx.Rngs(0)), nnx.Param)
    encoder = Encoder(graph, nnx.to_pure_dict(params), architecture, tokenizer, "crop", "bicubic")
    (ids,) = tokenizer.encode(["a short text"], 40)
    tokens = np.full((1, 40), tokenizer.pad_id, np.int32)
    tokens[0, : len(ids)] = ids
    expected = nnx.merge(graph, params).encode_text(tokens, np.array([len(ids)], np.int32))
    similar(encoder.encode_texts(["a short text"]), expected)
    similar(encoder.encode_texts(["a short text", "a long one, " * 9])[:1], expected)


@pytest.mark.parametrize(
    ("longest", "padded"), [(1, 12), (12, 12), (13, 16), (17, 24), (25, 32), (33, 48), (49, 64), (77, 77)]
)
def test_texts_are_padded_to_few_lengths(longest, padded):
    assert _padded_length(longest, SHORTEST, 77) == padded


def test_answers_are_ranked_probabilities_at_the_models_temperature(model, trained, photos):
    answers = model.classify(photos[:5], LABELS, prompt="One person is {}.")
    params = load_encoder(Workdir(trained))[0].params
    texts = model.encode_text([f"One person is {label}." for label in LABELS])
    logits = np.exp(float(params["log_scale"])) * model.encode_image(photos[:5]) @ texts.T
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert len(answers) == 5
    for row, of_image in zip(expected, answers, strict=True):
        labels, probabilities = zip(*of_image, strict=True)
        assert list(probabilities) == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1)
        np.testing.assert_allclose([row[LABELS.index(label)] for label in labels], probabilities, atol=1e-5)


def test_labels_may_be_whole_texts_and_come_in_any_order(model, photos):
    whole = [f"a photo of a person {label}" for label in LABELS]
    (named,) = model.classify(photos[0], LABELS)
    (written,) = model.classify(photos[0], whole[::-1], prompt="{}")
    assert [f"a photo of a person {label}" for label, _ in named] == [label for label, _ in written]
    np.testing.assert_allclose([p for _, p in named], [p for _, p in written], atol=1e-5)
    assert model.classify(photos[0], ["running"]) == [[("running", 1.0)]]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "no image was given"),
        ([pixels(), "nowhere.jpg"], r"nowhere\.jpg: not a readable image \(No such file"),
        (__file__, r"test_api\.py: not a readable image"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"image 0: an array uint8 \(2, 8, 8, 3\), expected uint8 \("),
        ([pixels(), np.zeros((8, 8, 3))], r"image 1: an array float64 \(8, 8, 3\), expected uint8"),
        ([pixels(), None], "image 1: NoneType, expected a path, a PIL image or an array"),
    ],
)
def test_what_is_no_image_is_named_in_one_sentence(model, images, message):
    for call in (model.encode_image, lambda images: model.classify(images, LABELS)):
        with pytest.raises(UserError, match=message):
            call(images)


def test_what_is_no_text_or_label_is_named_in_one_sentence(model):
    for texts, message in [([], "no text was given"), (["a", 3], "text 1: int, expected a text")]:
        with pytest.raises(UserError, match=message):
            model.encode_text(texts)
    for labels, message in [
        ([], "no label was given"),
        (["a", None], "label 1: NoneType, expected a text"),
        ("running", "labels is the text 'running'; expected a list of texts"),
    ]:
        with pytest.raises(UserError, match=message):
            model.classify(pixels(), labels)
    with pytest.raises(UserError, match=r"prompt 'a photo' has no \{\} where the label goes"):
        model.classify(pixels(), LABELS, prompt="a photo")


def test_a_step_is_chosen_and_a_missing_one_is_named(trained, photos):
    first, last = focusclip_jax.load(trained, step=1), focusclip_jax.load(str(trained))
    assert "step 1:" in repr(first)
    assert "step 2:" in repr(last)
    assert np.abs(first.encode_image(photos[0]) - last.encode_image(photos[0])).max() > 1e-5
    with pytest.raises(UserError, match=r"no checkpoint of step 7; there are \[1, 2\]"):
        focusclip_jax.load(trained, step=7)


def test_a_published_clip_answers_as_the_workdir_made_of_it(tmp_path):
    folder = write_small_clip(tmp_path / "clip")
    importing.write(published.read(str(folder)), tmp_path / "imported")
    direct, imported = focusclip_jax.load(folder), focusclip_jax.load(tmp_path / "imported")
    assert repr(direct).startswith(f"Model({folder}: ")
    images = [pixels(), pixels(30, 21)]
    np.testing.assert_allclose(direct.encode_image(images), imported.encode_image(images), atol=2e-6)
    assert direct.classify(images, ["cat", "dog"])[0][0] == pytest.approx(
        imported.classify(images, ["cat", "dog"])[0][0]
    )
    # Its description says crop and bilinear.
    squares = [model_input(image, (12, 12), "crop", "bilinear") for image in images]
    similar(direct.encode_image(images), direct.encode_image(squares))
    with pytest.raises(UserError, match="step=0 was asked for, but only the workdir of a run has steps"):
        focusclip_jax.load(folder, step=0)


def test_few_shapes_are_compiled_whatever_is_asked_for():
    class Recording:
        image_size, embedding, params = 4, 2, {}

        def __init__(self):
            self.shapes = set()

        def prepare(self, image):
            return image[:4, :4]

        def encode_images(self, images):
            self.shapes.add(images.shape)
            return np.ones((len(images), 2), np.float32)

    encoder = Recording()
    model = Model("recording", encoder)
    for count in range(1, 2 * BATCH_SIZE + 5, 3):
        assert model.encode_image([pixels()] * count).shape == (count, 2)
    assert len(encoder.shapes) <= 10
