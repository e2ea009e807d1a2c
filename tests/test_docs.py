"""The documents: what they link to exists, what they tell one to type is understood, their Python runs.

README's example and docs/own_photos.md have tests of their own, which compare what is printed
(tests/focusclip_jax/test_api.py, tests/annotation/test_own_photos.py).
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import unicodedata

import pytest

from annotation.__main__ import main as annotate
from focusclip_jax import config as configs
from focusclip_jax import demo, dry_run, evaluate
from focusclip_jax.ablation import run as ablation
from focusclip_jax.evaluation import frozen, tasks
from focusclip_jax.weights import exporting, importing

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
PAGES = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for path in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("demos/*.md"))
)
FOLDERS = "annotation|benchmarks|configs|demos|docs|focusclip_jax|pages|tests|tools"
EXTENDING = (REPOSITORY / "docs/extending.md").read_text("utf-8")


def text_of(page):
    return (REPOSITORY / page).read_text("utf-8")


def blocks(text, *languages):
    """The code blocks of these languages: "" is a block without one."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [code for language, code in found if language in languages]


def prose(text):
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


# ------------------------------------------------------------------------------------- links and names


def anchors(text):
    """The anchors that a forge gives the headings of a page."""
    found = set()
    for heading in re.findall(r"^#+ +(.+)$", prose(text), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", heading).strip().lower()
        kept = "".join(c for c in words if unicodedata.category(c)[0] in "LN" or c in " -_")
        found.add(kept.replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_link_within_the_project_leads_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text_of(page))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        if not file.exists() or (anchor and anchor not in anchors(file.read_text("utf-8"))):
            broken.append(target)
    assert broken == []


def test_every_page_can_be_reached_from_the_readme():
    reached, ahead = set(), ["README.md"]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        for target in re.findall(r"\]\(([^)#\s]+\.md)(?:#[^)]*)?\)", text_of(page)):
            linked = os.path.relpath((REPOSITORY / page).parent / target, REPOSITORY)
            if linked in PAGES and linked not in reached:
                ahead.append(linked)
    assert set(PAGES) - reached == set()


@pytest.mark.parametrize("page", PAGES)
def test_no_page_names_a_file_that_is_not_there(page):
    """Paths below the project's own folders, in prose and in code; `DIR/…` and patterns are not names."""
    names = re.findall(rf"(?<![\w/.-])((?:{FOLDERS})/[\w./-]*\w\.\w+)", text_of(page))
    modules = re.findall(r"-m ((?:benchmarks|tools)\.\w+)", text_of(page))
    names += [module.replace(".", "/") + ".py" for module in modules]
    assert [name for name in names if not (REPOSITORY / name).exists()] == []


# ------------------------------------------------------------------------------------------- commands


def commands(page):
    """What a page tells one to type at the project's door, as lists of words after `./launch.sh`."""
    text = text_of(page)
    lines = []
    for block in blocks(text, "bash", "", "sh"):
        lines += block.replace("\\\n", " ").splitlines()
    lines += re.findall(r"`(\./launch\.sh[^`]*)`", prose(text))
    for line in lines:
        for part in re.findall(r"\./launch\.sh\s+([^|;`]*)", re.sub(r"(^|\s)#.*", "", line)):
            # Quotation marks may stay open where a sentence goes on outside the command.
            with contextlib.suppress(ValueError):
                yield shlex.split(part.replace("[", " ").replace("]", " "))


def help_of(main, *arguments):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main([*arguments, "--help"])
    return said.getvalue()


@functools.cache
def flags_of(verb, *more):
    """The flags of a verb, by its own help."""
    mains = {
        "annotate": annotate,
        "evaluate": evaluate.parse,
        "dry-run": dry_run.main,
        "demo": demo.parse,
        "ablate": ablation.parse,
        "import": importing.main,
        "export": exporting.main,
    }
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*", help_of(mains[verb], *more)))


def door_verbs():
    (listed,) = re.findall(r"^  (train \|.*?)\) verb=", text_of("launch.sh"), re.MULTILINE | re.DOTALL)
    return set(re.findall(r"[a-z-]+", listed))


def setting_exists(name):
    """Whether --config.NAME=… can be given."""
    return name in dict(configs.leaves(configs.default()))


def wrong_with(words):
    """What of one command is not understood: a verb, a flag, a setting, a file, a task."""
    verb, rest = ("train", words) if not words or words[0].startswith("--") else (words[0], words[1:])
    if not re.fullmatch(r"[a-z-]+", verb):
        return []  # `./launch.sh …`
    if verb not in door_verbs():
        return [f"verb {verb}"]
    flags = [word for word in rest if word.startswith("--")]
    wrong = []
    for flag in flags:
        name, _, value = flag.partition("=")
        if name == "--config":
            literal = re.fullmatch(r"[\w./-]+\.py", value)
            if literal and not (REPOSITORY / value).exists():
                wrong.append(flag)
        if name == "--tasks" and re.fullmatch(r"[a-z0-9_,]+", value):
            wrong += [t for t in value.split(",") if t not in (*tasks.TASKS, *frozen.TASKS)]
        if name.startswith("--config."):
            wrong += [] if setting_exists(name.removeprefix("--config.")) else [name]
        elif verb == "train" and name not in ("--config", "--workdir", "--help"):
            wrong.append(name)
    if verb == "annotate" and rest and re.fullmatch(r"[a-z-]+", rest[0]):
        deeper = rest[1:2] if rest[0] == "batch" and rest[1:2] in (["submit"], ["collect"]) else []
        known = flags_of("annotate", rest[0], *deeper)
        if not known:
            return [f"annotate {rest[0]}"]
        wrong += [flag for flag in flags if flag.partition("=")[0] not in known]
    elif verb in ("evaluate", "dry-run", "ablate", "import", "export"):
        known = flags_of(verb)
        by_absl = re.compile(r"--(config|workdir)(\.|=|$)")  # which argparse's help does not list
        wrong += [flag for flag in flags if not by_absl.match(flag) and flag.partition("=")[0] not in known]
    return wrong


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_understood(page):
    wrong = [(" ".join(words), what) for words in commands(page) for what in wrong_with(words)]
    assert wrong == []


def test_the_check_of_commands_finds_what_is_wrong():
    assert len(list(commands("README.md"))) > 8
    for command, expected in {
        "--config=configs/no_such.py": ["--config=configs/no_such.py"],
        "--config=configs/clip_tiny.py --config.optimizer.lr=1": ["--config.optimizer.lr"],
        "evaluate --workdir=DIR --tasks=stanford40,stanford": ["stanford"],
        "evaluate --workdir=DIR --data=DIR": ["--data=DIR"],
        "annotate describe --source=coco:FILE --descriptor=geometry --out=DIR": ["--descriptor=geometry"],
        "annotate batch submit --nothing": ["--nothing"],
        "annotate pact --out=DIR": ["annotate pact"],
        "trian --config=FILE": ["verb trian"],
        "annotate describe --source=coco:FILE --images=DIR --describer=geometry --out=DIR": [],
    }.items():
        assert wrong_with(command.split()) == expected, command


# --------------------------------------------------------------------------------------------- Python


@pytest.fixture(scope="module")
def project(figures, run_module, tmp_path_factory):
    """A folder that looks as the project's does after the README's first command, with a smaller model."""
    root = tmp_path_factory.mktemp("project")
    for name in ("docs", "configs"):
        (root / name).symlink_to(REPOSITORY / name)
    (root / "data").mkdir()
    (root / "data/figures").symlink_to(figures)
    photos = sorted((figures.parent / "journals/test/images").glob("*.jpg"))[:8]
    for number, photo in enumerate(photos):
        folder = root / "data/gym" / ("bowing", "standing still")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, folder)
    trained = run_module(
        *("focusclip_jax", "train", "--config=configs/focusclip_tiny.py", "--workdir=runs/focusclip_tiny"),
        *("--config.data.train=data/figures", "--config.data.validation=", "--config.data.prepare=()"),
        *("--config.evaluation.tasks=()", "--config.model.image.depth=1", "--config.model.text.depth=1"),
        *("--config.data.image_size=16", "--config.batch_size=16", "--config.steps=1"),
        cwd=root,
    )
    assert trained.returncode == 0, trained.stderr
    return root


