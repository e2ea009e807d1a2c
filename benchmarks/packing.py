"""How long it takes to describe, pack and judge all of MPII, and how large it gets.

    python -m benchmarks.packing --csv=mpii_human_pose.csv [--sizes=multi_person_sample.json]
        [--photographs=DIR] [--images=17372] [--size=256]

MPII's photographs may not be passed on, so each image is a stand-in: noise of all scales, as a JPEG of 0.1
bytes a pixel, which is what the photographs at hand have. Widths and heights are drawn from those of `sizes`
(100 real ones), among those that contain the image's joints. Photographs in `photographs` are used where
they are there. All stand-ins take 2.6 GB; where that does not fit, 2,000 are made, and the sentence
says so.

Each verb runs as a process of its own, as a user runs it. Files are warm.
"""

from __future__ import annotations

import argparse
import io
import json
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter

import numpy as np
import PIL.Image
from tqdm import tqdm

from annotation.records import ImageRecord
from annotation.sources import mpii
from benchmarks import machine

KINDS = 16  # different stand-ins of one size; the files are copies of these
QUALITY = 85
NOISE = {64: 52, 16: 12, 4: 4}  # cell in pixels → standard deviation: the larger, the more, as in photographs
BYTES_PER_IMAGE = 150_000
FEW = 2000
LISTS = ("records.jsonl", "journal.jsonl")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--csv", type=pathlib.Path, required=True)
    parser.add_argument("--sizes", type=pathlib.Path)
    parser.add_argument("--photographs", type=pathlib.Path)
    parser.add_argument("--images", type=int, default=17372)
    parser.add_argument("--size", default="256")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(args, pathlib.Path(folder))


def measure(args: argparse.Namespace, work: pathlib.Path) -> None:
    ran_on, count = machine.describe(), args.images
    if shutil.disk_usage(work).free < 2 * count * BYTES_PER_IMAGE:
        print(f"the disk has no room for {count:,} stand-ins: {FEW:,} are made, and times are theirs")
        count = FEW
    (work / "images").mkdir()
    records = [record for _, record in zip(range(count), mpii.read_csv(args.csv, Counter()), strict=False)]
    real, size = write_images(records, args, work / "images")
    describe = ["describe", f"--source=mpii-csv:{args.csv}", f"--limit={count}", "--describer=geometry"]
    pack = ["pack", f"--images={work / 'images'}", "--split=train", "--dataset=mpii", f"--size={args.size}"]
    pack += [f"--journal={work / 'journal'}"]
    whole, parts = work / "whole", work / "parts"
    steps = {
        "describe": [[*describe, f"--out={work / 'journal'}"]],
        "pack": [[*pack, f"--out={whole}"]],
        "pack again": [[*pack, f"--out={whole}"]],
        "pack in 2 parts at once": [[*pack, f"--out={parts}", f"--part={part}/2"] for part in (1, 2)],
        "stats": [["stats", f"--journal={work / 'journal'}", f"--out={work / 'quality'}"]],
    }
    rows = [run(name, len(records), commands) for name, commands in tqdm(steps.items(), desc="verbs")]
    packed = {path.name: path.stat().st_size for path in whole.iterdir() if path.name != ".lock"}
    same = all((parts / name).read_bytes() == (whole / name).read_bytes() for name in packed)
    print(ran_on)
    print(f"{len(records):,} images, {real} of them real photographs, {size / 1e9:.2f} GB of JPEG")
    print(machine.table(("", "s", "s of processor", "images/s", "MiB at most so far"), rows))
    written = [f"{(work / 'journal' / name).stat().st_size / 1e6:.0f} MB of {name}" for name in LISTS]
    written.append(f"{sum(packed.values()) / 1e9:.2f} GB of shards in {len(packed)} files")
    print("; ".join(written))
    print(f"parts give the bytes of one machine: {same}")
    quality = json.loads((work / "quality" / "stats.json").read_text("utf-8"))
    for group in quality["groups"]:
        print(f"{group['source']}: {group['captions']:,} captions, {group['captions_refused_today']} refused")


def run(name: str, images: int, commands: list[list[str]]) -> tuple[str, ...]:
    """Run `annotate` commands at the same time; a row of the table of what they took together."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "annotation", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    said = [process.communicate()[1] for process in processes]
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if any(process.returncode for process in processes):
        sys.exit("\n".join(said))
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    most = after.ru_maxrss / 1024
    return name, f"{seconds:.0f}", f"{cpu:.0f}", f"{images / seconds:,.0f}", f"{most:.0f}"


def write_images(
    records: list[ImageRecord], args: argparse.Namespace, folder: pathlib.Path
) -> tuple[int, int]:
    """One file for each record; returns how many are real photographs, and all bytes."""
    sizes = [(1280, 720)]
    if args.sizes:
        people = {person["img_paths"]: person for person in json.loads(args.sizes.read_bytes())}
        sizes = [(int(person["img_width"]), int(person["img_height"])) for person in people.values()]
    rng = np.random.default_rng(0)
    made: dict[tuple[int, int, int], bytes] = {}
    real, written = 0, 0
    for record in tqdm(records, desc="stand-ins", leave=False):
        path = args.photographs / record.image_id if args.photographs else None
        if path and path.exists():
            data = path.read_bytes()
            real += 1
        else:
            low = np.nanmax(record.people[0].joints, 0)
            fitting = [size for size in sizes if (low < size).all()] or [max(sizes)]
            key = (*fitting[rng.integers(len(fitting))], int(rng.integers(KINDS)))
            data = made.setdefault(key, made.get(key) or stand_in(*key))
        (folder / record.image_id).write_bytes(data)
        written += len(data)
    return real, written


def stand_in(width: int, height: int, seed: int) -> bytes:
    """A JPEG of smooth noise, as hard to compress and decode as a photograph."""
    rng = np.random.default_rng([width, height, seed])
    pixels = np.full((height, width, 3), 110.0, np.float32)
    for cell, deviation in NOISE.items():
        shape = (height // cell + 2, width // cell + 2)
        grey = rng.normal(0, deviation, shape)
        for channel in range(3):  # colours of a photograph follow its brightness
            noise = grey + rng.normal(0, deviation / 4, shape)
            picture = PIL.Image.fromarray(noise.astype(np.float32))
            pixels[..., channel] += np.asarray(picture.resize((width, height), PIL.Image.Resampling.BICUBIC))
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
