import contextlib
import dataclasses
import http.client
import io
import json
import os
import re
import signal
import socket
import struct
import threading
import time
import zlib

import browser
import numpy as np
import pytest
from PIL import Image

from annotation import journal, records, shards, validators
from annotation.errors import UserError
from annotation.viewer import catalogue, drawing, export, photos, server, verdicts, views
from annotation.viewer.catalogue import Filters
from annotation.viewer.journals import JournalFolder
from annotation.viewer.shards import ShardFolder

HOSTILE = '</script><script>window.hacked=1</script><img src=x onerror="window.hacked=2">\'"&'
GOOD = "There is one person in the image. The person is standing upright with both arms lowered."


def row(record, status, model="model-a", version="paper", attempt="1", **fields):
    """One row of a journal, as the contract of its file says."""
    describer = journal.Describer("openai", version, {"model": model, "base_url": "http://x/v1"})
    input_ = journal.input_hash(record)
    return {
        "key": journal.attempt_key(describer, input_),
        "input": input_,
        "image_id": record.image_id,
        "describer": "openai",
        "version": version,
        "params": describer.params,
        "status": status,
        "attempt": attempt,
        "created": "2026-01-02T03:04:05+00:00",
        **fields,
    }


def captions(text, source="model-a/paper"):
    return [{"text": text, "source": source}]


@pytest.fixture
def write(tmp_path):
    """Write records and raw journal rows; returns the folder."""

    def write(image_records, rows, name="journal", torn=b""):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "records.jsonl").write_text(
            "".join(records.to_json(r) + "\n" for r in image_records), "utf-8"
        )
        lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
        (folder / "journal.jsonl").write_bytes(lines.encode() + torn)
        return folder

    return write


@pytest.fixture
def mixed(write, make_record):
    """Six images in every state that a journal knows."""
    images = [
        make_record(f"{n}.jpg", people=1 + n % 3, activity=("running", "rowing")[n % 2]) for n in range(6)
    ]
    answer = {"returned_model": "model-a-2026", "cost": 0.00012, "usage": {"prompt_tokens": 7}}
    rows = [
        row(images[0], "intent", attempt="a", reserved={}),
        row(images[0], "ok", attempt="a", captions=captions(GOOD), answer=answer),
        row(images[0], "ok", model="model-b", attempt="b", captions=captions("Ein Bär.", "model-b/paper")),
        row(images[0], "failed", model="model-b", version="new", attempt="j", error="HTTP 500"),
        row(images[1], "intent", attempt="c", reserved={}),
        row(images[1], "rejected", attempt="c", captions=captions("Ten people."), reasons=["says 10 people"]),
        row(images[2], "intent", attempt="d", reserved={}),
        row(images[2], "failed", attempt="d", error="HTTP 500"),
        row(images[3], "intent", attempt="e", reserved={}),
        row(images[4], "failed", attempt="f", error="HTTP 500"),
        row(images[4], "ok", attempt="g", captions=captions("first wording"), version="old"),
        row(images[4], "ok", attempt="h", captions=captions("second wording")),
        row(make_record("gone.jpg"), "ok", attempt="i", captions=captions(GOOD)),
    ]
    return write(images, rows, torn=b'{"torn')


@pytest.fixture
def opened(mixed):
    source = JournalFolder(mixed, mixed / "images")
    with contextlib.closing(catalogue.Catalogue(source)) as made:
        yield source, made


