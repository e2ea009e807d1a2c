import dataclasses
import itertools

import numpy as np
import pytest

from focusclip_jax.data import augment, heatmaps, images
from focusclip_jax.data.loader import LoaderSettings, eval_batches, train_batches
from focusclip_jax.data.shards import Shards
from focusclip_jax.data.text import Tokenizer, TokenTable
from focusclip_jax.errors import UserError

CONTEXT = 32
SETTINGS = LoaderSettings(
    batch_size=8,
    image_size=(24, 32),
    captions=2,
    text_lengths=(8, 16, 32),
    seed=5,
    crop_area=(0.5, 1.0),
    crop_aspect=1.3,
    flip=0.5,
    threads=0,
)


@pytest.fixture
def data(pack, row):
    """21 different images of two sizes, with one to four captions of very different lengths."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(21):
        height, width = (48, 64) if i % 2 else (80, 60)
        rows.append(
            row(
                image_id=f"{i}.jpg",
                image=np.repeat(
                    np.repeat(rng.integers(0, 256, (4, 4, 3), np.uint8), height // 4, 0), width // 4, 1
                ),
                joints=rng.uniform(0, height, (1 + i % 2, 16, 2)),
                captions=tuple(f"{i} left {c}" + " arm" * (i if c == 3 else 1) for c in range(1 + i % 4)),
                original=(2 * height, 2 * width),
            )
        )
    return load(pack(rows))


def load(directory):
    shards = Shards.open(directory)
    captions = [caption for i in range(len(shards)) for caption in shards.read(i).captions]
    return shards, TokenTable.build(shards, Tokenizer.train(captions, 300), CONTEXT)


def take(iterator, count):
    try:
        return list(itertools.islice(iterator, count))
    finally:
        iterator.close()


def assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name], err_msg=name)
            assert batch[name].dtype == other[name].dtype


def with_(**changes):
    return dataclasses.replace(SETTINGS, **changes)


def test_a_batch_has_the_promised_shapes_and_types(data):
    (batch,) = take(train_batches(*data, SETTINGS), 1)
    length = batch["tokens"].shape[-1]
    assert length in SETTINGS.text_lengths
    expected = {
        "image": (np.uint8, (8, 24, 32, 3)),
        "heatmap": (np.float32, (8, 24, 32)),
        "tokens": (np.int32, (8, 2, length)),
        "lengths": (np.int32, (8, 2)),
        "image_id": (np.int32, (8,)),
    }
    assert {name: (rows.dtype, rows.shape) for name, rows in batch.items()} == expected
    assert batch["heatmap"].max() > 0.5
    assert batch["heatmap"].min() >= 0
    assert batch["heatmap"].max() <= 1


def test_each_epoch_holds_every_example_once_in_a_new_order(data):
    batches = take(train_batches(*data, with_(batch_size=7)), 6)
    epochs = np.concatenate([b["image_id"] for b in batches]).reshape(2, 21)
    for epoch in epochs:
        assert sorted(epoch) == list(range(21))
    assert list(epochs[0]) != list(epochs[1]) != list(range(21))


def test_another_seed_is_another_order(data):
    a, b = (take(train_batches(*data, with_(seed=seed)), 3) for seed in (0, 1))
    assert not np.array_equal([x["image_id"] for x in a], [x["image_id"] for x in b])


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_change_nothing(data, threads):
    expected = take(train_batches(*data, SETTINGS), 12)
    assert_same(take(train_batches(*data, with_(threads=threads)), 12), expected)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing_also_after_a_resume(data, workers):
    expected = take(train_batches(*data, SETTINGS), 12)
    start = 0 if workers == 1 else 5
    batches = train_batches(*data, with_(workers=workers, threads=1), start_step=start)
    assert_same(take(batches, 12 - start), expected[start:])


@pytest.mark.parametrize("start", [1, 2, 3, 7, 11])
def test_a_resume_at_any_step_goes_on_as_if_never_stopped(data, start):
    expected = take(train_batches(*data, SETTINGS), 12)
    assert_same(take(train_batches(*data, SETTINGS, start_step=start), 12 - start), expected[start:])


@pytest.mark.parametrize("make", [train_batches, eval_batches])
@pytest.mark.parametrize("processes", [2, 4])
def test_the_rows_of_all_processes_together_are_the_global_batch(data, make, processes):
    expected = take(make(*data, SETTINGS), 3)
    parts = [
        take(make(*data, SETTINGS, process_index=p, process_count=processes), 3) for p in range(processes)
    ]
    joined = [
        {name: np.concatenate([part[name] for part in same_step]) for name in same_step[0]}
        for same_step in zip(*parts, strict=True)
    ]
    assert_same(joined, expected)


def test_a_batch_may_be_larger_than_the_data(data):
    batches = take(train_batches(*data, with_(batch_size=50)), 2)
    ids = np.concatenate([b["image_id"] for b in batches])
    assert sorted(ids[:84]) == sorted([*range(21)] * 4)


def test_every_row_belongs_together(data):
    """Image, heatmap and both captions of a row are one example's, under the one view that was drawn."""
    shards, table = data
    settings, seen = with_(crop_area=(1.0, 1.0), crop_aspect=1.0), set()
    for batch in take(train_batches(shards, table, settings), 8):
        for row, record in enumerate(batch["image_id"]):
            example = shards.read(record)
            size = example.height, example.width
            plain = images.resize(images.decode(example.image), (0, 0, *size[::-1]), (24, 32))
            joints = heatmaps.original_joints(
                example.joints, size, (example.original_height, example.original_width)
            )
            everything = augment.whole(example.original_height, example.original_width)
            heatmap = heatmaps.render(joints, example.visibility, everything, (24, 32))
            same = np.abs(plain.astype(int) - batch["image"][row]).mean()
            turned = np.abs(plain[:, ::-1].astype(int) - batch["image"][row]).mean()
            assert min(same, turned) < 2 < 8 < max(same, turned)
            mirrored = bool(turned < same)
            seen.add(mirrored)
            np.testing.assert_allclose(
                batch["heatmap"][row], heatmap[:, ::-1] if mirrored else heatmap, atol=1e-5
            )
            owned = {
                tuple(table.tokens(2 * c + mirrored))
                for c in range(table.first[record], table.first[record + 1])
            }
            for nth in range(2):
                ids = tuple(batch["tokens"][row, nth, : batch["lengths"][row, nth]])
                assert ids in owned
                assert (batch["tokens"][row, nth, batch["lengths"][row, nth] :] == table.pad_id).all()
    assert seen == {False, True}


