"""A published CLIP as a whole: config, tokenizer and parameters, from a folder or the hub."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from focusclip_jax import sharding, state
from focusclip_jax.data.text import Tokenizer
from focusclip_jax.errors import UserError
from focusclip_jax.models.focusclip import Architecture
from focusclip_jax.weights import clip_configs
from focusclip_jax.weights.clip_configs import HF, HF_WEIGHTS, OPEN_CLIP, OPEN_CLIP_WEIGHTS
from focusclip_jax.weights.hub import Files, open_files
from focusclip_jax.weights.load import load_clip

# In config.json of CLIP's first conversions, in place of the true id. transformers then reads a text at its
# highest id (huggingface/transformers #24773).
LEGACY_END = 2


@dataclasses.dataclass(frozen=True)
class Published:
    """A model as its authors describe it, in our terms.

    params: the complete tree, float32 numpy arrays.
    source: the folder, or "owner/name" on the hub; commit: the full one of the latter, None for a folder.
    """

    config: ConfigDict
    tokenizer: Tokenizer
    architecture: Architecture
    params: dict[str, Any]
    source: str
    commit: str | None


def read(source: str, *, image_size: int | None = None, context: int | None = None) -> Published:
    """The CLIP of a folder or of an id "owner/name@revision", in Hugging Face's or open_clip's form.

    image_size, context: others than the model's own, to which its position embeddings are then resized.
    Raises UserError for what is missing, unreadable or not a CLIP that our towers can follow.
    """
    files = open_files(source)
    form = _form(files)
    config = clip_configs.hugging_face(files) if form == HF else clip_configs.open_clip(files)
    tokenizer = Tokenizer.of(files)
    _check_tokenizer(files, form, config, tokenizer)
    _resize(config, image_size, context)
    config.name = pathlib.PurePath(files.source).name
    config.weights.clip = str(files)
    architecture = state.architecture(config, tokenizer.vocab_size)
    shapes = state.abstract_params(architecture, sharding.make_mesh(-1, 1))
    # By far the largest, so last: what is wrong with a description is said before the download.
    weights = files.path(HF_WEIGHTS if form == HF else OPEN_CLIP_WEIGHTS)
    params = load_clip(shapes, weights, architecture)
    # What FocusCLIP adds to CLIP, as training begins: α = sigmoid(0).
    params |= {name: np.zeros((), np.float32) for name in ("alpha_parameter", "logit_bias")}
    return Published(config, tokenizer, architecture, params, files.source, files.commit)


def _form(files: Files) -> str:
    """HF or OPEN_CLIP, whichever the files are complete for; a repository may hold both."""
    described = {OPEN_CLIP: OPEN_CLIP in files.names, HF: False}
    if HF in files.names:
        kind = clip_configs.read_json(files, HF).get("model_type")
        described[HF] = kind == "clip"
        if not any(described.values()):
            raise UserError(f"{files}: {HF}: model_type={kind}: expected clip")
    if not any(described.values()):
        raise UserError(f"{files}: not a published CLIP; expected {HF} or {OPEN_CLIP}")
    weights = {HF: HF_WEIGHTS, OPEN_CLIP: OPEN_CLIP_WEIGHTS}
    for form in (HF, OPEN_CLIP):
        if described[form] and weights[form] in files.names:
            return form
    wanted = " or ".join(weights[form] for form in (HF, OPEN_CLIP) if described[form])
    if f"{HF_WEIGHTS}.index.json" in files.names:
        raise UserError(f"{files}: its weights are split over several files; expected one {HF_WEIGHTS}")
    raise UserError(
        f"{files}: it has no {wanted}, and pickled weights are never read, since they can run code; take "
        "another repository or revision that has it: many have one as @refs/pr/N, a pull request"
    )


def _check_tokenizer(files: Files, form: str, config: ConfigDict, tokenizer: Tokenizer) -> None:
    """The rows of the token table, and the token at which a text is read."""
    if tokenizer.vocab_size != config.text.vocabulary:
        raise UserError(
            f"{files}: its tokenizer has {tokenizer.vocab_size} entries; expected as many as the model's "
            f"vocabulary, {config.text.vocabulary}"
        )
    highest = config.text.vocabulary - 1
    said = clip_configs.hf_end_id(files) if form == HF else highest
    end = highest if said == LEGACY_END else said
    if tokenizer.end_id != end:
        raise UserError(
            f"{files}: its tokenizer ends a text with token {tokenizer.end_id}, but its model reads one at "
            f"token {end}"
        )


def _resize(config: ConfigDict, image_size: int | None, context: int | None) -> None:
    if image_size is not None:
        patch = config.model.patch_size
        if image_size < patch or image_size % patch:
            raise UserError(f"--image-size={image_size}: expected a multiple of the patch size {patch}")
        config.data.image_size = image_size
    if context is not None:
        if context < 2:
            raise UserError(f"--context={context}: expected at least 2, for the start and the end token")
        config.text.update(context=context, buckets=(context,))