@contextlib.contextmanager
def serving(source):
    """(port) of a server over `source`, every caption checked."""
    with (
        server.Server("127.0.0.1", 0) as http_server,
        contextlib.closing(catalogue.Catalogue(source)) as made,
    ):
        verdicts.check_all(source, made.path)
        http_server.viewer = server.Viewer(source, made)
        thread = threading.Thread(target=http_server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield http_server.server_port
        finally:
            http_server.shutdown()
            thread.join()


def ask(port, path, method="GET", host=None, **headers):
    """(status, headers, body) of one request; the path is sent as it stands."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", host or f"127.0.0.1:{port}")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


# ------------------------------------------------------------------------------------------ reading


def test_an_image_shows_every_answer_with_its_state_and_what_replaced_it(opened):
    source, _ = opened
    found = [[(a.source, a.status, a.text, a.current) for a in source.read(n).answers] for n in range(6)]
    assert found == [
        [
            ("model-a/paper", "ok", GOOD, True),
            ("model-b/paper", "ok", "Ein Bär.", True),
            ("model-b/new", "failed", None, False),
        ],
        [("model-a/paper", "rejected", "Ten people.", True)],
        [("model-a/paper", "failed", None, True)],
        [("model-a/paper", "unknown", None, True)],
        [
            ("model-a/paper", "failed", None, False),
            ("model-a/paper", "ok", "first wording", False),
            ("model-a/paper", "ok", "second wording", True),
        ],
        [],
    ]
    assert source.read(1).answers[0].reasons == ("says 10 people",)
    assert source.read(2).answers[0].reasons == ("HTTP 500",)
    facts = source.read(0).answers[0].facts
    assert facts["model"] == "model-a"
    assert facts["returned model"] == "model-a-2026"
    assert facts["prompt version"] == "paper"
    assert facts["cost"] == "$0.000120"
    assert facts["written"].startswith("2026-01-02")


def test_what_counts_is_what_pack_would_take(opened, mixed):
    source, _ = opened
    packed = journal.captions_by_input(mixed)
    for number in range(len(source)):
        entry = source.read(number)
        shown = [a.text for a in entry.answers if a.current and a.status == "ok"]
        assert sorted(shown) == sorted(c.text for c in packed.get(journal.input_hash(entry.record), []))


def test_rows_of_images_that_are_no_longer_there_are_counted(opened):
    assert opened[0].strangers == 1


def test_a_damaged_line_is_named(mixed):
    with open(mixed / "journal.jsonl", "ab") as file:
        file.write(b'"}\n[]\n')
    with pytest.raises(UserError, match=r"journal\.jsonl: holds a line that is no journal row"):
        JournalFolder(mixed, mixed)


def test_records_are_needed(tmp_path):
    with pytest.raises(UserError, match=r"records\.jsonl: not there"):
        JournalFolder(tmp_path, tmp_path)
    with pytest.raises(UserError, match="holds no shards"):
        ShardFolder(tmp_path / "absent")


@pytest.fixture
def packed(tmp_path, make_record, write_journal, photo):
    """A journal with photographs and the shards that were packed from it, smaller."""
    images = tmp_path / "images"
    images.mkdir()
    some = [make_record(f"{n}.jpg", people=n, width=120, height=90) for n in (1, 2, 3)]
    for one in some:
        (images / one.image_id).write_bytes(photo(120, 90))
    folder = write_journal(tmp_path / "journal", some)
    options = shards.Options(images=images, split="train", dataset="d", size=45, shards=1)
    shards.pack(folder, tmp_path / "out", options, lambda sentence: None)
    return folder, images, tmp_path / "out"


def test_shards_show_what_their_journal_shows(packed):
    folder, images, out = packed
    of_journal, of_shards = JournalFolder(folder, images), ShardFolder(out)
    assert len(of_shards) == len(of_journal) == 3
    for number in range(3):
        before, after = of_journal.read(number), of_shards.read(number)
        assert after.record.image_id == before.record.image_id
        assert after.stored == (60, 45)
        assert (after.record.width, after.record.height) == (120, 90)
        assert [(a.source, a.text) for a in after.answers] == [(a.source, a.text) for a in before.answers]
        for one, other in zip(before.record.people, after.record.people, strict=True):
            np.testing.assert_allclose(one.joints, other.joints, atol=1e-3)
            np.testing.assert_array_equal(one.visibility, other.visibility)
        assert Image.open(of_shards.photo(after)).size == (60, 45)
        assert views.shown(of_shards, number).warning is None


def test_a_damaged_shard_is_named(packed):
    (path,) = packed[2].glob("*.tfrecord-*")
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"tfrecord-00000-of-00001: record 0: damaged"):
        ShardFolder(packed[2]).read(0)


# ---------------------------------------------------------------------------------------- filtering


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"text": "BÄR"}, [0]),
        ({"text": "second wording"}, [4]),
        ({"text": "wording SECOND row"}, []),
        ({"text": "first"}, []),  # it was replaced
        ({"text": "4.jpg"}, [4]),
        ({"text": "rowing"}, [1, 3, 5]),
        ({"text": "%"}, []),
        ({"text": "' OR 1 --"}, []),
        ({"activity": "running"}, [0, 2, 4]),
        ({"people": "2"}, [1, 4]),
        ({"people": "x"}, []),
        ({"source": "model-b/paper"}, [0]),
        ({"status": "ok"}, [0, 4]),
        ({"status": "rejected"}, [1]),
        ({"status": "failed"}, [2]),
        ({"status": "unknown"}, [3]),
        ({"status": "none"}, [5]),
        ({"source": "model-b/paper", "status": "rejected"}, []),
        ({"activity": "rowing", "status": "rejected", "people": "2"}, [1]),
        ({"verdict": "not checked yet"}, []),
        ({"verdict": "no caption"}, [2, 3, 5]),
        ({"verdict": "objected", "status": "rejected"}, [1]),
        ({"text": "\ud800"}, []),
    ],
)
def test_filters(opened, filters, expected):
    source, made = opened
    verdicts.check_all(source, made.path)
    assert made.find(Filters(**filters)) == expected


def test_verdicts_are_those_of_the_validators(opened):
    source, made = opened
    assert made.checked() == 0
    assert made.find(Filters(verdict="not checked yet")) == [0, 1, 4]
    verdicts.check_all(source, made.path)
    assert made.checked() == 6
    for number, count in enumerate(made.objected(range(6))):
        entry = source.read(number)
        texts = [a.text for a in entry.answers if a.current and a.status == "ok"]
        assert count == sum(bool(validators.check(text, entry.record)) for text in texts)
    assert made.find(Filters(verdict="objected")) == [n for n in range(6) if n == 1 or made.objected([n])[0]]


def test_verdicts_come_in_the_background(opened):
    source, made = opened
    with verdicts.in_background(source, made.path):
        end = time.monotonic() + 60
        while made.checked() < 6:
            assert time.monotonic() < end
            time.sleep(0.1)


def test_choices_say_how_many_images_they_leave(opened):
    choices = opened[1].choices
    assert choices["activity"] == [("rowing", 3), ("running", 3)]
    assert choices["people"] == [("1", 2), ("2", 2), ("3", 2)]
    assert choices["source"] == [("model-a/paper", 5), ("model-b/paper", 1)]
    assert dict(choices["status"]) == {"ok": 2, "rejected": 1, "failed": 1, "unknown": 1, "none": 1}


def test_neighbours_are_those_of_the_filtered_list(opened):
    made = opened[1]
    assert made.neighbours(Filters(activity="running"), 2) == (0, 4)
    assert made.neighbours(Filters(activity="running"), 4) == (2, None)
    assert made.neighbours(Filters(), 0) == (None, 1)


# ------------------------------------------------------------------------------------------ drawing


def test_ellipses_are_those_of_training_and_the_heatmap_is_the_sum_of_their_gaussians(make_record):
    from focusclip_jax.data import heatmaps

    people = make_record("a.jpg", people=4, width=120, height=90).people
    joints, visibility = (np.stack([getattr(p, name) for p in people]) for name in ("joints", "visibility"))
    centres, half_axes = heatmaps.ellipses(joints, visibility)
    ours = np.array([axes for person in people for _, *axes in drawing.ellipses(person)])
    np.testing.assert_array_equal(ours, np.concatenate([centres, half_axes], 1))
    y, x = np.mgrid[:90, :120]
    exact = sum(
        np.exp(-((x - cx) ** 2 / (2 * ax**2) + (y - cy) ** 2 / (2 * ay**2))) for cx, cy, ax, ay in ours
    )
    np.testing.assert_allclose(drawing.heatmap(people, (120, 90), (120, 90)), np.clip(exact, 0, 1), atol=1e-5)


def test_the_heatmap_is_as_opaque_as_it_is_hot(make_record):
    record = make_record("a.jpg", people=2, width=1200, height=900)
    picture = Image.open(io.BytesIO(drawing.heatmap_png(record, 300)))
    assert picture.size == (300, 225)
    expected = drawing.heatmap(record.people, (1200, 900), (300, 225))
    alpha = np.asarray(picture.convert("RGBA"))[..., 3] / 255
    assert alpha.max() > 0.9
    np.testing.assert_allclose(alpha, expected, atol=0.01)


def test_nobody_and_a_person_without_joints_can_be_drawn():
    empty = records.person(np.full((16, 2), np.nan))
    for people in ((), (empty,)):
        record = records.ImageRecord("a.jpg", people)
        assert drawing.overlay(record).count("<circle") == 0
        heat = Image.open(io.BytesIO(drawing.heatmap_png(record, 64))).convert("RGBA")
        assert heat.getextrema()[3] == (0, 0)


# ------------------------------------------------------------------------------------------- photos


@pytest.fixture
def folder(tmp_path, photo):
    """A folder of photographs with one file beside it that nobody may see."""
    images = tmp_path / "images"
    (images / "inside").mkdir(parents=True)
    (images / "inside" / "a.jpg").write_bytes(photo())
    (tmp_path / "secret.jpg").write_bytes(photo())
    (images / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (images / "up").symlink_to(tmp_path)
    (images / "in.jpg").symlink_to(images / "inside" / "a.jpg")
    (images / "ring.jpg").symlink_to(images / "ring.jpg")
    os.mkfifo(images / "pipe.jpg")
    return images


@pytest.mark.parametrize(
    "image_id", ["../secret.jpg", "inside/../../secret.jpg", "{tmp}/secret.jpg", "out.jpg", "up/secret.jpg"]
)
def test_no_path_leaves_the_image_folder(folder, image_id):
    with pytest.raises(photos.NoPhoto, match="leaves the image folder"):
        photos.path_inside(folder, image_id.format(tmp=folder.parent))


@pytest.mark.parametrize(
    ("image_id", "reason"),
    [
        ("absent.jpg", "photo not here"),
        ("ring.jpg", "photo not here"),
        ("a\0.jpg", "photo not here"),
        ("x" * 5000, "photo not here"),
        ("pipe.jpg", "not a regular file"),
        ("inside", "not a regular file"),
        ("", "not a regular file"),
    ],
)
def test_what_is_no_photo_is_said(folder, image_id, reason):
    with pytest.raises(photos.NoPhoto, match=reason):
        photos.path_inside(folder, image_id)


def test_links_inside_the_folder_are_followed(folder):
    assert photos.path_inside(folder, "in.jpg") == (folder / "inside" / "a.jpg").resolve()


def png_of(width, height):
    """A PNG that says it is so large, and ends after saying so."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(head))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + (struct.pack(">I", 8) + b"IDAT" + bytes(12))
    )