def test_captions_of_an_image_differ_while_they_last_and_all_get_their_turn(data):
    shards, table = data
    drawn = {}
    for batch in take(train_batches(shards, table, with_(captions=3, flip=0.0)), 60):
        for row, record in enumerate(batch["image_id"]):
            ids = [tuple(batch["tokens"][row, c, : batch["lengths"][row, c]]) for c in range(3)]
            assert len(set(ids)) == min(3, table.counts[record])
            drawn.setdefault(record, set()).update(ids)
    assert {record: len(ids) for record, ids in drawn.items()} == dict(enumerate(table.counts))


def test_the_length_is_the_smallest_that_fits_the_longest_caption_of_the_global_batch(data):
    lengths = set()
    for batch in take(train_batches(*data, SETTINGS), 20):
        longest = batch["lengths"].max()
        assert batch["tokens"].shape[-1] == min(n for n in SETTINGS.text_lengths if n >= longest)
        lengths.add(batch["tokens"].shape[-1])
    assert len(lengths) > 1


def test_evaluation_shows_every_example_once_in_order_whole_with_its_first_captions(data):
    shards, table = data
    batches = take(eval_batches(shards, table, with_(flip=1.0)), 99)
    assert [len(b["image_id"]) for b in batches] == [8, 8, 8]
    mask = np.concatenate([b["mask"] for b in batches])
    ids = np.concatenate([b["image_id"] for b in batches])
    lengths = np.concatenate([b["lengths"] for b in batches])
    assert ids[mask].tolist() == list(range(21))
    assert mask.sum() == 21
    np.testing.assert_array_equal((lengths[mask] > 0).sum(1), np.minimum(table.counts, 2))
    first = batches[0]["tokens"][3, 0, : batches[0]["lengths"][3, 0]]
    np.testing.assert_array_equal(first, table.tokens(2 * table.first[3]))


