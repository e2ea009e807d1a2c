"""Draw docs/figures/focus.png, the README's figure, from the embedded synthetic people.

PYTHONPATH=. .venv/bin/python docs/make_figure.py
"""

import io
import pathlib

import numpy as np
import PIL.Image

from annotation.describers import geometry
from annotation.sources.figures import Figures, generate
from focusclip_jax import pictures, plots
from focusclip_jax.data import augment
from focusclip_jax.data.shards import Example

SIZE = 320
SHOWN = (3, 20)


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


def main():
    views = {}
    for index in SHOWN:
        packed, text = example(index)
        print(index, packed.activity, "|", text)
        whole = augment.whole(SIZE, SIZE)
        views[packed.activity] = pictures.focus_view(packed, whole, (SIZE, SIZE), alpha=0.5)
    path = plots.focus_figure(pathlib.Path("docs/figures/focus.png"), views)
    # Half the pixels: enough for a README, and half the bytes. A palette would show bands in the heatmap.
    image = PIL.Image.open(path).convert("RGB")
    image.thumbnail((1200, 1200), PIL.Image.Resampling.LANCZOS)
    image.save(path, optimize=True)


if __name__ == "__main__":
    main()