@pytest.mark.parametrize("size", [(10_000, 5_001), (100_000, 100_000)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_photo_above_the_limit_is_not_decoded(size, monkeypatch):
    def decode(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.Image, "load", decode)
    for look in (photos.size, lambda file: photos.jpeg(file, 100)):
        with pytest.raises(photos.NoPhoto, match="more than 50 megapixels"):
            look(io.BytesIO(png_of(*size)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a photo",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>x()</script></svg>",
        png_of(10, 10),
    ],
)
def test_what_cannot_be_decoded_is_said(data):
    with pytest.raises(photos.NoPhoto, match="cannot be decoded"):
        photos.jpeg(io.BytesIO(data), 100)


def test_a_photo_is_made_anew_at_the_size_of_the_screen_and_not_turned(photo):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "where it was taken"
    data = photo(400, 300, exif=exif)
    made = photos.jpeg(io.BytesIO(data), 100)
    picture = Image.open(io.BytesIO(made))
    assert picture.size == (100, 75)
    assert not picture.getexif()
    assert b"where it was taken" in data
    assert b"where it was taken" not in made
    for mode, kind in (("L", "PNG"), ("P", "GIF"), ("RGBA", "PNG"), ("CMYK", "JPEG")):
        assert (
            Image.open(io.BytesIO(photos.jpeg(io.BytesIO(photo(mode=mode, format=kind)), 500))).mode == "RGB"
        )


def test_a_photo_of_another_size_than_annotated_is_said(folder, write, make_record):
    source = JournalFolder(write([make_record("inside/a.jpg", width=60, height=90)], []), folder)
    shown = views.shown(source, 0)
    assert "120 × 90 pixels, its annotation says 60 × 90" in shown.warning
    assert shown.warning in views.record_page(shown, export._LINKS, None, None, "index.html").html


# ------------------------------------------------------------------------------------------- server


def test_every_page_is_there_and_says_what_it_must_not_load(packed):
    folder, images, out = packed
    for source in (JournalFolder(folder, images), ShardFolder(out)):
        with serving(source) as port:
            for path, kind in {
                "/": "text/html; charset=utf-8",
                "/?text=caption&page=1": "text/html; charset=utf-8",
                "/record/2?people=3": "text/html; charset=utf-8",
                "/photo/0": "image/jpeg",
                "/thumb/0": "image/jpeg",
                "/heatmap/0": "image/png",
            }.items():
                status, headers, body = ask(port, path)
                assert (status, headers["Content-Type"], len(body) > 100) == (200, kind, True)
                assert headers["Content-Security-Policy"].startswith("default-src 'none'")
                assert headers["X-Content-Type-Options"] == "nosniff"
                assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
                if kind != "text/html; charset=utf-8":
                    assert Image.open(io.BytesIO(body)).size[0] > 50
            record = ask(port, "/record/0")[2].decode()
            assert "Caption 0 of 1.jpg, né." in record
            assert "120 × 90 pixels" in record


@pytest.mark.parametrize(
    "path",
    [
        *("/record/6", "/record/-1", "/record/1e1", "/record/99999999999999999999", "/record/", "/record"),
        *("/photo/../../etc/passwd", "/photo/%2e%2e/secret", "//etc/passwd", "/etc/passwd", "/favicon.ico"),
        *("/record/٣", "/photo/1/x", "/index.html", "/?"[:1] + "x"),
    ],
)
def test_other_addresses_are_not_found(opened, path):
    with serving(opened[0]) as port:
        connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        with contextlib.closing(connection):
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            )
            answer = connection.makefile("rb").read()
    assert answer.split(b"\r\n")[0].startswith(b"HTTP/1.1 404")
    assert b"root:" not in answer


def test_strange_queries_are_answered(opened):
    with serving(opened[0]) as port:
        for query in (
            "page=0",
            "page=-3",
            "page=x",
            "page=999",
            "text=" + "a+" * 3000,
            "text=%ff%00",
            "people=%3C",
            "&=&&",
        ):
            status, _, body = ask(port, f"/?{query}")
            assert status == 200, query
            assert b'id="results"' in body


def test_a_missing_photo_is_said_on_its_page_and_in_the_list(opened):
    with serving(opened[0]) as port:
        assert ask(port, "/photo/0")[0] == 404
        assert b"photo not here" in ask(port, "/record/0")[2]
        assert b"photo not here" in ask(port, "/")[2]


def test_nothing_but_get_is_answered(opened):
    with serving(opened[0]) as port:
        for method in ("POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "FOO"):
            status, headers, _ = ask(port, "/", method)
            assert status == 405
            assert headers["Connection"] == "close"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(
            ("localhost", 200),
            ("LOCALHOST:9", 200),
            ("127.0.0.1:8000", 200),
            ("[::1]:8000", 200),
            ("10.0.0.7", 200),
        ),
        *(
            ("evil.example", 421),
            ("evil.example:8000", 421),
            ("localhost.evil.example", 421),
            ("127.0.0.1.x.example", 421),
        ),
        *((" ", 421), ("localhost@evil.example", 421)),
    ],
)
def test_only_names_of_this_server_are_answered(opened, host, status):
    with serving(opened[0]) as port:
        assert ask(port, "/", host=host)[0] == status


