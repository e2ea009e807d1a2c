"""A published CLIP as small as one can be: 12 pixels, 40 tokens, in the form that transformers writes."""

from __future__ import annotations

import json
import pathlib
import shutil

GOLDEN = pathlib.Path(__file__).parent / "focusclip_jax" / "golden" / "hf_clip_quick_gelu"

PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 12},
    "crop_size": {"height": 12, "width": 12},
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.4, 0.5, 0.6],
    "resample": 2,
}
LETTERS = "abcdefghiklmnoprst"
VOCABULARY = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "th", "the</w>"]
VOCABULARY += ["<|startoftext|>", "<|endoftext|>"]
MERGES = "#version: 0.2\nt h\nth e</w>\n"


def write_small_clip(folder: pathlib.Path) -> pathlib.Path:
    """Make the folder, of the weights of golden/, with their image processor and tokenizer. Returns it."""
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(GOLDEN / name, folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: pathlib.Path) -> None:
    """The tokenizer of `VOCABULARY`, which OpenAI's form of CLIP wants as well."""
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(VOCABULARY)}))
    (folder / "merges.txt").write_text(MERGES)
