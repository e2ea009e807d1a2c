import dataclasses
import io
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from annotation import __main__ as cli
from annotation import examples, parts, records, schema, shards
from annotation.errors import UserError

SHORT, LONG = 90, 120


@pytest.fixture
def pack(tmp_path):
    """Pack `tmp_path/journal` with `tmp_path/images` into `tmp_path/out`; returns what was said."""

    def run(out="out", split="train", dataset="test", journal="journal", images="images", **options):
        said = []
        options = shards.Options(tmp_path / images, split, dataset, **options)
        shards.pack(tmp_path / journal, tmp_path / out, options, said.append)
        return said

    return run


@pytest.fixture
def some(tmp_path, make_record, write_journal, photo):
    """Twelve photographs of several sizes with one to three people, in a journal."""
    found = []
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for n in range(12):
        name = f"{'sub/' if n % 3 == 0 else ''}photo {n}.jpg"
        width, height = 300 + 40 * n, 280 + n
        (tmp_path / "images" / name).write_bytes(photo(width, height))
        fields = {"width": width, "height": height, "people_complete": n % 2 == 0}
        found.append(make_record(name, 1 + n % 3, activity=f"activity {n}", category="é", **fields))
    write_journal(tmp_path / "journal", found)
    return found


def contents(directory):
    return {p.name: p.read_bytes() for p in directory.iterdir() if "manifest" not in p.name}


def stored(directory, read_shard):
    found = [e for path in sorted(directory.glob("*.tfrecord-*")) for e in read_shard(path)]
    return {example[schema.IMAGE_ID][0].decode(): example for example in found}


# ------------------------------------------------------------------------------------------ round trip


def test_every_field_comes_back(tmp_path, some, pack, read_shard):
    pack(shards=3)
    found = stored(tmp_path / "out", read_shard)
    assert len(found) == len(some)
    for record in some:
        e = found[record.image_id]
        assert set(e) == {value for name, value in vars(schema).items() if name in FEATURES}
        width, height = e[schema.WIDTH][0], e[schema.HEIGHT][0]
        image = Image.open(io.BytesIO(e[schema.IMAGE][0]))
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (width, height))
        assert min(width, height) == 256
        assert abs(width / height - record.width / record.height) < 0.01
        assert (e[schema.ORIGINAL_WIDTH][0], e[schema.ORIGINAL_HEIGHT][0]) == (record.width, record.height)
        joints = np.reshape(e[schema.JOINTS], schema.SHAPES[schema.JOINTS])
        scale = [width / record.width, height / record.height]
        for person, expected in zip(joints, record.people, strict=True):
            missing = expected.visibility == schema.MISSING
            back = (person + 0.5) / scale - 0.5
            np.testing.assert_allclose(back[~missing], expected.joints[~missing], atol=1e-4)
            assert (person[missing] == 0).all()
        visibility = [v for person in record.people for v in person.visibility]
        assert e[schema.VISIBILITY] == visibility
        assert e[schema.OCCLUDED] == [o for person in record.people for o in person.occluded]
        assert e[schema.PEOPLE_COMPLETE] == [record.people_complete]
        assert e[schema.ACTIVITY][0].decode() == record.activity
        assert e[schema.CATEGORY][0].decode() == record.category
        expected = [f"Caption {n} of {record.image_id}, né." for n in (0, 1)]
        assert [text.decode() for text in e[schema.CAPTIONS]] == expected
        assert e[schema.CAPTION_SOURCES] == [b"test/0", b"test/1"]
        assert e[schema.SCHEMA_VERSION] == [schema.VERSION]


FEATURES = (
    *("IMAGE_ID", "IMAGE", "HEIGHT", "WIDTH", "ORIGINAL_HEIGHT", "ORIGINAL_WIDTH", "JOINTS", "VISIBILITY"),
    *("OCCLUDED", "PEOPLE_COMPLETE", "ACTIVITY", "CATEGORY", "CAPTIONS", "CAPTION_SOURCES", "SCHEMA_VERSION"),
)


def test_the_index_says_where_records_lie(tmp_path, some, pack):
    pack(shards=2)
    for n in range(2):
        data = (tmp_path / "out" / schema.shard_name("test", "train", n, 2)).read_bytes()
        index = np.load(tmp_path / "out" / schema.index_name("test", "train", n, 2))
        assert index["size"] == len(data)
        assert (index["offset"].dtype, index["length"].dtype) == (np.uint64, np.uint32)
        at = 0
        for offset, length, checksum in zip(index["offset"], index["length"], index["checksum"], strict=True):
            assert offset == at
            assert int.from_bytes(data[at : at + 8], "little") == length
            at += 16 + int(length)
            assert int.from_bytes(data[at - 4 : at], "little") == checksum
        assert at == len(data)


