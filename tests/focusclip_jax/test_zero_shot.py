"""Scores, seen and unseen rows, and what the training text is remembered to have said."""

import dataclasses

import numpy as np
import pytest

from focusclip_jax.data.images import model_input
from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import statistics, training_text, zero_shot
from focusclip_jax.evaluation.datasets.base import EvaluationSet
from focusclip_jax.evaluation.tasks import Task

TASK = Task(
    name="compass",
    dataset="compass",
    kind="activity",
    classes=("north", "east", "south", "west"),
    prompts=(("north",), ("east",), ("south",), ("west",)),
    k=2,
    split="test",
    source="a test",
)
# Directions in the plane; an image is grey of level 40 × its direction, so the encoder can tell.
PLANE = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]], np.float32)
NOTHING = training_text.collect(["a compass"], TASK.classes)
EVERYTHING = training_text.collect(["north east south west"], TASK.classes)


class Compass:
    """Places image level 40·c near class c, a little towards class c + `lean`."""

    def __init__(self, lean=1):
        self.lean = lean
        self.image_batches, self.text_batches = [], []

    def prepare(self, image):
        return model_input(image, (4, 4), "stretch", "bilinear")

    def encode_images(self, images):
        assert images.dtype == np.uint8
        assert images.shape[1:] == (4, 4, 3)
        self.image_batches.append(len(images))
        c = np.rint(images.mean(axis=(1, 2, 3)) / 40).astype(int)
        rows = PLANE[c] + 0.1 * PLANE[(c + self.lean) % 4]
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def encode_texts(self, texts):
        self.text_batches.append(len(texts))
        return PLANE[[TASK.classes.index(text) for text in texts]]


def compass_set(shown, labels, groups=None):
    """Images that show the classes `shown` but are labelled `labels`; sizes differ, as photographs' do."""
    images = [np.full((5 + c, 9, 3), 40 * c, np.uint8) for c in shown]
    names = tuple(f"{i}.jpg" for i in range(len(shown)))
    labels = tuple(TASK.classes[c] for c in labels)
    return EvaluationSet(names, labels, images.__getitem__, len(shown), "a test", groups or {})


def test_right_neighbour_and_opposite_are_told_apart():
    # Six images: four right, one whose label is the second choice, one whose label is the opposite.
    images = compass_set([0, 1, 2, 3, 0, 0], [0, 1, 2, 3, 1, 2], {"hand": tuple("LLLRRR")})
    (result,) = zero_shot.evaluate(Compass(), TASK, images, NOTHING, step=7, batch_size=4)
    assert result.top1 == 4 / 6
    assert result.accuracy == 5 / 6
    assert result.balanced_top1 == pytest.approx((1 + 1 / 2 + 1 / 2 + 1) / 4)
    assert (result.n, result.k, result.step, result.chance) == (6, 2, 7, 0.5)
    assert result.constant == 4 / 6  # two of the classes have two images each
    assert result.confusion == ((1, 0, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0), (0, 0, 0, 1))
    assert result.predictions == {"north": 3, "east": 1, "south": 1, "west": 1}
    assert result.per_class["east"] == {"n": 2, "top1": 0.5, "topk": 1.0}
    assert result.per_group["hand"]["L"] == {"n": 3, "top1": 1.0, "topk": 1.0}
    assert result.per_group["hand"]["R"] == {"n": 3, "top1": 1 / 3, "topk": 2 / 3}
    low, high = result.interval
    assert low < result.accuracy < high


def test_a_model_that_is_wrong_scores_zero():
    opposite = compass_set([0, 1, 2, 3], [2, 3, 0, 1])
    (result,) = zero_shot.evaluate(Compass(), TASK, opposite, NOTHING, step=0)
    assert (result.top1, result.accuracy, result.balanced_top1) == (0, 0, 0)


def test_the_answer_does_not_depend_on_the_batch_size_and_few_shapes_are_compiled():
    images = compass_set([0, 1, 2, 3, 0, 2, 1], [0, 1, 2, 3, 1, 2, 3])
    encoder = Compass()
    results = [zero_shot.evaluate(encoder, TASK, images, NOTHING, 0, batch_size=b) for b in (1, 3, 7, 100)]
    assert all(result == results[0] for result in results)
    assert zero_shot.similarities(Compass(), TASK, images, batch_size=3).shape == (7, 4)
    assert zero_shot.image_embeddings(Compass(), images.read, 7, batch_size=3).shape == (7, 2)
    assert encoder.image_batches == [1] * 7 + [3] * 3 + [7] + [8]
    assert encoder.text_batches == [1] * 4 + [3] * 2 + [4] + [4]


