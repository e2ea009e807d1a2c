"""A published CLIP as a whole, and the verbs `import` and `export`."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess

import jax
import numpy as np
import PIL.Image
import pytest
import safetensors.numpy
from hub_server import COMMIT, listen_to, serving
from small_clip import MERGES, PREPROCESSOR, VOCABULARY, write_small_clip, write_tokenizer

from focusclip_jax import config as configs
from focusclip_jax import evaluate, sharding, state
from focusclip_jax import workdir as workdirs
from focusclip_jax.data.text import Tokenizer
from focusclip_jax.errors import UserError
from focusclip_jax.evaluation import training_text
from focusclip_jax.weights import exporting, importing, published
from focusclip_jax.weights.published import Published
from focusclip_jax.workdir import Workdir

GOLDEN = pathlib.Path(__file__).parent / "golden"

TEXTS = ["the cat", "a dog", "the the the", "", "the cat and the dog in the hall"]


def write_json(path, content):
    path.write_text(json.dumps(content))


def change_json(path, *keys, value):
    """Set content[keys[0]][keys[1]]… of a JSON file; None takes the key away."""
    content = json.loads(path.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner.setdefault(key, {})
    inner.pop(keys[-1], None)
    if value is not None:
        inner[keys[-1]] = value
    write_json(path, content)


@pytest.fixture
def hugging_face(tmp_path):
    return write_small_clip(tmp_path / "hf")


@pytest.fixture
def open_clip(tmp_path):
    folder = tmp_path / "open_clip"
    folder.mkdir()
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        shutil.copy(GOLDEN / "open_clip" / name, folder)
    write_tokenizer(folder)
    return folder


SMALL = {
    "data.image_size": 12,
    "text.context": 12,
    "text.buckets": (12,),
    "text.vocabulary": 40,
    "model.patch_size": 4,
    "model.embedding": 8,
    "model.image.depth": 2,
    "model.image.width": 16,
    "model.image.heads": 2,
    "model.image.mlp": 32,
    "model.image.norm": "pre",
    "model.image.norm_epsilon": 1e-5,
    "model.image.activation": "quick_gelu",
    "model.image.pool": "class",
    "model.image.norm_embeddings": True,
    "model.image.patch_bias": False,
    "model.image.projection_bias": False,
    "model.text.depth": 2,
    "model.text.width": 12,
    "model.text.heads": 3,
    "model.text.mlp": 24,
    "model.text.norm": "pre",
    "model.text.norm_epsilon": 1e-5,
    "model.text.activation": "quick_gelu",
    "model.text.pool": "end",
    "model.text.causal": True,
    "model.text.projection_bias": False,
}


def assert_settings(config, expected):
    got = dict(configs.leaves(config))
    assert {name: got[name] for name in expected} == expected


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


# ------------------------------------------------------------------------------------------------ reading


def test_every_setting_of_a_hugging_face_clip_is_read(hugging_face):
    model = published.read(str(hugging_face))
    assert_settings(
        model.config,
        SMALL
        | {
            "data.fit": "crop",
            "data.interpolation": "bilinear",
            "model.pixel_mean": (0.1, 0.2, 0.3),
            "model.pixel_std": (0.4, 0.5, 0.6),
            "name": "hf",
            "weights.clip": str(hugging_face),
        },
    )
    configs.check(model.config, configs.default())
    assert (model.source, model.commit) == (str(hugging_face), None)
    tensors = safetensors.numpy.load_file(hugging_face / "model.safetensors")
    assert model.params["log_scale"] == tensors["logit_scale"]
    np.testing.assert_array_equal(
        model.params["text"]["token_embedding"], tensors["text_model.embeddings.token_embedding.weight"]
    )


def test_every_setting_of_an_open_clip_is_read(open_clip):
    model = published.read(str(open_clip))
    assert_settings(
        model.config,
        SMALL
        | {
            "data.fit": "crop",
            "data.interpolation": "bicubic",
            "model.pixel_mean": (0.48145466, 0.4578275, 0.40821073),
            "model.pixel_std": (0.26862954, 0.26130258, 0.27577711),
        },
    )
    tensors = safetensors.numpy.load_file(open_clip / "open_clip_model.safetensors")
    assert model.params["log_scale"] == tensors["logit_scale"]
    change_json(
        open_clip / "open_clip_config.json",
        "preprocess_cfg",
        value={"mean": [0, 0, 0], "std": [1, 1, 1], "resize_mode": "squash", "interpolation": "bilinear"},
    )
    change_json(open_clip / "open_clip_config.json", "model_cfg", "quick_gelu", value=None)
    assert_settings(
        published.read(str(open_clip)).config,
        {
            "data.fit": "stretch",
            "data.interpolation": "bilinear",
            "model.pixel_mean": (0, 0, 0),
            "model.pixel_std": (1, 1, 1),
            "model.image.activation": "gelu",
            "model.text.activation": "gelu",
        },
    )


@pytest.mark.parametrize("form", ["hugging_face", "open_clip"])
def test_the_parameters_are_complete_and_training_would_begin_at_alpha_one_half(form, request):
    model = published.read(str(request.getfixturevalue(form)))
    abstract = state.abstract_params(model.architecture, sharding.make_mesh(-1, 1))
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), abstract)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), model.params) == shapes
    assert (model.params["alpha_parameter"], model.params["logit_bias"]) == (0, 0)
    assert model.config.model.alpha == "sigmoid"


def test_what_config_json_leaves_out_has_the_defaults_of_transformers(hugging_face):
    """Asked of transformers 5.24: CLIPConfig(text_config={}, vision_config={}), and of its first versions."""
    write_json(hugging_face / "config.json", {"model_type": "clip", "text_config": {}, "vision_config": None})
    write_json(hugging_face / "preprocessor_config.json", {"feature_extractor_type": "CLIPFeatureExtractor"})
    with pytest.raises(UserError, match=r"tokenizer has 40 entries; expected .* vocabulary, 49408"):
        published.read(str(hugging_face))
    config = published.clip_configs.hugging_face(published.open_files(str(hugging_face)))
    assert_settings(
        config,
        {
            "data.image_size": 224,
            "data.fit": "crop",
            "data.interpolation": "bicubic",
            "text.context": 77,
            "text.vocabulary": 49408,
            "model.patch_size": 32,
            "model.embedding": 512,
            "model.pixel_mean": (0.48145466, 0.4578275, 0.40821073),
            "model.pixel_std": (0.26862954, 0.26130258, 0.27577711),
            "model.image.depth": 12,
            "model.image.width": 768,
            "model.image.heads": 12,
            "model.image.mlp": 3072,
            "model.image.norm_epsilon": 1e-5,
            "model.image.activation": "quick_gelu",
            "model.text.depth": 12,
            "model.text.width": 512,
            "model.text.heads": 8,
            "model.text.mlp": 2048,
            "model.text.norm_epsilon": 1e-5,
            "model.text.activation": "quick_gelu",
        },
    )


def test_the_second_copy_of_a_tower_in_old_files_wins_with_its_defaults(hugging_face):
    change_json(hugging_face / "config.json", "text_config_dict", value={"hidden_size": 640})
    config = published.clip_configs.hugging_face(published.open_files(str(hugging_face)))
    assert (config.model.text.width, config.model.text.heads, config.text.context) == (640, 8, 77)
    assert config.model.image.width == 16
    change_json(hugging_face / "config.json", "text_config_dict", value=None)
    assert published.read(str(hugging_face)).config.model.text.width == 12


def test_the_processor_may_be_a_part_of_processor_config_json(hugging_face):
    (hugging_face / "preprocessor_config.json").unlink()
    write_json(hugging_face / "processor_config.json", {"image_processor": PREPROCESSOR})
    config = published.read(str(hugging_face)).config
    assert (config.data.fit, config.data.interpolation) == ("crop", "bilinear")


def test_the_wrong_end_token_of_the_first_conversions_means_the_highest_id(hugging_face):
    change_json(hugging_face / "config.json", "text_config", "eos_token_id", value=2)
    published.read(str(hugging_face))


def test_a_folder_with_both_forms_is_read_in_the_one_whose_weights_are_there(hugging_face, open_clip):
    for path in open_clip.iterdir():
        shutil.copy(path, hugging_face)
    assert published.read(str(hugging_face)).config.data.interpolation == "bilinear"
    (hugging_face / "model.safetensors").unlink()
    assert published.read(str(hugging_face)).config.data.interpolation == "bicubic"
    # timm's repositories describe the image tower alone in config.json.
    write_json(hugging_face / "config.json", {"architecture": "vit_base_patch16_clip_224"})
    shutil.copy(GOLDEN / "hf_clip_quick_gelu" / "model.safetensors", hugging_face)
    assert published.read(str(hugging_face)).config.data.interpolation == "bicubic"


def test_the_image_size_and_the_context_may_be_others(hugging_face):
    model = published.read(str(hugging_face), image_size=20, context=8)
    assert_settings(model.config, {"data.image_size": 20, "text.context": 8, "text.buckets": (8,)})
    assert model.params["image"]["position_embedding"].shape == (26, 16)
    assert model.params["text"]["position_embedding"].shape == (8, 12)
    with pytest.raises(UserError, match=r"--image-size=18: expected a multiple of the patch size 4"):
        published.read(str(hugging_face), image_size=18)
    with pytest.raises(UserError, match=r"--context=1: expected at least 2"):
        published.read(str(hugging_face), context=1)


HF_REFUSED = [
    ("config.json", ("model_type",), "siglip", r"config.json: model_type=siglip: expected clip"),
    (
        "config.json",
        ("text_config", "hidden_act"),
        "gelu_new",
        r"text_config: hidden_act=gelu_new: expected",
    ),
    (
        "config.json",
        ("vision_config", "hidden_size"),
        "16",
        r"vision_config: hidden_size=16: expected",
    ),
    ("config.json", ("vision_config", "num_channels"), 1, r"num_channels=1: expected 3"),
    (
        "config.json",
        ("vision_config", "image_size"),
        [12, 12],
        r"image_size=\[12, 12\]: expected a value",
    ),
    ("config.json", ("text_config", "vocab_size"), 41, r"tokenizer has 40 entries; expected .* 41"),
    ("config.json", ("text_config", "eos_token_id"), 38, r"ends a text with token 39, .* at token 38"),
    (
        "preprocessor_config.json",
        ("do_resize",),
        False,
        r"preprocessor_config.json: do_resize=False",
    ),
    ("preprocessor_config.json", ("resample",), 1, r"resample=1: expected 2 or 3"),
    ("preprocessor_config.json", ("size",), 14, r"size=\{'shortest_edge': 14\}, .*: expected the short side"),
    (
        "preprocessor_config.json",
        ("crop_size",),
        14,
        r"crop_size=\{'height': 14, .*: expected the sh",
    ),
    ("preprocessor_config.json", ("do_center_crop",), False, r"do_center_crop=False, .*: expected the short"),
    ("preprocessor_config.json", ("rescale_factor",), 1.0, r"rescale_factor=1.0: expected 1/255"),
    ("preprocessor_config.json", ("image_mean",), [0.5], r"image_mean=\[0.5\]: expected 3 numbers"),
    (
        "preprocessor_config.json",
        ("image_processor_type",),
        "ViTImageProcessor",
        r"image_processor_type=ViTIm",
    ),
]


@pytest.mark.parametrize(("name", "keys", "value", "sentence"), HF_REFUSED)
def test_what_our_towers_cannot_follow_is_refused_by_its_name(hugging_face, name, keys, value, sentence):
    change_json(hugging_face / name, *keys, value=value)
    with pytest.raises(UserError, match=sentence) as caught:
        published.read(str(hugging_face))
    assert str(caught.value).startswith(str(hugging_face))
    assert "\n" not in str(caught.value)


OPEN_CLIP_REFUSED = [
    (("model_cfg", "embed_dim"), None, r"model_cfg: embed_dim=None: expected a number"),
    (("model_cfg", "init_logit_bias"), -10, r"model_cfg: init_logit_bias=-10: a variant of CLIP that our"),
    (("model_cfg", "multimodal_cfg"), {"width": 8}, r"multimodal_cfg=.*: a variant of CLIP"),
    (
        ("model_cfg", "vision_cfg", "layers"),
        [3, 4, 6, 3],
        r"vision_cfg: layers=\[3, 4, 6, 3\]: expected",
    ),
    (
        ("model_cfg", "vision_cfg", "timm_model_name"),
        "vit_base",
        r"vision_cfg: timm_model_name=vit_base: a",
    ),
    (("model_cfg", "vision_cfg", "no_ln_pre"), True, r"vision_cfg: no_ln_pre=True: a variant"),
    (("model_cfg", "vision_cfg", "ls_init_value"), 1e-5, r"vision_cfg: ls_init_value=1e-05: a variant"),
    (("model_cfg", "vision_cfg", "pool_type"), "avg", r"vision_cfg: pool_type=avg: a variant"),
    (("model_cfg", "vision_cfg", "head_width"), 5, r"head_width=5: it does not divide the width 16"),
    (("model_cfg", "vision_cfg", "a_setting_of_tomorrow"), 1, r"a_setting_of_tomorrow=1: a variant"),
    (
        ("model_cfg", "text_cfg", "hf_model_name"),
        "xlm-roberta-base",
        r"text_cfg: hf_model_name=xlm-roberta-ba",
    ),
    (("model_cfg", "text_cfg", "no_causal_mask"), True, r"text_cfg: no_causal_mask=True: a variant"),
    (("model_cfg", "text_cfg", "pool_type"), "last", r"text_cfg: pool_type=last: a variant"),
    (
        ("model_cfg", "text_cfg", "tokenizer_kwargs"),
        {"clean": "canonicalize"},
        r"tokenizer_kwargs=.*: a var",
    ),
    (("model_cfg", "text_cfg", "act_kwargs"), {"approximate": "tanh"}, r"act_kwargs=.*: a variant"),
    (("preprocess_cfg", "resize_mode"), "longest", r"preprocess_cfg: resize_mode=longest: expected shortest"),
    (
        ("preprocess_cfg", "size"),
        [3, 14, 14],
        r"preprocess_cfg: size=\[3, 14, 14\]: expected the mod",
    ),
    (("preprocess_cfg", "interpolation"), "nearest", r"interpolation=nearest: expected bilinear or bicubic"),
]


@pytest.mark.parametrize(("keys", "value", "sentence"), OPEN_CLIP_REFUSED)
def test_the_variants_of_open_clip_are_refused_by_their_names(open_clip, keys, value, sentence):
    change_json(open_clip / "open_clip_config.json", *keys, value=value)
    with pytest.raises(UserError, match=sentence) as caught:
        published.read(str(open_clip))
    assert str(caught.value).startswith(f"{open_clip}: open_clip_config.json: ")


def test_settings_of_open_clip_without_effect_are_passed_over(open_clip):
    plain = published.read(str(open_clip))
    for keys, value in [
        (("vision_cfg", "patch_dropout"), 0.5),
        (("vision_cfg", "output_tokens"), True),
        (("vision_cfg", "attentional_pool"), False),
        (("vision_cfg", "pool_type"), "tok"),
        (("text_cfg", "pool_type"), "argmax"),
        (("text_cfg", "hf_tokenizer_name"), "owner/name"),
        (("text_cfg", "tokenizer_kwargs"), {}),
        (("init_logit_scale",), 2.0),
    ]:
        change_json(open_clip / "open_clip_config.json", "model_cfg", *keys, value=value)
    again = published.read(str(open_clip))
    assert configs.to_json(again.config) == configs.to_json(plain.config)
    assert_same(again.params, plain.params)


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("config.json", r"not a published CLIP; expected config.json or open_clip_config.json$"),
        (
            "preprocessor_config.json",
            r"it has no preprocessor_config.json, which says how images are",
        ),
        ("merges.txt", r"no tokenizer; expected tokenizer.json, or vocab.json and merges.txt$"),
        (
            "model.safetensors",
            r"it has no model.safetensors, and pickled weights are never .*@refs/pr/N",
        ),
    ],
)
def test_a_missing_file_is_named(hugging_face, missing, sentence):
    (hugging_face / "pytorch_model.bin").write_bytes(b"a pickle")
    (hugging_face / missing).unlink()
    with pytest.raises(UserError, match=rf"^{hugging_face}: {sentence}"):
        published.read(str(hugging_face))


def test_weights_in_several_files_are_refused(hugging_face):
    (hugging_face / "model.safetensors").rename(hugging_face / "model-00001-of-00002.safetensors")
    write_json(hugging_face / "model.safetensors.index.json", {})
    with pytest.raises(UserError, match=r"split over several files; expected one model.safetensors"):
        published.read(str(hugging_face))


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_description_is_named(hugging_face, content):
    (hugging_face / "config.json").write_text(content)
    with pytest.raises(UserError, match=rf"{hugging_face}: config.json"):
        published.read(str(hugging_face))


# ------------------------------------------------------------------------------------------- verb import


def import_(source, workdir, *more):
    importing.main([f"--from={source}", f"--workdir={workdir}", *more])


def export(workdir, out, *more):
    exporting.main([f"--workdir={workdir}", f"--out={out}", *more])


def encoder_of(workdir):
    return evaluate.load_encoder(Workdir(pathlib.Path(workdir)))[0]


def test_an_imported_model_can_be_evaluated_and_claims_nothing_of_its_training(
    hugging_face, tmp_path, capsys
):
    workdir = tmp_path / "runs" / "clip"
    import_(hugging_face, workdir)
    said = capsys.readouterr().out
    for words in (
        str(hugging_face),
        "parameters",
        "12 × 12",
        "12 tokens of 40",
        "./launch.sh evaluate --workdir=",
    ):
        assert words in said
    recorded = json.loads((workdir / "run.json").read_text())
    assert recorded["imported"] == {"source": str(hugging_face), "commit": None}
    assert recorded["packages"]["jax"] == jax.__version__
    assert "values in" in (workdir / "parameters.txt").read_text()
    assert training_text.read(workdir / "training_text.json") is None
    for name in ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"):
        folder = tmp_path / "data" / "fer2013" / "test" / name
        folder.mkdir(parents=True)
        PIL.Image.new("L", (48, 48), len(name) * 20).save(folder / "a.jpg")
    evaluate.main([f"--workdir={workdir}", f"--data-dir={tmp_path / 'data'}", "--tasks=fer2013"])
    assert "7 unknown" in capsys.readouterr().out
    (path,) = (workdir / "evaluation").glob("*.json")
    (row,) = json.loads(path.read_text())
    assert (row["step"], row["rows"], row["n"]) == (0, "unknown", 7)


def test_training_does_not_go_on_in_the_folder_of_an_imported_model(hugging_face, tmp_path):
    import_(hugging_face, tmp_path / "clip")
    workdir, before = Workdir(tmp_path / "clip"), (tmp_path / "clip" / "run.json").read_bytes()
    tokenizer = Tokenizer.load(workdir.tokenizer)
    with pytest.raises(UserError, match=rf"it holds the imported {hugging_face}; to train from its weights"):
        workdirs.begin(workdir, configs.from_json(workdir.config), "of some shards", tokenizer.hash)
    assert workdir.run.read_bytes() == before


def test_an_import_overwrites_nothing(hugging_face, tmp_path):
    workdir = tmp_path / "clip"
    workdir.mkdir()
    import_(hugging_face, workdir)  # an empty folder is taken
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    with pytest.raises(
        UserError, match=rf"--workdir={workdir}: it exists already; name a folder that does not"
    ):
        import_(hugging_face, workdir)
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before


def test_an_import_that_is_stopped_leaves_nothing(hugging_face, tmp_path, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(importing.Checkpoints, "save", stopped)
    with pytest.raises(KeyboardInterrupt):
        import_(hugging_face, tmp_path / "runs" / "clip")
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_hub_id_is_imported_from_one_commit_and_the_commit_is_recorded(
    hugging_face, tmp_path, monkeypatch, capsys
):
    files = {path.name: path.read_bytes() for path in hugging_face.iterdir()}
    files |= {"pytorch_model.bin": b"a pickle", "flax_model.msgpack": b"more", "README.md": b"# CLIP"}
    with serving(files) as hub:
        listen_to(hub.url, monkeypatch, tmp_path / "cache")
        import_("owner/clip@v1", tmp_path / "clip")
    assert f"owner/clip at commit {COMMIT}" in capsys.readouterr().out
    recorded = json.loads((tmp_path / "clip" / "run.json").read_text())
    assert recorded["imported"] == {"source": "owner/clip", "commit": COMMIT}
    assert (
        json.loads((tmp_path / "clip" / "config.json").read_text())["weights"]["clip"]
        == f"owner/clip@{COMMIT}"
    )
    # The weights come last: whatever is wrong with the rest is said before they are downloaded.
    assert hub.downloads()[-1] == "model.safetensors"
    assert set(hub.downloads()) == set(files) - {"pytorch_model.bin", "flax_model.msgpack", "README.md"}
    import_(hugging_face, tmp_path / "local")
    local, there = encoder_of(tmp_path / "local"), encoder_of(tmp_path / "clip")
    np.testing.assert_array_equal(local.encode_texts(TEXTS), there.encode_texts(TEXTS))


# ------------------------------------------------------------------------------------------- verb export


@pytest.mark.parametrize(
    ("form", "weights"), [("hugging_face", "model.safetensors"), ("open_clip", "open_clip_model.safetensors")]
)
def test_import_then_export_changes_no_bit_of_a_tensor(form, weights, request, tmp_path):
    source = request.getfixturevalue(form)
    import_(source, tmp_path / "run")
    export(tmp_path / "run", tmp_path / "out")
    before = safetensors.numpy.load_file(source / weights)
    after = safetensors.numpy.load_file(tmp_path / "out" / weights)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert (tensor.dtype, tensor.shape) == (after[name].dtype, after[name].shape), name
        assert tensor.tobytes() == after[name].tobytes(), name


@pytest.mark.parametrize("exported", ["hugging_face", "open_clip"])
def test_export_then_import_gives_the_same_model(exported, hugging_face, tmp_path):
    first = published.read(str(hugging_face))
    import_(hugging_face, tmp_path / "run")
    export(tmp_path / "run", tmp_path / "out")
    if exported == "open_clip":
        (tmp_path / "out" / "config.json").unlink()
    again = published.read(str(tmp_path / "out"))
    assert_same(first.params, again.params)
    assert first.architecture == again.architecture
    for name in ("fit", "interpolation", "image_size"):
        assert first.config.data[name] == again.config.data[name]
    for a, b in zip(first.tokenizer.encode(TEXTS, 12), again.tokenizer.encode(TEXTS, 12), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_export_has_the_files_that_transformers_and_open_clip_look_for(hugging_face, tmp_path, capsys):
    import_(hugging_face, tmp_path / "run")
    export(tmp_path / "run", tmp_path / "exports" / "clip", "--step=0")
    out = tmp_path / "exports" / "clip"
    assert {path.name for path in out.iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.json",
        "merges.txt",
        "open_clip_config.json",
        "open_clip_model.safetensors",
    }
    assert [path.name for path in out.parent.iterdir()] == ["clip"]
    assert "CLIPModel.from_pretrained" in capsys.readouterr().out
    text = json.loads((out / "config.json").read_text())["text_config"]
    assert (text["bos_token_id"], text["eos_token_id"], text["pad_token_id"]) == (38, 39, 39)
    described = json.loads((out / "tokenizer_config.json").read_text())
    assert described["tokenizer_class"] == "CLIPTokenizer"
    assert (described["eos_token"], described["model_max_length"]) == ("<|endoftext|>", 12)
    assert json.loads((out / "vocab.json").read_text()) == {token: i for i, token in enumerate(VOCABULARY)}
    assert (out / "merges.txt").read_text() == MERGES
    with pytest.raises(UserError, match=r"--out=.*clip: it exists already"):
        export(tmp_path / "run", out)


def test_a_stretched_image_stays_stretched(hugging_face, tmp_path):
    change_json(hugging_face / "preprocessor_config.json", "size", value={"height": 12, "width": 12})
    change_json(hugging_face / "preprocessor_config.json", "do_center_crop", value=False)
    import_(hugging_face, tmp_path / "run")
    export(tmp_path / "run", tmp_path / "out")
    assert published.read(str(tmp_path / "out")).config.data.fit == "stretch"
    (tmp_path / "out" / "config.json").unlink()  # now open_clip's description is read
    assert published.read(str(tmp_path / "out")).config.data.fit == "stretch"


def from_scratch(root, changes=()):
    """A workdir of a small CLIP-like model with random weights and a tokenizer trained here."""
    tokenizer = Tokenizer.train(["a person is running", "the left arm is bent", "standing still"], 300)
    config = configs.default()
    with config.unlocked():
        for name, value in {**SMALL, **dict(changes)}.items():
            config.update_from_flattened_dict({name: value})
    config.text.vocabulary = tokenizer.vocab_size
    architecture = state.architecture(config, tokenizer.vocab_size)
    abstract = state.abstract_params(architecture, sharding.make_mesh(-1, 1))
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), abstract)
    params["logit_bias"] = np.zeros((), np.float32)
    importing.write(Published(config, tokenizer, architecture, params, "scratch", None), root)
    return params


def test_a_tokenizer_trained_here_is_exported_with_an_end_that_others_find(tmp_path):
    """transformers and open_clip read a text at its highest id, but our end token has the id 2."""
    from_scratch(tmp_path / "run")
    export(tmp_path / "run", tmp_path / "out")
    text = json.loads((tmp_path / "out" / "config.json").read_text())["text_config"]
    assert text["eos_token_id"] == text["vocab_size"] - 1
    described = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert described["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert (described["pad_token"], described["eos_token"]) == ("<pad>", "<end>")
    exported = Tokenizer.load(tmp_path / "out")
    for ids in exported.encode(TEXTS, 12):
        assert ids.argmax() == len(ids) - 1
        assert ids[-1] == text["eos_token_id"]
    import_(tmp_path / "out", tmp_path / "again")
    ours, again = encoder_of(tmp_path / "run"), encoder_of(tmp_path / "again")
    np.testing.assert_array_equal(again.encode_texts(TEXTS), ours.encode_texts(TEXTS))
    images = np.random.default_rng(1).integers(0, 256, (3, 12, 12, 3), np.uint8)
    np.testing.assert_array_equal(again.encode_images(images), ours.encode_images(images))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"model.text.pool": "mean"},
            r"--config.model.text.pool=mean: .*; expected --config.model.text",
        ),
        ({"model.image.patch_bias": True}, r"--config.model.image.patch_bias=True: "),
        ({"model.text.norm": "post"}, r"--config.model.text.norm=post: "),
    ],
)
def test_a_model_that_is_no_clip_is_refused_by_its_first_setting(tmp_path, changes, sentence):
    from_scratch(tmp_path / "run", changes)
    with pytest.raises(UserError, match=sentence):
        export(tmp_path / "run", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"model.text.activation": "gelu"},
            "open_clip cannot have this model: --config.model.text.act",
        ),
        (
            {"model.image.norm_epsilon": 1e-6},
            "open_clip cannot have this model: --config.model.image.no",
        ),
    ],
)
def test_what_open_clip_alone_cannot_have_is_exported_for_transformers(tmp_path, capsys, changes, sentence):
    from_scratch(tmp_path / "run", changes)
    export(tmp_path / "run", tmp_path / "out")
    assert sentence in capsys.readouterr().out
    assert not list((tmp_path / "out").glob("open_clip*"))
    config = published.read(str(tmp_path / "out")).config
    assert_settings(config, changes)


def test_only_a_workdir_and_a_step_that_exist_are_exported(hugging_face, tmp_path):
    with pytest.raises(UserError, match=r"config.json: no such file; expected the workdir of a training run"):
        export(tmp_path / "nowhere", tmp_path / "out")
    import_(hugging_face, tmp_path / "run")
    with pytest.raises(UserError, match=r"no checkpoint of step 7; there are \[0\]"):
        export(tmp_path / "run", tmp_path / "out", "--step=7")
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------- against transformers itself

CLIP_LIKE = [
    "--config.model.image.pool=class",
    "--config.model.image.norm_embeddings=True",
    "--config.model.image.patch_bias=False",
    "--config.model.image.projection_bias=False",
    "--config.model.text.pool=end",
    "--config.model.text.causal=True",
    "--config.model.text.projection_bias=False",
    "--config.data.interpolation=bicubic",
]


def photos(side):
    """Images of the model's size, and larger and smaller ones of other shapes."""
    random = np.random.default_rng(0)
    shapes = [(side, side), (3 * side + 5, 2 * side), (side + 1, 4 * side), (7, 9)]
    return [
        np.asarray(
            PIL.Image.fromarray(random.integers(0, 256, (5, 5, 3), np.uint8)).resize((width, height), 3)
        )
        for height, width in shapes
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("fit", "vocabulary"), [("stretch", "trained"), ("crop", "clip")])
def test_a_trained_focusclip_says_the_same_in_transformers(
    fit, vocabulary, figures, run_module, shared_data, tmp_path
):
    """The same images and texts, through CLIPProcessor and CLIPModel, from files to embeddings."""
    python = os.environ.get("FOCUSCLIP_TRANSFORMERS")
    if not python:
        pytest.skip("FOCUSCLIP_TRANSFORMERS names no Python that has torch and transformers")
    source = shared_data / "text" / "bpe_simple_vocab_16e6.txt.gz" if vocabulary == "clip" else ""
    done = run_module(
        "focusclip_jax",
        *("train", "--config=configs/focusclip_tiny.py", f"--workdir={tmp_path / 'run'}", *CLIP_LIKE),
        *(f"--config.data.train={figures}", "--config.data.validation=", f"--config.data.fit={fit}"),
        *(f"--config.text.tokenizer={source}", "--config.steps=4", "--config.batch_size=16"),
        *("--config.evaluation.tasks=()", "--config.optimizer.warmup_steps=1"),
    )
    assert done.returncode == 0, done.stderr
    export(tmp_path / "run", tmp_path / "out")
    encoder = encoder_of(tmp_path / "run")
    images = photos(encoder.image_size)
    texts = ["a person is running", "The left arm is bent; it's level.", "", "one " * 60, "Café, 😀 & more!?"]
    embeddings = {
        "image_embeddings": encoder.encode_images(np.stack([encoder.prepare(image) for image in images])),
        "text_embeddings": encoder.encode_texts(texts),
    }
    assert min(np.ptp(rows, axis=0).max() for rows in embeddings.values()) > 0.01  # they tell them apart
    files = {f"image_{i}": image for i, image in enumerate(images)}
    np.savez(tmp_path / "expected.npz", texts=texts, **embeddings, **files)
    command = [
        python,
        GOLDEN / "check_export_in_transformers.py",
        tmp_path / "out",
        tmp_path / "expected.npz",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    difference = json.loads(done.stdout)
    assert difference["loading"] == {}  # no tensor left over, none missing
    assert difference["image"] < 1e-5
    assert difference["text"] < 1e-5
    print(f"{fit}, {vocabulary}: image {difference['image']:.1e}, text {difference['text']:.1e}")