def test_a_port_in_use_is_one_sentence(opened):
    with (
        serving(opened[0]) as port,
        pytest.raises(UserError, match=f"cannot serve at 127.0.0.1, port {port}"),
    ):
        server.Server("127.0.0.1", port)


def test_by_default_only_this_machine_reaches_it():
    from annotation.__main__ import _parser

    assert _parser().parse_args(["view", "--journal=x"]).host == "127.0.0.1"


# ------------------------------------------------------------------------------------------- export


def test_exported_pages_lead_only_to_each_other(packed, tmp_path):
    folder, images, _ = packed
    out = tmp_path / "site"
    assert export.export(JournalFolder(folder, images), out, 2) == 2
    pages = sorted(path.name for path in out.glob("*.html"))
    assert pages == ["image-0.html", "image-1.html", "index.html"]
    for name in pages:
        text = (out / name).read_text("utf-8")
        addresses = re.findall(r'(?:href|src|action)="([^"]*)"', text)
        assert addresses
        for address in set(addresses) - {"data:,"}:
            assert (out / address).is_file(), address
    assert "a sample of 2 of 3 images" in (out / "index.html").read_text("utf-8")


def test_a_long_export_has_pages(write, make_record, tmp_path):
    source = JournalFolder(write([make_record(f"{n}.jpg") for n in range(60)], []), tmp_path)
    assert export.export(source, tmp_path / "site", 50) == 50
    assert len(list((tmp_path / "site").glob("image-*.html"))) == 50
    assert "25 to 48 of 50 images" in (tmp_path / "site" / "page-2.html").read_text("utf-8")


