"""The demo: what it reads, what it answers, and its page in a browser."""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import re
import signal
import socket

import browser
import numpy as np
import PIL.Image
import pytest
from test_focus_maps import PATCH, TOWERS, small

import focusclip_jax
from annotation import schema
from focusclip_jax import demo, focus_maps
from focusclip_jax.ablation import attention
from focusclip_jax.data import augment, heatmaps
from focusclip_jax.demo import answers, inputs, results
from focusclip_jax.errors import UserError

HOSTILE = '<script>window.hacked=1</script><img src=x onerror="window.hacked=2">\'"&${window.hacked=3}{{x}}'
LABELS = ["running", "bowing", HOSTILE]
STANDING = [[x, y] for x, y in zip([40] * 8 + [60] * 8, range(10, 90, 5), strict=True)]


def photo(height=100, width=120):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


# ------------------------------------------------------------------------------------------------ inputs


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.txt", b"not an image", "a.txt is no image that can be read here; JPEG, PNG"),
        ("a.jpg", b"", "a.jpg is no image that can be read here"),
        ("<b>.jpg", b"\xff\xd8\xff", "<b>.jpg is no image that can be read here"),
    ],
)
def test_what_is_no_image_is_said_by_its_name_alone(tmp_path, name, content, complaint):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"^{re.escape(complaint)}"):
        inputs.read_photo(str(path))


def test_a_photo_that_was_cut_off_or_is_too_large_or_absent_is_said(tmp_path, monkeypatch):
    path = tmp_path / "photo.jpg"
    PIL.Image.fromarray(photo()).save(path)
    np.testing.assert_array_equal(inputs.read_photo(str(path)), np.asarray(PIL.Image.open(path)))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"^photo\.jpg: not a readable image \(.*truncated.*\)\.$"):
        inputs.read_photo(str(path))
    monkeypatch.setattr(inputs, "MAX_PIXELS", 100 * 120 - 1)
    with pytest.raises(UserError, match=r"^photo\.jpg has more than 0 megapixels"):
        inputs.read_photo(str(path))
    with pytest.raises(UserError, match=r"^There is no photo yet"):
        inputs.read_photo(None)


def test_labels_are_one_a_line_each_once():
    assert inputs.read_labels(" running\n\nbowing, slowly \nrunning\n") == ["running", "bowing, slowly"]
    with pytest.raises(UserError, match="There is no label yet"):
        inputs.read_labels(" \n ")
    with pytest.raises(UserError, match="There are 201 labels; at most 200"):
        inputs.read_labels("\n".join(map(str, range(201))))
    with pytest.raises(UserError, match=r"The label “xxx.* …” is longer than 400 characters"):
        inputs.read_labels("x" * 401)


def test_joints_by_place_and_by_name_of_one_person_or_several_are_the_same():
    rows = [*STANDING[:9], None, *STANDING[10:]]
    named = {name: row for name, row in zip(schema.JOINT_NAMES, rows, strict=True) if row}
    joints, visibility = inputs.read_joints(json.dumps(rows))
    assert joints.shape == (1, 16, 2)
    assert visibility.tolist() == [[2] * 9 + [0] + [2] * 6]
    np.testing.assert_array_equal(joints[0, 8], STANDING[8])
    assert np.isnan(joints[0, 9]).all()
    for given in (named, [named], [rows], {"photo.jpg": named}, {"photo.jpg": [named]}):
        np.testing.assert_array_equal(inputs.read_joints(json.dumps(given))[0], joints)
    assert inputs.read_joints(json.dumps([rows, named]))[0].shape == (2, 16, 2)
    assert inputs.read_joints(" \n") is None


