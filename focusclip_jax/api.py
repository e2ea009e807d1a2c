"""A model for use from Python: images and texts in, embeddings and answers out."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterable, Sequence

import jax
import numpy as np
import PIL.Image

from focusclip_jax import state
from focusclip_jax.data.images import load_rgb
from focusclip_jax.encoder import Encoder
from focusclip_jax.errors import UserError
from focusclip_jax.evaluate import load_encoder
from focusclip_jax.evaluation import zero_shot
from focusclip_jax.weights import published
from focusclip_jax.workdir import Workdir

Image = str | os.PathLike | PIL.Image.Image | np.ndarray

BATCH_SIZE = 64  # images or texts encoded at a time; fewer are filled up to one of ten sizes


class Model:
    """A trained FocusCLIP, or a published CLIP. `focusclip_jax.load` makes one.

    An image is a path, a PIL image or an array uint8 (H, W, 3) RGB, of any size. Files and PIL images are
    turned upright as their EXIF orientation says, so that a phone's photo is seen as its viewer shows it;
    evaluation on data sets does not do that, as the 2023 code did not.

    image_size: side of the square that an image becomes, pixels. embedding: D. encoder: the two towers.
    """

    def __init__(self, name: str, encoder: Encoder):
        """name: what `repr` calls it."""
        self.image_size = encoder.image_size
        self.embedding = encoder.embedding
        self._name = name
        self.encoder = encoder

    def __repr__(self) -> str:
        parameters = sum(leaf.size for leaf in jax.tree.leaves(self.encoder.params))
        return (
            f"Model({self._name}: {parameters:,} parameters, images {self.image_size} × {self.image_size}, "
            f"embeddings of {self.embedding})"
        )

    def encode_image(self, images: Image | Iterable[Image]) -> np.ndarray:
        """One image or B of them → float32 (B, D), rows of length 1.

        Raises UserError for what is no image, naming the file or the place in the list.
        """
        images = [images] if isinstance(images, Image) else list(images)
        if not images:
            raise UserError("no image was given; expected one or a list of at least one")
        return zero_shot.image_embeddings(
            self.encoder, lambda i: pixels(images[i], f"image {i}"), len(images), BATCH_SIZE
        )

    def encode_text(self, texts: str | Iterable[str]) -> np.ndarray:
        """One text or B of them → float32 (B, D), rows of length 1. What is too long for the model is cut."""
        texts = _texts([texts] if isinstance(texts, str) else texts, "text")
        return zero_shot.text_embeddings(self.encoder, texts, BATCH_SIZE)

    def classify(
        self, images: Image | Iterable[Image], labels: Sequence[str], prompt: str = "a photo of a person {}"
    ) -> list[list[tuple[str, float]]]:
        """For each image all labels with their probabilities, the likeliest first.

        prompt: the text of a label, which takes the place of {}; with "{}" the labels are whole texts.

        The probabilities are a softmax over the labels of cosine / temperature, as the model learned it: they
        say which label fits best if one of them does, not whether any does. That holds for a model trained
        with the sigmoid loss too; its bias is the same for all labels and makes no difference.
        """
        if isinstance(labels, str):
            raise UserError(f"labels is the text {labels!r}; expected a list of texts")
        labels = _texts(labels, "label")
        if "{}" not in prompt:
            raise UserError(f"prompt {prompt!r} has no {{}} where the label goes")
        texts = self.encode_text([prompt.replace("{}", label) for label in labels])
        probabilities = _softmax(self.encoder.scale * self.encode_image(images) @ texts.T)
        order = np.argsort(-probabilities, axis=1, kind="stable")
        return [
            [(labels[k], float(row[k])) for k in ranked]
            for row, ranked in zip(probabilities, order, strict=True)
        ]


def load(source: str | os.PathLike, step: int | None = None) -> Model:
    """See `focusclip_jax.load`."""
    workdir = Workdir(pathlib.Path(source))
    if workdir.run.is_file():
        encoder, step = load_encoder(workdir, step)
        return Model(f"{os.fspath(source)}, step {step}", encoder)
    if step is not None:
        raise UserError(f"{source}: step={step} was asked for, but only the workdir of a run has steps")
    model = published.read(os.fspath(source))
    data = model.config.data
    encoder = Encoder(
        state.graph_of(model.architecture),
        jax.device_put(model.params),
        model.architecture,
        model.tokenizer,
        data.fit,
        data.interpolation,
    )
    return Model(os.fspath(source), encoder)


def pixels(image: Image, where: str = "image") -> np.ndarray:
    """One image of any kind that `Model` takes → uint8 (H, W, 3) RGB, upright. Raises UserError.

    where: what a message calls an image that is no file.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise UserError(
                f"{where}: an array {image.dtype} {image.shape}, expected uint8 (height, width, 3) RGB"
            )
        return image
    if not isinstance(image, Image):
        raise UserError(f"{where}: {type(image).__name__}, expected a path, a PIL image or an array")
    return load_rgb(image, upright=True)


def _texts(texts: Iterable[str], kind: str) -> list[str]:
    texts = list(texts)
    if not texts:
        raise UserError(f"no {kind} was given; expected at least one")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"{kind} {place}: {type(text).__name__}, expected a text")
    return texts


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis, float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
