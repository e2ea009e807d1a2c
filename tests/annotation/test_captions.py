"""The released MPII Pose Descriptions, read as a source and taken over with their captions."""

import csv
import json

import numpy as np
import pytest

from annotation import __main__ as cli
from annotation import journal, records, schema
from annotation.errors import UserError
from annotation.sources import captions, mpii
from annotation.sources.reading import Notes

FOLDERS = {
    "gpt-3.5-turbo-0301": "gpt-3.5-turbo-0301",
    "gpt-3.5-turbo-0613": "gpt-3.5-turbo-0613",
    "gpt-4-0613": "gpt-4-0613",
    "llama-2-70b-chat-hf": "llama-2-70b-chat",
}


def row(image="1.jpg", description="One person stands.", seed=0, people=1, **fields):
    """One row of the released files, with a missing joint for each person."""
    rng = np.random.default_rng(seed)

    def person(number):
        kpts = rng.uniform(1, 700, (16, 2)).round(4).tolist()
        kpts[5] = [-1.0, -1.0]
        center = [594.0, 257.0]
        return {
            "id": number,
            "center": center,
            "scale": 3.02,
            "kpts": kpts,
            "kpts_vis": [int(n != 5) for n in range(16)],
        }

    return {
        "image": image,
        "video_id": 7,
        "video_frame": 12,
        "activity_id": 106,
        "activity": "sports, curling",
        "count": people,
        "people": [person(number) for number in range(people)],
        "description": description,
    } | fields


@pytest.fixture
def release(tmp_path):
    """Write {folder/split: rows} as the release lies on the hub; returns its folder."""

    def write(files):
        for name, rows in files.items():
            path = tmp_path / "release" / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(rows))
        return tmp_path / "release"

    return write


@pytest.fixture
def import_(tmp_path, capsys):
    """import_(folder, *flags): what it said, or the error; the journals are tmp_path / "journals"."""

    def run(folder, *flags, code=0):
        command = ["import-captions", f"--from={folder}", f"--out={tmp_path / 'journals'}", *flags]
        assert cli.main(command) == code
        return capsys.readouterr().err

    return run


def imported(directory):
    """{image: [(source, text)]} as pack will see it."""
    found = journal.captions_by_input(directory)
    return {
        record.image_id: [(c.source, c.text) for c in found.get(journal.input_hash(record), [])]
        for record in journal.read_records(directory)
    }


def all_four(split_rows):
    """The four models' files of the release: gpt-4 has no validation captions."""
    return {
        f"{folder}/{split}": [r | {"description": f"{folder} on {r['image']}."} for r in rows]
        for folder in FOLDERS
        for split, rows in split_rows.items()
        if (folder, split) != ("gpt-4-0613", "val")
    }


# ---------------------------------------------------------------------------------------------- rows


def test_a_row_becomes_a_record(release):
    folder = release({"gpt-4-0613/train": [row(people=2)]})
    (record,) = captions.read(folder / "gpt-4-0613" / "train.json", Notes())
    assert (record.image_id, record.category, record.activity) == ("1.jpg", "sports", "curling")
    assert len(record.people) == 2
    for person, given in zip(record.people, row(people=2)["people"], strict=True):
        expected = np.array(given["kpts"]) - 1
        expected[5] = np.nan
        np.testing.assert_array_equal(person.joints, expected)
        assert person.visibility.tolist() == [schema.LABELLED] * 5 + [schema.MISSING] + [schema.LABELLED] * 10
    assert record.extra["video_id"] == 7


@pytest.mark.parametrize(
    ("kpt", "visible", "there"),
    [([-1, -1], 0, False), ([-1, -1], 1, False), ([5, 6], 0, False), ([-3, 8], 1, True), ([5, -1], 1, True)],
)
def test_which_joints_are_missing(release, kpt, visible, there):
    given = row()
    given["people"][0]["kpts"][0], given["people"][0]["kpts_vis"][0] = kpt, visible
    folder = release({"gpt-4-0613/train": [given]})
    (record,) = captions.read(folder / "gpt-4-0613" / "train.json", Notes())
    assert (record.people[0].visibility[0] != schema.MISSING) == there


def test_an_activity_is_divided_at_its_first_comma(release):
    activities = ["sports, curling", "home activities, cooking, or baking", "dancing", ""]
    rows = [row(f"{n}.jpg", activity=activity) for n, activity in enumerate(activities)]
    folder = release({"gpt-4-0613/train": rows})
    found = list(captions.read(folder / "gpt-4-0613" / "train.json", Notes()))
    assert [(r.category, r.activity) for r in found] == [
        ("sports", "curling"),
        ("home activities", "cooking, or baking"),
        ("", "dancing"),
        ("", ""),
    ]


