"""A tokenizer as transformers and open_clip want it: its files, and an end token with the highest id."""

from __future__ import annotations

import json

import numpy as np
import tokenizers

from focusclip_jax.data.text import CLIP_END, CLIP_START, PAD_NAMES, Tokenizer, between, clip_normalizer
from focusclip_jax.errors import UserError


def with_highest_end(tokenizer: Tokenizer) -> tuple[Tokenizer, np.ndarray]:
    """The same tokens, the end's id exchanged with the highest, and each new id's old one.

    open_clip reads a text at its highest id. transformers reads it at the end token, but not where that has
    the id 2, as in the tokenizers that are trained here. CLIP's own is as it should be and stays as it is.
    """
    inner = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    old = np.arange(tokenizer.vocab_size)
    start, end = _ends(inner)
    here, last = _id(inner, end), len(old) - 1
    if here == last:
        return tokenizer, old
    old[here], old[last] = last, here
    content = json.loads(tokenizer.to_json())
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {token: int(old[i]) for token, i in vocabulary.items()}
    for token in content["added_tokens"]:
        token["id"] = int(old[token["id"]])
    content["added_tokens"].sort(key=lambda token: token["id"])
    content["post_processor"] = None  # it has ids too
    inner = tokenizers.Tokenizer.from_str(json.dumps(content))
    inner.post_processor = between(inner, start, end)
    return Tokenizer(inner), old


def special_tokens(tokenizer: Tokenizer) -> dict[str, str]:
    """Start, end, padding and unknown token, by Hugging Face's names for these parts."""
    inner = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    start, end = _ends(inner)
    # CLIP has no padding of its own: what follows the end is not looked at, and Hugging Face repeats the end.
    padding = next((name for name in PAD_NAMES if inner.token_to_id(name) is not None), end)
    unknown = json.loads(tokenizer.to_json())["model"].get("unk_token")
    tokens = {"bos_token": start, "eos_token": end, "pad_token": padding}
    return tokens | ({"unk_token": unknown} if unknown else {})


def _id(tokenizer: tokenizers.Tokenizer, token: str) -> int:
    number = tokenizer.token_to_id(token)
    assert number is not None, f"{token} is in the vocabulary"
    return number


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """The ids of start, end and padding, by their names in Hugging Face's config.json."""
    inner = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    tokens = special_tokens(tokenizer)
    return {f"{part}_token_id": _id(inner, tokens[f"{part}_token"]) for part in ("bos", "eos", "pad")}


def hugging_face(tokenizer: Tokenizer, context: int) -> dict[str, str]:
    """Names and contents of the files that `AutoTokenizer` and `CLIPProcessor` read."""
    special = special_tokens(tokenizer)
    content = json.loads(tokenizer.to_json())
    clips_own = is_clip(tokenizer)
    described = special | {
        "model_max_length": context,
        "processor_class": "CLIPProcessor",
        # The second takes tokenizer.json as it is.
        "tokenizer_class": "CLIPTokenizer" if clips_own else "PreTrainedTokenizerFast",
    }
    files = {
        "tokenizer.json": tokenizer.to_json(),
        "tokenizer_config.json": json.dumps(described, indent=2) + "\n",
        "special_tokens_map.json": json.dumps(special, indent=2) + "\n",
    }
    if clips_own:  # for transformers' slow tokenizer
        merges = [" ".join(pair) for pair in content["model"]["merges"]]
        files["merges.txt"] = "\n".join(["#version: 0.2", *merges]) + "\n"
        files["vocab.json"] = json.dumps(content["model"]["vocab"], ensure_ascii=False)
    return files


def is_clip(tokenizer: Tokenizer) -> bool:
    """Whether it works as CLIP's does, so that ids and merges are all that a class for CLIP needs of it."""
    content = json.loads(tokenizer.to_json())
    twin = tokenizers.Tokenizer(tokenizers.models.BPE())
    twin.normalizer = clip_normalizer()
    model = content["model"]
    return (
        model["type"] == "BPE"
        and model["end_of_word_suffix"] == "</w>"
        and {CLIP_START, CLIP_END} <= model["vocab"].keys()
        and content["normalizer"] == json.loads(twin.to_str())["normalizer"]
    )


def _ends(inner: tokenizers.Tokenizer) -> tuple[str, str]:
    tokens = inner.encode("").tokens
    if len(tokens) < 2:
        raise UserError("an exported CLIP reads a text at its end token, but this tokenizer adds none")
    return tokens[0], tokens[-1]
