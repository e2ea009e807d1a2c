"""What export writes, and that import-captions reads it back unchanged."""

import dataclasses
import json
import re

import numpy as np
import pyarrow.parquet
import pytest

from annotation import __main__ as cli
from annotation import journal, publish, records, schema
from annotation.errors import UserError


@pytest.fixture
def annotate(capsys):
    """annotate(VERB, flags …): runs it; returns what it said."""

    def run(*arguments, code=0):
        assert cli.main([str(argument) for argument in arguments]) == code
        return capsys.readouterr().err

    return run


@pytest.fixture
def there_and_back(tmp_path, annotate):
    """Export a journal, import that, export it again; returns the first folder, which the second equals."""

    def run(directory, split="train", *flags):
        first, second = tmp_path / "first" / "poses", tmp_path / "second" / "poses"
        annotate("export", f"--journal={directory}", f"--out={first}", f"--split={split}", *flags)
        annotate("import-captions", f"--from={first}", f"--out={tmp_path / 'back'}")
        annotate(
            "export", f"--journal={tmp_path / 'back' / split}", f"--out={second}", f"--split={split}", *flags
        )
        assert contents(first) == contents(second)
        return first

    return run


def contents(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def captions(directory):
    found = journal.captions_by_input(directory)
    return {record.image_id: found[journal.input_hash(record)] for record in journal.read_records(directory)}


def assert_same_images(directory, other):
    """Same people, activities and captions, in the same order, as far as a describer or pack sees them."""
    pairs = zip(journal.read_records(directory), journal.read_records(other), strict=True)
    for one, two in pairs:
        for name in ("image_id", "width", "height", "people_complete", "activity", "category"):
            assert getattr(one, name) == getattr(two, name)
        for p, q in zip(one.people, two.people, strict=True):
            np.testing.assert_allclose(p.joints, q.joints, rtol=0, atol=1e-9)
            np.testing.assert_array_equal(p.visibility, q.visibility)
            np.testing.assert_array_equal(p.occluded, q.occluded)
    assert [[(c.source, c.text) for c in found] for found in captions(directory).values()] == [
        [(c.source, c.text) for c in found] for found in captions(other).values()
    ]


# ------------------------------------------------------------------------------------------ there and back


@pytest.mark.parametrize("detail", ["full", "short"])
def test_mpiis_csv_comes_back(tmp_path, annotate, there_and_back, shared_data, detail):
    lines = (shared_data / "mpii" / "mpii_human_pose.csv").read_text().splitlines(keepends=True)
    (tmp_path / "some.csv").write_text("".join(lines[:150] + lines[9000:9050]))
    directory = tmp_path / "journal"
    source = f"--source=mpii-csv:{tmp_path / 'some.csv'}"
    annotate("describe", source, "--describer=geometry", f"--detail={detail}", f"--out={directory}")
    there_and_back(directory)
    assert_same_images(directory, tmp_path / "back" / "train")


@pytest.mark.parametrize("name", ["coco/test_coco.json", "ochuman/test_ochuman.json"])
def test_coco_people_come_back(tmp_path, annotate, there_and_back, shared_data, name):
    source = f"--source=coco:{shared_data / 'mmpose_samples' / name}"
    directory = tmp_path / "journal"
    annotate("describe", source, "--activity=playing", "--describer=geometry", f"--out={directory}")
    assert any(len(record.people) > 1 for record in journal.read_records(directory))
    there_and_back(directory, "val")
    assert_same_images(directory, tmp_path / "back" / "val")


def test_any_number_of_captions_and_any_text_come_back(tmp_path, make_record, write_journal, there_and_back):
    """Models that describe some images, several captions by one model, any script, no activity."""
    sources = {
        "a.jpg": ["m", "m", "x/y"],
        "b/ü.jpg": ["x/y"],
        "c.jpg": ["m", "z z:8b"],
        "d.jpg": ["z z:8b", "m"],
    }
    texts = ['Zwei Menschen "stehen".', "两个人\nin two lines\t.", "👋🏽 | `x`", "\u2028 and \\ and \x7f"]
    found = [
        make_record("a.jpg", 1, activity="riding, fast", category=""),
        make_record("b/ü.jpg", 3, width=30, height=20, people_complete=False, activity="é", category="ü, v"),
        make_record("c.jpg", 2, category="sports"),
        make_record("d.jpg", 1),
    ]
    directory = write_journal(tmp_path / "journal", [])
    write_journal(directory, found, lambda record: [])
    with journal.open_journal(directory) as open_journal:
        for record in found:
            for number, source in enumerate(sources[record.image_id]):
                describer = journal.Describer("by hand", "1", {"n": number})
                text = records.Description(record.image_id, f"{texts[number]} {source}", source)
                open_journal.append(describer, journal.input_hash(record), record.image_id, [text])
    folder = there_and_back(directory)
    assert {path.parent.relative_to(folder).as_posix() for path in folder.rglob("train.json")} == {
        "m",
        "x/y",
        "z z:8b",
    }
    back = captions(tmp_path / "back" / "train")
    for image, found in captions(directory).items():
        key = lambda c: c.source  # noqa: E731 - models may change places, the captions of one may not
        assert [(c.source, c.text) for c in back[image]] == [
            (c.source, c.text) for c in sorted(found, key=key)
        ]


def test_all_parts_are_exported(tmp_path, make_record, write_journal, annotate):
    for part in (1, 2):
        write_journal(tmp_path / "parts" / f"part-{part}-of-2", [make_record(f"{part}.jpg")])
    publish.export(tmp_path / "parts", tmp_path / "out", "train", ["released"], print)
    rows = json.loads((tmp_path / "out" / "test" / "0" / "train.json").read_bytes())
    assert [row["image"] for row in rows] == ["1.jpg", "2.jpg"]


# ---------------------------------------------------------------------------------------------- layout


@pytest.fixture
def exported(tmp_path, make_record, write_journal):
    """Two splits of a small journal, and its training records."""
    found = [make_record(f"{n}.jpg", 1 + n % 3, activity="curling", category="sports") for n in range(6)]
    write_journal(tmp_path / "train", found)
    write_journal(tmp_path / "val", [make_record("v.jpg")])
    for split in ("train", "val"):
        publish.export(tmp_path / split, tmp_path / "poses", split, ["released", "parquet"], print)
    return tmp_path / "poses", found


def test_the_released_fields_in_their_order(exported):
    folder, found = exported
    rows = json.loads((folder / "test" / "1" / "train.json").read_bytes())
    assert [row["image"] for row in rows] == [record.image_id for record in found]
    for row, record in zip(rows, found, strict=True):
        released = [
            "image",
            "video_id",
            "video_frame",
            "activity_id",
            "activity",
            "count",
            "people",
            "description",
        ]
        assert list(row)[: len(released)] == released
        assert row["activity"] == "sports, curling"
        assert row["description"] == f"Caption 1 of {record.image_id}, né."
        assert row["count"] == len(row["people"]) == len(record.people)
        for number, (p, person) in enumerate(zip(row["people"], record.people, strict=True)):
            assert list(p)[:5] == ["id", "center", "scale", "kpts", "kpts_vis"]
            assert (p["id"], p["scale"]) == (number, 1.5)
            missing = person.visibility == schema.MISSING
            assert missing.any()
            np.testing.assert_array_equal(np.array(p["kpts"])[missing], -1)
            np.testing.assert_allclose(np.array(p["kpts"])[~missing], person.joints[~missing] + 1)
            assert p["kpts_vis"] == (~missing).astype(int).tolist()


def test_parquet_holds_every_caption(exported):
    folder, found = exported
    table = pyarrow.parquet.read_table(folder / "parquet" / "train.parquet")
    assert table.schema.equals(publish.parquet_schema())
    rows = table.to_pylist()
    assert [(row["image"], row["model"]) for row in rows] == [
        (record.image_id, f"test/{n}") for n in (0, 1) for record in found
    ]
    of_json = json.loads((folder / "test" / "0" / "train.json").read_bytes())
    for row, other in zip(rows[:6], of_json, strict=True):
        assert {name: row[name] for name in row if name not in ("people", "model")} == {
            name: other[name] for name in row if name not in ("people", "model")
        }
        assert row["people"] == [{name: p[name] for name in row["people"][0]} for p in other["people"]]


def test_more_rows_than_a_group_are_written(tmp_path, make_record, write_journal, monkeypatch):
    monkeypatch.setattr(publish, "ROWS_PER_GROUP", 5)
    write_journal(tmp_path / "journal", [make_record(f"{n}.jpg") for n in range(6)])
    publish.export(tmp_path / "journal", tmp_path / "out", "train", ["parquet"], print)
    file = pyarrow.parquet.ParquetFile(tmp_path / "out" / "parquet" / "train.parquet")
    assert (file.metadata.num_rows, file.metadata.num_row_groups) == (12, 3)


def test_the_card_names_files_and_counts(exported):
    folder, _ = exported
    card = (folder / "README.md").read_text("utf-8")
    front = card.split("---\n")[1]
    assert re.findall(r'path: "(.*)"', front) == ["parquet/train.parquet", "parquet/val.parquet"]
    assert re.findall(r"split: (\w+)", front) == ["train", "validation"]
    assert "| train | `test/0` | 6 | 6 | 5, 5, 5 |" in card.replace("5.0", "5")
    assert "| val | `test/1` | 1 | 1 |" in card
    assert "| `test/0` | test | `1` | `{}` |  |" in card
    assert "The photographs are **not** part of this data set" in card
    assert sorted(json.loads((folder / "provenance.json").read_bytes())) == ["train", "val"]


def test_without_parquet_the_card_has_a_configuration_per_model(tmp_path, make_record, write_journal):
    write_journal(tmp_path / "journal", [make_record("a.jpg")])
    publish.export(tmp_path / "journal", tmp_path / "out", "val", ["released"], print)
    front = (tmp_path / "out" / "README.md").read_text("utf-8").split("---\n")[1]
    assert re.findall(r'config_name: "(.*)"', front) == ["test--0", "test--1"]
    assert re.findall(r'path: "(.*)"', front) == ["test/0/val.json", "test/1/val.json"]


def test_an_odd_model_name_cannot_break_the_card(tmp_path, make_record, write_journal):
    record = make_record("a.jpg")
    directory = write_journal(tmp_path / "journal", [record], lambda record: [])
    with journal.open_journal(directory) as open_journal:
        text = records.Description("a.jpg", "Text.", 'a|b`\n"c"')
        describer = journal.Describer("x", "1", {"wording": "|\n`"})
        open_journal.append(describer, journal.input_hash(record), "a.jpg", [text])
    publish.export(directory, tmp_path / "out", "train", ["released"], print)
    lines = (tmp_path / "out" / "README.md").read_text("utf-8").splitlines()
    assert '| train | `a\\|b\' "c"` | 1 | 1 | 1, 1, 1 |' in [line.replace("1.0", "1") for line in lines]


def test_who_answered_is_said_and_no_credentials_are(tmp_path, make_record, there_and_back):
    record = make_record("a.jpg")
    directory = tmp_path / "journal"
    directory.mkdir()
    (directory / journal.RECORDS).write_text(records.to_json(record) + "\n")
    params = {"model": "gpt-x", "base_url": "http://me:secret@models.example:8000/v1?key=secret"}
    with journal.open_journal(directory) as open_journal:
        reserved = {"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.1}
        attempt = open_journal.intent(
            journal.Describer("openai", "paper", params), journal.input_hash(record), "a.jpg", reserved
        )
        usage = {"prompt_tokens": 1, "completion_tokens": 1}
        answer = {"returned_model": "gpt-x-2026-01-01", "usage": usage, "cost": 0.1, "prompt": "a1b2"}
        text = records.Description("a.jpg", "Standing.", "gpt-x/paper")
        open_journal.outcome(attempt, journal.OK, captions=[text], answer=answer)
    folder = there_and_back(directory)
    card = (folder / "README.md").read_text("utf-8")
    assert "| `gpt-x/paper` | openai | `paper` |" in card
    assert "| `gpt-x-2026-01-01` |" in card
    assert "http://models.example" in card
    (writer,) = publish.read_provenance(folder)["train"]["models"]["gpt-x/paper"]["written_by"]
    assert writer["prompt"] == "a1b2"
    assert not any(b"secret" in content for content in contents(folder).values())


def test_images_without_a_caption_are_left_out_and_counted(tmp_path, make_record, write_journal, annotate):
    found = [make_record(f"{n}.jpg") for n in range(3)]
    write_journal(tmp_path / "journal", found, lambda record: [] if record is found[1] else ["Standing."])
    said = annotate(
        "export", f"--journal={tmp_path / 'journal'}", f"--out={tmp_path / 'out'}", "--split=train"
    )
    assert "left out 1 of 3 images, which have no caption yet" in said
    rows = json.loads((tmp_path / "out" / "test" / "0" / "train.json").read_bytes())
    assert [row["image"] for row in rows] == ["0.jpg", "2.jpg"]


# -------------------------------------------------------------------------------------------- mistakes


def test_nothing_is_overwritten(exported, tmp_path, annotate):
    folder, _ = exported
    before = contents(folder)
    said = annotate("export", f"--journal={tmp_path / 'train'}", f"--out={folder}", "--split=train", code=2)
    assert "export overwrites nothing; choose another --out (it holds the split train)" in said
    for name in ("test/0/test.json", "parquet/test.parquet"):
        (folder / name).write_text("somebody's")
        said = annotate("export", f"--journal={tmp_path / 'val'}", f"--out={folder}", "--split=test", code=2)
        assert f"{name}: there already" in said
        (folder / name).unlink()
    assert contents(folder) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("My own words.")
    said = annotate(
        "export", f"--journal={tmp_path / 'val'}", f"--out={tmp_path / 'mine'}", "--split=val", code=2
    )
    assert "mine/README.md: there already" in said


def test_what_a_killed_export_left_does_not_matter(exported, tmp_path, make_record, write_journal):
    folder, _ = exported
    (folder / ".partial" / "test").mkdir(parents=True)
    (folder / ".partial" / "test" / "0.json").write_text("half")
    publish.export(tmp_path / "val", folder, "test", ["released"], print)
    assert not (folder / ".partial").exists()
    assert "test" in publish.read_provenance(folder)


@pytest.mark.parametrize("source", ["/etc", "../up", "a/../b", "", "parquet/x", "a//b"])
def test_a_model_that_no_folder_can_have_is_refused(tmp_path, make_record, write_journal, source):
    record = make_record("a.jpg")
    directory = write_journal(tmp_path / "journal", [record], lambda record: [])
    with journal.open_journal(directory) as open_journal:
        text = records.Description("a.jpg", "Text.", source)
        describer = journal.Describer("x", "1", {})
        open_journal.append(describer, journal.input_hash(record), "a.jpg", [text])
    with pytest.raises(UserError, match="not a name that a folder can have"):
        publish.export(directory, tmp_path / "out", "train", ["released"], print)
    assert not (tmp_path / "out").exists()


def test_a_journal_without_captions_is_named(tmp_path, make_record, write_journal, annotate):
    directory = write_journal(tmp_path / "journal", [make_record("a.jpg")], lambda record: [])
    said = annotate("export", f"--journal={directory}", f"--out={tmp_path / 'out'}", "--split=train", code=2)
    assert "journal: no caption to export" in said
    said = annotate("export", f"--journal={tmp_path}", f"--out={tmp_path / 'out'}", "--split=train", code=2)
    assert "records.jsonl: not there" in said


def test_a_field_of_another_type_is_named(tmp_path, make_record, write_journal):
    record = dataclasses.replace(
        make_record("a.jpg"), source="captions", extra={"image": "a.jpg", "count": "two"}
    )
    directory = write_journal(tmp_path / "journal", [record])
    publish.export(directory, tmp_path / "json", "train", ["released"], print)
    with pytest.raises(UserError, match=r"between images a.jpg and a.jpg .* --format=released"):
        publish.export(directory, tmp_path / "parquet", "train", ["parquet"], print)