def test_mpii_numbers_count_from_one_in_every_file(shared_data, release):
    """mmpose's numbers, which the release copies, are the CSV's; both readers give the same joints."""
    with open(shared_data / "mpii_images" / "test_mpii.json") as file:
        people = json.load(file)
    rows = [
        row(p["image"], people=0)
        | {
            "people": [
                {
                    "id": 0,
                    "center": p["center"],
                    "scale": p["scale"],
                    "kpts": p["joints"],
                    "kpts_vis": p["joints_vis"],
                }
            ]
        }
        for p in people
    ]
    folder = release({"gpt-4-0613/train": rows})
    found = {r.image_id: r for r in captions.read(folder / "gpt-4-0613" / "train.json", Notes())}
    path = shared_data / "mpii" / "mpii_human_pose.csv"
    with open(path, newline="") as file:
        raw = {line["NAME"]: line for line in csv.DictReader(file) if line["NAME"] in found}
    from_csv = {r.image_id: r for r in mpii.read_csv(path, Notes()) if r.image_id in found}
    assert len(from_csv) == 5
    for p in people:
        kpts, line = p["joints"][9], raw[p["image"]]
        assert kpts == pytest.approx([float(line["head top_X"]), float(line["head top_Y"])])
        both = [source[p["image"]].people[0] for source in (found, from_csv)]
        np.testing.assert_allclose(both[0].joints, both[1].joints, atol=1e-9)


# -------------------------------------------------------------------------------------------- import


def test_all_four_models_are_taken_over(tmp_path, release, import_):
    rows = {"train": [row(f"{n}.jpg", seed=n) for n in range(4)], "val": [row("v.jpg", seed=9)]}
    said = import_(release(all_four(rows)))
    assert "gpt-4-0613: no val.json; no other model's takes its place" in said
    assert said.count("no val.json") == 1
    train, val = (imported(tmp_path / "journals" / split) for split in ("train", "val"))
    assert list(train) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    for image, found in train.items():
        assert found == [(source, f"{folder} on {image}.") for folder, source in FOLDERS.items()]
    assert [source for source, _ in val["v.jpg"]] == [s for s in FOLDERS.values() if s != "gpt-4-0613"]
    before = (tmp_path / "journals" / "train" / "journal.jsonl").read_bytes()
    import_(tmp_path / "release")
    assert (tmp_path / "journals" / "train" / "journal.jsonl").read_bytes() == before


def test_pack_stores_what_was_taken_over(tmp_path, release, import_, photo, read_shard):
    import_(release(all_four({"train": [row(f"{n}.jpg", seed=n, people=n + 1) for n in range(3)]})))
    (tmp_path / "photos").mkdir()
    for n in range(3):
        (tmp_path / "photos" / f"{n}.jpg").write_bytes(photo())
    flags = [
        f"--images={tmp_path / 'photos'}",
        "--split=train",
        "--size=original",
        f"--out={tmp_path / 'out'}",
    ]
    assert cli.main(["pack", f"--journal={tmp_path / 'journals' / 'train'}", *flags]) == 0
    examples = read_shard(next((tmp_path / "out").glob("*.tfrecord-*")))
    assert len(examples) == 3
    for example in examples:
        image = example[schema.IMAGE_ID][0].decode()
        assert [text.decode() for text in example[schema.CAPTION_SOURCES]] == list(FOLDERS.values())
        assert example[schema.CAPTIONS][0].decode() == f"gpt-3.5-turbo-0301 on {image}."
        given = row(image, seed=int(image[0]), people=int(image[0]) + 1)
        joints = np.reshape(example[schema.JOINTS], (-1, 16, 2))
        assert len(joints) == given["count"]
        np.testing.assert_allclose(
            joints[:, 0], [np.array(p["kpts"][0]) - 1 for p in given["people"]], rtol=1e-6
        )


def test_some_models_by_either_name(tmp_path, release, import_):
    folder = release(all_four({"train": [row()]}))
    for name in ("llama-2-70b-chat", "llama-2-70b-chat-hf"):
        import_(folder, f"--models=gpt-4-0613,{name}")
        found = imported(tmp_path / "journals" / "train")["1.jpg"]
        assert [source for source, _ in found] == ["gpt-4-0613", "llama-2-70b-chat"]


def test_gpt_4_alone_still_says_that_its_validation_is_missing(release, import_):
    assert "gpt-4-0613: no val.json" in import_(release({"gpt-4-0613/train": [row()]}))


def test_another_models_captions_do_not_pass_for_gpt_4s(release, import_):
    same = [row("1.jpg", "One."), row("2.jpg", "Two.")]
    folder = release({"gpt-4-0613/val": same, "gpt-3.5-turbo-0613/val": same})
    said = import_(folder, code=2)
    assert "gpt-4-0613/val.json: holds the captions of gpt-3.5-turbo-0613" in said
    import_(folder, "--models=gpt-3.5-turbo-0613")


def test_paragraphs_become_one_text(tmp_path, release, import_, shared_data):
    with open(shared_data / "paper" / "sample_descriptions.json") as file:
        paragraphs = json.load(file)[0]["description"]
    said = import_(release({"gpt-4-0613/train": [row(description=paragraphs)]}))
    assert "1 captions given as a list of paragraphs, joined" in said
    ((_, text),) = imported(tmp_path / "journals" / "train")["1.jpg"]
    assert text.split("\n\n") == paragraphs