def test_forty_prompts_are_not_filled_up_to_sixty_four_and_yet_few_sizes_are_compiled():
    sizes = {}
    for n in range(1, 65):
        encoder = Compass()
        assert zero_shot.text_embeddings(encoder, ["east"] * n, batch_size=64).shape == (n, 2)
        (sizes[n],) = encoder.text_batches
    assert sizes[40] == 40
    assert all(n <= size < 2 * n or n == size for n, size in sizes.items())
    assert all(size <= 1.25 * n for n, size in sizes.items() if n > 32)
    assert len(set(sizes.values())) == 10


def test_several_prompts_of_a_class_are_averaged_at_length_one():
    embeddings = zero_shot.class_embeddings(Compass(), (("north", "east"), ("south",)), batch_size=2)
    np.testing.assert_allclose(embeddings, [[0.5**0.5, 0.5**0.5], [0, -1]], atol=1e-6)


def test_a_collapsed_model_scores_as_a_constant_predictor():
    class Collapsed(Compass):
        def encode_images(self, images):
            return np.ones((len(images), 2), np.float32) / 2**0.5

        def encode_texts(self, texts):
            return np.ones((len(texts), 2), np.float32) / 2**0.5

    images = compass_set([0, 0, 0, 3], [0, 0, 0, 3])
    (result,) = zero_shot.evaluate(Collapsed(), TASK, images, NOTHING, step=0)
    assert result.top1 == 0.75
    assert result.balanced_top1 == 0.5
    assert result.accuracy == 0.75
    assert result.constant == 1.0


def test_a_diverged_model_is_named_instead_of_ranked():
    class Diverged(Compass):
        def encode_images(self, images):
            return np.full((len(images), 2), np.nan, np.float32)

    with pytest.raises(UserError, match=r"compass: .* diverged"):
        zero_shot.evaluate(Diverged(), TASK, compass_set([0], [0]), NOTHING, step=0)


def test_rows_of_only_seen_or_only_unseen_classes_say_so():
    images = compass_set([0, 1, 2, 3], [0, 1, 2, 3])
    assert [r.rows for r in zero_shot.evaluate(Compass(), TASK, images, NOTHING, 0)] == ["unseen"]
    assert [r.rows for r in zero_shot.evaluate(Compass(), TASK, images, EVERYTHING, 0)] == ["seen"]


def test_mixed_classes_give_three_rows_each_with_its_own_floor():
    training = training_text.collect(["Facing south.", "West it is"], TASK.classes)
    # The last image is labelled west but looks north.
    images = compass_set([0, 2, 1, 3, 0], [0, 2, 1, 3, 3], {"hand": tuple("RLRLR")})
    mixed, seen, unseen = zero_shot.evaluate(Compass(lean=-1), TASK, images, training, step=0)
    assert (mixed.rows, mixed.n, mixed.k, mixed.top1) == ("mixed", 5, 2, 0.8)
    assert (seen.rows, seen.classes, seen.prompts) == ("seen", ("south", "west"), (("south",), ("west",)))
    assert (seen.n, seen.k, seen.chance, seen.constant) == (3, 1, 0.5, 2 / 3)
    assert seen.accuracy == 1.0  # ranked among south and west, the north-looking image leans to west
    assert seen.per_group["hand"] == {
        "L": {"n": 2, "top1": 1.0, "topk": 1.0},
        "R": {"n": 1, "top1": 1.0, "topk": 1.0},
    }
    assert (unseen.rows, unseen.classes, unseen.n, unseen.chance) == ("unseen", ("north", "east"), 2, 0.5)


def test_an_imported_model_gets_one_row_that_claims_nothing_of_its_training():
    images = compass_set([0, 1, 2, 3], [0, 1, 2, 0])
    (result,) = zero_shot.evaluate(Compass(), TASK, images, None, step=0)
    assert (result.rows, result.classes, result.n, result.top1) == ("unknown", TASK.classes, 4, 3 / 4)


def test_classes_that_nobody_searched_the_captions_for_are_unknown_instead_of_guessed():
    task = dataclasses.replace(TASK, classes=("up north", "east", "south", "west"))
    images = dataclasses.replace(compass_set([0, 1], [0, 1]), labels=("up north", "east"))
    before = training_text.collect(
        ["up and north, facing east"], TASK.classes
    )  # "up north" was not looked for
    (result,) = zero_shot.evaluate(Compass(), task, images, before, step=0)
    assert result.rows == "unknown"
    assert result.heard_words == 0.5  # of the prompts "north", "east", "south" and "west"
    assert result.unheard_words == ("south", "west")


