"""The notebooks of demos/: as they lie in git, and executed headless with small settings."""

from __future__ import annotations

import ast
import json
import pathlib
import re
import shlex
import shutil
from collections import Counter

import nbformat
import numpy as np
import PIL.Image
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from small_clip import write_small_clip
from test_docs import anchors, wrong_with

from annotation import joins, journal
from annotation.sources import coco
from annotation.sources.figures import Figures, generate
from demos import drawn_photos

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
DEMOS = REPOSITORY / "demos"
NAMES = sorted(path.name for path in DEMOS.glob("*.ipynb"))
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
NO_KEY_OR_PLACE = re.compile(r"\bsk-\w{4}|\bhf_\w{8}|AKIA|(?<![\w.{}])/(work|tmp|root|home|Users|content)\b")


def read(name):
    return nbformat.read(DEMOS / name, as_version=4)


def code(cells):
    return [cell for cell in cells if cell.cell_type == "code"]


def settings_of(notebook):
    """The one cell that a program may add settings to; `papermill` knows it by the same tag."""
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    return cell


def commands(source):
    """What a cell types at the project's door, as lists of words after `./launch.sh`."""
    for line in source.replace("\\\n", " ").splitlines():
        if match := re.match(r"\s*!(?:\w+=\S+ )?\./launch\.sh (.*)", line):
            yield shlex.split(match[1])


# ------------------------------------------------------------------------------------- as they lie in git


def test_the_four_notebooks_are_there():
    assert [name[:2] for name in NAMES] == ["1_", "2_", "3_", "4_"]
    page = (DEMOS / "README.md").read_text("utf-8")
    assert [name for name in NAMES if f"({name})" not in page] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_holds_no_output_and_nothing_of_who_ran_it(name):
    text = (DEMOS / name).read_text("utf-8")
    notebook = json.loads(text)
    nbformat.validate(notebook)
    assert notebook["metadata"] == METADATA
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    for cell in notebook["cells"]:
        assert re.fullmatch(r"[a-z-]+", cell["id"]), "an id that an editor made up changes with each save"
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None), cell["id"]
        assert cell["metadata"] == ({"tags": ["parameters"]} if cell["id"] == "settings" else {}), cell["id"]
    assert NO_KEY_OR_PLACE.findall(text) == []


def test_what_should_not_be_in_a_notebook_would_be_found():
    for text in ("sk-abcd1234", '"/home/me/photos"', "cd /tmp/x", "token = hf_0123456789"):
        assert NO_KEY_OR_PLACE.search(text), text
    assert not NO_KEY_OR_PLACE.search("{DATA}/home photos/tmp ../work")


@pytest.mark.parametrize("name", NAMES)
def test_everything_a_notebook_names_is_there(name):
    notebook = read(name)
    wrong = []
    for cell in code(notebook.cells):
        wrong += [what for words in commands(cell.source) for what in wrong_with(words)]
        wrong += [
            path
            for path in re.findall(r"\b((?:docs|configs)/[\w./-]+\.\w+)", cell.source)
            if not (REPOSITORY / path).exists()
        ]
    for cell in notebook.cells:
        for target in re.findall(r"\]\(([^)\s]+)\)", cell.source if cell.cell_type == "markdown" else ""):
            path, _, anchor = target.partition("#")
            file = DEMOS / path
            if not file.exists() or (anchor and anchor not in anchors(file.read_text("utf-8"))):
                wrong.append(target)
    assert wrong == []
    assert sum(len(list(commands(cell.source))) for cell in code(notebook.cells)) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_all_cells_are_python_and_every_setting_is_used(name):
    notebook = read(name)
    settings = settings_of(notebook)
    below = notebook.cells[notebook.cells.index(settings) + 1 :]
    for cell in code(notebook.cells):
        compile(TransformerManager().transform_cell(cell.source), f"{name}: {cell.id}", "exec")
    for statement in ast.parse(settings.source).body:
        assert isinstance(statement, ast.Assign), "settings are values only"
        ast.literal_eval(statement.value)
        for setting in (node.id for node in ast.walk(statement.targets[0]) if isinstance(node, ast.Name)):
            assert any(re.search(rf"\b{setting}\b", cell.source) for cell in code(below)), setting


def test_the_notebooks_install_in_the_same_way():
    first = {code(read(name).cells)[0].source for name in NAMES}
    assert len(first) == 1
    assert "launch.sh setup" in first.pop()


def test_the_drawn_photos_are_read_as_ones_own_are(tmp_path):
    folder = tmp_path / "data/photos"
    drawn_photos.write(folder, count=5, seed=3, size=64)
    found = list(coco.read(folder / drawn_photos.KEYPOINTS, Counter()))
    activities = joins.read_activities(folder / drawn_photos.ACTIVITIES)
    people = Figures(seed=3, count=5, size=64, activities="all", styles="all")
    for index, record in enumerate(found):
        drawn, _ = generate(people, index)
        with PIL.Image.open(folder / record.image_id) as picture:
            assert picture.size == (record.width, record.height) == (64, 64)
        np.testing.assert_allclose(record.people[0].joints, drawn.people[0].joints, atol=0.006)
        assert record.people[0].occluded.tolist() == drawn.people[0].occluded.tolist()
        (done,) = joins.with_activities([record], activities, Counter())
        assert done.activity == drawn.activity
    with pytest.raises(OSError, match="photos"):  # somebody's folder stays as it is
        drawn_photos.write(folder, count=5, seed=4, size=64)
    assert [path.name for path in folder.parent.iterdir()] == ["photos"]