def test_the_joints_of_the_page_on_ones_own_photos_can_be_given_as_they_are():
    path = pathlib.Path(__file__).parents[2] / "docs/own_photos/joints.json"
    _, visibility = inputs.read_joints(inputs.read_joints_file(str(path)))
    assert visibility.shape == (1, 16)
    assert np.count_nonzero(visibility) == 10


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[1, 2]", "The joints are not JSON: "),
        ("[" * 100_000, "The joints are not JSON: "),
        ("7", "Joints: person 1 is 7; expected a list of 16"),
        ("[]", "Joints: person 1 is a list of 0; expected a list of 16"),
        ("[[1, 2], [3, 4]]", "Joints: person 1 is a list of 2; expected a list of 16"),
        (json.dumps([STANDING, STANDING[:15]]), "Joints: person 2 is a list of 15; expected"),
        (
            json.dumps([*STANDING[:15], [1]]),
            r"Joints: person 1, joint 15 \(left wrist\) is \[1\]; expected \[x",
        ),
        (json.dumps([*STANDING[:15], [1, float("nan")]]), r"joint 15 \(left wrist\) is \[1, NaN\]; expected"),
        (json.dumps([*STANDING[:15], [1, True]]), r"joint 15 \(left wrist\) is \[1, true\]; expected"),
        (
            '{"left wrist": [1, 2], "tail": [1, 2]}',
            "person 1 has a joint “tail”; expected some of right ankle",
        ),
        ('{"left wrist": [1, "2"]}', r'person 1, left wrist is \[1, "2"\]; expected \[x, y\] in pixels'),
        ('{"left wrist": [1, 2]}', "Joints: person 1 has fewer than two"),
        (json.dumps([STANDING] * 51), "There are joints of 51 people; at most 50"),
    ],
)
def test_joints_that_cannot_be_read_are_one_sentence(text, complaint):
    with pytest.raises(UserError, match=complaint):
        inputs.read_joints(text)


def test_a_file_of_joints_that_is_no_text_is_one_sentence(tmp_path, monkeypatch):
    path = tmp_path / "joints.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"^joints\.json is no text; expected JSON\.$"):
        inputs.read_joints_file(str(path))
    monkeypatch.setattr(inputs, "MAX_JOINTS_BYTES", 2)
    with pytest.raises(UserError, match=r"^joints\.json is larger than"):
        inputs.read_joints_file(str(path))


# ----------------------------------------------------------------------------------------------- answers


@pytest.fixture(scope="module")
def runs():
    models = {"with": small("stretch"), "without": small(image=TOWERS["mean"])}
    return [answers.Run(name, f"about {name}", model, PATCH, "a {}") for name, model in models.items()]


@pytest.fixture(scope="module")
def answered(runs):
    joints = inputs.read_joints(json.dumps(STANDING))
    return answers.ask(runs, photo(), LABELS, "a {}", joints)


def test_answers_are_what_the_models_say_one_by_one(runs, answered):
    joints = inputs.read_joints(json.dumps(STANDING))
    assert answered.text == f"a {answered.of_runs[0].ranked[0][0]}"
    for run, answer in zip(runs, answered.of_runs, strict=True):
        assert answer.ranked == run.model.classify(photo(), LABELS, prompt="a {}")[0]
        view = augment.fitted(100, 120, (12, 12), run.model.encoder.fit)
        subject = attention.subject_share(heatmaps.render(*joints, view, (12, 12))[None], PATCH)
        values = {
            "rollout": focus_maps.attention_shares(run.model, photo()),
            "gradient": focus_maps.relevance(run.model, photo(), answered.text),
        }
        for name, found in values.items():
            look = getattr(answer, name)
            share = (found.ravel() / found.sum() * subject).sum()
            assert look.inside == pytest.approx(share, rel=1e-5)
            focus_map = focus_maps.as_map(found, 12)
            expected = focus_maps.overlay(run.model, answers._resized(photo()), focus_map)
            np.testing.assert_array_equal(look.picture, expected)
    assert answered.people.area == pytest.approx(subject_of_first(runs, joints).mean())
    assert 0.05 < answered.people.area < 0.95


def subject_of_first(runs, joints):
    heatmap = heatmaps.render(*joints, augment.whole(100, 120), (12, 12))
    assert runs[0].model.encoder.fit == "stretch"
    return attention.subject_share(heatmap[None], PATCH)


def test_joints_are_drawn_where_they_are(answered):
    drawn = np.any(answered.people.skeletons != answers._resized(photo()), axis=2)
    scale = answers.SHOWN / 120
    for x, y in STANDING:
        assert drawn[round(y * scale), round(x * scale)]
    assert not drawn[:, : round(35 * scale)].any()
    assert not drawn[:, round(65 * scale) :].any()


def test_progress_is_told_step_by_step(runs):
    told = []
    answers.ask(runs, photo(), LABELS[:2], "a {}", text="a man", progress=lambda *said: told.append(said))
    shares, words = zip(*told, strict=True)
    assert shares == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])
    assert words[0] == "with: comparing the labels"


