"""Claim: 10 times the 2023 loader's rate from JPEGs stored at 224 x 224, and 2.5 times from originals.

    python -m benchmarks.loader [--images=192] [--rounds=5]

The reference is the published input pipeline restated: for each image decode the full JPEG, convert,
resize to 224 x 224, decode the full-size heatmap PNG and resize it too; then tokenise and pad to 512. It
runs in torch's DataLoader where torch is installed, in a plain loop otherwise (a little faster).

Ours is the project's own loader on shards that `annotate` packs from the same photographs. All run in this
process on one thread, in turn in every round, with warm files; printed are medians over the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
import PIL.Image
import tokenizers

from annotation import schema
from benchmarks.heatmaps import HEIGHT, WIDTH, people
from focusclip_jax.data.augment import whole
from focusclip_jax.data.heatmaps import render
from focusclip_jax.data.loader import LoaderSettings, train_batches
from focusclip_jax.data.shards import Shards
from focusclip_jax.data.text import Tokenizer, TokenTable

try:
    from torch.utils.data import DataLoader
except ImportError:
    DataLoader = None

# The photographs are read over and over as if there were so many: Grain's shuffle of fewer than a thousand
# records takes longer than decoding them (0.2 ms a record for 200, 0.01 ms for 10,000).
RECORDS = 2000
BATCH, SIZE, CONTEXT = 32, (224, 224), 512

# What `annotate pack --size` stores, and what the loader then does.
OURS = {
    "stored 224x224, as they are": ("224x224", {}),
    "originals, as they are": ("original", {}),
    "short side 256, crop and flip": ("256", {"crop_area": (0.5, 1.0), "crop_aspect": 1.2, "flip": 0.5}),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_photographs(folder, arguments.images)
        pipelines = {name: ours(folder, size, changes) for name, (size, changes) in OURS.items()}
        pipelines = {"reference": reference(folder, arguments.images), **pipelines}
        measure(pipelines, arguments.rounds, arguments.images // BATCH)


def measure(pipelines: dict[str, Callable[[], Iterator]], rounds: int, batches: int) -> None:
    """Print milliseconds per image of each pipeline, and how many times faster than the first it is."""
    wall = {name: [] for name in pipelines}
    cpu = {name: [] for name in pipelines}
    for _, (name, start) in itertools.product(range(rounds), pipelines.items()):
        iterator = start()
        next(iterator)  # opening the files is not part of the rate
        begin, cpu_begin = time.perf_counter(), time.process_time()
        images = BATCH * sum(1 for _ in itertools.islice(iterator, batches - 1))
        wall[name].append((time.perf_counter() - begin) / images * 1e3)
        cpu[name].append((time.process_time() - cpu_begin) / images * 1e3)
    print(f"{'':30s}  wall ms/image (min-max)   gain    cpu ms/image   gain")
    first = next(iter(pipelines))
    for name in pipelines:
        a, b = statistics.median(wall[name]), statistics.median(cpu[name])
        spread = f"({min(wall[name]):.2f}-{max(wall[name]):.2f})"
        gains = statistics.median(wall[first]) / a, statistics.median(cpu[first]) / b
        print(f"{name:30s}  {a:8.2f} {spread:15s} {gains[0]:6.1f}    {b:12.2f} {gains[1]:6.1f}")


def reference(folder: pathlib.Path, count: int) -> Callable[[], Iterator]:
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(CONTEXT)
    tokenizer.enable_padding(length=CONTEXT)
    captions = json.loads((folder / "captions.json").read_text())

    class Photographs:
        def __len__(self):
            return count

        def __getitem__(self, i):
            with PIL.Image.open(folder / "images" / f"{i}.jpg") as photograph:
                image = photograph.convert("RGB").resize(SIZE[::-1], PIL.Image.Resampling.BILINEAR)
            with PIL.Image.open(folder / "masks" / f"{i}.png") as mask:
                heatmap = mask.convert("L").resize(SIZE[::-1], PIL.Image.Resampling.BILINEAR)
            return np.asarray(image), np.asarray(heatmap), captions[i]

    def collate(rows):
        images, masks, texts = zip(*rows, strict=True)
        ids = np.array([encoding.ids for encoding in tokenizer.encode_batch(list(texts))])
        return np.stack(images), np.stack(masks), ids

    data = Photographs()
    if DataLoader:
        return lambda: iter(DataLoader(data, BATCH, collate_fn=collate))
    return lambda: (collate([data[i] for i in rows]) for rows in np.arange(count).reshape(-1, BATCH))


def ours(folder: pathlib.Path, size: str, changes: dict) -> Callable[[], Iterator]:
    out = folder / f"shards_{size}"
    annotate("pack", f"--journal={folder}", "--split=train", f"--out={out}", f"--size={size}")
    shards = Shards.open(out)
    shards = Shards(shards.paths * -(-RECORDS // len(shards)))
    captions = {e.image_id: e.captions[0] for e in (shards.read(i) for i in range(len(shards)))}
    (folder / "captions.json").write_text(json.dumps([captions[f"{i}.jpg"] for i in range(len(captions))]))
    tokenizer = Tokenizer.train(captions.values(), 8192)
    tokenizer.save(folder / "tokenizer.json")
    begin = time.perf_counter()
    table = TokenTable.build(shards, tokenizer, CONTEXT)
    each = (time.perf_counter() - begin) / len(table.offsets) * 1e3
    print(f"{size}: tokenised once, at start-up, {each:.2f} ms a text; not in the rows below")
    settings = LoaderSettings(BATCH, SIZE, text_lengths=(CONTEXT,), threads=0, **changes)
    return lambda: train_batches(shards, table, settings)


def write_photographs(folder: pathlib.Path, count: int) -> None:
    """1280 x 720 JPEGs of 195 kB, a full-size heatmap PNG for each, and the journal of their captions."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    rows = []
    for i in range(count):
        joints = people(rng, 1).round()
        PIL.Image.fromarray(photograph(rng)).save(folder / "images" / f"{i}.jpg", quality=90)
        visibility = np.full((1, schema.JOINT_COUNT), schema.LABELLED)
        mask = render(joints, visibility, whole(HEIGHT, WIDTH), (HEIGHT, WIDTH))
        PIL.Image.fromarray((255 * mask).astype(np.uint8)).save(folder / "masks" / f"{i}.png")
        person = {"joints": joints[0].tolist(), "joints_vis": [1] * schema.JOINT_COUNT}
        rows.append({"image": f"{i}.jpg", "center": joints[0].mean(0).tolist(), "scale": 3.0, **person})
    (folder / "people.json").write_text(json.dumps(rows))
    source = [f"--source=mpii-json:{folder}/people.json", "--activity=walking"]
    annotate("describe", *source, "--describer=geometry", f"--out={folder}")


def photograph(rng: np.random.Generator) -> np.ndarray:
    """Noise of several scales, uint8 (720, 1280, 3), as large a JPEG as a photograph, at 224 x 224 too."""
    total = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for cell, channels, weight in ((80, 3, 0.7), (16, 1, 0.18), (3, 1, 0.12)):
        coarse = rng.integers(0, 256, (HEIGHT // cell, WIDTH // cell, channels), np.uint8)
        picture = PIL.Image.fromarray(np.repeat(coarse, 3 // channels, -1))
        total += weight * np.asarray(
            picture.resize((WIDTH, HEIGHT), PIL.Image.Resampling.BICUBIC), np.float32
        )
    return total.clip(0, 255).astype(np.uint8)


def annotate(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "annotation", *arguments], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
