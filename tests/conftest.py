"""Fixtures that every test may use."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import jax
import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]

# Eight devices on any machine, for the tests of sharding. Set here and not in the environment, so that
# the programs which tests start see the machine as it is.
jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """Real annotations and photographs beside the checkout; research-only, so they are not part of it."""
    path = REPOSITORY.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the folder ../shared/data with real annotations is not here")
    return path


@pytest.fixture(scope="session")
def run_module(tmp_path_factory):
    """run_module(module, *arguments, cwd=…): start `python -m module` as launch.sh does, and wait for it."""
    cache = tmp_path_factory.mktemp("compiled")

    def run(
        module: str, *arguments: object, cwd: pathlib.Path = REPOSITORY, wait: bool = True, **environment
    ):
        command = [sys.executable, "-m", module, *map(str, arguments)]
        # The programs that tests start compile the same steps again and again.
        speed = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": 0}
        path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
        extra = {"PYTHONPATH": path, "JAX_PLATFORMS": "cpu", **speed, **environment}
        settings = {
            "cwd": cwd,
            "env": {**os.environ, **{name: str(value) for name, value in extra.items()}},
            "text": True,
        }
        if wait:
            return subprocess.run(command, capture_output=True, check=False, **settings)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings)

    return run


@pytest.fixture(scope="session")
def figures(run_module, tmp_path_factory) -> pathlib.Path:
    """A folder of real shards of the embedded data set: 96 for training, 32 for validation, 48 for test."""
    root = tmp_path_factory.mktemp("data")
    splits = {
        "train": (96, "trained", "train"),
        "validation": (32, "trained", "train"),
        "test": (48, "all", "test"),
    }
    for seed, (split, (count, activities, styles)) in enumerate(splits.items()):
        journal = root / "journals" / split
        for arguments in (
            (
                *("describe", f"--source=figures:{seed}", "--describer=geometry", "--detail=short"),
                *(
                    f"--figures-count={count}",
                    f"--figures-activities={activities}",
                    f"--figures-styles={styles}",
                ),
                f"--out={journal}",
            ),
            (
                "pack",
                f"--journal={journal}",
                f"--split={split}",
                "--dataset=figures",
                f"--out={root / 'figures'}",
            ),
        ):
            done = run_module("annotation", *arguments)
            assert done.returncode == 0, done.stderr
    return root / "figures"
