"""A second evaluation encodes nothing, another model everything, and damage costs no more than time."""

from __future__ import annotations

import multiprocessing
import os

import numpy as np
import pytest

from focusclip_jax import config as configs
from focusclip_jax.evaluation import embedding_cache
from focusclip_jax.evaluation.embedding_cache import CachingEncoder
from focusclip_jax.workdir import Workdir

KEY, OTHER = "ab" * 32, "cd" * 32


class Counting:
    """Embeds by the mean level and by the length, and remembers the batches that it was given."""

    def __init__(self, factor=1.0):
        self.factor, self.batches = factor, []

    def prepare(self, image):
        return image[:2, :2]

    def encode_images(self, images):
        self.batches.append(len(images))
        level = images.mean(axis=(1, 2, 3))
        return (self.factor * np.stack([level, level + 1, level + 2], axis=1)).astype(np.float32)

    def encode_texts(self, texts):
        self.batches.append(len(texts))
        return np.array([[len(text), text.count("a"), self.factor] for text in texts], np.float32)


def images(*levels):
    return np.stack([np.full((2, 2, 3), level, np.uint8) for level in levels])


def test_the_second_time_nothing_is_encoded_and_the_numbers_are_the_same(tmp_path):
    first = CachingEncoder(Counting(), tmp_path, KEY)
    shown, said = first.encode_images(images(1, 2, 3, 2)), first.encode_texts(["a", "bb", "a"])
    assert (first.encoded, first.found) == (5, 0)  # what comes twice in a batch is one
    np.testing.assert_array_equal(shown, Counting().encode_images(images(1, 2, 3, 2)))
    inner = Counting()
    second = CachingEncoder(inner, tmp_path, KEY)
    np.testing.assert_array_equal(second.encode_images(images(3, 2, 1)), shown[[2, 1, 0]])
    np.testing.assert_array_equal(second.encode_texts(["bb", "a"]), said[[1, 0]])
    assert inner.batches == []
    assert (second.encoded, second.found) == (0, 5)
    assert "5 from" in second.summary()
    assert "0 computed" in second.summary()


def test_what_is_lacking_is_encoded_in_the_size_of_its_batch(tmp_path):
    CachingEncoder(Counting(), tmp_path, KEY).encode_images(images(1, 2))
    inner = Counting()
    encoder = CachingEncoder(inner, tmp_path, KEY)
    np.testing.assert_array_equal(
        encoder.encode_images(images(5, 1, 2, 4)), Counting().encode_images(images(5, 1, 2, 4))
    )
    assert inner.batches == [4]
    assert (encoder.encoded, encoder.found) == (2, 2)


def test_another_model_and_another_shape_of_the_same_bytes_share_nothing(tmp_path):
    CachingEncoder(Counting(), tmp_path, KEY).encode_images(images(1, 2))
    other = CachingEncoder(Counting(factor=2), tmp_path, OTHER)
    assert other.encode_images(images(1, 2))[0, 0] == 2
    assert other.encoded == 2
    wide = CachingEncoder(Counting(), tmp_path, KEY)
    wide.encode_images(images(1, 2).reshape(2, 1, 4, 3))
    assert wide.encoded == 2


@pytest.mark.parametrize("damage", ["cut off", "one bit", "not an archive"])
def test_a_damaged_file_is_said_removed_and_computed_again(tmp_path, damage):
    first = CachingEncoder(Counting(), tmp_path, KEY)
    wanted = first.encode_images(images(1, 2, 3))
    first.encode_texts(["a"])
    path = max(tmp_path.glob("*/*.npz"), key=lambda path: path.stat().st_size)
    whole = path.read_bytes()
    at = whole.index(wanted.tobytes()) + 5
    flipped = whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]
    path.write_bytes({"cut off": whole[:200], "one bit": flipped, "not an archive": b"no"}[damage])
    again = CachingEncoder(Counting(), tmp_path, KEY)
    np.testing.assert_array_equal(again.encode_images(images(1, 2, 3)), wanted)
    assert (again.encoded, again.damaged) == (3, [path])
    assert f"{path}: damaged" in again.summary()
    again.encode_texts(["a"])
    assert again.encoded == 3  # the other file was whole
    assert path.read_bytes() == whole


def test_it_stays_within_its_bounds_and_what_was_used_last_stays(tmp_path):
    def batch(n):
        return images(*range(8 * n, 8 * n + 8))

    CachingEncoder(Counting(), tmp_path, OTHER).encode_images(batch(0))
    size = next(tmp_path.glob("*/*.npz")).stat().st_size
    for n in range(6):
        CachingEncoder(Counting(), tmp_path, KEY, max_bytes=3 * size).encode_images(batch(n))
        assert sum(path.stat().st_size for path in tmp_path.glob("*/*")) <= 3 * size
    last = CachingEncoder(Counting(), tmp_path, KEY)
    last.encode_images(batch(5))
    assert (last.encoded, last.found) == (0, 8)
    unused = CachingEncoder(Counting(), tmp_path, OTHER)
    unused.encode_images(batch(0))
    assert unused.encoded == 8


def test_what_a_killed_evaluation_left_unfinished_is_removed_in_the_end(tmp_path):
    (tmp_path / "model").mkdir()
    fresh, old = tmp_path / "model" / ".1.a.npz", tmp_path / "model" / ".2.b.npz"
    for path in (fresh, old):
        path.write_bytes(bytes(100))
    os.utime(old, (0, 0))
    (tmp_path / "model" / "c.npz").write_bytes(bytes(100))
    embedding_cache.trim(tmp_path, 100)
    assert sorted(path.name for path in tmp_path.glob("*/*")) == [".1.a.npz", "c.npz"]


def _evaluate(folder):
    encoder = CachingEncoder(Counting(), folder, KEY, max_bytes=20_000)
    for start in range(0, 200, 8):
        batch = images(*range(start, start + 8))
        np.testing.assert_array_equal(encoder.encode_images(batch), Counting().encode_images(batch))


def test_evaluations_side_by_side_write_whole_files_only(tmp_path):
    processes = [
        multiprocessing.get_context("spawn").Process(target=_evaluate, args=(tmp_path,)) for _ in "ab"
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    after = CachingEncoder(Counting(), tmp_path, KEY)
    assert after.damaged == []
    assert not list(tmp_path.glob("*/.*"))


def test_the_key_follows_checkpoint_tokenizer_and_settings(tmp_path):
    workdir = Workdir(tmp_path)
    config = configs.default()

    def key(manifest="1", tokenizer="t", **changes):
        (workdir.checkpoints / "7").mkdir(parents=True, exist_ok=True)
        (workdir.checkpoints / "7" / "manifest.json").write_text(manifest)
        workdir.tokenizer.write_text(tokenizer)
        config.update_from_flattened_dict(changes)
        workdir.config.write_text(configs.to_json(config))
        return embedding_cache.model_key(workdir, 7)

    keys = [
        key(),
        key(manifest="2"),
        key(tokenizer="u"),
        key(**{"model.dtype": "bfloat16"}),
        key(**{"text.context": 77}),
    ]
    assert len(set(keys)) == 5
    assert key() == keys[-1]  # nothing but these: the batch size of an evaluation, for one, is not among them
    assert key(**{"evaluation.batch_size": 3}) == keys[-1]