def test_an_export_overwrites_nothing(packed, tmp_path):
    source = JournalFolder(packed[0], packed[1])
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="not an empty folder"):
        export.export(source, tmp_path / "site", 1)
    assert (tmp_path / "site" / "mine.txt").read_text() == "mine"


# ----------------------------------------------------------------------------------------- the verb


def test_the_verb_exports(packed, tmp_path, run_module):
    folder, images, out = packed
    for name, what in (("a", (f"--journal={folder}", f"--images={images}")), ("b", (f"--shards={out}",))):
        done = run_module("annotation", "view", *what, f"--export={tmp_path / name}", "--count=2")
        assert done.returncode == 0, done.stderr
        assert "2 of 3 images" in done.stderr
        assert (tmp_path / name / "index.html").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--journal={}", "--images={}/absent"), "absent: not a folder"),
        (("--shards={}", "--images={}"), "--images goes with --journal"),
        (("--shards={}",), "holds no shards"),
        (("--journal={}", "--port=70000"), "not a port"),
        ((), "one of the arguments --journal --shards is required"),
    ],
)
def test_mistakes_are_one_sentence(arguments, sentence, mixed, capsys):
    from annotation.__main__ import main

    with contextlib.suppress(SystemExit):
        assert main(["view", *(argument.format(mixed) for argument in arguments)]) == 2
    assert sentence in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_verb_serves_until_it_is_told_to_end(mixed, run_module, tmp_path, stop):
    process = run_module("annotation", "view", f"--journal={mixed}", "--port=0", wait=False, TMPDIR=tmp_path)
    line = ""
    while "http://" not in line:
        line = process.stderr.readline()
        assert line, "it ended"
    port = int(re.search(r"http://127\.0\.0\.1:(\d+)/", line)[1])
    assert ask(port, "/")[0] == 200
    process.send_signal(stop)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err.strip()) == (0, "", "")
    assert not list(tmp_path.glob("annotate-view-*")), "the catalogue is gone with the viewer"


