import json
import os
import signal
import subprocess
import sys
import time

import pytest

from annotation import __main__ as cli
from annotation import journal, records
from annotation.describers import geometry
from annotation.sources import synthetic


def describe(source, out, *flags):
    return cli.main(["describe", f"--source={source}", "--describer=geometry", f"--out={out}", *flags])


def rows(directory):
    """The journal without the times, which are the only thing that differs between two runs."""
    return [{k: v for k, v in row.items() if k != "created"} for row in journal.read_rows(directory)]


@pytest.fixture
def source(mpii_csv):
    path = mpii_csv(
        {"NAME": "a.jpg", "r ankle_X": 300, "Activity": "curling", "Category": "sports"},
        {"NAME": "b.jpg", "l wrist_Y": 10},
        {"NAME": "c.jpg", "pelvis_X": 7},
    )
    return f"mpii-csv:{path}"


def test_records_keep_the_source_and_every_image_is_described(tmp_path, source):
    assert describe(source, tmp_path / "out") == 0
    found = list(journal.read_records(tmp_path / "out"))
    assert [record.image_id for record in found] == ["a.jpg", "b.jpg", "c.jpg"]
    assert found[0].people[0].extra == {"ID": "1", "Scale": "1"}
    captions = journal.captions_by_input(tmp_path / "out")
    for record in found:
        assert captions[journal.input_hash(record)] == geometry.describe(record, "full")


def test_a_second_run_does_nothing_again_but_what_is_new(tmp_path, source, capsys):
    out = tmp_path / "out"
    assert describe(source, out, "--limit=2") == 0
    first = (out / journal.JOURNAL).read_bytes()
    assert describe(source, out, "--limit=2") == 0
    assert (out / journal.JOURNAL).read_bytes() == first
    assert "2 images that the journal held already" in capsys.readouterr().err
    assert describe(source, out) == 0
    assert (out / journal.JOURNAL).read_bytes().startswith(first)
    assert len(rows(out)) == 3
    assert describe(source, out, "--detail=short") == 0
    assert len(rows(out)) == 6


def test_activities_and_lists(tmp_path, source, capsys):
    (tmp_path / "activities.csv").write_text("image,action\nb.jpg,rowing\n")
    (tmp_path / "list.txt").write_text("b.jpg\nc.jpg\nx.jpg\n")
    flags = [f"--activities={tmp_path / 'activities.csv'}", f"--list={tmp_path / 'list.txt'}"]
    assert describe(source, tmp_path / "out", *flags) == 0
    found = {record.image_id: record.activity for record in journal.read_records(tmp_path / "out")}
    assert found == {"b.jpg": "rowing", "c.jpg": ""}
    said = capsys.readouterr().err
    assert "1 images without a row in the activities" in said
    assert "1 names of the list without an image in the source" in said
    assert describe(source, tmp_path / "one", "--activity=juggling") == 0
    assert {record.activity for record in journal.read_records(tmp_path / "one")} == {"juggling"}


def test_images_without_joints_are_counted(tmp_path, write_json, capsys):
    path = write_json({"a.jpg": [[n, 2 * n] for n in range(17)], "b.jpg": []})
    assert describe(f"coco-dict:{path}", tmp_path / "out") == 0
    assert [record.image_id for record in journal.read_records(tmp_path / "out")] == ["a.jpg"]
    assert "1 images in which nobody has a joint, left out" in capsys.readouterr().err


def test_a_torn_journal_is_said(tmp_path, source, capsys):
    assert describe(source, tmp_path / "out", "--limit=1") == 0
    with open(tmp_path / "out" / journal.JOURNAL, "a") as file:
        file.write('{"key"')
    assert describe(source, tmp_path / "out") == 0
    assert "6 bytes of a torn last line, dropped from the journal" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--source=mpii:x"], "--source=mpii:x: expected FORMAT:PATH with FORMAT one of figures, mpii-mat"),
        (["--source=coco"], "--source=coco: expected FORMAT:PATH"),
        (["--source=coco:nowhere.json"], "nowhere.json is not a file"),
        (["--source=figures:first"], "--source=figures:first: expected a whole number, the seed"),
        (["--source=figures:1", "--figures-activities=some"], "figures: activities must be one of"),
        (["--images=nowhere"], "--images=nowhere: not a folder"),
        (["--dry-run"], "--dry-run: is for --describer=openai only"),
        (["--max-cost=0"], "--max-cost: is for --describer=openai only"),
        (["--activities=nowhere.csv"], "nowhere.csv: cannot be read as CSV"),
        (["--list=nowhere.txt"], "nowhere.txt: cannot be read as a list of images"),
    ],
)
def test_mistakes_end_with_one_sentence(tmp_path, source, capsys, flags, sentence):
    assert describe(source, tmp_path / "out", *flags) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert sentence in error


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path, source, capsys):
    (tmp_path / "file").write_text("")
    assert describe(source, tmp_path / "file" / "out") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert str(tmp_path / "file") in error


