"""Goal: zero-shot evaluation encodes images 1.5 times and prompts 50 times as fast as one by one in torch.

    python -m benchmarks.zero_shot --torch-python=PATH [--rounds=5] [--images=32] [--cores=2]

Needs a Python with torch, transformers and pillow, which the project itself does not use:

    python3 -m venv torch && torch/bin/pip install torch transformers pillow

Both sides have the same weights, a ViT-B/16 and a BERT-base of transformers with random values, which are
imported here as a user imports published ones; the same photographs (JPEG files of 500 × 375 pixels, which
both decode and resize) and the same texts, the 40 prompts of Stanford40. Theirs is evaluated as the 2023 code
does it, images one by one and prompts one by one padded to 512 tokens (`benchmarks/zero_shot_torch.py`); ours
by the functions that `./launch.sh evaluate` calls. Each side lives in a process of its own with the same
cores, and they take turns, one at work while the other waits. Embeddings are compared in every round: a
row is printed only if they agree. For prompts these are means over a text's own tokens, which ours computes
and which theirs has at hand beside the 2023 code's mean over the padding too.

Two more columns are torch at its best: one by one without what the 2023 code adds (recorded gradients,
attention in parts), then all images in one batch, all prompts in one, padded to the longest.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import runpy
import statistics
import sys
import tempfile
import time

import numpy as np

from benchmarks import machine
from benchmarks.step import ON_CPU, ROOT, Side

IMAGES, PROMPTS = "images", "prompts"
WAYS = {"one": "torch as in 2023", "bare": "torch one by one", "batch": "torch, a batch"}
PIXELS = (375, 500)  # height, width
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = 30_522  # of BERT
AGREEMENT = 1e-4  # largest difference of a cosine from 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch-python", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--depth", type=int, default=12, help="layers a tower; fewer for a quick look")
    arguments = parser.parse_args()
    print(machine.describe())
    cores = sorted(os.sched_getaffinity(0))[: arguments.cores]
    os.sched_setaffinity(0, cores)  # inherited by both sides
    theirs = Side([arguments.torch_python, str(ROOT / "benchmarks" / "zero_shot_torch.py")])
    ours = Side([sys.executable, "-c", "from benchmarks.zero_shot import serve; serve()"])
    print(
        f"{ours.greeting} against {theirs.greeting}; float32, medians of {arguments.rounds} rounds (min-max)"
    )
    with tempfile.TemporaryDirectory() as folder:
        texts = write_inputs(pathlib.Path(folder), arguments.images, arguments.prompts)
        about = theirs.ask(f"make {folder} {arguments.depth}")  # theirs writes the weights that ours imports
        ours.ask(f"load {folder} {arguments.depth}")
        taken = measure(ours, theirs, pathlib.Path(folder), arguments.rounds)
    longest = max(len(text.split()) for text in texts)
    print(f"{about['parameters']:,} parameters, {arguments.depth} layers a tower")
    print(
        f"{arguments.images} photographs of {PIXELS[1]} × {PIXELS[0]} pixels, "
        f"{len(texts)} prompts of at most {longest} words"
    )
    sizes = {IMAGES: arguments.images, PROMPTS: len(texts)}
    head = ("ms each", "ours", *(f for way in WAYS.values() for f in (way, "ours is")))
    print(machine.table(head, [row(what, n, taken[what]) for what, n in sizes.items()]))


def row(what: str, n: int, taken: dict[str, list[float]]) -> tuple[str, ...]:
    """One line: milliseconds an image or prompt, and how many times as fast ours is (medians)."""

    def each(side: str) -> str:
        low, middle, high = (1000 * f(taken[side]) / n for f in (min, statistics.median, max))
        return f"{middle:.1f} ({low:.1f}-{high:.1f})"

    def speed(side: str) -> str:
        return f"{statistics.median(taken[side]) / statistics.median(taken['ours']):.2f}×"

    return what, each("ours"), *(f(way) for way in WAYS for f in (each, speed))


def measure(ours: Side, theirs: Side, folder: pathlib.Path, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds by what was encoded and by side. The first round allocates and compiles, and is not counted."""
    taken = {what: {side: [] for side in ("ours", *WAYS)} for what in (IMAGES, PROMPTS)}
    for i in range(rounds + 1):
        for what, of in taken.items():
            answers = {way: theirs.ask(f"{way} {what}") for way in WAYS} | {"ours": ours.ask(what)}
            expected, got = np.load(folder / "theirs.npy"), np.load(folder / "ours.npy")
            worst = float(np.abs((expected * got).sum(axis=1) - 1).max())
            assert worst < AGREEMENT, (
                f"{what}: a cosine between the sides' embeddings differs from 1 by {worst}"
            )
            for side, answer in answers.items():
                of[side] += [answer["seconds"]] if i else []
    return taken


