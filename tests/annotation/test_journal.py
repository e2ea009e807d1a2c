import asyncio
import dataclasses
import errno
import json
import os
import subprocess
import sys

import pytest

from annotation import budget, files, journal, records
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


# ------------------------------------------------------------------------------- what may cost money

OPENAI = journal.Describer("openai", "paper", {"model": "m", "base_url": "http://h/v1", "temperature": 0.5})
SERVICE = ("http://h/v1", "m")
RESERVED = {"prompt_tokens": 700, "completion_tokens": 512, "cost": 0.01}


def answer(cost=0.004):
    return {"usage": {"prompt_tokens": 600, "completion_tokens": 200}, "cost": cost}


def test_a_request_is_in_the_journal_before_its_outcome(tmp_path):
    with journal.open_journal(tmp_path) as opened:
        attempt = opened.intent(OPENAI, "x", "a.jpg", RESERVED)
        (row,) = journal.read_rows(tmp_path)
        assert (row["status"], row["attempt"], row["reserved"]) == ("intent", attempt.id, RESERVED)
        opened.outcome(attempt, "ok", captions=caption("Standing.", "m/paper"), answer=answer())
    intent, outcome = journal.read_rows(tmp_path)
    assert outcome["attempt"] == attempt.id
    assert outcome["key"] == intent["key"] == journal.attempt_key(OPENAI, "x")
    assert outcome["captions"] == [{"text": "Standing.", "source": "m/paper"}]


def test_only_accepted_answers_are_captions_and_done(tmp_path):
    with journal.open_journal(tmp_path) as opened:
        for input_, status, fields in (
            ("a", "ok", {"captions": caption("Good."), "answer": answer()}),
            ("b", "rejected", {"captions": caption("Bad."), "reasons": ["empty"], "answer": answer()}),
            ("c", "failed", {"error": "HTTP 500"}),
            ("d", "unknown", {"error": "cut"}),
        ):
            opened.outcome(opened.intent(OPENAI, input_, "a.jpg", RESERVED), status, **fields)
        opened.intent(OPENAI, "e", "a.jpg", RESERVED)
    assert set(journal.captions_by_input(tmp_path)) == {"a"}
    ledger = journal.read_ledger(tmp_path)
    assert ledger.done == {journal.attempt_key(OPENAI, "a")}
    assert ledger.refusals == {journal.attempt_key(OPENAI, "b"): 1}
    assert ledger.counts == {"ok": 1, "rejected": 1, "failed": 1}
    assert len(ledger.unanswered) == 2
    usage = ledger.usage[SERVICE]
    assert (usage.prompt_tokens, usage.completion_tokens) == (1200, 400)
    assert usage.cost == pytest.approx(0.008)
    assert usage.reserved_cost == pytest.approx(0.02)


def test_tokens_without_a_price_are_counted_when_one_is_known(tmp_path):
    with journal.open_journal(tmp_path) as opened:
        free = RESERVED | {"cost": None}
        opened.outcome(opened.intent(OPENAI, "a", "a.jpg", free), "ok", captions=[], answer=answer(None))
        opened.intent(OPENAI, "b", "a.jpg", free)
    ledger = journal.read_ledger(tmp_path)
    assert budget.committed(ledger, {}) == 0
    assert budget.committed(ledger, {SERVICE: (1.0, 2.0)}) == pytest.approx((1300 + 2 * 712) / 1e6)


def test_what_is_counted_while_writing_is_what_is_counted_when_read_again(tmp_path):
    with journal.open_journal(tmp_path) as opened:
        attempt = opened.intent(OPENAI, "a", "a.jpg", RESERVED)
        opened.outcome(attempt, "failed", error="no", refused={"temperature": "Unsupported"})
        opened.outcome(opened.intent(OPENAI, "a", "a.jpg", RESERVED), "ok", captions=[], answer=answer())
        opened.intent(OPENAI, "b", "a.jpg", RESERVED)
        live = vars(opened.ledger)
    assert vars(journal.read_ledger(tmp_path)) == live
    assert live["refused"] == {SERVICE: {"temperature": "Unsupported"}}
    assert live["took"] == {SERVICE: {"model", "base_url", "temperature"}}


def test_one_fsync_serves_all_that_wait(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(journal.os, "fsync", lambda file: synced.append(os.fstat(file).st_size))

    async def announce(opened):
        opened.intent(OPENAI, "x", "a.jpg", RESERVED)
        size = (tmp_path / journal.JOURNAL).stat().st_size
        await opened.synced()
        assert max(synced) >= size

    async def burst(opened):
        await asyncio.gather(*[announce(opened) for _ in range(50)])

    with journal.open_journal(tmp_path) as opened:
        asyncio.run(burst(opened))
        assert 1 <= len(synced) <= 3


def test_a_full_disk_keeps_room_for_the_answers_on_their_way_and_takes_no_new_request(tmp_path, monkeypatch):
    write, room = os.write, [900]

    def limited(file, data):
        taken = min(len(data), room[0])
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        room[0] -= taken
        return write(file, data[:taken])

    with journal.open_journal(tmp_path) as opened:
        opened.keep_spare(5000)
        first, second = (opened.intent(OPENAI, x, "a.jpg", RESERVED) for x in "ab")
        monkeypatch.setattr(journal.os, "write", limited)
        unlink = journal.Path.unlink
        monkeypatch.setattr(
            journal.Path, "unlink", lambda path, **k: (room.__setitem__(0, 5000), unlink(path, **k))
        )
        opened.outcome(first, "ok", captions=caption("x" * 2000), answer=answer())
        with pytest.raises(OSError, match="No space left"):
            opened.intent(OPENAI, "c", "a.jpg", RESERVED)
        opened.outcome(second, "ok", captions=caption("Second."), answer=answer())
    rows = list(journal.read_rows(tmp_path))
    assert [row["status"] for row in rows] == ["intent", "intent", "ok", "ok"]
    assert not list(tmp_path.glob("*.spare"))


def test_a_row_that_lacks_a_field_is_named(tmp_path):
    (tmp_path / journal.JOURNAL).write_text(json.dumps({"key": "k", "status": "ok"}) + "\n")
    with pytest.raises(UserError, match=r"journal.jsonl: line 1: not a journal row \('input'\)"):
        journal.read_ledger(tmp_path)
