"""TensorFlow and TensorFlow Datasets read our shards, field by field.

The project neither needs nor installs TensorFlow; this runs where it can be imported:

    python3 -m venv /tmp/tensorflow
    /tmp/tensorflow/bin/pip install tensorflow-cpu tensorflow-datasets google-crc32c pillow pytest
    PYTHONPATH=. /tmp/tensorflow/bin/python -m pytest --confcutdir=tests/annotation \\
        tests/annotation/test_read_by_tensorflow.py

Last run with Python 3.11.7, tensorflow-cpu 2.21.0, tensorflow-datasets 4.9.10, protobuf 7.36.2: all pass.
"""

import numpy as np
import pytest

from annotation import schema, shards

tf = pytest.importorskip("tensorflow", reason="TensorFlow reads the shards in its own environment only")
import tensorflow_datasets as tfds  # noqa: E402


@pytest.fixture
def packed(tmp_path, make_record, write_journal, photo, read_shard):
    """A directory with two splits, and what our independent reader finds in `train`, by image id."""
    (tmp_path / "images").mkdir()
    found = []
    for n in range(40):
        name, width, height = f"photo {n}.jpg", 200 + n, 300 - n
        (tmp_path / "images" / name).write_bytes(photo(width, height))
        fields = {
            "people_complete": n % 2 == 0,
            "activity": f"activity é {n}",
            "category": "" if n % 3 else "c",
        }
        found.append(make_record(name, 1 + n % 4, **fields))
    write_journal(
        tmp_path / "journal", found, lambda r: [f"{r.image_id}: ä {n}" for n in range(1 + len(r.people))]
    )
    for split, count in (("train", 3), ("validation", 1)):
        options = shards.Options(tmp_path / "images", split, "test", size=128, shards=count)
        shards.pack(tmp_path / "journal", tmp_path / "out", options, print)
    examples = [e for path in sorted((tmp_path / "out").glob("test-train.tf*")) for e in read_shard(path)]
    assert len(examples) == 40
    return tmp_path / "out", examples


def check(example, expected):
    """example: {name: numpy value} as TensorFlow gives it, the image decoded."""
    assert set(example) == set(expected)
    for name in schema.SHAPES:
        array = np.reshape(expected[name], schema.SHAPES[name])
        assert example[name].shape == array.shape
        np.testing.assert_array_equal(example[name], array.astype(example[name].dtype))
    for name in schema.TEXT_FEATURES:
        assert [example[name]] == expected[name]
    for name in schema.TEXT_LIST_FEATURES:
        assert list(example[name]) == expected[name]
    for name in schema.INT_FEATURES:
        assert [example[name]] == expected[name]
    assert example[schema.IMAGE].shape == (expected[schema.HEIGHT][0], expected[schema.WIDTH][0], 3)
    np.testing.assert_array_equal(example[schema.IMAGE], tf.io.decode_jpeg(expected[schema.IMAGE][0]).numpy())


def test_tf_data_reads_every_field(packed):
    directory, expected = packed
    any_length = dict.fromkeys(schema.TEXT_LIST_FEATURES, tf.io.RaggedFeature(tf.string))
    any_length |= dict.fromkeys((schema.VISIBILITY, schema.OCCLUDED), tf.io.RaggedFeature(tf.int64))
    any_length[schema.JOINTS] = tf.io.RaggedFeature(tf.float32)
    one = dict.fromkeys((*schema.TEXT_FEATURES, schema.IMAGE), tf.io.FixedLenFeature((), tf.string))
    one |= dict.fromkeys(schema.INT_FEATURES, tf.io.FixedLenFeature((), tf.int64))
    files = sorted(str(path) for path in directory.glob("test-train.tfrecord-*"))
    records = list(tf.data.TFRecordDataset(files))
    assert len(records) == len(expected)
    for record, theirs in zip(records, expected, strict=True):
        example = {k: v.numpy() for k, v in tf.io.parse_single_example(record, any_length | one).items()}
        for name, shape in schema.SHAPES.items():
            example[name] = example[name].reshape(shape)
        example[schema.IMAGE] = tf.io.decode_jpeg(example[schema.IMAGE]).numpy()
        check(example, theirs)


def test_tfds_reads_every_field(packed):
    directory, expected = packed
    builder = tfds.builder_from_directory(directory)
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": 40,
        "validation": 40,
    }
    by_id = {e[schema.IMAGE_ID][0]: e for e in expected}
    found = list(tfds.as_numpy(builder.as_dataset(split="train", shuffle_files=False)))
    assert len({e[schema.IMAGE_ID] for e in found}) == len(found) == 40
    for example in found:
        check(example, by_id[example[schema.IMAGE_ID]])
    assert len(list(builder.as_dataset(split="validation[25%:75%]"))) == 20


def test_tf_data_finds_a_flipped_bit(packed):
    path = next(packed[0].glob("test-train.tfrecord-*"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(tf.errors.DataLossError):
        list(tf.data.TFRecordDataset(str(path)))