def test_joints_outside_of_the_photo_are_said(runs):
    far = inputs.read_joints(json.dumps([[x + 5000, y] for x, y in STANDING]))
    with pytest.raises(
        UserError, match="nobody inside what with sees of the photo, which has 120 × 100 pixels"
    ):
        answers.ask(runs, photo(), LABELS, "a {}", far)
    with pytest.raises(UserError, match=r"prompt 'a photo' has no \{\} where the label goes"):
        answers.ask(runs, photo(), LABELS, "a photo")


# ----------------------------------------------------------------------------------------------- results


def test_every_text_of_the_answers_is_escaped(runs, answered):
    page = results.html(answered)
    hostile = results.html(
        answers.Answers(
            [
                answers.Answer(
                    answers.Run(HOSTILE, HOSTILE, None, PATCH, ""),
                    [(HOSTILE, 1.0)],
                    *answered_looks(answered),
                )
            ],
            HOSTILE,
            None,
        )
    )
    for html in (page, hostile, results.complaint(HOSTILE), results.heading([HOSTILE])):
        assert "<script" not in html
        assert "<img src=x" not in html
        assert "&lt;script&gt;" in html
    assert results.html(answered).count("<figure>") == 6
    assert hostile.count("<figure>") == 2


def answered_looks(answered):
    return answered.of_runs[0].rollout, answered.of_runs[0].gradient


def test_a_long_ranking_says_how_many_it_leaves_out(answered):
    first = answered.of_runs[0]
    many = answers.Answer(
        first.run, [(f"label {n}", 1 / 15) for n in range(15)], first.rollout, first.gradient
    )
    page = results.html(answers.Answers([many], "a text", None))
    assert page.count("<li>") == 12
    assert "and 3 less likely ones" in page


# -------------------------------------------------------------------------------------------- the command


def test_it_listens_to_this_machine_unless_told_otherwise():
    options = demo.parse(["--workdir=a", "--compare=b"])
    assert options == demo.Options((pathlib.Path("a"), pathlib.Path("b")), None, "127.0.0.1", 7860)
    assert demo.parse(["--workdir=a", "--host=0.0.0.0", "--port=0"]).host == "0.0.0.0"


def test_without_gradio_or_a_workdir_it_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=rf"{tmp_path}: no workdir of a run"):
        answers.open_run(tmp_path, None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"the demo needs Gradio.*requirements-demo\.txt"):
        demo.main([f"--workdir={tmp_path}"])


# ------------------------------------------------------------------------------------------- in a browser

GUARD = """
import os, sys

def heard(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        called = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        called = arguments[1][0]
    else:
        return
    with open(os.environ["CALLED"], "a") as file:
        file.write(f"{called}\\n")

sys.addaudithook(heard)
"""


@pytest.fixture(scope="module")
def trained(run_module, figures, tmp_path_factory):
    """Two workdirs of one step each: with and without a focus term."""
    root = tmp_path_factory.mktemp("runs")
    for name, config in (("with focus", "focusclip_tiny"), ("without", "clip_tiny")):
        done = run_module(
            *("focusclip_jax", "train", f"--config=configs/{config}.py", f"--workdir={root / name}"),
            *(f"--config.data.train={figures}", "--config.data.validation=", "--config.batch_size=16"),
            *("--config.model.image.depth=1", "--config.model.text.depth=1", "--config.steps=1"),
            "--config.evaluation.tasks=()",
        )
        assert done.returncode == 0, done.stderr
    return root / "with focus", root / "without"


