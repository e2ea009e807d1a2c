"""Claim: a heatmap costs less than a thousandth of the 2023 algorithm's time and is the same picture.

    python -m benchmarks.heatmaps [--images=40]

The reference is the published algorithm restated: every Gaussian over all pixels of the photograph, one
after another, clipped, then resized to 224 x 224 with the image. The 2023 code adds an 8-bit PNG on disk,
which is left out here in its favour. Both sides run in turn on the same synthetic people.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import PIL.Image

from annotation import schema
from focusclip_jax.data.augment import whole
from focusclip_jax.data.heatmaps import render

HEIGHT, WIDTH, SIZE = 720, 1280, (224, 224)
REPEATS = 200  # of the fast side for each call of the reference


def reference(joints: np.ndarray) -> np.ndarray:
    """joints (P, 16, 2), all visible, pixels of the photograph → float32 (224, 224)."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    total = np.zeros((HEIGHT, WIDTH))
    for person in joints.astype(int):
        for part in schema.PARTS.values():
            low, high = person[list(part)].min(0), person[list(part)].max(0)
            (cx, cy), (ax, ay) = (low + high) // 2, np.maximum((high - low) // 2, 0.5)
            total += np.exp(-((x - cx) ** 2 / (2 * ax**2) + (y - cy) ** 2 / (2 * ay**2)))
    picture = PIL.Image.fromarray(np.clip(total, 0, 1).astype(np.float32))
    return np.asarray(picture.resize(SIZE[::-1], PIL.Image.Resampling.BILINEAR))


def people(rng: np.random.Generator, count: int) -> np.ndarray:
    """Standing people with jittered joints, float64 (count, 16, 2)."""
    legs = [(-1, 5), (-1, 3), (-1, 0), (1, 0), (1, 3), (1, 5)]
    trunk = [(0, 0), (0, -4), (0, -5), (0, -6.5)]
    arms = [(-3, 0), (-3, -2), (-1.5, -4), (1.5, -4), (3, -2), (3, 0)]
    stance = np.array(legs + trunk + arms) + rng.normal(0, 0.8, (count, 16, 2))
    height = rng.uniform(0.3, 0.9, (count, 1, 1)) * HEIGHT
    centre = rng.uniform(0.2, 0.8, (count, 1, 2)) * (WIDTH, HEIGHT)
    return centre + stance * height / 12


def timed(function, repeats: int = 1):
    """Median milliseconds of a call, and its result."""
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds) * 1e3, result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=40)
    images = parser.parse_args().images
    view = whole(HEIGHT, WIDTH)
    print("people  reference ms   ours ms    ratio   mean |difference|")
    for count in (1, 3):
        rng, slow, fast, differences = np.random.default_rng(count), [], [], []
        for _ in range(images):
            joints = people(rng, count)
            visibility = np.full(joints.shape[:2], schema.LABELLED)
            milliseconds, expected = timed(lambda joints=joints: reference(joints))
            slow.append(milliseconds)
            milliseconds, heatmap = timed(lambda j=joints, v=visibility: render(j, v, view, SIZE), REPEATS)
            fast.append(milliseconds)
            differences.append(np.abs(heatmap - expected).mean())
        a, b = statistics.median(slow), statistics.median(fast)
        print(f"{count:6d}  {a:12.1f}  {b:8.4f}  {a / b:7.0f}   {np.mean(differences):.2e}")


if __name__ == "__main__":
    main()