def write_inputs(folder: pathlib.Path, images: int, prompts: int) -> list[str]:
    """Photographs (noise that is smooth enough for JPEG), prompts and a vocabulary that has their words."""
    import PIL.Image

    from focusclip_jax.evaluation.tasks import STANFORD40

    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for i in range(images):
        coarse = PIL.Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
        smooth = coarse.resize(PIXELS[::-1], PIL.Image.Resampling.BICUBIC)
        smooth.save(folder / "photos" / f"{i:04d}.jpg", quality=90)
    texts = [text for of_class in STANFORD40.prompts for text in of_class][:prompts]
    words = sorted({word for text in texts for word in text.lower().split()})
    entries = [*SPECIAL, *words]
    entries += [f"[unused{i}]" for i in range(VOCABULARY - len(entries))]
    (folder / "vocab.txt").write_text("\n".join(entries) + "\n")
    (folder / "prompts.json").write_text(json.dumps(texts))
    return texts


def serve() -> None:
    """Our side: a question is "load FOLDER DEPTH", "images" or "prompts"."""
    import jax

    from focusclip_jax.evaluation import zero_shot
    from focusclip_jax.evaluation.datasets.base import image_reader

    print(f"jax {jax.__version__}, {len(os.sched_getaffinity(0))} threads", flush=True)
    for line in sys.stdin:
        question, *rest = line.split()
        if question == "load":
            folder = pathlib.Path(rest[0])
            encoder = make_encoder(folder, int(rest[1]))
            paths = sorted((folder / "photos").iterdir())
            read = image_reader(paths)
            texts = json.loads((folder / "prompts.json").read_text())
            print(json.dumps({}), flush=True)
            continue
        start = time.perf_counter()
        if question == IMAGES:
            rows = zero_shot.image_embeddings(encoder, read, len(paths))
        else:
            rows = zero_shot.text_embeddings(encoder, texts)
        seconds = time.perf_counter() - start
        np.save(folder / "ours.npy", rows)
        print(json.dumps({"seconds": seconds}), flush=True)


def make_encoder(folder: pathlib.Path, depth: int):
    """What `./launch.sh evaluate` would load after an import of these weights, with the settings of a CPU."""
    from flax import nnx

    from focusclip_jax import state
    from focusclip_jax.data.text import Tokenizer
    from focusclip_jax.encoder import Encoder
    from focusclip_jax.models.focusclip import FocusCLIP
    from focusclip_jax.state import TrainState
    from focusclip_jax.weights.load import starting_values

    tokenizer = Tokenizer.load(folder / "vocab.txt")
    architecture = state.architecture(configured(depth), tokenizer.vocab_size)
    graph, random = nnx.split(FocusCLIP(architecture, rngs=nnx.Rngs(0)), nnx.Param)
    random = nnx.to_pure_dict(random)
    paths = {"clip": "none", "image": str(folder / "image"), "text": str(folder / "text")}
    values = starting_values(architecture, random, paths)
    with np.load(folder / "projections.npz") as projections:
        for tower in ("image", "text"):
            values[tower]["projection_kernel"] = projections[f"{tower}_kernel"]
            values[tower]["projection_bias"] = projections[f"{tower}_bias"]
    params = state.with_values(TrainState(step=0, params=random, optimizer=None), values).params
    return Encoder(graph, params, architecture, tokenizer, "stretch", "bilinear")


def configured(depth: int):
    config = runpy.run_path(str(ROOT / "configs" / "focusclip_b16.py"))["get_config"]()
    # The 2023 code feeds pixels in [0, 1] as they are.
    plain = {"model.pixel_mean": (0.0, 0.0, 0.0), "model.pixel_std": (1.0, 1.0, 1.0), "text.context": 512}
    layers = {"model.image.depth": depth, "model.text.depth": depth}
    config.update_from_flattened_dict(ON_CPU | plain | layers)
    return config


if __name__ == "__main__":
    main()
