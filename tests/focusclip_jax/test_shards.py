import json
import pickle
import shutil

import numpy as np
import pytest

from annotation import schema, shard_index
from focusclip_jax.data import bucket, images
from focusclip_jax.data import shards as reading
from focusclip_jax.data.heatmaps import original_joints
from focusclip_jax.data.shards import Shards
from focusclip_jax.errors import UserError


@pytest.fixture
def rows(row):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(9):
        people = i % 3
        visibility = rng.integers(0, 3, (people, 16))
        rows.append(
            row(
                image_id=f"{i}.jpg",
                joints=rng.uniform(-20, 300, (people, 16, 2)),
                visibility=visibility,
                captions=tuple(f"caption {i} {c} é" for c in range(i % 4)),
                original=(480, 640),
            )
        )
    return rows


@pytest.mark.parametrize("indexed", [True, False])
def test_every_field_of_every_example_is_read_back(pack, rows, indexed):
    shards = Shards.open(pack(rows, indexed=indexed))
    assert len(shards) == len(rows)
    for i in np.random.default_rng(1).permutation(len(rows)):
        example, row = shards.read(i), rows[i]
        assert (example.image_id, example.captions) == (row.image_id, row.captions)
        assert (example.height, example.width) == (48, 64)
        assert (example.original_height, example.original_width) == (480, 640)
        assert (example.activity, example.category, example.people_complete) == ("running", "sports", True)
        assert example.caption_sources == tuple(f"writer {n}" for n in range(len(row.captions)))
        assert example.image.startswith(b"\xff\xd8")
        np.testing.assert_array_equal(example.visibility, row.visibility)
        expected = np.where(row.visibility[..., None] == schema.MISSING, np.nan, row.joints)
        np.testing.assert_array_equal(example.joints, expected.astype(np.float32))
        assert example.occluded.shape == row.visibility.shape


def test_a_pickled_reader_reads_the_same(pack, rows):
    shards = Shards.open(pack(rows))
    shards.read(0)
    copy = pickle.loads(pickle.dumps(shards))
    assert [copy.read(i).image_id for i in range(9)] == [row.image_id for row in rows]


@pytest.mark.parametrize("byte", [2, 9, 12, 500, -1])
def test_a_flipped_bit_anywhere_is_named_by_file_and_record(pack, rows, byte):
    directory = pack(rows, shards=1)
    path = directory / "toy-train.tfrecord-00000-of-00001"
    index = np.load(directory / "toy-train.index-00000-of-00001.npz")
    start, length = int(index["offset"][4]), int(index["length"][4])
    data = bytearray(path.read_bytes())
    data[start + byte % (length + 16)] ^= 4
    path.write_bytes(data)
    shards = Shards.open(directory)
    assert shards.read(3).image_id == "3.jpg"
    assert shards.read(5).image_id == "5.jpg"
    with pytest.raises(UserError, match=r"toy-train.tfrecord-00000-of-00001 record 4: damaged"):
        shards.read(4)


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("cut", [1, 10, 300])
def test_a_shard_cut_off_at_its_end_is_refused_at_once(pack, rows, indexed, cut):
    directory = pack(rows, indexed=indexed)
    path = directory / "toy-train.tfrecord-00001-of-00002"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(UserError, match=r"toy-train.tfrecord-00001-of-00002"):
        Shards.open(directory)


def test_a_broken_index_is_named(pack, rows):
    directory = pack(rows)
    (directory / "toy-train.index-00001-of-00002.npz").write_bytes(b"PK not a zip")
    with pytest.raises(UserError, match=r"toy-train.index-00001-of-00002.npz: not a shard index"):
        Shards.open(directory)


def test_damage_of_an_index_is_found_in_every_bit_and_deleting_it_mends(pack, rows):
    directory = pack(rows, shards=1)
    whole = Shards.open(directory).fingerprint()
    path = directory / "toy-train.index-00000-of-00001.npz"
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        with pytest.raises(UserError, match=r"not a shard index \(damaged.*delete it to have it rebuilt"):
            Shards.open(directory)
    path.unlink()
    assert Shards.open(directory).fingerprint() == whole


def test_a_whole_record_that_its_index_was_not_made_of_is_refused(pack, rows):
    """Same name, same size, sound checksums: a shard of another packing."""
    old = pack(rows)
    index = {path.name: path.read_bytes() for path in old.glob("*.npz")}
    rows[5].captions = tuple(caption.replace("5", "7") for caption in rows[5].captions)
    directory = pack(rows)
    for name, data in index.items():
        (directory / name).write_bytes(data)
    shards = Shards.open(directory)
    assert shards.read(4).image_id == "4.jpg"
    with pytest.raises(UserError, match=r"of-00002 record 0: not the record that its index was made of"):
        shards.read(5)


def test_an_index_with_a_gap_is_refused(pack, rows):
    directory = pack(rows, shards=1)
    path = directory / "toy-train.index-00000-of-00001.npz"
    index = shard_index.from_bytes(path.read_bytes())
    index.offset[3] += 16
    path.write_bytes(shard_index.to_bytes(index))
    with pytest.raises(UserError, match="records do not follow each other"):
        Shards.open(directory)


