"""The results table, its file, runs side by side, and the headline of the paper."""

import dataclasses
import json

import numpy as np
import pytest

from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import report, training_text, zero_shot
from focusclip_jax.evaluation.datasets.base import EvaluationSet
from focusclip_jax.evaluation.tasks import FER2013, STANFORD40, UTKFACE_AGE

# arXiv 2403.06904: per column, CLIP baseline and FocusCLIP, %.
PUBLISHED = {
    "kinetics400": (15.00, 15.18),
    "stanford40": (6.49, 10.47),
    "emotic_age": (37.56, 41.80),
    "lagenda_body": (39.48, 59.44),
    "lagenda_face": (44.56, 71.41),
    "utkface_age": (27.02, 35.13),
    "emotic_emotion": (10.39, 13.73),
    "fer2013": (52.56, 63.35),
    "ferplus": (47.38, 47.57),
    "fairface_race": (13.47, 15.78),
}


def test_headline_reproduces_the_published_averages():
    baseline, focusclip = (
        report.headline({task: values[i] for task, values in PUBLISHED.items()}) for i in (0, 1)
    )
    assert round(baseline, 2) == 25.04
    assert round(focusclip, 2) == 33.65


def test_headline_is_not_given_for_a_part_of_its_tasks():
    accuracy = {task: values[1] for task, values in PUBLISHED.items()}
    for task in (task for tasks in report.HEADLINE.values() for task in tasks):
        assert report.headline({name: value for name, value in accuracy.items() if name != task}) is None


def rows_of(task, n=70, expected=70, step=3, captions="nothing of that"):
    """Results of a made-up model on n images."""
    rng = np.random.default_rng(0)
    labels = [task.classes[i % len(task.classes)] for i in range(n)]
    images = EvaluationSet(
        tuple(map(str, range(n))), tuple(labels), lambda i: None, expected, "a test", {"hand": ("L",) * n}
    )
    training = training_text.collect([captions], task.classes)
    similarities = rng.normal(size=(n, len(task.classes))).astype(np.float32)
    return zero_shot.score(task, images, similarities, training, step)


def test_table_shows_each_row_beside_its_floors_within_110_columns():
    results = [
        *rows_of(STANFORD40, n=80, expected=5532, captions="jumping or running; cooking"),
        *rows_of(UTKFACE_AGE, n=50, expected=50),
    ]
    text = report.table(results)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 110
    assert lines[0].split() == [
        "task",
        "classes",
        "n",
        "k",
        "chance",
        "constant",
        "accuracy",
        "[95",
        "%]",
        "balanced",
    ]
    assert lines[1].split()[:9] == ["stanford40", "40", "mixed", "80", "3", "7.5", "%", "7.5", "%"]
    assert lines[2].split()[:7] == ["stanford40", "3", "seen", "6", "2", "66.7", "%"]
    assert lines[3].split()[:7] == ["stanford40", "37", "unseen", "74", "3", "8.1", "%"]
    assert lines[4].split()[:9] == ["utkface_age", "5", "unseen", "50", "1", "20.0", "%", "20.0", "%"]
    low, high = results[0].interval
    assert f"{100 * results[0].accuracy:.1f} % [{100 * low:.1f}, {100 * high:.1f}]" in lines[1]
    assert "80 of 5,532 images present" in text
    missing = "stanford40, emotic_age, lagenda_body, lagenda_face, emotic_emotion, fer2013."
    assert " ".join(text.split()).endswith(f"absent or incomplete: {missing}")


def test_markdown_has_the_same_cells():
    results = rows_of(FER2013)
    cells = [cell.strip() for cell in report.markdown(results).splitlines()[2].strip("|").split("|")]
    assert cells[:6] == ["fer2013", "7 unseen", "70", "3", "42.9 %", "42.9 %"]


def test_no_word_about_the_headline_where_no_task_belongs_to_it():
    (result,) = rows_of(FER2013)
    assert "macro-average" not in report.table([dataclasses.replace(result, task="figures")])


def test_results_survive_their_file(tmp_path):
    results = rows_of(STANFORD40, captions="jumping")
    path = tmp_path / "evaluation" / "step.json"
    report.write_json(results, path)
    assert report.read_json(path) == results
    assert json.loads(path.read_text())[0]["prompts"][0] == ["a photo of a person applauding"]
    assert [p.name for p in path.parent.iterdir()] == ["step.json"]


@pytest.mark.parametrize("content", ["", "{}x", "[1]", '[{"task": "a"}]'])
def test_a_damaged_result_is_named(tmp_path, content):
    path = tmp_path / "step.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"step\.json: not an evaluation result"):
        report.read_json(path)


def run(folder, results, config=None, about=None):
    folder.mkdir(parents=True)
    for i, of_file in enumerate(results):
        report.write_json(of_file, folder / "evaluation" / f"{i}.json")
    for name, content in (("config.json", config), ("run.json", about)):
        if content is not None:
            (folder / name).write_text(json.dumps(content))
    return folder


def test_runs_side_by_side(tmp_path):
    config = {"name": "focus", "loss": {"focus_text": 1.0, "kind": "infonce"}}
    clip = {"name": "clip", "loss": {"focus_text": 0.0, "kind": "infonce"}}
    about = {"commit": "0123456789abcdef", "dirty": True, "devices": ["cpu:cpu", "cpu:cpu"]}
    a = run(tmp_path / "a", [rows_of(FER2013, step=100), rows_of(FER2013, step=200)], config, about)
    b = run(tmp_path / "b", [rows_of(FER2013, step=150), rows_of(UTKFACE_AGE, step=150)], clip, about)
    text = report.compare([a, b])
    tables = [block.splitlines() for block in text.split("\n\n")]
    cells = [[[c.strip() for c in line.strip("|").split("|")] for line in lines] for lines in tables[:3]]
    assert cells[0][2] == ["1", str(a), "200", "0123456789 + changes", "2 × cpu:cpu"]
    assert cells[1][2:] == [["name", '"focus"', '"clip"'], ["loss.focus_text", "1.0", "0.0"]]
    assert [row[:3] for row in cells[2][2:]] == [
        ["2", "utkface_age", "5 unseen"],  # in the order of the tasks
        ["1", "fer2013", "7 unseen"],
        ["2", "fer2013", "7 unseen"],
    ]
    assert "has no" not in text
    assert "do not compare" not in text


def test_what_a_run_lacks_is_said(tmp_path):
    a = run(tmp_path / "a", [rows_of(FER2013)], {"name": "a"}, {"commit": None})
    b = run(tmp_path / "b", [])
    lines = report.compare([a, b]).splitlines()
    for name in ("config.json", "run.json", "evaluation/*.json"):
        assert f"{b} has no {name}." in lines
    assert not any(line.startswith(f"{a} has no") for line in lines)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        report.compare([tmp_path / "nowhere"])


def test_runs_on_other_images_are_not_to_be_compared(tmp_path):
    a = run(tmp_path / "a", [rows_of(FER2013)], {}, {})
    b = run(tmp_path / "b", [rows_of(FER2013, n=60)], {}, {})
    assert "fer2013 (unseen): the runs differ in images, so do not compare them." in report.compare([a, b])
