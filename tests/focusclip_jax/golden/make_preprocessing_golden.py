"""Make preprocessing.npz of test_images.py with transformers, which the tests do not need.

    python3 -m venv /tmp/golden
    /tmp/golden/bin/pip install torch==2.13.0 transformers==5.24.0 pillow==13.0.0
    /tmp/golden/bin/python tests/focusclip_jax/golden/make_preprocessing_golden.py

For each size an image and what CLIP's image processor, the one that works with PIL, makes of it at SIDE.
The other one resizes with torch and is printed beside: it agrees in geometry, not in every pixel.
"""

from __future__ import annotations

import pathlib

import numpy as np
import PIL.Image
import torch
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

SIDE = 16
# Wide, high and square; excess over the square even, odd, and 3 (where OpenAI rounds the other way); smaller
# than SIDE; and a long side that is cut down to a whole pixel.
SIZES = ((20, 31), (33, 20), (24, 24), (16, 19), (19, 16), (16, 17), (9, 14), (16, 16), (23, 61), (47, 30))


def image(height: int, width: int, seed: int) -> np.ndarray:
    """Noise over a slope: every pixel and both directions count."""
    noise = np.random.default_rng(seed).integers(0, 160, (height, width, 3))
    y, x = np.mgrid[:height, :width]
    slope = 95 * (y / height + x / width)[..., None] / 2
    return (noise + slope).astype(np.uint8)


def by_torch(pixels: np.ndarray) -> np.ndarray:
    """The resize and crop of CLIPImageProcessor, without torchvision: this is what it calls."""
    height, width = pixels.shape[:2]
    short = min(height, width)
    size = int(SIDE * height / short), int(SIDE * width / short)
    stacked = torch.tensor(pixels).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(
        stacked, size, mode="bicubic", align_corners=False, antialias=True
    )[0].permute(1, 2, 0)
    top, left = int((size[0] - SIDE) / 2.0), int((size[1] - SIDE) / 2.0)
    return resized[top : top + SIDE, left : left + SIDE].numpy()


def main() -> None:
    process = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size=SIDE, do_rescale=False, do_normalize=False
    )
    arrays = {}
    for seed, size in enumerate(SIZES):
        pixels = image(*size, seed)
        name = "x".join(map(str, size))
        result = process(PIL.Image.fromarray(pixels), return_tensors="np")["pixel_values"][0]
        squared = result.transpose(1, 2, 0)
        assert (squared == squared.astype(np.uint8)).all()
        arrays |= {f"{name} image": pixels, f"{name} crop": squared.astype(np.uint8)}
        difference = np.abs(by_torch(pixels).astype(int) - squared)
        print(
            f"{name}: torch differs in {(difference > 0).mean():.1%} of values, by {difference.max()} at most"
        )
    np.savez_compressed(pathlib.Path(__file__).parent / "preprocessing.npz", **arrays)


if __name__ == "__main__":
    main()