@pytest.mark.parametrize("fit", ["stretch", "crop"])
def test_evaluation_has_the_pixels_of_zero_shot_and_the_heatmap_of_the_same_part(data, fit):
    shards, table = data
    (batch, *_) = take(eval_batches(shards, table, with_(fit=fit, interpolation="bicubic")), 9)
    for i, image_id in enumerate(batch["image_id"]):
        example = shards.read(image_id)
        expected = images.model_input(images.decode(example.image), (24, 32), fit, "bicubic")
        np.testing.assert_array_equal(batch["image"][i], expected)
        joints = heatmaps.original_joints(
            example.joints,
            (example.height, example.width),
            (example.original_height, example.original_width),
        )
        view = augment.fitted(example.original_height, example.original_width, (24, 32), fit)
        heatmap = heatmaps.render(joints, example.visibility, view, (24, 32))
        np.testing.assert_allclose(batch["heatmap"][i], heatmap, atol=1e-5)


def test_training_crops_are_as_square_as_evaluation_and_use_its_filter(pack, row):
    # A stripe of 24 pixels every 48: any square shows one of them, whole or in two parts.
    stripes = np.zeros((48, 144, 3), np.uint8)
    stripes[:, np.arange(144) // 24 % 2 == 1] = 255
    data = load(pack([row(image=stripes)], shards=1))
    square = with_(batch_size=2, image_size=(48, 48), crop_area=(1.0, 1.0), crop_aspect=1.0, captions=1)

    def edges(fit):
        (batch,) = take(train_batches(*data, dataclasses.replace(square, fit=fit)), 1)
        return np.abs(np.diff((batch["image"][0, 24, :, 0] > 127).astype(int))).sum()

    assert edges("stretch") == 5
    assert edges("crop") == 2
    small = dataclasses.replace(square, image_size=(20, 20))
    linear, cubic = (
        take(train_batches(*data, dataclasses.replace(small, interpolation=kind)), 1)[0]["image"]
        for kind in ("bilinear", "bicubic")
    )
    assert (linear != cubic).any()


def test_an_image_without_caption_cannot_be_trained_on_but_evaluated(pack, row):
    shards, table = load(pack([row(), row(image_id="b.jpg", captions=())], shards=1))
    with pytest.raises(UserError, match=r"record 1: has no caption \(1 of 2 have none\)"):
        train_batches(shards, table, SETTINGS)
    (batch,) = take(eval_batches(shards, table, with_(batch_size=2)), 9)
    assert (batch["lengths"] > 0).tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize(("workers", "threads"), [(0, 0), (0, 2), (1, 1)])
def test_a_broken_image_reaches_the_user_with_file_and_record(pack, row, workers, threads):
    rows = [row(image_id=f"{i}.jpg") for i in range(6)]
    rows[4].jpeg = rows[4].payload()[:700]
    batches = train_batches(*load(pack(rows)), with_(batch_size=6, workers=workers, threads=threads))
    with pytest.raises(UserError, match=r"toy-train.tfrecord-00001-of-00002 record 1: not a readable JPEG"):
        take(batches, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"image_size": (224,)}, "image_size"),
        ({"captions": 0}, "captions is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"text_lengths": (32, 16)}, "rising lengths"),
        ({"text_lengths": ()}, "rising lengths"),
        ({"crop_area": (0.9, 0.5)}, "crop_area"),
        ({"crop_aspect": 0.5}, "crop_aspect"),
        ({"flip": 2.0}, "flip"),
        ({"fit": "pad"}, "fit is pad"),
        ({"interpolation": "nearest"}, "interpolation is nearest"),
    ],
)
def test_wrong_settings_are_one_sentence(changes, message):
    with pytest.raises(UserError, match=message):
        with_(**changes)


def test_settings_that_do_not_fit_the_data_are_one_sentence(data):
    with pytest.raises(UserError, match="do not reach the context of 32 tokens"):
        train_batches(*data, with_(text_lengths=(8, 16)))
    with pytest.raises(UserError, match="batch_size 8 cannot be divided among 3 processes"):
        train_batches(*data, SETTINGS, process_count=3)
