"""The table "What a bad input says" of docs/annotating.md, row by row: each is made to happen."""

import errno
import json
import os
import pathlib
import re
from collections import Counter

import pytest
from llm_server import LLMServer

from annotation import __main__ as cli
from annotation import files, journal
from annotation.describers import openai_run

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "annotating.md"
OUT = pathlib.Path("runs/people")


def rows_of_the_table():
    """{(where, what is wrong): what is said}"""
    lines = DOCS.read_text("utf-8").split("**What a bad input says.**")[1].split("\n\n")[1].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]
    return {(where, what): said for where, what, said in cells}


ROWS = rows_of_the_table()


def pattern(said):
    """A regular expression for a sentence of the table: "…", hosts and numbers may be anything."""
    text = re.escape(said.strip("`"))
    for placeholder, anything in (("…", ".*"), ("HOST", r"\S+"), ("URL", r"\S+")):
        text = text.replace(placeholder, anything)
    return re.sub(r"\d+", r"\\d+", text)


class Run:
    """A folder with thirty images in mpii.csv, a server, and `annotate describe` into OUT."""

    def __init__(self, folder, monkeypatch, server):
        self.folder, self.monkeypatch, self.server = folder, monkeypatch, server

    def offline(self, source="mpii-csv:mpii.csv"):
        return cli.main(["describe", f"--source={source}", "--describer=geometry", f"--out={OUT}"])

    def ask(self, *flags, model="x", base_url=None):
        asked = [f"--base-url={base_url or self.server.base_url}", f"--model={model}"]
        source = ["--source=mpii-csv:mpii.csv", "--describer=openai", "--concurrency=4"]
        return cli.main(["describe", *source, *asked, f"--out={OUT}", *flags])

    def fault(self, *faults):
        self.server.faults.extend(faults)
        return self.ask()


def write(name, value):
    pathlib.Path(name).write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")


def without_keypoints(run):
    images = [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 8}]
    write("x.json", {"images": images, "annotations": [{"image_id": 1, "id": 3, "category_id": 1}]})
    return run.offline("coco:x.json")


def not_json(run):
    write("x.json", "{")
    return run.offline("coco:x.json")


def joint_without_a_number(run):
    lines = [line.split(",") for line in pathlib.Path("mpii.csv").read_text().splitlines()]
    lines[6][lines[0].index("l wrist_Y")] = "left"
    write("mpii.csv", "".join(",".join(line) + "\n" for line in lines))
    return run.offline()


def outside_the_folder(run):
    write("x.json", {"../a.jpg": [[1, 2]] * 17})
    return run.offline("coco-dict:x.json")


def damaged_line(run):
    assert run.offline() == 0
    lines = (OUT / journal.JOURNAL).read_text().splitlines(keepends=True)
    (OUT / journal.JOURNAL).write_text(lines[0] + lines[1][20:] + lines[2])
    return run.offline()


def damaged_number(run):
    assert run.ask("--price=1,1", "--limit=2") == 0
    path = OUT / journal.JOURNAL
    path.write_text(re.sub('"cost": [0-9.e-]+', '"cost": -1', path.read_text()))
    return run.ask("--price=1,1")


def another_run(run):
    with files.exclusive(OUT):
        return run.offline()


def full_disk(run):
    write_bytes = os.write

    def full(descriptor, data):
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(journal.JOURNAL):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_bytes(descriptor, data)

    run.monkeypatch.setattr(os, "write", full)
    return run.offline()


def no_key(run):
    run.monkeypatch.delenv("OPENAI_API_KEY")
    return run.ask(model="gpt-6-luna", base_url="https://api.openai.com/v1")


def no_network(run):
    run.monkeypatch.setattr(openai_run, "_FIRST_PATIENCE", 0.1)
    run.monkeypatch.setattr(openai_run, "_FIRST_PAUSE", 0.05)
    return run.ask(base_url="http://127.0.0.1:9/v1")


def socks_proxy(run):
    run.monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:9")
    return run.ask(base_url="http://service.invalid/v1")


def refused_now(run):
    assert run.ask("--limit=2") == 0
    run.server.refuse = ("temperature",)
    return run.ask()


