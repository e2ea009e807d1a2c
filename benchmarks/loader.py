"""Claims: 12 times the 2023 loader's rate from JPEGs stored at 224 x 224, 7 times with crop and flip from a
short side of 256, 3 times from originals; 16 cores feed an H200.

    python -m benchmarks.loader [--images=192] [--rounds=15] [--torch-python=PATH]

The reference is the published input pipeline restated: for each image decode the full JPEG, convert,
resize to 224 x 224, decode the full-size heatmap PNG and resize it too; then tokenise and pad to 512. It
runs in torch's DataLoader where torch is installed, in a plain loop otherwise (a little faster).

Ours is the project's own loader on shards that `annotate` packs from the same photographs. All run in this
process on one thread, two batches each in every round, with warm files; printed are medians over rounds.

With the Python of an environment that has torch, numpy and pillow, torch's DataLoader takes its turn too, in
a process of its own (`benchmarks/loader_torch.py`): what anybody would write for the very JPEGs of our first
row, with no heatmap and with token ids read from memory.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pathlib
import runpy
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
from benchmarks.step import ROOT, Side
from focusclip_jax import flops, state
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
CROP = {"crop_area": (0.5, 1.0), "crop_aspect": 1.2, "flip": 0.5}
IN_STEP = {"heatmap_on_device": True}

# What `annotate pack --size` stores, and what the loader then does.
OURS = {
    "stored 224x224, as they are": ("224x224", {}),
    "stored 224x224, heatmap in step": ("224x224", IN_STEP),
    "short side 256, crop and flip": ("256", CROP),
    "the same, heatmap in step": ("256", CROP | IN_STEP),
    "originals, as they are": ("original", {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--torch-python")
    arguments = parser.parse_args()
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, [core])  # inherited by torch
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_photographs(folder, arguments.images)
        pipelines = {name: ours(folder, size, changes) for name, (size, changes) in OURS.items()}
        pipelines = {"reference": reference(folder, arguments.images), **pipelines}
        sides = {name: turns(start) for name, start in pipelines.items()}
        if arguments.torch_python:
            torch = Side([arguments.torch_python, str(ROOT / "benchmarks" / "loader_torch.py")])
            print(f"{torch.greeting}, of {torch.ask(str(write_stored(folder)))['images']} images")
            sides[DATA_LOADER] = lambda: torch.ask(f"{BATCH} {TURN}")
        measure(sides, arguments.rounds)


DATA_LOADER = "torch DataLoader, stored 224x224"
TURN = 2  # batches: short turns, so that all sides see the same ups and downs of a shared machine


def turns(start: Callable[[], Iterator]) -> Callable[[], dict[str, float]]:
    """A function that takes TURN batches and returns milliseconds per image, of clock and processor."""
    iterator = itertools.chain.from_iterable(start() for _ in itertools.count())
    next(iterator)  # opening the files is not part of the rate

    def turn() -> dict[str, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(TURN):
            next(iterator)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return {"wall": wall / (TURN * BATCH) * 1e3, "cpu": cpu / (TURN * BATCH) * 1e3}

    return turn


def measure(sides: dict[str, Callable[[], dict[str, float]]], rounds: int) -> None:
    """Print the medians of each side, and the medians over the rounds of how much faster than the first."""
    taken = {name: [] for name in sides}
    for _, (name, run) in itertools.product(range(rounds), sides.items()):
        taken[name].append(run())

    def middle(name, clock):
        return statistics.median(times[clock] for times in taken[name])

    def gain(slow, fast, clock):
        pairs = zip(taken[slow], taken[fast], strict=True)
        return statistics.median(a[clock] / b[clock] for a, b in pairs)

    print(f"{'':33s}  wall ms/image (min-max)   gain   cpu ms/image   gain   images/s a core")
    first = next(iter(sides))
    for name in sides:
        wall, cpu = middle(name, "wall"), middle(name, "cpu")
        walls = [times["wall"] for times in taken[name]]
        spread = f"({min(walls):.2f}-{max(walls):.2f})"
        gains = gain(first, name, "wall"), gain(first, name, "cpu")
        print(
            f"{name:33s}  {wall:8.2f} {spread:15s} {gains[0]:6.1f}   {cpu:12.2f} {gains[1]:6.1f}"
            f"   {1e3 / wall:15,.0f}"
        )
    if DATA_LOADER in sides:
        for name in list(OURS)[:2]:
            print(f"{name}: {gain(DATA_LOADER, name, 'wall'):.2f} times torch's DataLoader on the same JPEGs")
    rates = {name: 1e3 / middle(name, "wall") for name in OURS}
    print(f"\n{needs(rates)}")


# A machine of the kind that is rented: an H200 with 16 cores. What a step is assumed to reach of its peak.
CORES, CHIP, MFUS, TOKENS = 16, "H200", (0.45, 0.6), 128


def needs(rates: dict[str, float]) -> str:
    """What CORES cores deliver at such rates (images/s a core), as multiples of what the GPU can take."""
    config = runpy.run_path(str(ROOT / "configs" / "focusclip_b16.py"))["get_config"]()
    work = flops.of_step(state.architecture(config, config.text.vocabulary), config, TOKENS).model
    each = work / config.batch_size
    peak = flops.chip(CHIP).flops
    lines = [
        f"focusclip_b16 at {TOKENS} tokens: {each / 1e9:,.0f} GFLOP an image; on one {CHIP} "
        + ", ".join(f"{m * peak / each:,.0f} images/s at {m:.0%} of {peak / 1e12:,.0f} TFLOP/s" for m in MFUS)
    ]
    for name, rate in rates.items():
        times = ", ".join(f"{CORES * rate * each / (m * peak):.2f}" for m in MFUS)
        lines.append(f"{name:33s}  {CORES} cores {CORES * rate:8,.0f} images/s, {times} times that")
    return "\n".join(lines)


def write_stored(folder: pathlib.Path) -> pathlib.Path:
    """The JPEGs of our first row as files of their own, and token ids for each."""
    out = folder / "stored"
    out.mkdir()
    shards = Shards.open(folder / "shards_224x224")
    for i, example in enumerate(shards.read_each(range(len(shards)))):
        (out / f"{i}.jpg").write_bytes(example.image)
    np.save(out / "tokens.npy", np.random.default_rng(0).integers(0, 8192, (len(shards), CONTEXT)))
    return out


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
