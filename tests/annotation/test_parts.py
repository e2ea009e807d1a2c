"""Array jobs: however a journal is divided and in whatever order its parts run, the shards are the same."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from annotation import __main__ as cli
from annotation import files, journal, parts, shards
from annotation.errors import UserError

IMAGES = 60


@pytest.fixture
def source(tmp_path, make_record, photo, write_json):
    """An annotation file of sixty photographs, and the photographs."""
    (tmp_path / "photos").mkdir()
    rows = []
    for n in range(IMAGES):
        name = f"photo {n}.jpg"
        (tmp_path / "photos" / name).write_bytes(photo(200 + n, 180))
        joints = make_record(name).people[0].joints
        missing = ~(joints == joints).all(1)
        joints[missing] = -1
        rows.append({"image": name, "joints": joints.tolist(), "joints_vis": (~missing).astype(int).tolist()})
    return write_json(rows)


def describe(source, out, *flags):
    return ["describe", f"--source=mpii-json:{source}", "--describer=geometry", f"--out={out}", *flags]


def pack(tmp_path, journal, out, *flags):
    return [
        *("pack", f"--journal={tmp_path / journal}", f"--images={tmp_path / 'photos'}", "--split=train"),
        *("--dataset=test", "--size=64", "--shards=5", f"--out={tmp_path / out}", *flags),
    ]


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != ".lock"}


@pytest.fixture
def start():
    """Start `annotate ARGUMENTS` as a process of its own."""
    processes = []

    def run(arguments):
        process = subprocess.Popen(
            [sys.executable, "-m", "annotation", *arguments],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def whole(tmp_path, source):
    """What one machine makes of it."""
    assert cli.main(describe(source, tmp_path / "one")) == 0
    assert cli.main(pack(tmp_path, "one", "whole")) == 0
    return contents(tmp_path / "whole")


def test_parts_in_any_order_give_the_bytes_of_one_machine(tmp_path, source, whole, capsys):
    for part in (2, 3, 1):
        assert cli.main(describe(source, tmp_path / "three", f"--part={part}/3")) == 0
    for part in (3, 1, 2):
        assert not (tmp_path / "out" / "test-train.manifest.json").exists()
        assert cli.main(pack(tmp_path, "three", "out", f"--part={part}/3")) == 0
    said = capsys.readouterr().err
    assert "part 3/3: 1 of 5 shards are written\n4 shards of other parts are not there yet" in said
    assert f"packed {IMAGES} images" in said
    assert contents(tmp_path / "out") == whole
    assert cli.main(pack(tmp_path, "three", "out", "--part=1/3")) == 0
    assert "already packed" in capsys.readouterr().err


def test_parts_at_the_same_time_give_the_bytes_of_one_machine(tmp_path, source, whole, start):
    def run_together(commands):
        for process in [start(command) for command in commands]:
            assert process.wait(60) == 0, process.stderr.read()

    run_together(describe(source, tmp_path / "three", f"--part={part}/3") for part in (1, 2, 3))
    run_together(pack(tmp_path, "three", "out", f"--part={part}/4") for part in (1, 2, 3, 4))
    assert contents(tmp_path / "out") == whole


def test_a_killed_part_is_run_again(tmp_path, source, whole, start):
    flags = pack(tmp_path, "one", "out")
    process = start([*flags, "--part=1/2"])
    staging = tmp_path / "out" / ".test-train.partial"
    while not list(staging.glob("*.tfrecord-*")):
        time.sleep(0.001)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert cli.main([*flags, "--part=2/2"]) == 0
    assert not list((tmp_path / "out").glob("test-*"))
    assert cli.main([*flags, "--part=1/2"]) == 0
    assert contents(tmp_path / "out") == whole


def test_a_run_without_a_part_writes_what_the_parts_left(tmp_path, whole):
    assert cli.main(pack(tmp_path, "one", "out", "--part=2/3")) == 0
    first = next((tmp_path / "out" / ".test-train.partial").glob("*.tfrecord-?????-of-?????"))
    inode = first.stat().st_ino
    assert cli.main(pack(tmp_path, "one", "out")) == 0
    assert contents(tmp_path / "out") == whole
    assert (tmp_path / "out" / first.name).stat().st_ino == inode  # not written twice


def test_shards_of_other_inputs_are_not_put_in_place(tmp_path, whole, capsys):
    assert cli.main(pack(tmp_path, "one", "out", "--part=1/2", "--quality=30")) == 0
    assert cli.main(pack(tmp_path, "one", "out", "--part=2/2")) == 0
    assert "3 shards were made with other options, of another journal" in capsys.readouterr().err
    assert not (tmp_path / "out" / "test-train.manifest.json").exists()
    assert cli.main(pack(tmp_path, "one", "out", "--part=1/2")) == 0
    assert contents(tmp_path / "out") == whole


def test_one_part_twice_at_the_same_time_is_refused(tmp_path, whole, capsys):
    (tmp_path / "out").mkdir()
    staging = tmp_path / "out" / ".test-train.partial"
    with files.exclusive(staging / "test-train.tfrecord-00000-of-00005.lock"):
        assert cli.main(pack(tmp_path, "one", "out", "--part=1/3")) == 2
    assert "another run is writing here" in capsys.readouterr().err


def test_the_first_images_are_divided_and_not_the_first_of_each_part(tmp_path, source):
    for part in (1, 2, 3):
        assert cli.main(describe(source, tmp_path / "some", f"--part={part}/3", "--limit=20")) == 0
    assert cli.main(describe(source, tmp_path / "twenty", "--limit=20")) == 0

    def ids(*folders):
        return sorted(record.image_id for folder in folders for record in journal.read_records(folder))

    assert ids(*parts.journals(tmp_path / "some")) == ids(tmp_path / "twenty")


def test_a_part_may_hold_nothing(tmp_path, source):
    for part in range(1, 9):
        assert cli.main(describe(source, tmp_path / "few", f"--part={part}/8", "--limit=2")) == 0
    assert cli.main([*pack(tmp_path, "few", "out"), "--shards=1"]) == 0
    assert cli.main([*pack(tmp_path, "few", "parts"), "--shards=1", "--part=2/2"]) == 0
    assert cli.main([*pack(tmp_path, "few", "parts"), "--shards=1", "--part=1/2"]) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "parts")


def test_parts_are_judged_exported_and_looked_at_as_one(tmp_path, source, capsys):
    flags = [source, tmp_path / "whole", "--limit=9"]
    assert cli.main(describe(*flags)) == 0
    flags[1] = tmp_path / "parts"
    for part in (2, 1, 3):
        assert cli.main(describe(*flags, f"--part={part}/3")) == 0
    for name in ("whole", "parts"):
        given = f"--journal={tmp_path / name}"
        assert cli.main(["stats", given, f"--out={tmp_path / name / 'stats'}"]) == 0
        export = ["export", given, "--split=train", "--format=released", f"--out={tmp_path / name / 'set'}"]
        assert cli.main(export) == 0
        view = ["view", given, f"--images={tmp_path / 'photos'}", f"--export={tmp_path / name / 'pages'}"]
        assert cli.main(view) == 0
    assert capsys.readouterr().err.count("pages/index.html: 9 of 9 images") == 2

    def groups(name):
        summary = json.loads((tmp_path / name / "stats" / "stats.json").read_text())
        return [group | {"split": ""} for group in summary["groups"]]

    def exported(name):
        files = (tmp_path / name / "set").glob("*/*/train.json")
        return sorted(json.dumps(row) for path in files for row in json.loads(path.read_text()))

    def shown(name):
        pages = (tmp_path / name / "pages").glob("image-*.html")
        return {re.search("photo [0-9]+.jpg", page.read_text())[0] for page in pages}

    assert groups("parts") == groups("whole")
    assert exported("parts") == exported("whole")
    assert shown("parts") == shown("whole")
    assert len(shown("whole")) == 9
    assert len(exported("whole")) == 4 * 9


def test_what_reads_a_journal_wants_all_of_its_parts(tmp_path, source, capsys):
    assert cli.main(describe(source, tmp_path / "parts", "--part=2/2")) == 0
    for verb in (["stats"], ["view"], ["export", "--split=train", f"--out={tmp_path / 'out'}"]):
        assert cli.main([*verb, f"--journal={tmp_path / 'parts'}"]) == 2
        assert "1 of 2 parts are there; run `annotate describe` with --part=1/2" in capsys.readouterr().err


def test_a_part_depends_on_the_id_alone_and_parts_are_about_equal():
    held = [[parts.Part(i, 8).holds(f"{n}.jpg") for i in range(1, 9)] for n in range(4000)]
    assert all(sum(row) == 1 for row in held)
    sizes = [sum(column) for column in zip(*held, strict=True)]
    assert min(sizes) > 420
    assert max(sizes) < 580


# ---------------------------------------------------------------------------------------------- mistakes


def test_missing_and_mixed_parts_are_named(tmp_path, source):
    def refused(sentence):
        with pytest.raises(UserError, match=re.escape(sentence)):
            parts.journals(tmp_path / "parts")

    refused("parts/records.jsonl: not there; `annotate describe")
    assert cli.main(describe(source, tmp_path / "parts", "--part=1/3")) == 0
    refused("parts: 1 of 3 parts are there; run `annotate describe` with --part=2/3 and 1 more")
    assert cli.main(describe(source, tmp_path / "parts", "--part=3/3")) == 0
    refused("parts: 2 of 3 parts are there; run `annotate describe` with --part=2/3")
    assert cli.main(describe(source, tmp_path / "parts", "--part=1/2")) == 0
    refused("parts: holds parts of different divisions (part-1-of-2, part-1-of-3, part-3-of-3); keep one")
    assert cli.main(describe(source, tmp_path / "parts")) == 0
    refused("parts: holds a whole journal and parts of one")


def test_an_image_in_two_parts_is_named(tmp_path, make_record, write_journal, photo):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(photo())
    for part in (1, 2):
        write_journal(parts.Part(part, 2).folder(tmp_path / "two"), [make_record("a.jpg")])
    with pytest.raises(UserError, match=r"image a.jpg is in .*part-1-of-2.* and in .*part-2-of-2"):
        shards.pack(
            tmp_path / "two", tmp_path / "out", shards.Options(tmp_path / "photos", "train", "test"), print
        )


@pytest.mark.parametrize("text", ["", "3", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "a/b"])
def test_a_malformed_part_is_refused(tmp_path, text, capsys):
    with pytest.raises(SystemExit):
        cli.main(pack(tmp_path, "one", "out", f"--part={text}"))
    assert "is not a part such as 3/8" in capsys.readouterr().err


def test_procedural_images_are_not_divided(tmp_path, capsys):
    flags = ["describe", "--source=figures:0", "--describer=geometry", f"--out={tmp_path / 'out'}"]
    assert cli.main([*flags, "--part=1/2"]) == 2
    assert "--part=1/2: figures are drawn by one machine" in capsys.readouterr().err
