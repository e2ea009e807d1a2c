"""The page of a run: it shows what the workdir holds, nothing of that can act, and it asks for nothing."""

import dataclasses
import html.parser
import json
import math
import re

import browser
import numpy as np
import PIL.Image
import pytest

from focusclip_jax import config as configs
from focusclip_jax import page
from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import frozen, probes, report, retrieval, training_text, zero_shot
from focusclip_jax.evaluation.datasets.base import EvaluationSet
from focusclip_jax.evaluation.tasks import FER2013
from focusclip_jax.page import pictures, record

HOSTILE = '</script><script>window.hacked=1</script><img src=x onerror="window.hacked=2">\'"&'


class Reader(html.parser.HTMLParser):
    """The elements of a page, as a parser that is not ours sees them, and its tables as lists of cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.tables, self.words, self.in_cell = [], [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, data):
        self.words.append(data)
        if self.in_cell:
            self.tables[-1][-1][-1] += data

    def table(self, first):
        """The table whose first header cell is this, as {name of a row: {header: cell}}."""
        (rows,) = (rows for rows in self.tables if rows[0][0] == first)
        return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[1:]}


def answers(right, name="fer2013", step=40, n=70):
    """Rows of a task of seven classes whose first `right` images are answered rightly."""
    classes = np.arange(n) % 7
    similarities = np.eye(7, dtype=np.float32)[(classes + (np.arange(n) >= right)) % 7]
    labels = tuple(FER2013.classes[c] for c in classes)
    images = EvaluationSet(tuple(map(str, range(n))), labels, lambda i: None, n, "a test")
    training = training_text.collect(["a happy face"], FER2013.classes)
    rows = zero_shot.score(FER2013, images, similarities, training, step)
    return [dataclasses.replace(row, task=name) for row in rows]


def make(root, steps=40, rate=5e-4, right=50, task="fer2013", label="cpu:cpu", hostile=""):
    """A workdir as training leaves one; `hostile` stands wherever a text of somebody else may."""
    config = configs.default()
    config.steps, config.optimizer.learning_rate, config.data.train = steps, rate, f"data/figures{hostile}"
    (root / "plots").mkdir(parents=True)
    (root / "config.json").write_text(configs.to_json(config))
    about = {
        "started": "2026-01-02T03:04:05+00:00",
        "commit": f"0123456789abcdef{hostile}",
        "dirty": True,
        "python": f"3.12.1{hostile}",
        "packages": {f"jax{hostile}": f"0.10.2{hostile}"},
        "devices": [label] * 2,
        "processes": 1,
        "seed": 0,
        "shards": f"f1a9{hostile}",
        "tokenizer": "70c3",
    }
    (root / "run.json").write_text(json.dumps(about))
    (root / "parameters.txt").write_text(f"image/kernel {hostile}\n")
    rows = [
        {"step": s, "loss": 10 / s, "image_text": 4 / s, "alpha": 0.5, "learning_rate": rate * s / steps}
        | {"images_per_second": 1.0 if s == 4 else 200.0 + s, "step_seconds": 0.5, "data_wait": 0.125}
        for s in range(4, steps + 1, 4)
    ]
    rows[2] |= {f"more{hostile}": 7.0}
    rows.append({"step": steps, "zero_shot/fer2013 seen": 0.25, "zero_shot/fer2013 seen/chance": 0.125})
    rows[-1] |= {"validation/loss": 3.5}
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (root / "metrics.jsonl").write_text(text + '{"step": 44, "lo')
    report.write_json(answers(right, task, steps), root / "evaluation" / f"step-{steps:06d}.json")
    names = ("predictions-fer2013", "confusion-fer2013-unseen", "curves", "similarity", "odd")
    for name in names:
        PIL.Image.new("RGB", (400, 300), "navy").save(root / "plots" / f"{name}.png")
    return root


@pytest.fixture
def run(tmp_path):
    return make(tmp_path / "run")


def written(*workdirs):
    path = page.write(workdirs)
    return path, path.read_text("utf-8")


def test_the_table_has_every_column_with_its_interval(run):
    path, text = written(run)
    assert path == run / "report.html"
    rows = next(table for table in Reader(text).tables if table[0][0] == "task")
    whole = answers(50)[0]
    first = dict(zip(rows[0], rows[1], strict=True))
    expected = dict(zip(report.FULL_HEADER, report.full_cells(whole), strict=True))
    shown = {name.replace(" ", ""): cell for name, cell in first.items()}
    for name, cell in expected.items():
        assert shown[name.replace(" ", "")] == cell, name
    low, high = (f"{100 * bound:.1f}" for bound in whole.interval)
    assert first["accuracy[95 %]"].endswith(f"[{low}, {high}]")
    assert first["step"] == "40"
    drawn = next(cell for name, cell in first.items() if name.startswith("0 to "))
    assert f"chance {100 * whole.chance:.4g}" in drawn
    assert [row[0] for row in rows[1:]] == ["fer2013"] * len(answers(50))
    classes = next(table for table in Reader(text).tables if table[0][0] == "class")
    assert [row[0] for row in classes[1:]] == list(FER2013.classes)


def test_curves_show_what_was_logged_at_its_step(run):
    _, text = written(run)
    charts = {
        re.search("<strong>(.*?)</strong>", figure).group(1): figure
        for figure in re.findall(r'<figure class="chart panel">.*?</figure>', text, re.DOTALL)
    }
    assert list(charts) == [
        *("zero-shot accuracy (%)", "training loss (nats)", "validation loss (nats)"),
        *("α, background that stays", "learning rate", "images per second", "waiting for data (%)", "more"),
    ]
    loss = re.findall("<title>(.*?)</title>", charts["training loss (nats)"])
    assert loss[:10] == [f"step {s}: {10 / s:.4g}" for s in range(4, 41, 4)]
    assert "step 40: 12.5<" in charts["waiting for data (%)"]
    assert "step 40: 25<" in charts["zero-shot accuracy (%)"]
    assert 'class="level"' in charts["zero-shot accuracy (%)"]


def test_throughput_leaves_out_the_row_that_compiled(run):
    rows = {row[0]: row[1] for table in Reader(written(run)[1]).tables for row in table if len(row) == 2}
    assert rows["images per second"] == "224"  # the median of 208, 212, …, 240
    assert rows["images per second and device"] == "112"
    assert rows["waiting for data"] == "12.5 % of the time"
    assert rows["time in steps, compilation included"] == "20 s"
    assert rows["devices"] == "2 × cpu:cpu"
    assert rows["fingerprint of the shards"] == "f1a9"
    assert rows["commit"] == "0123456789abcdef, with changes that were not committed"


def test_settings_that_differ_from_the_defaults_come_first_and_all_are_there(run):
    tables = [table for table in Reader(written(run)[1]).tables if table[0][0] == "setting"]
    changed, everything = ([tuple(row) for row in table[1:]] for table in tables)
    assert changed == [
        ("data.train", '""', '"data/figures"'),
        ("steps", "1000", "40"),
    ]
    assert {name for name, *_ in everything} == {name for name, _ in configs.leaves(configs.default())}
    assert set(changed) <= set(everything)


def test_two_runs_share_charts_and_rows_and_say_where_they_differ(tmp_path):
    a = make(tmp_path / "a" / "clip", right=50)
    b = make(tmp_path / "b" / "clip", right=60, rate=1e-3, steps=48)
    path, text = written(a, b)
    assert path == a / "report-beside-clip.html"
    assert (a / "report.html").exists()
    assert (b / "report.html").exists()
    reader = Reader(text)
    (results,) = (table for table in reader.tables if table[0][0] == "task")
    assert [
        str(folder) in cell for folder, cell in zip((a, b), (results[1][1], results[2][0]), strict=True)
    ] == [True, True]
    at = results[0].index("accuracy[95 %]")
    accuracies = [row[at if len(row) == len(results[0]) else at - 1] for row in results[1:3]]
    column = report.FULL_HEADER.index("accuracy [95 %]")
    assert accuracies == [report.full_cells(answers(right)[0])[column] for right in (50, 60)]
    (settings, _) = (table for table in reader.tables if table[0][0] == "setting")
    names = [row[0] for row in settings[1:]]
    assert names[:2] == ["optimizer.learning_rate ≠", "steps ≠"]
    assert settings[1][2:] == ["0.0005", "0.001"]
    assert not any("≠" in name for name in names[2:])
    loss = re.search(r"<strong>training loss \(nats\): loss</strong>.*?</figure>", text, re.DOTALL).group()
    assert len(re.findall("<polyline", loss)) == 2
    assert all(str(folder) in loss for folder in (a, b)), "equal names are told apart"


def test_nothing_that_others_wrote_becomes_part_of_the_page(tmp_path):
    name = HOSTILE.replace("/", "∕")
    run = make(tmp_path / name, task=HOSTILE, label=HOSTILE, hostile=HOSTILE)
    PIL.Image.new("RGB", (4, 4)).save(run / "plots" / f"predictions-{name}.png")
    for text in (written(run)[1], written(run, make(tmp_path / "plain"))[1]):
        reader = Reader(text)
        assert reader.tags.count("script") == 1
        assert not [name for name, _ in reader.attributes if name.startswith("on")]
        sources = [value for name, value in reader.attributes if name in ("src", "href")]
        assert all(value.startswith(("data:", "#")) for value in sources)
        assert "window.hacked=1" in "".join(reader.words), "it is shown, as text"


def test_the_footer_says_the_weight(run):
    path, text = written(run)
    (weight,) = re.findall(r"one file of ([\d,]+) kB", text)
    assert int(weight.replace(",", "")) == math.ceil(path.stat().st_size / 1000)


def test_a_large_picture_is_made_smaller_and_a_small_one_stays_as_it_is(tmp_path):
    path = tmp_path / "a.png"
    PIL.Image.new("RGB", (300, 200), "red").save(path)
    assert pictures.embedded(path) == (path.read_bytes(), "image/png", 300, 200)
    noise = np.random.default_rng(0).integers(0, 255, (20, 200, 3), np.uint8)
    PIL.Image.fromarray(noise).resize((2000, 200)).save(path)
    assert path.stat().st_size > pictures.LARGE
    content, media_type, *size = pictures.embedded(path)
    assert (media_type, size) == ("image/webp", [pictures.LONGER_SIDE, pictures.LONGER_SIDE // 10])
    assert len(content) < path.stat().st_size / 3


def test_a_run_that_has_only_begun_gets_a_page_that_says_what_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"expected the workdir of a run, but it holds none of config\.json"):
        page.write([tmp_path])
    assert not list(tmp_path.iterdir())
    (tmp_path / "run.json").write_text("{}")
    text = " ".join(Reader(written(tmp_path)[1]).words)
    assert "has no results of an evaluation" in text
    assert "No config.json is here" in text


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("metrics.jsonl", '{"step": 1}\n[]\n', r"metrics\.jsonl, line 2"),
        ("metrics.jsonl", '{"loss": 1}\n', r"metrics\.jsonl, line 1"),
        ("plots/similarity.png", "no picture", r"similarity\.png: not a PNG"),
        ("run.json", "[]", r"run\.json: not readable"),
        ("config.json", "{", r"config\.json: not JSON"),
        (f"evaluation/{frozen.FOLDER}/a.json", '{"retrieval": [{}]}', r"a\.json: not a result of retrieval"),
    ],
)
def test_a_damaged_file_is_named(run, name, content, named):
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_text(content)
    with pytest.raises(UserError, match=named):
        page.write([run])
    with pytest.raises(UserError, match="nowhere: no such folder"):
        page.write([run / "nowhere"])


def test_retrieval_and_probes_are_read_back_and_shown_at_their_last_step(run):
    figure = retrieval.Figure(0.25, (0.125, 0.5), 0.0625)
    direction = "image → caption"
    found = retrieval.Result(
        "figures", "test", 40, direction, 64, 60, 1.5, dict.fromkeys(retrieval.KS, figure), figure, "read."
    )
    probe = probes.Result(
        *("knn", "fer2013", 40, ("a", "b"), 10, 8, 0.5, 0.625, 0.75, (0.4, 0.9), 0.7),
        *({"a": {"n": 8, "top1": 0.75}}, ((4, 0), (2, 2)), {"neighbours": 20}, ("read.",)),
    )
    older = [dataclasses.replace(row, step=20) for row in (found, probe)]
    for n, rows in enumerate(([found, probe], older)):
        frozen.write(rows, run / "evaluation" / frozen.FOLDER / str(n))
    assert frozen.latest(run) == [found, probe]
    reader = Reader(written(run)[1])
    assert reader.table("retrieval")["figures"]["queries → gallery"] == "64 images → 60 captions"
    assert reader.table("probe")["knn"]["accuracy [95 %]"] == "75.0 [40.0, 90.0]"


def test_values_that_are_no_finite_numbers_are_counted_and_not_drawn(run):
    with open(run / "metrics.jsonl", "w") as file:
        file.write('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": NaN}\n{"step": 3, "loss": Infinity}\n')
    _, text = written(run)
    assert "Left out: 2 values that are not finite numbers." in text
    assert "nan" not in " ".join(re.findall('points="(.*?)"', text))
    assert len(record.read_metrics(run / "metrics.jsonl")) == 3


# ------------------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def tab():
    executable = browser.find()
    if executable is None:
        pytest.skip("no Chromium is here; install one or name it in FOCUSCLIP_BROWSER")
    with browser.started(executable) as started:
        yield started


@pytest.mark.slow
def test_in_a_browser_it_asks_for_nothing_and_shows_values_where_one_points(tab, tmp_path):
    a, b = make(tmp_path / "clip", hostile=HOSTILE, task=HOSTILE), make(tmp_path / "focus", right=60)
    for path in (page.write([b]), page.write([a, b])):
        tab.requests.clear()
        tab.open(path.as_uri())
        assert {address for address in tab.requests if not address.startswith("data:")} == {path.as_uri()}
        assert tab.errors == []
        assert tab.evaluate("window.hacked === undefined && document.scripts.length == 1")
        assert tab.evaluate("document.querySelectorAll('.results .interval circle').length") >= 1
        assert tab.evaluate("document.querySelectorAll('.chart polyline').length") >= 8
        assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        for width, dark in ((1280, False), (1280, True), (390, False)):
            tab.screenshot(tmp_path / "shot.png", width, 900, dark)
            shot = np.asarray(PIL.Image.open(tmp_path / "shot.png").convert("L"))
            assert shot.std() > 5
            assert (np.median(shot) < 80) == dark
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out"
        tab.screenshot(tmp_path / "shot.png", 1280, 900)
        chart = "[...document.querySelectorAll('.chart')].find(c => /training loss/.test(c.textContent))"
        tab.evaluate(f"{chart}.id = 'loss'")
        at_rest = tab.evaluate("document.querySelector('#loss output').textContent")
        tab.hover("#loss > svg", 0.17)
        tab.wait_for("document.querySelector('#loss .at').textContent == 'at step 4'")
        assert at_rest == "0.25"
        assert tab.evaluate("document.querySelector('#loss output').textContent") == "2.5"
        tab.hover("h1")
        tab.wait_for("document.querySelector('#loss output').textContent == '0.25'")
        narrow = tab.evaluate("document.querySelector('.picture img').width")
        tab.click(".picture label")
        assert tab.evaluate("document.querySelector('.picture').clientWidth") >= narrow
        assert tab.evaluate("document.querySelector('.picture input').checked")
    assert tab.errors == []