# --------------------------------------------------------------------------------------------- executed


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def checkout(tmp_path, monkeypatch, compiled):
    """A checkout that a notebook can fill, on a machine whose user has no key and no files."""
    root, home = tmp_path / "checkout", tmp_path / "home"
    for folder in (root, home):
        folder.mkdir()
    for name in ("annotation", "configs", "docs", "focusclip_jax", "pages", "launch.sh", "pyproject.toml"):
        (root / name).symlink_to(REPOSITORY / name)
    shutil.copytree(DEMOS, root / "demos", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("HOME", str(home))
    for name in ("OPENAI_API_KEY", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(home / "runtime"))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(compiled))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    return root


def execute(name, root, **settings):
    """Run all cells as they are shipped, but for these settings. Returns what was said, and the pictures."""
    notebook = nbformat.read(root / "demos" / name, as_version=4)
    cell = settings_of(notebook)
    cell.source = "\n".join([cell.source, *(f"{key} = {value!r}" for key, value in settings.items())])
    where = {"metadata": {"path": str(root / "demos")}}
    NotebookClient(notebook, timeout=1200, kernel_name="python3", resources=where).execute()
    outputs = [output for cell in code(notebook.cells) for output in cell.outputs]
    said = "".join(output.get("text", "") for output in outputs)
    assert "error:" not in said, said
    assert "Traceback" not in said, said
    return said, [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]


def described(folder):
    """How many images of a journal have descriptions, and who wrote the first ones."""
    captions = journal.captions_by_input(folder)
    return len(captions), {of_one[0].source for of_one in captions.values()}


@pytest.mark.slow
def test_the_quick_look_draws_trains_and_answers(checkout):
    said, pictures = execute("1_quick_look.ipynb", checkout, FIGURES=192, TEST_FIGURES=48, STEPS=3)
    assert re.search(r"^figures +16 seen +32 ", said, re.MULTILINE)
    assert re.search(r"^figures_held_out +8 unseen +16 ", said, re.MULTILINE)
    assert "Model(runs/quick_look, step 3: " in said
    assert len(pictures) == 4
    assert (checkout / "runs/quick_look/report.html").is_file()


@pytest.mark.slow
def test_photos_are_described_offline_and_nothing_is_asked_without_a_key(checkout):
    said, pictures = execute("2_describe_your_photos.ipynb", checkout)
    assert described(checkout / "runs/described/one") == (1, {"geometry-1/0"})
    assert described(checkout / "runs/described/offline") == (12, {"geometry-1/0"})
    assert re.search(r"gpt-6-luna: 12 requests, about \d+ prompt .* about \$0\.00", said)
    assert "OPENAI_API_KEY is not set, so no language model was asked." in said
    assert described(checkout / "runs/described/model") == (0, set())
    assert (checkout / "runs/described/pages/index.html").is_file()
    assert len(pictures) == 2


@pytest.mark.slow
def test_with_a_key_a_language_model_describes_the_same_photos(checkout, monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "tests/annotation"))
    from llm_server import LLMServer

    monkeypatch.setenv("OPENAI_API_KEY", "not-a-real-key")
    with LLMServer() as server:
        _, pictures = execute(
            "2_describe_your_photos.ipynb", checkout, BASE_URL=server.base_url, MODEL="test", PRICE="1,1"
        )
        assert server.counts["ok"] == 12
    assert described(checkout / "runs/described/model") == (12, {"test/paper"})
    assert len(pictures) == 3


@pytest.mark.slow
def test_own_labels_are_ranked_and_both_models_show_where_they_look(checkout, small_clip):
    labels = ["standing", "sitting on the floor", "leaning"]
    said, pictures = execute(
        "3_zero_shot.ipynb", checkout, FIGURES=192, STEPS=3, LABELS=labels, CLIP=str(small_clip)
    )
    assert "Model(runs/quick_look, step 3: " in said
    assert "5 photos" in said
    assert (checkout / "runs/clip/checkpoints/0").is_dir()
    assert len(pictures) == 2
    assert pictures[0] != pictures[1]


@pytest.fixture
def small_clip(tmp_path):
    return write_small_clip(tmp_path / "clip")


@pytest.mark.slow
def test_a_folder_of_photos_becomes_a_model_with_a_table(checkout):
    said, pictures = execute("4_train_on_your_photos.ipynb", checkout, DRAWN=240, STEPS=3)
    assert "192 photos to train on, 48 to test on, 24 activities" in said
    assert described(checkout / "data/my_photos/journal") == (192, {"geometry-1/0"})
    assert re.search(r"^my_photos +24 seen +48 ", said, re.MULTILINE)
    assert (checkout / "runs/my_photos/checkpoints/3").is_dir()
    assert list((checkout / "runs/my_photos/evaluation").glob("my_photos*"))
    assert len(pictures) == 4