def failing_server(run):
    run.monkeypatch.setattr(openai_run, "RETRIES", 0)
    return run.fault("", *["500"] * 40)


def whatever_shape(run):
    assert run.fault("malformed") == 0
    return statuses(unknown=1, ok=30)


def empty_cut_off_or_gendered(run):
    assert run.fault("empty", "", "length", "", "gendered") == 0
    return statuses(failed=2, rejected=1, ok=30)


def impossible_count(run):
    run.server.usage = False
    answer = run.server._write

    async def lie(writer, status, body, headers=None):
        usage = {"prompt_tokens": -5, "completion_tokens": "7"}
        return await answer(writer, status, json.dumps(json.loads(body) | {"usage": usage}).encode(), headers)

    run.server._write = lie
    assert run.ask("--price=1,1") == 0
    reserved = {}
    for row in journal.read_rows(OUT):
        if row["status"] == journal.INTENT:
            reserved[row["attempt"]] = row["reserved"]["cost"]
        else:
            assert row["answer"]["cost"] == reserved[row["attempt"]]
    return statuses(ok=30)


def statuses(**expected):
    """What is no reason to end: the outcomes, each of which has its row."""
    counted = Counter(row["status"] for row in journal.read_rows(OUT) if row["status"] != journal.INTENT)
    assert counted == expected


CASES = {
    ("path", "not there"): lambda run: run.offline("coco:x.json"),
    ("file", "not JSON"): not_json,
    ("field", "not given"): without_keypoints,
    ("joint", "no number"): joint_without_a_number,
    ("image", "outside its folder"): outside_the_folder,
    ("journal", "a damaged line"): damaged_line,
    ("journal", "an impossible number"): damaged_number,
    ("journal", "another run"): another_run,
    ("disk", "full"): full_disk,
    ("key", "not set"): no_key,
    ("key", "refused"): lambda run: run.fault("401"),
    ("address", "holds a password"): lambda run: run.ask(base_url="http://me:password@host/v1"),
    ("address", "redirects"): lambda run: run.fault("redirect"),
    ("network", "not there, or lost"): no_network,
    ("network", "behind a SOCKS proxy"): socks_proxy,
    ("model", "retired"): lambda run: run.ask(model="gpt-4-0613", base_url="https://api.openai.com/v1"),
    ("model", "unknown to the server"): lambda run: run.fault("model_not_found"),
    ("model", "refuses what it took before"): refused_now,
    ("server", "fails 20 images in a row"): failing_server,
    ("server", "asks to wait more than two minutes"): lambda run: run.fault("429-long"),
    ("answer", "not JSON, or of another shape"): whatever_shape,
    ("answer", "empty, cut off, or refused by a validator"): empty_cut_off_or_gendered,
    ("answer", "counts tokens as no request can have"): impossible_count,
    ("budget", "reached"): lambda run: run.ask("--price=1000,1000", "--max-cost=5"),
    ("budget", "price not known"): lambda run: run.ask("--max-cost=5"),
    ("budget", "the account's quota"): lambda run: run.fault("insufficient_quota"),
    ("limits", "below one request"): lambda run: run.ask("--tokens-per-minute=100"),
}


def test_every_row_of_the_table_has_a_case():
    assert list(CASES) == list(ROWS)


@pytest.mark.parametrize("where_and_what", ROWS, ids=" ".join)
def test_what_is_said(where_and_what, tmp_path, mpii_csv, monkeypatch, capsys):
    mpii_csv(*({"NAME": f"{n:02d}.jpg", "l wrist_Y": n, "Activity": "rowing"} for n in range(30)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    with LLMServer() as server:
        code = CASES[where_and_what](Run(tmp_path, monkeypatch, server))
    monkeypatch.undo()
    said = ROWS[where_and_what]
    last = capsys.readouterr().err.strip().splitlines()[-1]
    if said.startswith("none"):
        assert code is None  # the case itself looked at the rows
        assert not last.startswith("error")
    else:
        assert code == 2
        assert re.fullmatch(rf"error: (runs/people/)?{pattern(said)}", last), last
