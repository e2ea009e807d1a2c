"""The one door: its verbs, and an environment that is made once."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from annotation.__main__ import main as annotate

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
VERBS = ("train", "dry-run", "profile", "ablate", "evaluate", "report", "demo", "import", "export")
VERBS += ("annotate", "test", "lint", "setup")


def launch(*arguments, root=REPOSITORY, **environment):
    settings = {**os.environ, "FOCUSCLIP_PYTHON": sys.executable, **environment}
    return subprocess.run(
        [str(root / "launch.sh"), *arguments], capture_output=True, text=True, env=settings, check=False
    )


def test_help_lists_every_verb():
    done = launch("--help")
    assert done.returncode == 0
    for verb in VERBS:
        assert verb in done.stdout
    assert launch().stdout == done.stdout


def test_an_unknown_verb_is_one_sentence():
    done = launch("trian")
    assert done.returncode == 2
    assert done.stderr.strip() == "error: unknown verb 'trian'; ./launch.sh --help lists them"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["import", "--workdir=new"], "import: error: the following arguments are required: --from"),
        (
            ["import", "--from=nowhere", "--workdir=new"],
            "error: nowhere: no such folder, and no id owner/name@revision of the Hugging Face hub",
        ),
        (["export", "--workdir=tests"], "export: error: the following arguments are required: --out"),
        (["export", "--workdir=tests", "--out=new"], "error: tests/config.json: no such file; expected the"),
    ],
)
def test_import_and_export_say_what_they_lack(arguments, sentence, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    done = launch(*arguments, FOCUSCLIP_ENV="active")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith(sentence)
    assert not (REPOSITORY / "new").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["focusclip_jax", "ablate", "--config=configs/ablation_figures_full.py", "--list"],
        ["annotation", "check-dataset", "--data-dir=tests"],
    ],
    ids=["focusclip_jax", "annotation"],
)
def test_a_reader_that_has_seen_enough_is_no_error(arguments, run_module):
    """`| head` closes its end of the pipe."""
    program = run_module(*arguments, wait=False)
    program.stdout.close()
    said = program.stderr.read()  # at most a progress bar
    assert program.wait() == 141
    assert not re.search("error|exception|traceback", said, re.IGNORECASE)


@pytest.mark.parametrize("verb", ["describe", "pack"])
def test_annotate_explains_its_verbs(verb, capsys):
    with pytest.raises(SystemExit) as exit_:
        annotate([verb, "--help"])
    assert exit_.value.code == 0
    assert "--out" in capsys.readouterr().out


@pytest.fixture
def checkout(tmp_path):
    """A copy of the door with one small package behind it, so that a real environment is made in seconds."""
    root = tmp_path / "check out"  # a folder may have a space in its name
    root.mkdir()
    shutil.copy(REPOSITORY / "launch.sh", root)
    pin = next(
        line for line in (REPOSITORY / "requirements.txt").read_text().splitlines() if line.startswith("tqdm")
    )
    (root / "requirements.txt").write_text(pin + "\n")
    return root


def test_the_environment_is_made_once_and_again_when_the_pins_change(checkout):
    first = launch("setup", root=checkout)
    assert first.returncode == 0, first.stderr
    assert "Making .venv" in first.stderr
    assert "for cpu" in first.stderr or "for cuda" in first.stderr or "for tpu" in first.stderr
    python = checkout / ".venv" / "bin" / "python"
    assert subprocess.run([python, "-c", "import tqdm"], check=False).returncode == 0
    second = launch("setup", root=checkout)
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    with open(checkout / "requirements.txt", "a") as file:
        file.write("# changed\n")
    third = launch("setup", root=checkout)
    assert "Installing" in third.stderr
    assert "Making" not in third.stderr


def test_an_environment_that_was_cut_off_is_installed_again(checkout):
    launch("setup", root=checkout)
    (checkout / ".venv" / "requirements.txt.installed").unlink()
    assert "Installing" in launch("setup", root=checkout).stderr


def test_a_python_that_is_too_old_or_absent_is_one_sentence(checkout):
    done = launch("setup", root=checkout, FOCUSCLIP_PYTHON="no-such-python")
    assert done.returncode == 2
    assert "error: no Python 3.11 or newer" in done.stderr
    assert "no-such-python" in done.stderr


@pytest.mark.parametrize(("version", "expected"), [("12.4", "cuda12"), ("13.0", "cuda13"), ("", "cuda13")])
def test_the_cuda_of_the_driver_is_chosen(checkout, tmp_path, version, expected):
    """A stand-in `nvidia-smi` answers as a driver of that version; what pip then does is not looked at."""
    answer = f"| Driver Version: 550.54   CUDA Version: {version} |" if version else "no table"
    fake = tmp_path / "bin" / "nvidia-smi"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\necho '{answer}'\n")
    fake.chmod(0o755)
    (checkout / "requirements.txt").write_text("no-such-package-for-this-test==0\n")
    path = f"{fake.parent}:{os.environ['PATH']}"
    done = launch("setup", root=checkout, PATH=path, PIP_NO_INDEX="1")
    assert f"Installing requirements.txt for {expected} " in done.stderr
    assert done.returncode == 2
    assert "error: pip could not install requirements.txt" in done.stderr


def test_the_active_environment_is_used_as_it_is(checkout):
    done = launch("annotate", "--help", root=checkout, FOCUSCLIP_ENV="active", PYTHONPATH=str(REPOSITORY))
    assert not (checkout / ".venv").exists()
    assert "describe" in done.stdout


@pytest.mark.parametrize("mine", [None, "glibc.malloc.check=0"])
def test_large_arrays_come_in_huge_pages_unless_the_user_tunes_the_allocator(tmp_path, monkeypatch, mine):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$GLIBC_TUNABLES"\n')
    python.chmod(0o755)
    own = {"GLIBC_TUNABLES": mine} if mine else {}
    done = launch("lint", FOCUSCLIP_ENV="active", FOCUSCLIP_PYTHON=str(python), **own)
    assert set(done.stdout.split()) == {mine or "glibc.malloc.hugetlb=1"}
