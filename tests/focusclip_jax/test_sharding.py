"""Devices change where arrays live, never what is computed."""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from focusclip_jax import config as configs
from focusclip_jax import optimizer, sharding, state
from focusclip_jax.checkpoint import Checkpoints
from focusclip_jax.data.loader import train_batches
from focusclip_jax.data.shards import Shards
from focusclip_jax.data.text import Tokenizer, TokenTable
from focusclip_jax.errors import UserError
from focusclip_jax.run import loader_settings
from focusclip_jax.step import make_train_step, put


def small_config():
    config = configs.default()
    config.data.image_size = 16
    config.data.flip = 0.5
    config.data.crop_area = (0.7, 1.0)
    config.text.context = 48
    config.text.buckets = (32, 48)
    config.model.patch_size = 8
    config.model.embedding = 16
    for tower in (config.model.image, config.model.text):
        tower.update(depth=2, width=32, heads=4, mlp=64)
    config.batch_size = 16
    config.steps = 10
    config.optimizer.warmup_steps = 2
    return config


@pytest.fixture(scope="module")
def data(figures):
    shards = Shards.open(figures, "train")
    tokenizer = Tokenizer.train([c for i in range(len(shards)) for c in shards.read(i).captions], 400)
    return shards, TokenTable.build(shards, tokenizer, 48), tokenizer


def losses_and_ids(data, data_axis, fsdp, count):
    config = small_config()
    shards, table, tokenizer = data
    mesh = sharding.make_mesh(data_axis, fsdp, jax.devices()[:count])
    architecture = state.architecture(config, tokenizer.vocab_size)
    tx = optimizer.make(config.optimizer, config.steps)
    abstract = state.abstract(architecture, tx, mesh)
    current = state.initial(architecture, tx, mesh, 0)
    update = make_train_step(state.graph_of(architecture), tx, abstract, mesh, config)
    values, ids = [], []
    with contextlib.closing(train_batches(shards, table, loader_settings(config))) as batches:
        for _ in range(config.steps):
            batch = put(next(batches), mesh)
            ids.append(np.asarray(batch["image_id"]))
            current, metrics = update(current, batch)
            values.append(float(metrics["loss"]))
    return np.array(values), np.array(ids), current


@pytest.fixture(scope="module")
def one_device(data):
    return losses_and_ids(data, 1, 1, 1)


@pytest.mark.parametrize(("data_axis", "fsdp", "count"), [(2, 1, 2), (8, 1, 8), (2, 4, 8)])
def test_one_and_many_devices_agree(data, one_device, data_axis, fsdp, count):
    """Ids exactly; losses to 1e-5 relative over ten steps: only the order of float32 sums differs."""
    values, ids, current = losses_and_ids(data, data_axis, fsdp, count)
    np.testing.assert_array_equal(ids, one_device[1])
    np.testing.assert_allclose(values, one_device[0], rtol=1e-5)
    kernel = current.params["image"]["blocks"]["up_kernel"]
    assert kernel.addressable_shards[0].data.size * fsdp == kernel.size


def test_a_checkpoint_is_restored_on_another_number_of_devices(one_device, tmp_path):
    trained = one_device[2]
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(10, trained)
    checkpoints.wait()
    mesh = sharding.make_mesh(1, 4, jax.devices()[:4])
    abstract = jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        trained,
        sharding.tree_shardings(trained, mesh),
    )
    restored = checkpoints.restore(None, abstract)
    checkpoints.close()
    jax.tree.map(np.testing.assert_array_equal, restored, trained)
    kernel = restored.params["image"]["blocks"]["up_kernel"]
    assert kernel.sharding.spec == PartitionSpec(None, None, "fsdp")


def test_the_compiled_step_gathers_no_kernel_on_a_data_mesh(data):
    """Eight-way data parallel: gradients are reduced, parameters are never gathered."""
    config = small_config()
    mesh = sharding.make_mesh(8, 1)
    architecture = state.architecture(config, data[2].vocab_size)
    tx = optimizer.make(config.optimizer, config.steps)
    abstract = state.abstract(architecture, tx, mesh)
    where = sharding.batch_sharding(mesh)
    shapes = {"image": ((16, 16, 16, 3), np.uint8), "heatmap": ((16, 16, 16), np.float32)}
    shapes |= {
        "tokens": ((16, 1, 32), np.int32),
        "lengths": ((16, 1), np.int32),
        "image_id": ((16,), np.int32),
    }
    batch = {name: jax.ShapeDtypeStruct(*spec, sharding=where) for name, spec in shapes.items()}
    step = make_train_step(state.graph_of(architecture), tx, abstract, mesh, config)
    text = step.lower(abstract, batch).compile().as_text()
    gathers = [line for line in text.splitlines() if "all-gather(" in line]
    assert "all-reduce" in text
    assert not [line for line in gathers if "[2,32," in line], "a stacked kernel is gathered"


def test_a_parameter_without_a_rule_is_an_error():
    mesh = sharding.make_mesh(-1, 1)
    with pytest.raises(ValueError, match="strange_parameter"):
        sharding.tree_shardings({"strange_parameter": jnp.zeros(3)}, mesh)


def test_the_table_names_every_parameter_and_how_it_is_split():
    mesh = sharding.make_mesh(2, 4)
    text = sharding.table({"up_kernel": jnp.zeros((2, 32, 64)), "up_bias": jnp.zeros(64)}, mesh)
    assert "up_kernel" in text
    assert "None, None, fsdp" in text
    assert "replicated" in text
    assert "4,160 values in 2 arrays" in text


@pytest.mark.parametrize(("data_axis", "fsdp"), [(3, 1), (-1, 3), (4, 4), (0, -1)])
def test_a_mesh_that_does_not_fit_the_devices_is_one_sentence(data_axis, fsdp):
    with pytest.raises(UserError, match="8 devices"):
        sharding.make_mesh(data_axis, fsdp)


@pytest.mark.parametrize(
    ("batch", "parts", "chunks", "sentence"),
    [
        (12, 1, 1, r"batch_size=12: the mesh has 8 devices, expected a multiple of 8"),
        (24, 2, 1, r"batch_size=24: .*8 devices and --config.micro_batches=2, expected a multiple of 16"),
        (32, 2, 8, r"batch_size=32: .*8 devices and --config.loss.chunks=8, expected a multiple of 64"),
    ],
)
def test_a_batch_that_its_parts_do_not_divide_is_one_sentence(batch, parts, chunks, sentence):
    config = configs.default()
    config.batch_size, config.micro_batches, config.loss.chunks = batch, parts, chunks
    with pytest.raises(UserError, match=sentence):
        sharding.check_batch(config, sharding.make_mesh(-1, 1))
    config.batch_size = 128
    sharding.check_batch(config, sharding.make_mesh(-1, 1))