def test_more_shards_than_may_be_open_are_read_at_random(pack, rows, monkeypatch):
    monkeypatch.setattr(bucket, "MOST_MAPPED", 2)
    shards = Shards.open(pack(rows, shards=9))
    for i in np.random.default_rng(0).integers(0, 9, 200):
        assert shards.read(i).image_id == f"{i}.jpg"
    assert len(shards._places[0]._maps) <= 2


@pytest.mark.parametrize("stretch", [1, 9000, 1 << 20])
def test_all_examples_in_order_are_those_read_one_by_one(pack, rows, monkeypatch, stretch):
    monkeypatch.setattr(reading, "_STRETCH", stretch)
    shards = Shards.open(pack(rows))
    singly = [shards.read(i) for i in range(len(shards))]
    assert [e.image for e in shards] == [e.image for e in singly]
    assert list(shards.texts()) == [(e.activity, e.captions) for e in singly]
    assert [e.image_id for e in shards.read_each(np.array([8, 0, 3]))] == ["8.jpg", "0.jpg", "3.jpg"]


def test_an_older_schema_is_refused(pack, row):
    shards = Shards.open(pack([row(schema_version=7)], shards=1))
    with pytest.raises(UserError, match="schema_version 7"):
        shards.read(0)


def test_a_missing_shard_is_named(pack, rows):
    directory = pack(rows, shards=3)
    (directory / "toy-train.tfrecord-00001-of-00003").unlink()
    with pytest.raises(UserError, match=r"toy-train.tfrecord-00001-of-00003 is missing"):
        Shards.open(directory)


def test_the_split_is_the_only_one_or_the_one_asked_for(pack, row):
    directory = pack([row(image_id="train")], shards=1)
    assert Shards.open(directory, split="validation").read(0).image_id == "train"
    pack([row(image_id="validation")], shards=1, split="validation")
    assert Shards.open(directory, split="train").read(0).image_id == "train"
    assert Shards.open(directory, split="validation").read(0).image_id == "validation"
    with pytest.raises(UserError, match="no split 'test'; it holds train, validation"):
        Shards.open(directory, split="test")


def test_a_pattern_takes_just_what_it_matches(pack, rows):
    directory = pack(rows, shards=3)
    shards = Shards.open(f"{directory}/*-train.tfrecord-0000[12]-*")
    assert [shards.read(i).image_id for i in range(len(shards))] == [f"{i}.jpg" for i in range(3, 9)]
    assert "tfrecord-00002-of-00003 record 1" in shards.where(4)


def test_two_data_sets_in_one_directory_are_not_mixed(pack, rows):
    directory = pack(rows, shards=1)
    shutil.copy(
        directory / "toy-train.tfrecord-00000-of-00001", directory / "other-train.tfrecord-00000-of-00001"
    )
    with pytest.raises(UserError, match="several sets of shards"):
        Shards.open(directory)


def test_no_shards_at_all_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="holds no shards"):
        Shards.open(tmp_path)
    with pytest.raises(UserError, match="no such directory of shards"):
        Shards.open(tmp_path / "nowhere")


def test_the_fingerprint_tells_any_change_and_only_a_change(pack, rows, row):
    first = Shards.open(pack(rows)).fingerprint()
    assert Shards.open(pack(rows, indexed=False)).fingerprint() == first
    rows[3].captions = (*rows[3].captions[:-1], "caption 3 2 è")
    changed = Shards.open(pack(rows)).fingerprint()
    rows[3], rows[4] = rows[4], rows[3]
    reordered = Shards.open(pack(rows)).fingerprint()
    assert len({first, changed, reordered}) == 3


def test_what_annotate_packs_is_what_is_read(run_module, tmp_path):
    """Across both packages, by a user's commands: joints, captions and fingerprint arrive unchanged."""
    out = tmp_path / "figures"
    describe = "describe --source=figures:3 --figures-count=11 --figures-size=96 --figures-people=2"
    for command in (
        f"{describe} --describer=geometry --out={out}",
        f"pack --journal={out} --split=train --out={out}/shards --shards=2 --size=48",
    ):
        done = run_module("annotation", *command.split())
        assert done.returncode == 0, done.stderr
    shards = Shards.open(out / "shards")
    examples = {e.image_id: e for e in (shards.read(i) for i in range(len(shards)))}
    records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert examples.keys() == {record["image_id"] for record in records}
    journal = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    captions = {row["image_id"]: [(c["text"], c["source"]) for c in row["captions"]] for row in journal}
    for record in records:
        example = examples[record["image_id"]]
        assert (example.height, example.width, example.original_height, example.original_width) == (
            48,
            48,
            96,
            96,
        )
        written = zip(example.captions, example.caption_sources, strict=True)
        assert sorted(written) == sorted(captions[record["image_id"]])
        assert example.activity == record["activity"]
        joints = [[j or (np.nan, np.nan) for j in person["joints"]] for person in record["people"]]
        returned = original_joints(example.joints, (48, 48), (96, 96))
        np.testing.assert_allclose(returned, np.array(joints, float), atol=1e-3)
        assert images.decode(example.image).shape == (48, 48, 3)
    manifest = json.loads((out / "shards" / "shards-train.manifest.json").read_text())
    assert shards.fingerprint() == manifest["fingerprint"]
