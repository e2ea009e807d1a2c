"""Only whole, verified checkpoints are restored."""

from __future__ import annotations

import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint.type_handlers import ArrayHandler

from focusclip_jax.checkpoint import MANIFEST, Checkpoints, verify
from focusclip_jax.errors import UserError
from focusclip_jax.state import TrainState

# Incompressible, so that no flipped bit hides in padding.
STATE = {
    "kernel": jnp.asarray(np.random.default_rng(0).normal(size=(64, 64)), jnp.float32),
    "step": jnp.int32(7),
}


def abstract_of(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


ABSTRACT = abstract_of(STATE)
PARAMS = {"text": {"up_kernel": STATE["kernel"], "up_bias": jnp.ones(64)}}
TRAINED = TrainState(jnp.int32(7), PARAMS, ({"mu": PARAMS, "count": jnp.int32(7)}, ()))


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> pathlib.Path:
    directory = tmp_path_factory.mktemp("run") / "checkpoints"
    checkpoints = Checkpoints(directory, keep=3)
    for step in (10, 20):
        checkpoints.save(step, STATE)
    checkpoints.close()
    return directory


@pytest.fixture
def copy(saved, tmp_path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(saved, tmp_path / "checkpoints"))


def restore(directory, step=None):
    checkpoints = Checkpoints(directory)
    try:
        return checkpoints.restore(step, ABSTRACT)
    finally:
        checkpoints.close()


def test_what_was_saved_comes_back_exactly(copy):
    assert Checkpoints(copy).steps() == [10, 20]
    jax.tree.map(np.testing.assert_array_equal, restore(copy), STATE)
    jax.tree.map(np.testing.assert_array_equal, restore(copy, 10), STATE)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> pathlib.Path:
    """Step 7 of a training, and what it would be if it had been imported: without an optimizer."""
    directory = tmp_path_factory.mktemp("run") / "checkpoints"
    checkpoints = Checkpoints(directory)
    checkpoints.save(7, TRAINED)
    checkpoints.save(8, TrainState(jnp.int32(8), PARAMS, None))
    checkpoints.close()
    return directory


@pytest.mark.parametrize("step", [7, 8])
def test_parameters_are_restored_whatever_else_is_there(trained, step):
    found, params = Checkpoints(trained).restore_params(step, abstract_of(PARAMS))
    assert found == step
    jax.tree.map(np.testing.assert_array_equal, params, PARAMS)
    assert Checkpoints(trained).restore_params(None, abstract_of(PARAMS))[0] == 8


def test_restoring_parameters_opens_no_array_of_the_optimizer(trained, monkeypatch):
    opened = []
    deserialize = ArrayHandler.deserialize

    async def watched(self, infos, args=None):
        opened.extend(info.name for info in infos)
        return await deserialize(self, infos, args)

    monkeypatch.setattr(ArrayHandler, "deserialize", watched)
    Checkpoints(trained).restore_params(7, abstract_of(PARAMS))
    assert sorted(opened) == ["params.text.up_bias", "params.text.up_kernel"]
    Checkpoints(trained).restore(7, abstract_of(TRAINED))
    assert "optimizer.0.mu.text.up_kernel" in opened


def test_training_on_from_parameters_alone_is_one_sentence(trained):
    restored = Checkpoints(trained).restore(7, abstract_of(TRAINED))
    jax.tree.map(np.testing.assert_array_equal, restored, TRAINED)
    with pytest.raises(UserError, match=r"no state of an optimizer.*--config.weights") as caught:
        Checkpoints(trained).restore(8, abstract_of(TRAINED))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (
            {"text": {"up_kernel": jnp.ones((64, 32)), "up_bias": jnp.ones(64)}},
            r"\(64, 64\), expected \(64, 32\)",
        ),
        ({"text": {"up_kernel": STATE["kernel"]}}, r"text/up_bias has shape \(64,\), expected none"),
        ({**PARAMS, "log_scale": jnp.ones(())}, r"params/log_scale has shape none, expected \(\)"),
    ],
)
def test_parameters_of_another_model_are_one_sentence(trained, params, expected):
    with pytest.raises(UserError, match=expected):
        Checkpoints(trained).restore_params(7, abstract_of(params))


def test_a_flipped_bit_stops_the_restoring_of_parameters_too(trained, tmp_path):
    copy = pathlib.Path(shutil.copytree(trained, tmp_path / "checkpoints"))
    path = max((copy / "8").rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"{path.name}.*the last one before it is step 7"):
        Checkpoints(copy).restore_params(None, abstract_of(PARAMS))


def test_one_flipped_bit_in_any_file_is_found_and_the_last_good_step_named(copy):
    files = [path for path in (copy / "20").rglob("*") if path.is_file() and path.stat().st_size]
    assert len(files) > 5
    for path in files:
        good = path.read_bytes()
        bad = bytearray(good)
        bad[len(bad) // 2] ^= 1
        path.write_bytes(bad)
        with pytest.raises(UserError) as caught:
            restore(copy)
        if path.name != MANIFEST:
            assert path.name in str(caught.value)
        assert "step 10" in str(caught.value)
        path.write_bytes(good)
    jax.tree.map(np.testing.assert_array_equal, restore(copy), STATE)


def test_a_flipped_bit_anywhere_in_the_manifest_is_found(copy):
    path = copy / "20" / MANIFEST
    good = path.read_bytes()
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 1
        path.write_bytes(bad)
        with pytest.raises(UserError, match=MANIFEST):
            verify(copy / "20")
    path.write_bytes(good)
    verify(copy / "20")


@pytest.mark.parametrize("damage", ["truncated", "missing", "added"])
def test_other_damage_is_found(copy, damage):
    path = max((copy / "20").rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "missing":
        path.unlink()
    else:
        path = path.with_name("stranger")
        path.write_bytes(b"?")
    with pytest.raises(UserError, match=path.name):
        verify(copy / "20")


def test_a_step_without_a_manifest_was_never_finished(copy):
    (copy / "20" / MANIFEST).unlink()
    checkpoints = Checkpoints(copy)
    assert checkpoints.steps() == [10]
    with pytest.raises(UserError, match=r"no checkpoint of step 20; there are \[10\]"):
        checkpoints.restore(20, ABSTRACT)
    assert checkpoints.remove_unfinished() == [20]
    checkpoints.save(20, STATE)
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, restore(copy, 20), STATE)


def test_old_steps_are_removed_but_one_more_than_the_newest_stays(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    for step in range(1, 5):
        checkpoints.save(step, STATE)
    checkpoints.close()
    assert Checkpoints(tmp_path).steps() == [3, 4]


def test_an_empty_folder_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="no finished checkpoint"):
        Checkpoints(tmp_path).restore(None, ABSTRACT)


def test_what_is_left_is_said_as_it_is(copy, tmp_path):
    """Gone is not the same as never there; a save that failed was never there."""
    none = Checkpoints(tmp_path / "none")
    assert none.last_good() == "no checkpoint was saved"
    (tmp_path / "none").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"could not be written.*; no checkpoint was saved$"):
        none.save(1, STATE)
    checkpoints = Checkpoints(copy)
    checkpoints.restore(None, ABSTRACT)
    assert checkpoints.last_good() == "the last checkpoint is step 20"
    shutil.rmtree(copy)
    assert checkpoints.last_good() == "no checkpoint is left"