def test_the_share_of_prompt_words_counts_each_word_once():
    prompts = tuple((f"a photo of the {name}, facing: {name}.", f"the {name}") for name in TASK.classes)
    task = dataclasses.replace(TASK, prompts=prompts)
    training = training_text.collect(["The photo", "of a North-West."], TASK.classes)
    words = {"a", "photo", "of", "the", "facing", *TASK.classes}
    images = compass_set([0, 1], [0, 1])
    mixed, seen, unseen = zero_shot.score(task, images, np.eye(4)[:2], training, step=0)
    assert mixed.heard_words == 1 - 3 / len(words)
    assert mixed.unheard_words == ("east", "facing", "south")
    assert seen.unheard_words == ("facing",)
    assert unseen.unheard_words == ("east", "facing", "south")


def test_an_image_that_cannot_be_read_is_named():
    def read(i):
        raise UserError(f"{i}.jpg: not a readable image")

    images = dataclasses.replace(compass_set([0, 1], [0, 1]), read=read)
    with pytest.raises(UserError, match=r"0\.jpg: not a readable image"):
        zero_shot.evaluate(Compass(), TASK, images, NOTHING, step=0)


def test_a_simulated_random_run_scatters_about_chance_and_can_be_repeated():
    once = statistics.simulated_random(10_000, 3, 40)
    assert once == statistics.simulated_random(10_000, 3, 40)
    assert once != statistics.simulated_random(10_000, 3, 40, seed=1)
    low, high = statistics.wilson(round(once * 10_000), 10_000)
    assert low < 3 / 40 < high


def brute_average_precision(scores, truth):
    """By the definition: at each positive image, the precision among all that score at least as high."""
    precisions = [truth[scores >= score].mean() for score in scores[truth]]
    return np.mean(precisions)


def test_average_precision_is_its_definition_with_ties_and_weights():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 6, (40, 3)).astype(float)  # many ties
    truth = rng.random((40, 3)) < 0.3
    truth[:, 2] = False
    counts = rng.integers(0, 3, (5, 40))
    found = statistics.average_precision(scores, truth, counts.T)
    assert found.shape == (5, 3)
    assert np.isnan(found[:, 2]).all()
    for b, count in enumerate(counts):
        repeated = np.repeat(np.arange(40), count)
        for c in range(2):
            expected = brute_average_precision(scores[repeated, c], truth[repeated, c])
            assert found[b, c] == pytest.approx(expected)
    # Scores that say nothing give the frequency of the label.
    np.testing.assert_allclose(
        statistics.average_precision(np.ones((40, 3)), truth)[0, :2], truth.mean(axis=0)[:2]
    )


def test_the_bootstrap_interval_is_as_wide_as_new_samples_scatter():
    def sample(seed, n=300):
        rng = np.random.default_rng(seed)
        truth = rng.random((n, 4)) < 0.3
        return truth + rng.normal(size=(n, 4)), truth

    values = [statistics.over_classes(statistics.average_precision(*sample(s)))[0] for s in range(200)]
    low, high = statistics.mean_average_precision_interval(*sample(1000))
    assert (high - low) / (2 * 1.96) == pytest.approx(np.std(values), rel=0.2)
    assert statistics.mean_average_precision_interval(*sample(1000)) == (low, high)


def test_images_with_several_labels_are_scored_by_mean_average_precision():
    task = dataclasses.replace(TASK, several=True)
    labels = (("north",), ("north", "east"), ("south",), ("south", "north"))
    images = dataclasses.replace(
        compass_set([0, 1, 2, 3], [0, 1, 2, 3], {"hand": tuple("LLRR")}), labels=labels
    )
    similarities = np.array(
        [[0.9, 0.1, 0.3, 0.5], [0.8, 0.7, 0.2, 0.4], [0.7, 0.9, 0.1, 0.3], [0.1, 0.2, 0.9, 0.2]]
    )
    training = training_text.collect(["north and west"], TASK.classes)
    mixed, seen, unseen = zero_shot.score(task, images, similarities, training, step=0)
    north, east, south = (1 + 1 + 3 / 4) / 3, 1 / 2, (1 + 2 / 4) / 2  # nobody is labelled west
    assert (mixed.metric, mixed.k, mixed.n, mixed.rows) == ("mean average precision", 0, 4, "mixed")
    assert mixed.accuracy == pytest.approx((north + east + south) / 3)
    assert mixed.chance == mixed.constant == pytest.approx((3 / 4 + 1 / 4 + 2 / 4) / 3)
    assert mixed.top1 == 3 / 4
    assert mixed.predictions == {"north": 2, "east": 1, "south": 1, "west": 0}
    assert mixed.per_class["south"] == {"n": 2, "average_precision": south}
    assert "west" not in mixed.per_class
    assert mixed.per_group["hand"]["L"] == {"n": 2, "top1": 1.0, "average_precision": 1.0}
    assert (mixed.balanced_top1, mixed.confusion) == (None, ())
    assert mixed.interval[0] <= mixed.accuracy <= mixed.interval[1]
    # A label's precision does not depend on the other labels, so a part keeps all images.
    assert (seen.classes, seen.n, seen.accuracy) == (("north", "west"), 4, pytest.approx(north))
    assert (unseen.n, unseen.accuracy) == (4, pytest.approx((east + south) / 2))


