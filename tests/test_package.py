"""What `pip install` gives: dependencies that agree with the pins, and a wheel that works in any folder."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import focusclip_jax

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
PACKAGES = ("focusclip_jax", "annotation", "pages")


def pins(name):
    lines = (REPOSITORY / name).read_text("utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def by_name_and_marker(requirements):
    return {(canonicalize_name(r.name), str(r.marker)): r for r in requirements}


def exact(pin):
    (specifier,) = pin.specifier
    assert specifier.operator == "==", pin
    return specifier.version


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_pins_and_the_ranges_of_the_wheel_name_the_same_packages_and_agree(python):
    def that_apply(requirements):
        here = [r for r in requirements if r.marker is None or r.marker.evaluate({"python_version": python})]
        names = [canonicalize_name(r.name) for r in here]
        assert len(names) == len(set(names)), "a package is asked for twice"
        return dict(zip(names, here, strict=True))

    pinned = that_apply(pins("requirements.txt"))
    ranges = that_apply(map(Requirement, PROJECT["dependencies"]))
    assert set(pinned) == set(ranges)
    for name, pin in pinned.items():
        assert ranges[name].specifier.contains(exact(pin)), f"{ranges[name]} does not allow {pin}"
        operators = {specifier.operator for specifier in ranges[name].specifier}
        assert operators == {">=", "<"}, f"{ranges[name]}: expected a lower and an upper bound"


def test_the_pairs_of_jax_and_flax_that_fail_at_import_cannot_be_installed():
    """flax 0.12.8 imports up to jax 0.11.0 and not with 0.11.2 or later, whatever its metadata says."""
    of = by_name_and_marker(map(Requirement, PROJECT["dependencies"]))
    old, new = 'python_version < "3.12"', 'python_version >= "3.12"'
    assert of["flax", old].specifier.contains("0.12.8")
    assert not of["jax", old].specifier.contains("0.11.2")
    assert not of["flax", new].specifier.contains("0.12.8")
    for marker in (old, new):
        assert of["jax", marker].specifier == of["jaxlib", marker].specifier


@pytest.mark.parametrize("name", ["dev", "demo"])
def test_the_extra_is_its_file_of_pins(name):
    extra = by_name_and_marker(map(Requirement, PROJECT["optional-dependencies"][name]))
    pinned = by_name_and_marker(pins(f"requirements-{name}.txt"))
    assert set(extra) == set(pinned)
    for key, pin in pinned.items():
        assert extra[key].specifier.contains(exact(pin)), f"{extra[key]} does not allow {pin}"


def test_whatever_the_packages_import_is_declared():
    """An import that only another package's dependency provides goes away without notice."""
    providers = importlib.metadata.packages_distributions()
    extras = PROJECT["optional-dependencies"]
    everything = (*PROJECT["dependencies"], *extras["demo"], *extras["bucket"])
    declared = {canonicalize_name(Requirement(line).name) for line in everything}
    undeclared = []
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            for module in imported(path):
                top = module.split(".")[0]
                if top in sys.stdlib_module_names or top in PACKAGES:
                    continue
                names = {canonicalize_name(name) for name in providers.get(top, [top])}
                if not names & declared:
                    undeclared.append(f"{path.relative_to(REPOSITORY)}: {module}")
    assert undeclared == []


def imported(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


def test_the_citation_is_complete_and_of_this_version():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text("utf-8"))
    assert citation["cff-version"] == "1.2.0"
    for field in ("message", "title", "authors", "license", "type"):
        assert citation[field], field
    assert citation["version"] == focusclip_jax.__version__
    assert citation["license"] == PROJECT["license"]
    for cited in (citation, citation["preferred-citation"], *citation.get("references", ())):
        for author in cited["authors"]:
            assert set(author) <= {"family-names", "given-names", "name", "orcid", "affiliation", "website"}
            assert author.get("family-names") or author.get("name")
    assert any(i["value"] == "arXiv:2403.06904" for i in paper_identifiers(citation))


def paper_identifiers(citation):
    return [i for i in citation["preferred-citation"]["identifiers"] if i["type"] == "other"]


def test_the_changelog_has_this_version():
    text = (REPOSITORY / "CHANGELOG.md").read_text("utf-8")
    sections = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert sections[0] == "Unreleased"
    version = focusclip_jax.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    released = sections[1:]
    # A version is in the list once it is released; until then its changes are those of "Unreleased".
    assert not released or released[0] == version


@pytest.mark.parametrize("path", [".github/workflows/ci.yml", ".pre-commit-config.yaml"])
def test_the_checks_of_a_forge_and_of_a_commit_are_those_of_the_checkout(path):
    """What runs elsewhere is what runs here: `.ci/run` and `./launch.sh lint`, and nothing of its own."""
    parsed = yaml.safe_load((REPOSITORY / path).read_text("utf-8"))
    if path.endswith("ci.yml"):
        (job,) = parsed["jobs"].values()
        assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
        supported = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if ":: Python :: 3." in line]
        assert job["strategy"]["matrix"]["python"] == supported
    else:
        entries = [hook["entry"] for repo in parsed["repos"] for hook in repo["hooks"]]
        assert entries == ["./launch.sh lint"]