def example(title):
    """The block of Python below a heading of docs/extending.md, and what it is said to print."""
    section = EXTENDING.split(f"\n## {title}\n")[1].split("\n## ")[0]
    (code,) = blocks(section, "python")
    return code, "".join(blocks(section, ""))


@pytest.mark.slow
@pytest.mark.parametrize("title", ["A describer", "A reader", "A task", "A tower"])
def test_the_examples_of_extending_run_and_are_short(title, project):
    code, printed = example(title)
    assert len([line for line in code.splitlines() if line.strip()]) < 40
    (project / "mine.py").write_text(code)
    path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "mine.py"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = [line.rsplit("\r", 1)[-1].rstrip() for line in (done.stdout + done.stderr).splitlines()]
    for line in printed.splitlines():
        assert line in said
    if title == "A task":
        assert re.search(r"^gym +1 seen +4 ", done.stdout, re.MULTILINE)
        assert re.search(r"^gym +1 unseen +4 ", done.stdout, re.MULTILINE)
        assert (project / "runs/gym.json").is_file() or list((project / "runs").glob("gym*"))
    if title == "A tower":
        losses = [float(number) for number in re.findall(r"loss ([\d.]+)", done.stdout)]
        assert len(losses) == 10
        assert min(losses[5:]) < losses[0]


@pytest.mark.slow
def test_every_number_that_training_logs_is_explained(project):
    rows = (project / "runs/focusclip_tiny/metrics.jsonl").read_text("utf-8").splitlines()
    logged = {name for row in map(json.loads, rows) for name in row}
    assert {"loss", "alpha", "data_wait"} <= logged
    page = text_of("docs/metrics.md")
    assert [name for name in sorted(logged) if f"`{name}`" not in page] == []


@pytest.mark.parametrize("page", PAGES)
def test_all_python_of_a_page_is_python(page):
    for code in blocks(text_of(page), "python", "py"):
        # A notebook's lines for its shell are none.
        compile(re.sub(r"^[!%].*$", "", code, flags=re.MULTILINE), page, "exec")