# Wilson (1927), computed independently: the roots p of (hits/n − p)² = z² p (1 − p) / n.
@pytest.mark.parametrize(("hits", "n"), [(0, 10), (1, 10), (5, 10), (10, 10), (81, 263), (1, 3589)])
def test_wilson_interval_solves_its_equation(hits, n):
    low, high = statistics.wilson(hits, n)
    z2 = 1.96**2
    roots = np.roots([1 + z2 / n, -(2 * hits / n + z2 / n), (hits / n) ** 2])
    np.testing.assert_allclose(sorted(roots.real), [low, high], atol=2e-5)
    assert 0 <= low <= hits / n <= high <= 1


def test_wilson_interval_of_a_textbook_case():
    np.testing.assert_allclose(statistics.wilson(81, 263), (0.2553, 0.3662), atol=5e-5)


def test_constant_predictor_names_the_commonest_labels():
    labels = np.repeat([0, 1, 2, 4], [5, 1, 3, 1])
    assert statistics.constant_predictor(labels, 1) == 0.5
    assert statistics.constant_predictor(labels, 2) == 0.8


def test_balanced_accuracy_skips_classes_without_images():
    confusion = statistics.confusion_matrix(np.array([0, 0, 0, 2]), np.array([0, 0, 1, 1]), 3)
    assert statistics.balanced_accuracy(confusion) == pytest.approx((2 / 3 + 0) / 2)


def text_of(*captions, names=("riding_a_bike", "running", "playing guitar", "watching_TV")):
    return training_text.collect(captions, names)


def test_a_name_is_seen_only_as_whole_words_in_a_row():
    text = text_of("A person is Riding a  bike.", "Two people watch TV, running late.", "rerunning")
    assert text.mentions("riding_a_bike")
    assert text.mentions("running")
    assert not text.mentions("watching_TV")
    assert not text_of("rerunning a race").mentions("running")
    assert not text_of("playing. guitar", "a bike riding", "guitar playing").mentions("playing guitar")
    assert text_of("playing", "the guitar").mentions("playing guitar") is False


def test_hyphens_and_commas_do_not_hide_a_name():
    assert text_of("bicycling, mountain", names=("bicycling mountain",)).mentions("bicycling, mountain")
    assert text_of("doing push-ups", names=("doing_push_ups",)).mentions("doing push-ups")


def test_the_training_text_survives_its_file(tmp_path):
    text = text_of("A person is riding a bike; the arms are “straight”.")
    path = tmp_path / "training_text.json"
    training_text.write(path, text)
    assert training_text.read(path) == text
    path.write_text('{"words": ["a"]}')
    with pytest.raises(UserError, match=r"training_text\.json: not readable"):
        training_text.read(path)
    with pytest.raises(UserError, match=r"nowhere\.json: not found"):
        training_text.read(tmp_path / "nowhere.json")


def test_that_the_training_text_is_unknown_survives_its_file(tmp_path):
    training_text.write(tmp_path / "training_text.json", None)
    assert training_text.read(tmp_path / "training_text.json") is None


@pytest.mark.parametrize("content", ["", "{}", "[]", "0", '""', "nul"])
def test_a_damaged_file_is_not_taken_for_unknown(tmp_path, content):
    (tmp_path / "training_text.json").write_text(content)
    with pytest.raises(UserError, match=r"training_text\.json: not readable"):
        training_text.read(tmp_path / "training_text.json")


def test_a_name_that_was_never_asked_about_is_not_guessed():
    text = text_of("a person is riding a bike on a horse")
    assert not text.mentions("cutting trees")  # "cutting" never occurs, so the answer is certain
    assert text.answers(["cutting trees", "riding_a_bike", "running", "horse"])
    assert not text.answers(["running", "riding a horse"])
    with pytest.raises(UserError, match="'riding a horse' is newer than this model"):
        text.mentions("riding a horse")
