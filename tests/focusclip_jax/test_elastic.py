"""A run of the B/16 config goes on with fewer devices than it began with, by the same command."""

from __future__ import annotations

import json
import pathlib
import signal
import time

import numpy as np
import pytest

import focusclip_jax
from focusclip_jax.weights import exporting

STEPS = 8


@pytest.fixture
def start(figures, run_module, tmp_path):
    """start(devices): the started command, on so many devices of the host; its workdir is `tmp_path/run`.

    Widths, heads and patches are those of CLIP ViT-B/16. Made smaller: 1 layer a tower for 12, images of 64
    pixels for 224, 64 tokens for 256, batches of 16 for 1,024. Weights are random, the tokenizer is the
    captions' own.
    """

    def run(devices: int):
        return run_module(
            "focusclip_jax",
            *("train", "--config=configs/focusclip_clip_b16.py", f"--workdir={tmp_path / 'run'}"),
            *(f"--config.data.train={figures}", f"--config.evaluation.data_dir={figures.parent}"),
            *("--config.evaluation.tasks=('figures',)", "--config.data.threads=2"),
            *("--config.weights.clip=none", "--config.text.tokenizer="),
            *("--config.model.image.depth=1", "--config.model.text.depth=1"),
            *("--config.data.image_size=64", "--config.text.context=64", "--config.text.buckets=(64,)"),
            *("--config.batch_size=16", f"--config.steps={STEPS}", "--config.optimizer.warmup_steps=2"),
            *("--config.log_every=1", "--config.checkpoint_every=2", "--config.mesh.fsdp=4"),
            wait=False,
            XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}",
        )

    return run


def losses(root: pathlib.Path) -> dict[int, float]:
    path = root / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {row["step"]: row["loss"] for row in rows if "loss" in row}


def newest(root: pathlib.Path) -> int:
    """The newest whole checkpoint; 0 where there is none."""
    return max((int(path.parent.name) for path in root.glob("checkpoints/*/manifest.json")), default=0)


@pytest.mark.slow
def test_begun_on_eight_devices_killed_and_ended_on_four_a_b16_is_evaluated_and_exported(
    start, run_module, tmp_path
):
    root = tmp_path / "run"
    process = start(8)
    while newest(root) == 0 or len(losses(root)) <= newest(root):
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    kept, on_eight = newest(root), losses(root)
    split = (root / "parameters.txt").read_text()
    assert "fsdp" in split

    process = start(4)
    printed, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors[-3000:]
    assert f"Going on from step {kept}" in printed
    on_four = losses(root)
    assert on_four.keys() == set(range(1, STEPS + 1))
    # bfloat16; the same examples in the same order.
    again = [step for step in on_eight if step > kept]
    np.testing.assert_allclose(
        [on_four[step] for step in again], [on_eight[step] for step in again], rtol=1e-2
    )

    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = run_module("focusclip_jax", "evaluate", f"--workdir={root}", "--tasks=figures", **devices)
    assert done.returncode == 0, done.stderr
    [path] = [line for line in done.stdout.splitlines() if line.endswith(".json")]
    in_loop = json.loads((root / "evaluation" / f"step-{STEPS:06d}.json").read_text())
    assert json.loads(pathlib.Path(path).read_text()) == in_loop

    exporting.main([f"--workdir={root}", f"--out={tmp_path / 'exported'}"])
    images = list(np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8))
    ours, theirs = (focusclip_jax.load(path).encode_image(images) for path in (root, tmp_path / "exported"))
    # The exported one computes in float32.
    np.testing.assert_allclose(theirs, ours, atol=1e-2)
