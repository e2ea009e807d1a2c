"""Draw the figures of README.md and docs/models.md from the embedded synthetic people.

PYTHONPATH=. .venv/bin/python docs/make_figure.py
"""

import contextlib
import dataclasses
import io
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import PIL.Image

from annotation.describers import geometry
from annotation.sources.figures import Figures, generate
from focusclip_jax import config as configs
from focusclip_jax import pictures, plots, state
from focusclip_jax.data import augment, heatmaps
from focusclip_jax.data.loader import CONTROLS, LoaderSettings, eval_batches
from focusclip_jax.data.shards import Example, Shards
from focusclip_jax.data.text import Tokenizer, TokenTable
from focusclip_jax.models.focusclip import kept, next_background, second_view

SIZE = 320
SHOWN = (3, 20)
FIGURES = pathlib.Path("docs/figures")
ALPHA = 0.5  # where training starts


def example(index: int) -> tuple[Example, str]:
    """One synthetic person as a shard would hold it, and its first full description."""
    figures = Figures(seed=11, count=64, size=SIZE, styles="train")
    record, image = generate(figures, index)
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=95, subsampling=0)
    packed = Example(
        image_id=record.image_id,
        image=jpeg.getvalue(),
        height=SIZE,
        width=SIZE,
        original_height=SIZE,
        original_width=SIZE,
        joints=np.stack([person.joints for person in record.people]).astype(np.float32),
        visibility=np.stack([person.visibility for person in record.people]),
        occluded=np.stack([person.occluded for person in record.people]),
        people_complete=True,
        activity=record.activity,
        category=record.category,
        captions=(),
        caption_sources=(),
    )
    return packed, geometry.describe(record, "short")[0].text


def focus():
    views = {}
    for index in SHOWN:
        packed, text = example(index)
        print(index, packed.activity, "|", text)
        whole = augment.whole(SIZE, SIZE)
        views[packed.activity] = pictures.focus_view(packed, whole, (SIZE, SIZE), ALPHA)
    # Half the pixels: enough for a README, and half the bytes. A palette would show bands in the heatmap.
    shrink(plots.focus_figure(FIGURES / "focus.png", views), 1200)


def second_views():
    """One image as the loader and the model show it under each setting of the second view."""
    with tempfile.TemporaryDirectory() as name:
        shards, table = pack(pathlib.Path(name))
        image, heatmap = shown(shards, table)
        other, of_other = shown(shards, table, index=5)
        behind = next_background(other[None], of_other[None])
        seen = {kind: shown(shards, table, heatmap=kind)[1] for kind in heatmaps.KINDS + CONTROLS}
        narrow, wide = (shown(shards, table, heatmap_scale=scale)[1] for scale in (0.5, 2.0))
    config = configs.default()
    config.data.image_size = SIZE
    patch = SIZE // 4  # as coarse as the tiny models'

    def view(name, heatmap, background=None):
        config.model.focus_view = name
        architecture = state.architecture(config, 2)
        return np.asarray(second_view(image[None], heatmap[None], ALPHA, architecture, background))[0]

    weights = kept(heatmap, ALPHA).reshape(4, patch, 4, patch).mean(axis=(1, 3))
    weights = weights.repeat(patch, axis=0).repeat(patch, axis=1)
    rows = {
        "heatmap": seen,
        "dim": [view("dim", of_kind) for of_kind in seen.values()],
        "of parts": {
            "image": image,
            "replace": view("replace", heatmap),
            "blur": view("blur", heatmap),
            "swap": view("swap", heatmap, behind),
            "crop": view("crop", heatmap),
            "tokens: weights": weights,
            "scale 0.5": narrow,
            "scale 2": wide,
        },
    }
    shrink(plots.image_grid(FIGURES / "second_views.png", rows), 1400)


def pack(folder: pathlib.Path) -> tuple[Shards, TokenTable]:
    """A few synthetic people as shards, and their captions."""
    flags = [f"--figures-size={SIZE}", "--figures-count=8", "--describer=geometry", f"--out={folder}/journal"]
    annotate("describe", "--source=figures:11", *flags)
    annotate(
        "pack",
        f"--journal={folder}/journal",
        "--split=train",
        "--dataset=figures",
        "--size=original",
        f"--out={folder}",
    )
    shards = Shards.open(str(folder), "train")
    captions = [caption for i in range(len(shards)) for caption in shards.read(i).captions]
    return shards, TokenTable.build(shards, Tokenizer.train(captions, 400), 64)


def annotate(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "annotation", *arguments], check=True)


def shown(
    shards: Shards, table: TokenTable, index: int = SHOWN[0], **settings
) -> tuple[np.ndarray, np.ndarray]:
    """One image in [0, 1] and what guides its second view."""
    chosen = LoaderSettings(len(shards), (SIZE, SIZE), text_lengths=(64,), threads=0)
    with contextlib.closing(eval_batches(shards, table, dataclasses.replace(chosen, **settings))) as batches:
        batch = next(batches)
    return batch["image"][index] / np.float32(255), batch["heatmap"][index]


def shrink(path: pathlib.Path, side: int) -> None:
    image = PIL.Image.open(path).convert("RGB")
    image.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
    image.save(path, optimize=True)


def main():
    focus()
    second_views()


if __name__ == "__main__":
    main()
