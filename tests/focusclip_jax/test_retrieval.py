"""Ranks against brute force, chance against simulation, and what captions shared by images count for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import sparse

from focusclip_jax.data.images import model_input
from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import retrieval


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def scored(shown, said, belongs):
    return retrieval.score(shown, said, sparse.csr_array(belongs), data="a", split="test", step=3, source=".")


def test_ranks_are_those_of_sorting_one_query_after_the_other(monkeypatch):
    monkeypatch.setattr(retrieval, "CHUNK", 64)  # several chunks, the last one shorter
    rng = np.random.default_rng(0)
    queries, entries = unit(rng.normal(size=(23, 8))), unit(rng.normal(size=(17, 8)))
    right = rng.random((23, 17)) < 0.15
    right[np.arange(23), rng.integers(17, size=23)] = True
    found = retrieval.ranks(queries, entries, sparse.csr_array(right))
    for query, row, rank in zip(queries, right, found, strict=True):
        order = np.argsort(-(entries @ query))
        assert rank == 1 + np.flatnonzero(row[order])[0]
    assert len(set(found)) > 3


def test_chance_is_what_all_orders_give_on_average():
    gallery = 5
    right = np.array([1, 2, 4])
    orders = np.array(list(itertools.permutations(range(gallery))))
    first = np.array([(orders < m).argmax(axis=1) + 1 for m in right])  # entries below m are right
    for k in (1, 2, 3, 5, 10):
        np.testing.assert_allclose(retrieval.chance(right, gallery, k), (first <= k).mean(axis=1))
    for m, ranks in zip(right, first, strict=True):
        assert retrieval.chance_median(np.array([m]), gallery) == np.sort(ranks)[(len(ranks) - 1) // 2]
    assert retrieval.chance_median(right, gallery) == np.sort(first.ravel())[(first.size - 1) // 2]


def test_a_model_that_knows_scores_one_and_one_that_collapsed_scores_zero():
    n, captions = 40, 3
    belongs = np.repeat(np.eye(n, dtype=bool), captions, axis=0)
    shown = np.eye(n, dtype=np.float32)
    for result in scored(shown, np.repeat(shown, captions, axis=0), belongs):
        assert [figure.value for figure in result.recall.values()] == [1, 1, 1]
        assert result.median_rank.value == 1
        assert result.recall[1].interval == (1, 1)
    same = np.tile(unit(np.ones((1, n))), (n * captions, 1))
    to_images, to_captions = scored(same[:n], same, belongs)
    assert [figure.value for figure in to_images.recall.values()] == [0, 0, 0]
    assert (to_images.median_rank.value, to_captions.median_rank.value) == (n, (n - 1) * captions + 1)
    # Random orders find an image in 1 of 40 and, with three right captions of 120, as often a caption.
    assert to_images.recall[5].chance == pytest.approx(5 / n)
    assert to_captions.recall[1].chance == pytest.approx(1 / n)
    assert (to_images.queries, to_images.gallery, to_images.right) == (120, 40, 1)
    assert (to_captions.queries, to_captions.gallery, to_captions.right) == (40, 120, 3)


def test_a_random_model_is_at_chance_and_its_interval_is_that_of_dependent_captions():
    rng = np.random.default_rng(1)
    n, captions = 300, 4
    shown = unit(rng.normal(size=(n, 6)))
    said = np.repeat(unit(rng.normal(size=(n, 6))), captions, axis=0)  # the captions of an image say the same
    said = unit(said + 0.001 * rng.normal(size=said.shape))
    (result, _) = scored(shown, said, np.repeat(np.eye(n, dtype=bool), captions, axis=0))
    for figure in (result.recall[10], result.median_rank):
        low, high = figure.interval
        assert low <= figure.chance <= high
        assert low < figure.value < high
    # 1,200 queries, but no more than 300 independent ones: a bootstrap over queries would be half as wide.
    p = result.recall[10].value
    width = np.subtract(*result.recall[10].interval[::-1])
    assert width == pytest.approx(2 * 1.96 * np.sqrt(p * (1 - p) / n), rel=0.2)


class Grey:
    """Embeds an image by its level and a text by the level that it names."""

    def prepare(self, image):
        return model_input(image, (4, 4), "stretch", "bilinear")

    def encode_images(self, images):
        return self._circle(images.mean(axis=(1, 2, 3)))

    def encode_texts(self, texts):
        return self._circle(np.array([float(text.split()[-1]) for text in texts]))

    def _circle(self, level):
        return np.stack([np.cos(level / 100), np.sin(level / 100)], axis=1).astype(np.float32)


def grey(row, level, *captions):
    return row(f"{level}.jpg", np.full((8, 9, 3), level, np.uint8), captions=captions)


def test_a_caption_of_two_images_is_one_query_and_either_image_is_right(pack, row):
    rows = [
        grey(row, 10, "level 10", "about 40"),
        grey(row, 90, "level 90", "level 90"),
        grey(row, 50, "about 40"),
    ]
    gallery = retrieval.load(pack([*rows, grey(row, 200)]), "train")
    assert gallery.captions == ("level 10", "about 40", "level 90")
    assert gallery.source == (
        "5 captions, 3 of them distinct, of 3 images; left out for want of a caption: 1."
    )
    to_images, to_captions = retrieval.evaluate(Grey(), gallery, "a", "train", 3, batch_size=2)
    assert (to_images.queries, to_images.gallery, to_images.right) == (3, 3, 4 / 3)
    assert to_images.recall[1].value == 1  # "about 40" finds 50, and 10 is not in its way
    assert to_images.recall[1].chance == pytest.approx((1 / 3 + 2 / 3 + 1 / 3) / 3)
    assert to_captions.recall[1].value == 1
    assert to_captions.recall[1].chance == pytest.approx((2 / 3 + 1 / 3 + 1 / 3) / 3)


def test_a_split_without_captions_and_a_model_without_numbers_are_named(pack, row):
    shards = pack([grey(row, 10), grey(row, 20)])
    with pytest.raises(UserError, match="none of the 2 examples of its split train has a caption"):
        retrieval.load(shards, "train")
    gallery = retrieval.load(pack([grey(row, 10, "level 10"), grey(row, 20, "level nan")]), "train")
    with pytest.raises(UserError, match="not finite"):
        retrieval.evaluate(Grey(), gallery, "a", "train", 3)
