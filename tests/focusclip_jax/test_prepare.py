"""The embedded data is made by `annotate`'s own commands, once, and again when the commands change."""

from __future__ import annotations

import pytest
from ml_collections import ConfigDict

from focusclip_jax import prepare
from focusclip_jax.data.shards import Shards
from focusclip_jax.errors import UserError


def config(folder, count, train=None):
    journal = folder / "journal"
    commands = (
        f"describe --source=figures:0 --figures-count={count} --describer=geometry --out={journal}",
        f"pack --journal={journal} --split=train --dataset=figures --out={folder}",
    )
    return ConfigDict({"data": {"prepare": commands, "train": str(train or folder)}})


@pytest.fixture
def started(monkeypatch):
    """The commands that were started, each still run for real."""
    commands, run = [], prepare.subprocess.run
    monkeypatch.setattr(prepare.subprocess, "run", lambda c, **k: commands.append(c) or run(c, **k))
    return commands


def test_the_commands_run_once_and_again_when_they_change(tmp_path, started):
    for count, expected in ((6, 2), (6, 2), (9, 4), (6, 6)):
        prepare.run(config(tmp_path, count))
        assert len(Shards.open(tmp_path)) == count
        assert len(started) == expected


def test_a_config_pointed_at_other_shards_needs_none(tmp_path, started):
    prepare.run(config(tmp_path, 6, train=tmp_path / "elsewhere"))
    assert not started


def test_a_command_that_fails_is_named(tmp_path):
    wrong = config(tmp_path, 0)
    with pytest.raises(UserError, match=r"annotate describe .* ended with 2"):
        prepare.run(wrong)
    assert not (tmp_path / "prepared.txt").exists()