# ------------------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def page():
    executable = browser.find()
    if executable is None:
        pytest.skip("no Chromium is here; install one or name it in FOCUSCLIP_BROWSER")
    with browser.started(executable) as started:
        yield started


@pytest.fixture
def hostile(write, make_record, photo, tmp_path):
    """Two pages of images; everything that somebody else may write is hostile in the first one."""
    images = tmp_path / "photos"
    images.mkdir()
    bad = make_record(HOSTILE.replace("/", "∕"), people=3, width=120, height=90)
    bad = dataclasses.replace(
        bad, activity=HOSTILE, category=HOSTILE, source=HOSTILE, extra={HOSTILE: HOSTILE}
    )
    (images / bad.image_id).write_bytes(photo())
    others = [make_record(f"plain-{n:02d}.jpg", activity="rowing", category="sports") for n in range(30)]
    answer = {"returned_model": HOSTILE, "usage": {HOSTILE: 1}, "finish_reason": HOSTILE}
    rows = [
        row(bad, "ok", model=HOSTILE, version=HOSTILE, captions=captions(HOSTILE, HOSTILE), answer=answer),
        row(bad, "rejected", model="b", captions=captions(HOSTILE), reasons=[HOSTILE], attempt="2"),
        row(bad, "failed", model="c", error=HOSTILE, attempt="3"),
        *(row(one, "ok", captions=captions(f"Number {n}. {GOOD}")) for n, one in enumerate(others)),
    ]
    return JournalFolder(write([bad, *others], rows), images)