def test_every_module_of_the_packages_is_checked_by_mypy():
    """Libraries may be without types; none of our modules is left out, and no kind of error."""
    settings = PYPROJECT["tool"]["mypy"]
    assert set(settings["packages"]) == set(PACKAGES)
    assert not {"exclude", "ignore_errors", "disable_error_code", "follow_imports"} & set(settings)
    (without_types,) = settings["overrides"]
    assert set(without_types) == {"module", "ignore_missing_imports"}
    assert not {module.partition(".")[0] for module in without_types["module"]} & set(PACKAGES)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built as `pip install .` builds it."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", out, REPOSITORY]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("focusclip_jax-*.whl")
    return path


@pytest.fixture(scope="module", params=["3.11", "3.12", "3.13", "3.14"])
def installed(request, wheel, tmp_path_factory):
    """The commands of the wheel outside the checkout, for every Python on PATH.

    The Python of the tests has the packages already: its environment sees these and downloads nothing. Any
    other gets what pip finds for it within the ranges of the wheel.
    """
    root = tmp_path_factory.mktemp(f"python-{request.param}")
    if request.param == "{}.{}".format(*sys.version_info):
        venv.create(root, with_pip=False)
        site = pathlib.Path(sysconfig.get_path("purelib", vars={"base": str(root), "platbase": str(root)}))
        (site / "beside.pth").write_text(sysconfig.get_path("purelib") + "\n")
        offline = ["--no-deps", "--no-index"]
    else:
        made = subprocess.run(
            ["env", f"python{request.param}", "-m", "venv", root], capture_output=True, text=True, check=False
        )
        if made.returncode != 0:
            pytest.skip(f"no python{request.param} that can make an environment is on PATH")
        offline = []
    pip = [sys.executable, "-m", "pip", "--python", root / "bin" / "python"]
    install = [*pip, "install", "--quiet", *offline, wheel]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return root / "bin"


def run(program, *arguments, cwd):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [program, *arguments],
        cwd=cwd,
        env={**environment, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_wheel_holds_what_the_checkout_has_and_no_tests(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(tracked) <= names
    assert {f"focusclip_jax/configs/{path.name}" for path in (REPOSITORY / "configs").glob("*.py")} <= names
    tops = {name.split("/")[0] for name in names}
    assert tops == {*PACKAGES, f"focusclip_jax-{focusclip_jax.__version__}.dist-info"}
    assert {f"{package}/py.typed" for package in PACKAGES} <= names


@pytest.mark.slow
def test_the_installed_commands_work_in_any_folder(installed, tmp_path):
    version = run(installed / "focusclip", "--version", cwd=tmp_path)
    assert version.stdout.strip() == focusclip_jax.__version__
    for help_ in ([], ["--help"]):
        assert "focusclip evaluate" in run(installed / "focusclip", *help_, cwd=tmp_path).stdout
    wrong = run(installed / "focusclip", "trian", cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "unknown verb 'trian'" in wrong.stderr

    where = "import focusclip_jax, annotation, pages; print(focusclip_jax.__file__, annotation.__file__)"
    assert (
        str(REPOSITORY / "focusclip_jax") not in run(installed / "python", "-c", where, cwd=tmp_path).stdout
    )

    journal = [
        *("describe", "--source=figures:0", "--figures-count=24", "--describer=geometry", "--detail=short"),
        "--out=journal",
    ]
    described = run(installed / "focusclip-annotate", *journal, cwd=tmp_path)
    assert described.returncode == 0, described.stderr
    packed = ["pack", "--journal=journal", "--split=train", "--out=shards"]
    done = run(installed / "focusclip-annotate", *packed, cwd=tmp_path)
    assert "packed 24 images" in done.stdout + done.stderr

    copied = run(installed / "focusclip", "configs", cwd=tmp_path)
    assert "configs/focusclip_tiny.py" in copied.stdout
    (tmp_path / "configs/clip_tiny.py").write_text("mine")
    assert (
        "configs/clip_tiny.py: there already" in run(installed / "focusclip", "configs", cwd=tmp_path).stdout
    )
    assert (tmp_path / "configs/clip_tiny.py").read_text() == "mine"

    train = run(
        installed / "focusclip",
        "--config=configs/focusclip_tiny.py",
        "--config.data.train=shards",
        "--config.data.validation=",
        "--config.data.image_size=16",
        "--config.evaluation.tasks=()",
        *("--config.model.image.depth=1", "--config.model.text.depth=1"),
        *("--config.batch_size=8", "--config.steps=2"),
        cwd=tmp_path,
    )
    assert train.returncode == 0, train.stderr
    assert (tmp_path / "runs/focusclip_tiny/checkpoints/2").is_dir()
    # A config that builds on another one finds it.
    lacking = run(installed / "focusclip", "train", "--config=configs/clip_b16.py", cwd=tmp_path)
    assert lacking.returncode == 2
    assert "no shards at --config.data.train=data/mpii" in lacking.stderr


@pytest.mark.slow
def test_pip_finds_nothing_broken(installed):
    """The versions that are here satisfy the ranges of the wheel, and each other's."""
    done = run(sys.executable, "-m", "pip", "--python", installed / "python", "check", cwd=installed)
    assert done.returncode == 0, done.stdout
    assert "No broken requirements" in done.stdout


def test_the_help_of_the_installed_command_has_every_verb_of_the_model():
    from focusclip_jax.__main__ import HELP

    door = (REPOSITORY / "launch.sh").read_text("utf-8")
    (verbs,) = re.findall(r"^  (train \|.*?)\) verb=", door, re.MULTILINE | re.DOTALL)
    of_the_checkout = {"annotate", "test", "lint", "setup"}
    for verb in set(re.findall(r"[a-z-]+", verbs)) - of_the_checkout:
        assert re.search(rf"focusclip \[?{verb}\b", HELP), verb
