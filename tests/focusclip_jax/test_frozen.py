"""Retrieval and the probes as tasks of the verb `evaluate`. The model is a stand-in, the files are real."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
import pytest

from focusclip_jax import config as configs
from focusclip_jax import evaluate
from focusclip_jax.data.images import model_input
from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import report
from focusclip_jax.evaluation.datasets import fer2013
from focusclip_jax.workdir import Workdir


class Stub:
    """Embeds an image by its mean grey level, a text by its length, and counts both."""

    encoded = 0

    def prepare(self, image):
        return model_input(image, (4, 4), "stretch", "bilinear")

    def encode_images(self, images):
        return self._circle(images.mean(axis=(1, 2, 3)) / 40)

    def encode_texts(self, texts):
        return self._circle(np.array([len(text) for text in texts]) / 10)

    def _circle(self, angles):
        Stub.encoded += len(angles)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    """The folder of a run with a stand-in for its model at step 7."""
    workdir = Workdir(tmp_path / "run")
    (workdir.checkpoints / "7").mkdir(parents=True)
    (workdir.checkpoints / "7" / "manifest.json").write_text("{}")
    workdir.config.write_text(configs.to_json(configs.default()))
    workdir.tokenizer.write_text("{}")
    workdir.training_text.write_text("null")  # as for an imported model
    monkeypatch.setattr(evaluate, "load_encoder", lambda workdir, step: (Stub(), 7))
    return workdir


@pytest.fixture
def data(pack, row):
    """A data directory with five packed images in `shards` and FER2013 in folders."""
    rows = [
        row(f"{i}", np.full((8, 8, 3), 50 * i, np.uint8), captions=("a" * i, "both")) for i in range(1, 6)
    ]
    root = pack(rows, split="validation").parent
    for split, more in (("train", (0, 2, 4)), ("test", (1, 3))):
        for c, name in enumerate(fer2013.FOLDERS):
            folder = root / "fer2013" / split / name
            folder.mkdir(parents=True)
            for level in more:
                PIL.Image.new("L", (48, 48), 30 * c + level).save(folder / f"{level}.png")
    return root


def run(workdir, data, *arguments):
    evaluate.main([f"--workdir={workdir.root}", f"--data-dir={data}", *arguments])


def test_the_verb_runs_them_prints_their_tables_and_writes_their_files(workdir, data, capsys):
    run(workdir, data, "--tasks=fer2013,retrieval,linear_probe,knn")
    printed = capsys.readouterr().out
    assert (
        printed.index("const") < printed.index("6 texts → 5 images") < printed.index("linear_probe  fer2013")
    )
    assert "Probes: stanford40 was not evaluated" in printed
    name = f"step-000007-{data.name}-fer2013+retrieval+linear_probe+knn"
    folder = workdir.evaluation / "retrieval-and-probes"
    assert {path.name for path in folder.iterdir()} == {f"{name}.md", f"{name}.json"}
    rows = json.loads((folder / f"{name}.json").read_text())
    assert [(of["data"], of["split"], of["queries"]) for of in rows["retrieval"]] == [
        ("shards", "validation", 6),
        ("shards", "validation", 5),
    ]
    assert [(of["task"], of["train"], of["n"]) for of in rows["probes"]] == [
        ("linear_probe", 21, 14),
        ("knn", 21, 14),
    ]
    assert len(rows["absent"]) == 3
    markdown = (folder / f"{name}.md").read_text()
    assert "10 captions, 6 of them distinct, of 5 images" in markdown
    assert "stanford40 was not evaluated" in markdown
    assert max(map(len, printed[printed.index("retrieval  queries") :].splitlines()[:5])) <= 110
    # What `report` reads is the zero-shot rows alone.
    assert {row.task for row in report.latest(workdir.root)} == {"fer2013"}


def test_the_second_evaluation_encodes_nothing_and_says_the_same(workdir, data, capsys):
    Stub.encoded = 0
    run(workdir, data, "--tasks=fer2013,retrieval,knn")
    first, encoded = capsys.readouterr().out, Stub.encoded
    assert encoded > 0
    run(workdir, data, "--tasks=fer2013,retrieval,knn")
    second = capsys.readouterr().out
    assert Stub.encoded == encoded
    assert second.partition("Embeddings:")[0] == first.partition("Embeddings:")[0]
    assert "; 0 computed" in second


def test_what_has_no_data_is_said_and_nothing_at_all_is_an_error(workdir, data, tmp_path, capsys):
    run(workdir, data, "--tasks=retrieval")
    assert "probe" not in capsys.readouterr().out.replace("retrieval-and-probes", "")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds the data of no task"):
        run(workdir, tmp_path / "empty", "--tasks=retrieval,knn")
    printed = capsys.readouterr().out
    assert "no folder in" in printed
    assert "fer2013 was not evaluated" in printed