CARDS = "[...document.querySelectorAll('.card strong')].map(e => e.textContent)"
HARMLESS = "window.hacked === undefined && !document.querySelector('img') && document.scripts.length <= 1"


@pytest.mark.slow
def test_the_list_is_filtered_and_turned_in_a_browser(page, hostile):
    with serving(hostile) as port:
        address = f"http://127.0.0.1:{port}"
        page.requests.clear()
        page.open(f"{address}/")
        assert len(page.evaluate(CARDS)) == views.PER_PAGE
        page.click("a[rel=next]")
        page.wait_for("location.search == '?page=2' && document.readyState == 'complete'")
        assert page.evaluate(CARDS) == [f"plain-{n:02d}.jpg" for n in range(23, 30)]
        page.click("input[name=text]")
        page.type("number 17.")
        page.wait_for("document.querySelectorAll('.card').length == 1")
        assert page.evaluate(CARDS) == ["plain-17.jpg"]
        assert page.evaluate("location.search") == "?text=number+17."
        assert page.evaluate("document.activeElement.name") == "text", "one can go on typing"
        page.click(".card a")
        page.wait_for("document.querySelector('.record') && document.readyState == 'complete'")
        assert (
            page.evaluate("document.querySelector('article > p:not(.row)').textContent")
            == f"Number 17. {GOOD}"
        )
        assert page.evaluate("document.querySelectorAll('svg circle').length") > 5
        assert page.evaluate("document.querySelectorAll('svg ellipse').length") > 5
        page.evaluate("document.querySelector('header a').click()")
        page.wait_for("document.querySelector('form') && document.readyState == 'complete'")
        assert page.evaluate("document.querySelector('input[name=text]').value") == "number 17."
        assert page.evaluate(CARDS) == ["plain-17.jpg"]
    assert len(page.requests) >= 7
    assert {request for request in page.requests if not request.startswith((address, "data:"))} == set()


@pytest.mark.slow
def test_the_layers_of_a_picture_can_be_switched_without_a_script(page, hostile):
    with serving(hostile) as port:
        page.open(f"http://127.0.0.1:{port}/record/0")
        shows = "getComputedStyle(document.querySelector('{}')).display != 'none'"
        for layer, drawn, at_first in (
            ("photo", ".photo", True),
            ("skeleton", ".skeletons", True),
            ("ellipses", ".ellipses", True),
            ("heatmap", ".heat", False),
        ):
            assert page.evaluate(shows.format(drawn)) is at_first
            page.click(f"#show-{layer}")
            assert page.evaluate(shows.format(drawn)) is not at_first
        # The pictures themselves arrived: an image that fails has no size of its own.
        for kind in ("photo", "heatmap"):
            size = f"const i = new Image(); i.src = '/{kind}/0'; await i.decode(); return i.width;"
            assert page.evaluate(f"(async () => {{ {size} }})()") == 120


@pytest.mark.slow
@pytest.mark.parametrize("policy", [True, False], ids=["as served", "by escaping alone"])
def test_what_others_wrote_is_shown_and_never_run(page, hostile, policy, tmp_path):
    export.export(hostile, tmp_path / "site", 3)
    if not policy:
        page.without_policy()
    with serving(hostile) as port:
        page.requests.clear()
        served, exported = f"http://127.0.0.1:{port}/", f"{(tmp_path / 'site').as_uri()}/"
        for root, record in ((served, "record/0"), (exported, "image-0.html")):
            page.open(root if root == served else f"{root}index.html")
            assert page.evaluate(HARMLESS)
            assert HOSTILE in page.evaluate("document.querySelector('.card').textContent")
            page.open(root + record)
            page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
            assert page.evaluate(HARMLESS)
            text = page.evaluate("document.body.textContent")
            # name, activity, category, source; then of the three answers: text, model, version, reasons …
            assert text.count(HOSTILE) >= 10
            assert page.evaluate("document.title") == HOSTILE.replace("/", "∕")
            width = "document.querySelector('image.photo').getBoundingClientRect().width"
            assert page.evaluate(width) > 100
        assert all(request.startswith((served, exported, "data:")) for request in page.requests)
        assert any("/pictures/photo-0.jpg" in request for request in page.requests)