def test_corrected_captions_replace_the_former(tmp_path, release, import_):
    import_(release({"gpt-4-0613/train": [row(description="Wrong.")]}))
    import_(release({"gpt-4-0613/train": [row(description="Right.")]}))
    assert imported(tmp_path / "journals" / "train") == {"1.jpg": [("gpt-4-0613", "Right.")]}


def test_captions_of_other_joints_are_left_out_and_counted(tmp_path, release, import_):
    files = {
        "gpt-3.5-turbo-0613/train": [row("1.jpg", seed=1), row("2.jpg", seed=2)],
        "gpt-4-0613/train": [
            row("1.jpg", "Other joints.", seed=3),
            row("2.jpg", "Same.", seed=2, video_id=8),
        ],
    }
    said = import_(release(files))
    assert "1 captions of gpt-4-0613 left out: gpt-3.5-turbo-0613 gives other joints" in said
    assert "1 rows of gpt-4-0613 with other fields than gpt-3.5-turbo-0613's" in said
    found = imported(tmp_path / "journals" / "train")
    assert [source for source, _ in found["1.jpg"]] == ["gpt-3.5-turbo-0613"]
    assert [source for source, _ in found["2.jpg"]] == ["gpt-3.5-turbo-0613", "gpt-4-0613"]


def test_empty_captions_are_left_out_and_counted(tmp_path, release, import_):
    said = import_(release({"gpt-4-0613/train": [row("1.jpg"), row("2.jpg", " ")]}))
    assert "1 empty captions of gpt-4-0613, left out" in said
    assert list(imported(tmp_path / "journals" / "train")) == ["1.jpg"]


def test_images_keep_an_order_that_agrees_with_every_file(tmp_path, release, import_):
    orders = {"a": "24", "b": "1235", "c": "345"}
    rows = {n: row(f"{n}.jpg", seed=int(n)) for n in "12345"}
    import_(release({f"{model}/train": [rows[n] for n in order] for model, order in orders.items()}))
    merged = "".join(image[0] for image in imported(tmp_path / "journals" / "train"))
    assert sorted(merged) == list("12345")
    for order in orders.values():
        assert [n for n in merged if n in order] == list(order)


def test_as_a_source_it_is_described_anew(tmp_path, release):
    folder = release({"gpt-4-0613/train": [row(), row("2.jpg", seed=2), row("2.jpg", "Again.", seed=2)]})
    path = folder / "gpt-4-0613" / "train.json"
    command = [f"--source=captions:{path}", "--describer=geometry", f"--out={tmp_path / 'out'}"]
    assert cli.main(["describe", *command]) == 0
    found = imported(tmp_path / "out")
    assert [len(texts) for texts in found.values()] == [4, 4]
    assert all(source.startswith("geometry") for source, _ in found["2.jpg"])


# ------------------------------------------------------------------------------------------ mistakes


def changed(**fields):
    return [row("0.jpg"), row() | fields]


def person(**fields):
    given = row()
    given["people"][0] |= fields
    return [given]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ({"a": 1}, "train.json: expected a list, found dict"),
        (["a"], "train.json, entry 1: expected an object, found 'a'"),
        ([{"image": 3}], "train.json, entry 1: no field 'image'"),
        (changed(people={}), "image 1.jpg, field 'people': expected a list, found dict"),
        (changed(activity=3), "image 1.jpg, field 'activity': expected str, found 3"),
        (changed(width="9"), "image 1.jpg, field 'width': expected int, found '9'"),
        (changed(description=None), "image 1.jpg, field 'description': expected text or a list"),
        (person(kpts=[[1, 2]]), "person 1, field 'kpts': expected 16 x 2 finite numbers, found 1 x 2"),
        (person(kpts_vis=[1] * 15), "person 1, field 'kpts_vis': expected 16 finite numbers, found 15"),
        (person(kpts=None), "person 1, field 'kpts': expected 16 x 2 finite numbers"),
        (person(visibility=[2] * 16), "person 1, field 'occluded': expected 16 finite numbers"),
        ([row("../1.jpg")], "image '../1.jpg' is not a path inside the image folder"),
    ],
)
def test_damage_is_named(release, import_, rows, sentence):
    assert sentence in import_(release({"gpt-4-0613/train": rows}), code=2)


def test_what_is_not_there_is_named(tmp_path, release, import_):
    folder = release({"gpt-4-0613/train": [row()]})
    assert "holds no captions of 'gpt-5'; it holds those of gpt-4-0613" in import_(
        folder, "--models=gpt-5", code=2
    )
    assert "no file MODEL/train.json" in import_(tmp_path / "nowhere", code=2)
    (folder / "provenance.json").write_text("[]")
    assert "provenance.json: not what `annotate export` wrote" in import_(folder, code=2)


def test_read_split_needs_no_journal(release):
    folder = release(all_four({"val": [row()]}))
    files = captions.files_of(folder, "val")
    assert list(files) == ["gpt-3.5-turbo-0301", "gpt-3.5-turbo-0613", "llama-2-70b-chat"]
    (one,) = captions.read_split(files, Notes())
    assert isinstance(one.record, records.ImageRecord)
    with pytest.raises(UserError, match="cannot be read as JSON"):
        captions.read_split({"a": folder / "none.json"}, Notes())
