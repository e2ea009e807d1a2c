import dataclasses
import os
import subprocess
import sys

import pytest

from annotation import files, journal, records
from annotation.errors import UserError

GEOMETRY = journal.Describer("geometry", "1", {"detail": "full"})


def caption(text="Standing.", source="geometry-1/0"):
    return [records.Description("a.jpg", text, source)]


def append(directory, *attempts):
    with journal.open_journal(directory) as opened:
        for describer, input_, captions in attempts:
            opened.append(describer, input_, "a.jpg", captions)


def test_what_is_done_is_known_when_opened_again(tmp_path):
    append(tmp_path, (GEOMETRY, "input", caption()))
    with journal.open_journal(tmp_path) as opened:
        assert opened.done == {journal.attempt_key(GEOMETRY, "input")}
        assert opened.dropped_bytes == 0


def test_the_key_depends_on_all_that_shapes_the_answer():
    variants = [
        journal.attempt_key(GEOMETRY, "input"),
        journal.attempt_key(GEOMETRY, "other input"),
        journal.attempt_key(dataclasses.replace(GEOMETRY, name="openai"), "input"),
        journal.attempt_key(dataclasses.replace(GEOMETRY, version="2"), "input"),
        journal.attempt_key(dataclasses.replace(GEOMETRY, params={"detail": "short"}), "input"),
    ]
    assert len(set(variants)) == len(variants)


def test_the_input_is_what_a_describer_may_look_at(make_record):
    record = make_record("a.jpg", people=2, width=100, height=80)
    same = dataclasses.replace(record, source="elsewhere", extra={"license": 4})
    moved = dataclasses.replace(record, people=record.people[::-1])
    assert journal.input_hash(record) == journal.input_hash(same)
    assert journal.input_hash(record) == journal.input_hash(
        records.from_json(records.to_json(record), "the same")
    )
    changed = [
        moved,
        *(dataclasses.replace(record, **f) for f in ({"activity": "x"}, {"width": 9}, {"image_id": "b"})),
    ]
    assert journal.input_hash(record) not in {journal.input_hash(other) for other in changed}


@pytest.mark.parametrize("torn", [b'{"key": "ab', b'{"key": "a", "status": "ok"}', b"\xff" * 100_000])
def test_a_torn_last_line_is_dropped_and_the_rest_kept(tmp_path, torn):
    append(tmp_path, (GEOMETRY, "one", caption()))
    whole = (tmp_path / journal.JOURNAL).read_bytes()
    with open(tmp_path / journal.JOURNAL, "ab") as file:
        file.write(torn)
    with journal.open_journal(tmp_path) as opened:
        assert opened.dropped_bytes == len(torn)
        assert len(opened.done) == 1
        assert (tmp_path / journal.JOURNAL).read_bytes() == whole
        opened.append(GEOMETRY, "two", "a.jpg", caption())
    assert len(list(journal.read_rows(tmp_path))) == 2


def test_a_journal_of_nothing_but_a_torn_line_starts_anew(tmp_path):
    (tmp_path / journal.JOURNAL).write_bytes(b'{"key')
    append(tmp_path, (GEOMETRY, "one", caption()))
    assert len(list(journal.read_rows(tmp_path))) == 1


def test_damage_inside_is_named(tmp_path):
    append(tmp_path, (GEOMETRY, "one", caption()))
    with open(tmp_path / journal.JOURNAL, "ab") as file:
        file.write(b"garbage\n")
    with (
        pytest.raises(UserError, match=r"journal.jsonl: line 2: not a journal row"),
        journal.open_journal(tmp_path),
    ):
        pass


def test_captions_do_not_depend_on_who_came_first(tmp_path):
    short = dataclasses.replace(GEOMETRY, params={"detail": "short"})
    attempts = [
        (GEOMETRY, "x", caption("Long.")),
        (short, "x", caption("Short.")),
        (GEOMETRY, "y", caption("Y.")),
    ]
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    append(tmp_path / "a", *attempts)
    append(tmp_path / "b", *attempts[::-1])
    found = journal.captions_by_input(tmp_path / "a")
    assert found == journal.captions_by_input(tmp_path / "b")
    assert [c.text for c in found["x"]] == ["Long.", "Short."]


def test_a_newer_version_replaces_the_captions_of_an_older_one(tmp_path):
    newer = dataclasses.replace(GEOMETRY, version="2")
    append(tmp_path, (GEOMETRY, "x", caption("Old.")), (newer, "x", caption("New.")))
    assert [c.text for c in journal.captions_by_input(tmp_path)["x"]] == ["New."]


def test_two_runs_in_one_directory_are_refused(tmp_path):
    hold = "import sys, pathlib; from annotation import files\n"
    hold += "with files.exclusive(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="another run is writing here"), files.exclusive(tmp_path):
            pass
        other.kill()
    with files.exclusive(tmp_path):
        pass