def test_an_address_is_not_taken_for_a_folder(tmp_path, some, pack, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for part in (None, parts.Part(1, 2)):
        with pytest.raises(UserError, match=r"^gs://bucket/out: expected a folder to write into; copy it"):
            shards.pack(
                tmp_path / "journal",
                pathlib.Path("gs://bucket/out"),
                shards.Options(tmp_path / "images", "train", "test"),
                print,
                part,
            )
    assert not (tmp_path / "gs:").exists()


def test_a_joint_stays_on_what_it_marks(tmp_path, make_record, write_journal, photo, pack, read_shard):
    """The centre of a white square lies where its joint was moved to, also after decoding at half size."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(photo(1281, 721, quality=100, square=(801, 101, 880, 140)))
    record = make_record("a.jpg")
    joints = record.people[0].joints.copy()
    joints[0] = (801 + 879) / 2, (101 + 139) / 2
    write_journal(tmp_path / "journal", [dataclasses.replace(record, people=(records.person(joints),))])
    for size in (256, (224, 224), 700):
        pack(out=str(size), size=size)
        (e,) = stored(tmp_path / str(size), read_shard).values()
        image = np.asarray(Image.open(io.BytesIO(e[schema.IMAGE][0])).convert("L"), float)
        y, x = np.nonzero(image > 180)
        assert len(x) > 50
        np.testing.assert_allclose(e[schema.JOINTS][:2], [x.mean(), y.mean()], atol=0.3)


def test_neither_order_nor_number_of_processors_changes_a_byte(
    tmp_path, some, pack, write_journal, monkeypatch
):
    pack(shards=3)
    shuffled = some[:]
    random.Random(0).shuffle(shuffled)
    write_journal(tmp_path / "journal2", shuffled)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    pack(out="out2", journal="journal2", shards=3)
    assert contents(tmp_path / "out") == contents(tmp_path / "out2")


def test_a_shard_is_sorted_and_chosen_by_id_alone(tmp_path, some, pack, read_shard):
    pack(shards=3)
    for n in range(3):
        path = tmp_path / "out" / schema.shard_name("test", "train", n, 3)
        ids = [e[schema.IMAGE_ID][0].decode() for e in read_shard(path)]
        assert ids == sorted(ids)
        assert {parts.bucket(image_id, 3) for image_id in ids} == {n}


# ---------------------------------------------------------------------------------------------- images


def one_image(tmp_path, make_record, write_journal, data, **fields):
    (tmp_path / "images").mkdir(exist_ok=True)
    (tmp_path / "images" / "a.jpg").write_bytes(data)
    write_journal(tmp_path / "journal", [make_record("a.jpg", **fields)])


def test_a_photograph_that_needs_no_change_keeps_its_bytes(
    tmp_path, make_record, write_journal, photo, pack, read_shard
):
    data = photo(600, 500, quality=71, subsampling="4:2:0")
    one_image(tmp_path, make_record, write_journal, data)
    pack(size=None)
    assert stored(tmp_path / "out", read_shard)["a.jpg"][schema.IMAGE] == [data]
    pack(out="larger", size=512)
    assert stored(tmp_path / "larger", read_shard)["a.jpg"][schema.IMAGE] == [data]
    pack(out="smaller", size=499)
    assert stored(tmp_path / "smaller", read_shard)["a.jpg"][schema.IMAGE] != [data]


@pytest.mark.parametrize(
    ("mode", "format"),
    [("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("1", "PNG")],
)
@pytest.mark.parametrize("size", [None, 64])
def test_other_images_become_rgb_jpegs(
    tmp_path, make_record, write_journal, photo, pack, read_shard, mode, format, size
):
    data = photo(LONG, SHORT, mode, format)
    one_image(tmp_path, make_record, write_journal, data)
    pack(size=size)
    image = Image.open(io.BytesIO(stored(tmp_path / "out", read_shard)["a.jpg"][schema.IMAGE][0]))
    assert (image.format, image.mode) == ("JPEG", "RGB")
    kept_colours = [(1, 1)] * 3 if size is None else [(2, 2), (1, 1), (1, 1)]  # 4:4:4, 4:2:0
    assert [layer[1:3] for layer in image.layer] == kept_colours
    if mode != "1":
        expected = Image.open(io.BytesIO(data)).convert("RGB").resize(image.size, Image.Resampling.BICUBIC)
        most = 10 if mode == "P" and size else 4  # dithered colours of 64 by 85 pixels are lost with 4:2:0
        assert np.abs(np.asarray(image, float) - np.asarray(expected, float)).mean() < most


def test_exif_orientation_is_dropped_and_said(tmp_path, make_record, write_journal, photo, pack, read_shard):
    exif = Image.Exif()
    exif[0x0112] = 6
    one_image(tmp_path, make_record, write_journal, photo(LONG, SHORT, exif=exif), width=LONG, height=SHORT)
    assert "EXIF orientation of 1 " in pack(size=None)[0]
    e = stored(tmp_path / "out", read_shard)["a.jpg"]
    image = Image.open(io.BytesIO(e[schema.IMAGE][0]))
    assert image.getexif().get(0x0112) is None
    assert image.size == (e[schema.WIDTH][0], e[schema.HEIGHT][0]) == (LONG, SHORT)


def test_sizes():
    assert examples.stored_size((1280, 720), 256) == (455, 256)
    assert examples.stored_size((720, 1280), 256) == (256, 455)
    assert examples.stored_size((200, 100), 256) == (200, 100)
    assert examples.stored_size((200, 100), (224, 224)) == (224, 224)
    assert examples.stored_size((200, 100), None) == (200, 100)
    assert [shards.parse_size(text) for text in ("256", "224x200", "original")] == [256, (224, 200), None]
    for text in ("", "0", "224x", "big", "-3"):
        with pytest.raises(UserError, match=f"--size={text}: expected a short side"):
            shards.parse_size(text)


# ---------------------------------------------------------------------------------- packing once more


def test_what_is_packed_already_is_left_alone(tmp_path, some, pack):
    assert "packed 12 images with 24 captions into 1 shard" in pack()[-1]
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir() if p.name != ".lock"}
    assert "already packed: 12 images" in pack()[-1]
    assert before == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir() if p.name != ".lock"}


def test_whatever_changes_is_packed_anew(tmp_path, some, pack, write_journal, photo):
    pack(shards=2)
    assert "already" not in pack(shards=2, quality=80)[-1]
    assert "already" not in pack(shards=1)[-1]
    assert (
        len(list((tmp_path / "out").glob("*.tfrecord-*"))) == len(list((tmp_path / "out").glob("*.npz"))) == 1
    )
    (tmp_path / "images" / some[1].image_id).write_bytes(photo(some[1].width, some[1].height, quality=50))
    assert "already" not in pack(shards=1)[-1]
    write_journal(tmp_path / "journal", [dataclasses.replace(r, activity="other") for r in some])
    assert "already" not in pack(shards=1)[-1]
    next((tmp_path / "out").glob("*.tfrecord-*")).unlink()
    assert "already" not in pack(shards=1)[-1]
    assert "already" in pack(shards=1)[-1]


def test_splits_share_a_directory_and_its_metadata(tmp_path, some, pack):
    pack(split="train", shards=2)
    train = contents(tmp_path / "out")
    pack(split="validation")
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text())
    assert info["name"] == "test"
    assert [(s["name"], s["shardLengths"]) for s in info["splits"]][1] == ("validation", ["12"])
    assert sum(map(int, info["splits"][0]["shardLengths"])) == 12
    for name in train:
        if "train" in name:
            assert (tmp_path / "out" / name).read_bytes() == train[name]
    with pytest.raises(UserError, match="holds the data set 'test' already; choose another --out"):
        pack(split="train", dataset="other")


def test_tfds_knows_the_features_without_tensorflow(tmp_path, some, pack):
    import tensorflow_datasets as tfds

    pack(shards=2)
    builder = tfds.builder_from_directory(tmp_path / "out")
    assert builder.info.splits["train"].num_examples == 12
    assert builder.info.features[schema.JOINTS].shape == (None, 16, 2)
    assert set(builder.info.features) == {getattr(schema, name) for name in FEATURES}
    shard_names = [os.path.basename(path) for path in builder.info.splits["train"].filepaths]
    assert shard_names == [schema.shard_name("test", "train", n, 2) for n in range(2)]


# -------------------------------------------------------------------------------------------- mistakes


def test_missing_photographs_are_named_or_left_out_by_request(tmp_path, some, pack, read_shard):
    for record in some[:2]:
        (tmp_path / "images" / record.image_id).unlink()
    with pytest.raises(
        UserError, match=r"images: 2 of 12 images are not there \(sub/photo 0.jpg, photo 1.jpg\)"
    ):
        pack()
    assert "left out 2 of 12 images" in pack(allow_missing=True)[0]
    assert set(stored(tmp_path / "out", read_shard)) == {record.image_id for record in some[2:]}


def test_an_image_without_caption_is_named(tmp_path, some, pack, write_journal):
    shutil.rmtree(tmp_path / "journal")
    write_journal(tmp_path / "journal", some, lambda record: [] if record is some[4] else ["Standing."])
    with pytest.raises(UserError, match=r"no caption for 1 of 12 images \(photo 4.jpg\)"):
        pack()


def test_a_caption_of_other_joints_is_not_used(tmp_path, some, pack, write_journal, make_record):
    """Joints edited after they were described: the old caption may be wrong now."""
    changed = [make_record(some[0].image_id, seed=1), *some[1:]]
    (tmp_path / "journal" / "records.jsonl").write_text("".join(records.to_json(r) + "\n" for r in changed))
    with pytest.raises(UserError, match=r"no caption for 1 of 12 images \(sub/photo 0.jpg\)"):
        pack()


def test_a_damaged_photograph_is_named(tmp_path, some, pack, photo):
    path = tmp_path / "images" / some[3].image_id
    for data in (b"", b"not an image", photo(some[3].width, some[3].height)[:-400]):
        path.write_bytes(data)
        for size in (None, 256):
            with pytest.raises(UserError, match=r"photo 3.jpg: cannot be decoded as an image"):
                pack(size=size)
    assert not list((tmp_path / "out").glob("*.tfrecord-*"))


def test_a_photograph_of_another_size_is_named(tmp_path, some, pack, photo):
    (tmp_path / "images" / some[3].image_id).write_bytes(photo(some[3].height, some[3].width))
    with pytest.raises(UserError, match=r"photo 3.jpg: is 283x420 pixels, its annotation says 420x283"):
        pack()


def test_joints_of_a_wrong_shape_are_named(tmp_path, some, pack):
    path = tmp_path / "journal" / "records.jsonl"
    lines = path.read_text().splitlines()
    row = json.loads(lines[2])
    row["people"][0]["joints"].append([1, 2])
    path.write_text("\n".join([*lines[:2], json.dumps(row), *lines[3:]]) + "\n")
    with pytest.raises(UserError, match=r"records.jsonl: line 3: not a record \(joints of shape \(17, 2\)"):
        pack()


@pytest.mark.parametrize("line", [b"\xff\xfe", b"3", b"{}", b'{"image_id": "a.jpg", "people": [1]}', b""])
def test_a_damaged_record_is_named(tmp_path, some, pack, line):
    path = tmp_path / "journal" / "records.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:2], line, *lines[3:]]))
    with pytest.raises(UserError, match=r"records.jsonl: line 3: not a record"):
        pack()


def test_other_mistakes_are_named(tmp_path, some, pack):
    with pytest.raises(UserError, match=r"--shards=50: leaves a shard empty with 12 images"):
        pack(shards=50)
    with pytest.raises(UserError, match=r"--split=a-b: expected letters"):
        pack(split="a-b")
    with pytest.raises(UserError, match=r"--dataset=é: expected letters"):
        pack(dataset="é")
    with pytest.raises(UserError, match=r"nowhere/records.jsonl: not there; `annotate describe"):
        pack(journal="nowhere")


# ------------------------------------------------------------------------------------------------ kill


def test_killed_between_the_renames_it_is_packed_anew(tmp_path, some, pack):
    pack(shards=3)
    whole = contents(tmp_path / "out")
    out = tmp_path / "out"
    (out / "test-train.manifest.json").unlink()
    (out / schema.shard_name("test", "train", 1, 3)).unlink()
    (out / schema.shard_name("test", "train", 0, 7)).write_bytes(b"of a split with more shards")
    (out / ".test-train.partial").mkdir()
    (out / ".test-train.partial" / "rest").write_bytes(b"left over")
    assert "already" not in pack(shards=3)[-1]
    assert contents(out) == whole


def test_killed_at_any_moment_it_ends_with_the_same_bytes(tmp_path, write_journal, make_record, photo):
    (tmp_path / "images").mkdir()
    found = [make_record(f"{n:03d}.jpg") for n in range(250)]
    data = photo(480, 400)
    for record in found:
        (tmp_path / "images" / record.image_id).write_bytes(data)
    write_journal(tmp_path / "journal", found)
    flags = ["pack", f"--journal={tmp_path / 'journal'}", f"--images={tmp_path / 'images'}", "--split=train"]
    flags += ["--dataset=test", "--shards=4"]
    assert cli.main([*flags, f"--out={tmp_path / 'whole'}"]) == 0

    out = tmp_path / "out"
    for shards_written in (0, 2):  # killed in the first shard, then in the third
        with subprocess.Popen(
            [sys.executable, "-m", "annotation", *flags, f"--out={out}"],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.DEVNULL,
        ) as process:
            while len(list(out.glob(".*partial/*.npz"))) < shards_written or not list(
                out.glob(".*partial/*.tfrecord-*")
            ):
                time.sleep(0.002)
                assert process.poll() is None
            process.send_signal(signal.SIGKILL)
        assert not list(out.glob("test-*"))
    assert cli.main([*flags, f"--out={out}"]) == 0
    assert contents(out) == contents(tmp_path / "whole")