@pytest.fixture(scope="module")
def served(run_module, trained, tmp_path_factory):
    """(address, file of every host that the server called, folder of its temporary files)"""
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("Gradio is not installed here; ./launch.sh test installs it")
    if not browser.find():
        pytest.skip("no Chromium on the PATH; FOCUSCLIP_BROWSER can name one")
    root = tmp_path_factory.mktemp("served")
    (root / "sitecustomize.py").write_text(GUARD)
    (root / "tmp").mkdir()
    repository = pathlib.Path(__file__).parents[2]
    path = os.pathsep.join([str(root), str(repository), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = run_module(
        *("focusclip_jax", "demo", f"--workdir={trained[0]}", f"--compare={trained[1]}", "--port=0"),
        wait=False,
        PYTHONPATH=path,
        CALLED=root / "called.txt",
        TMPDIR=root / "tmp",
    )
    line = next((line for line in process.stdout if "Demo: " in line), None)
    assert line, process.stderr.read()
    try:
        yield re.search(r"http://\S+/", line)[0], root / "called.txt", root / "tmp"
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert list((root / "tmp").glob("focusclip-demo-*")) == []  # no photo stays behind


def visit(page, address):
    page.open("about:blank")
    page.open(address)
    page.wait_for("!!document.querySelector('#look') && !!document.querySelector('#photo input')", 60)


def look(page):
    """Press the button, and wait for an answer in place of the last one."""
    page.evaluate("document.querySelector('#answers .answers').dataset.old = 1")
    page.click("#look")
    page.wait_for("!!document.querySelector('.answers:not([data-old]) p')", 60)
    return page.evaluate("document.querySelector('#answers').innerText")


@pytest.mark.slow
def test_a_visitor_drops_a_photo_types_labels_and_sees_where_two_models_look(
    served, trained, figures, tmp_path
):
    address, called, temporary = served
    assert address.startswith("http://127.0.0.1:")
    path = sorted((figures.parent / "journals/test/images").glob("*.jpg"))[0]
    broken = tmp_path / "holiday.jpg"
    broken.write_text("no photo at all")
    with browser.started(browser.find()) as page:
        visit(page, address)
        weight = page.evaluate(
            "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
            ".reduce((sum, entry) => sum + entry.transferSize, 0)"
        )
        assert 50_000 < weight < 1_500_000

        assert "There is no photo yet" in look(page)
        page.choose("#photo input[type=file]", broken)
        page.wait_for("!!document.querySelector('#photo img')")
        assert "holiday.jpg is no image that can be read here" in look(page)

        visit(page, address)
        page.choose("#photo input[type=file]", path)
        page.wait_for("!!document.querySelector('#photo img')")
        assert list(temporary.rglob(path.name))
        assert "There is no label yet" in look(page)
        page.fill("#labels textarea", "\n".join(LABELS))
        page.fill("#prompt textarea, #prompt input", "One person is {}.")
        look(page)
        shown = page.evaluate(
            "[...document.querySelectorAll('.ranking')].map(of => [of.querySelector('h4').innerText,"
            "...[...of.querySelectorAll('li')].map(row => row.innerText.split('\\n').slice(0, 2))])"
        )
        for workdir, (name, *rows) in zip(trained, shown, strict=True):
            model = focusclip_jax.load(workdir)
            (ranked,) = model.classify(path, LABELS, prompt="One person is {}.")
            assert name == workdir.name
            assert [label for label, _ in rows] == [label for label, _ in ranked]
            said = [float(percent.removesuffix(" %")) for _, percent in rows]
            np.testing.assert_allclose(said, [100 * p for _, p in ranked], atol=0.06)
        about = page.evaluate("[...document.querySelectorAll('.about')].map(e => e.innerText)")
        assert [text.split(";")[0] for text in about] == [
            "trained with subject focus",
            "trained without subject focus",
        ]
        pictures = page.evaluate(
            "[...document.querySelectorAll('.answers img')].map(i => [i.naturalWidth, i.naturalHeight])"
        )
        assert pictures == [[answers.SHOWN, answers.SHOWN]] * 4

        page.click("#more button")
        page.wait_for("!!document.querySelector('#joints textarea')")
        page.fill("#joints textarea", "[[1, 2]")
        assert "The joints are not JSON" in look(page)
        page.fill("#joints textarea", json.dumps([[x / 2, y / 2] for x, y in STANDING]))
        assert re.search(r"\d+ % on the people, who are \d+ % of the area", look(page))
        assert page.evaluate("document.querySelectorAll('.answers img').length") == 6

        assert page.evaluate("window.hacked === undefined")
        outside = [to for to in page.requests if not to.startswith((address, "data:", "blob:", "about:"))]
        assert outside == []
        # Gradio's own client says this of a stream that it does not use.
        assert [error for error in page.errors if "Method not implemented" not in error] == []
    hosts = set(called.read_text().split()) if called.exists() else set()
    assert hosts <= {"127.0.0.1", "localhost", "::1", "None"}


@pytest.mark.slow
def test_a_site_that_had_its_name_point_here_is_not_answered(served):
    address, _, _ = served
    host, port = re.search(r"//([\d.]+):(\d+)", address).groups()
    for name, expected in ((f"127.0.0.1:{port}", "200"), ("evil.example", "400")):
        with socket.create_connection((host, int(port)), timeout=10) as asked:
            asked.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: asked.recv(1 << 16), b"")).decode()
        assert answer.split()[1] == expected
        assert "default-src 'self'" in answer.split("\r\n\r\n")[0]