@pytest.mark.parametrize("flags", [["--limit=0"], ["--activity=x", "--activities=y"], ["--detail=long"]])
def test_flags_that_make_no_sense_are_refused(tmp_path, source, flags):
    with pytest.raises(SystemExit):
        describe(source, tmp_path / "out", *flags)


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/passwd", "a/../../b.jpg", ""])
def test_an_image_outside_its_folder_is_refused(tmp_path, mpii_csv, capsys, name):
    assert describe(f"mpii-csv:{mpii_csv({'NAME': name})}", tmp_path / "out") == 2
    assert "is not a path inside the image folder" in capsys.readouterr().err


def test_an_image_given_twice_is_refused(tmp_path, mpii_csv, capsys):
    assert describe(f"mpii-csv:{mpii_csv({'NAME': 'a.jpg'}, {'NAME': 'a.jpg'})}", tmp_path / "out") == 2
    assert "image a.jpg occurs twice in the source" in capsys.readouterr().err


def test_figures_come_with_their_images_whatever_the_number_of_processes(tmp_path, monkeypatch):
    flags = ["--figures-count=40", "--figures-size=32", "--figures-people=2"]
    assert describe("figures:3", tmp_path / "one", *flags) == 0
    monkeypatch.setattr(synthetic, "IMAGES_PER_PROCESS", 10)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert describe("figures:3", tmp_path / "three", *flags) == 0
    assert rows(tmp_path / "one") == rows(tmp_path / "three")
    one, three = (
        {p.name: p.read_bytes() for p in (tmp_path / n / "images").iterdir()} for n in ("one", "three")
    )
    assert one == three
    assert set(one) == {record.image_id for record in journal.read_records(tmp_path / "one")}
    assert len(one) == 40
    assert (
        cli.main(["pack", f"--journal={tmp_path / 'one'}", "--split=train", f"--out={tmp_path / 'out'}"]) == 0
    )


def test_killed_at_any_moment_it_ends_with_the_same_records_and_captions(tmp_path, mpii_csv):
    path = mpii_csv(*({"NAME": f"{n:04d}.jpg", "l wrist_Y": n, "r knee_X": 2 * n} for n in range(1500)))
    assert describe(f"mpii-csv:{path}", tmp_path / "whole") == 0
    out = tmp_path / "out"
    command = [sys.executable, "-m", "annotation", "describe", f"--source=mpii-csv:{path}", f"--out={out}"]
    sizes = []
    for _ in range(2):
        size = sizes[-1] if sizes else 0
        with subprocess.Popen(
            [*command, "--describer=geometry"],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.DEVNULL,
        ) as process:
            while not (out / journal.JOURNAL).exists() or (out / journal.JOURNAL).stat().st_size <= size:
                time.sleep(0.002)
                assert process.poll() is None
            process.send_signal(signal.SIGKILL)
        sizes.append((out / journal.JOURNAL).stat().st_size)
    assert 0 < sizes[0] < sizes[1] < (tmp_path / "whole" / journal.JOURNAL).stat().st_size
    assert describe(f"mpii-csv:{path}", out) == 0
    assert rows(out) == rows(tmp_path / "whole")
    assert (out / journal.RECORDS).read_bytes() == (tmp_path / "whole" / journal.RECORDS).read_bytes()


def test_real_mpii_rows(tmp_path, shared_data):
    source = f"mpii-csv:{shared_data / 'mpii' / 'mpii_human_pose.csv'}"
    assert describe(source, tmp_path / "out", "--limit=300") == 0
    found = rows(tmp_path / "out")
    assert len(found) == 300
    assert all(len(row["captions"]) == geometry.WORDINGS for row in found)


def test_the_record_file_keeps_exact_numbers(tmp_path, make_record):
    record = make_record("a.jpg", people=2)
    back = records.from_json(records.to_json(record), "line 1")
    assert json.loads(records.to_json(back)) == json.loads(records.to_json(record))
    assert (back.people[1].joints[0] == record.people[1].joints[0]).all()
