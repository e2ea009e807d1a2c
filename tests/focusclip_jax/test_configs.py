"""Every shipped config makes a training step at its full size. Traced only: nothing is allocated."""

from __future__ import annotations

import math
import pathlib
import re
import runpy

import jax
import jax.numpy as jnp
import pytest

from focusclip_jax import config as configs
from focusclip_jax import optimizer, run, sharding, state
from focusclip_jax.errors import UserError
from focusclip_jax.step import make_train_step

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "configs"
CONFIGS = sorted(path for path in FOLDER.glob("*.py") if not path.name.startswith("ablation_"))  # grids
BERT_VOCABULARY, CLIP_VOCABULARY = 30_522, 49_408


def load(name):
    path = next(path for path in CONFIGS if path.stem == name)
    return runpy.run_path(str(path))["get_config"]()


def vocabulary(config):
    return config.text.vocabulary


def batch_of(config, tokens):
    rows, side, captions = config.batch_size, config.data.image_size, config.data.captions
    return {
        "image": jax.ShapeDtypeStruct((rows, side, side, 3), jnp.uint8),
        "heatmap": jax.ShapeDtypeStruct((rows, side, side), jnp.float32),
        "tokens": jax.ShapeDtypeStruct((rows, captions, tokens), jnp.int32),
        "lengths": jax.ShapeDtypeStruct((rows, captions), jnp.int32),
        "image_id": jax.ShapeDtypeStruct((rows,), jnp.int32),
    }


def count(tree) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", [path.stem for path in CONFIGS])
def test_every_config_makes_a_step_at_full_size(name):
    config = load(name)
    configs.check(config, config)
    assert config.name == name
    architecture = state.architecture(config, vocabulary(config))
    update = optimizer.make(config.optimizer, config.steps)
    mesh = sharding.make_mesh(-1, 1)
    abstract = state.abstract(architecture, update, mesh)
    step = make_train_step(state.graph_of(architecture), update, abstract, mesh, config)
    for tokens in config.text.buckets:
        after, metrics = jax.eval_shape(step, abstract, batch_of(config, tokens))
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
            lambda leaf: (leaf.shape, leaf.dtype), abstract
        )
        assert metrics["loss"].shape == ()


@pytest.mark.parametrize("name", [path.stem for path in CONFIGS])
def test_every_config_opens_with_its_command_and_its_cost(name):
    text = runpy.run_path(str(next(path for path in CONFIGS if path.stem == name)))["__doc__"]
    for word in (f"./launch.sh --config=configs/{name}.py", "Hardware", "Time", "emory", "etric"):
        assert word in text, f"the docstring of configs/{name}.py does not say {word!r}"


def test_the_towers_have_the_published_numbers_of_parameters():
    config = load("focusclip_b16")
    config.text.context = 512
    params = jax.eval_shape(lambda: state._build(state.architecture(config, BERT_VOCABULARY), 0)[1])
    projections = 2 * (768 * 512 + 512)
    towers = count(params["image"]) + count(params["text"]) - projections
    vit = 86_567_656 - (768 * 1000 + 1000)  # timm's vit_base_patch16_224, without its classifier
    # BertModel of bert-base-uncased, without its pooler, the two token types folded into the positions.
    bert = 109_482_240 - (768 * 768 + 768) - 2 * 768
    assert towers == vit + bert


@pytest.mark.parametrize("size", ["tiny", "b16"])
def test_the_baseline_differs_from_focusclip_in_the_highlighted_view_alone(size):
    ours = dict(configs.leaves(load(f"focusclip_{size}")))
    baseline = dict(configs.leaves(load(f"clip_{size}")))
    differing = {name for name in ours if ours[name] != baseline[name]}
    assert differing == {"name", "loss.focus_text"}
    assert baseline["loss.focus_text"] == 0


def test_everything_that_is_missing_is_named_with_its_command_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        run.check_inputs(load("focusclip_b16"))
    sentence = str(error.value)
    assert "\n" not in sentence
    for lacking, command in (
        ("no shards at --config.data.train=data/mpii", "annotate describe --source=mpii-mat:"),
        ("no vocabulary at --config.text.tokenizer=weights/", "vocab.txt --local-dir weights/"),
        ("no weights at --config.weights.image=weights/", "hf download timm/vit_base_patch16_224"),
        ("no weights at --config.weights.text=weights/", "hf download google-bert/bert-base-uncased "),
    ):
        assert lacking in sentence
        assert command in sentence.split(lacking)[1]


@pytest.mark.parametrize("name", [path.stem for path in CONFIGS])
def test_published_files_are_pinned_to_a_revision(name):
    config = load(name)
    for command in (config.text.how_to_get, *config.weights.how_to_get.values()):
        assert not command or re.search(r" --revision [0-9a-f]{40} ", command), command


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("focusclip_clip_b16", 149_620_737),  # of OpenAI's CLIP ViT-B/16 and ViT-L/14
        ("focusclip_l14", 427_616_513),
    ],
)
def test_a_config_from_clip_has_clips_parameters_and_sfas_alpha(name, parameters):
    config = load(name)
    more_positions = (config.text.context - 77) * config.model.text.width
    params = jax.eval_shape(lambda: state._build(state.architecture(config, CLIP_VOCABULARY), 0)[1])
    alpha_and_sigmoids_bias = 2
    assert count(params) == parameters + more_positions + alpha_and_sigmoids_bias


def test_the_full_size_starts_from_random_weights_on_any_shards(tmp_path):
    config = load("focusclip_b16")
    config.data.train = str(tmp_path)
    config.weights.image = config.weights.text = "none"
    config.text.tokenizer = ""
    run.check_inputs(config)
