"""Claim: on one GPU a bfloat16 step is as fast as torch.compile's of the same model, and waits for no data.

    python -m benchmarks.gpu_step --torch-python=PATH [--batches=256,1024,4096] [--rounds=2] [--remat]
    python -m benchmarks.gpu_step --torch-python=PATH --tiny      # the same path, small, on a CPU

The Python of an environment with torch for the same GPU, numpy and, for the rows against it, open_clip:

    python3 -m venv torch && torch/bin/pip install numpy torch open_clip_torch

Rows: `b16` is configs/focusclip_b16 at 128 tokens against the same model in plain torch
(`benchmarks/step_torch.py`), compiled, under autocast to bfloat16, from the same weights and batch: their
losses must agree. `clip` is configs/focusclip_clip_b16 at 77 tokens against open_clip's ViT-B-16-quickgelu,
compiled, under autocast, which is given the two views of our objective; as many parameters but a bias.

Each side is a process of its own that has the GPU to itself; they take turns, `rounds` times. Steps are timed
one by one; medians. Data wait is the share of a step in which our loop waits for the project's loader
on all cores, with crop and flip, from generated photographs packed at 224 x 224.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.machine import describe, table
from benchmarks.step import ROOT, Row, configured, make_step

ROWS = {"b16": ("focusclip_b16", 128), "clip": ("focusclip_clip_b16", 77)}
TINY = {"b16": ("focusclip_tiny", 40)}
STEPS, WARM = 10, 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch-python")
    parser.add_argument("--batches", default="256,1024,4096")
    parser.add_argument("--rows", default="b16,clip")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--remat", action="store_true", help="recompute activations, on both sides")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--ours", nargs=3, metavar=("ROW", "BATCH", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        print(json.dumps(serve(arguments)))
        return
    print(describe())
    rows = TINY if arguments.tiny else {name: ROWS[name] for name in arguments.rows.split(",")}
    batches = [16] if arguments.tiny else [int(size) for size in arguments.batches.split(",")]
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        pack(folder, 64 if arguments.tiny else 512)
        for row in rows:
            for batch in batches:
                lines += compare(row, batch, folder, arguments)
    print(
        table(("row", "batch", "side", "ms (min-max)", "images/s", "MFU", "GiB", "data wait", "speed"), lines)
    )


def compare(row: str, batch: int, folder: pathlib.Path, arguments: argparse.Namespace) -> list[tuple]:
    """Two lines of the table."""
    flags = [name for name in ("--remat", "--tiny") if getattr(arguments, name[2:])]
    ours = [sys.executable, "-m", "benchmarks.gpu_step", *flags, "--ours", row, str(batch), str(folder)]
    sides = {"ours": ours}
    if arguments.torch_python:
        script = str(ROOT / "benchmarks" / "gpu_step_torch.py")
        sides["open_clip" if row == "clip" else "torch.compile"] = [
            *(arguments.torch_python, script, row, str(folder)),
            *flags,
        ]
    found: dict[str, list[dict]] = {side: [] for side in sides}
    for _ in range(arguments.rounds):
        for side, command in sides.items():
            found[side].append(ask(command))
    work, lines, middles = found["ours"][0], [], {}
    for side, answers in found.items():
        refused = [answer["refused"] for answer in answers if "refused" in answer]
        if refused:
            lines.append((row, batch, side, refused[0], "", "", "", "", ""))
            continue
        seconds = [s for answer in answers for s in answer["seconds"]]
        middles[side] = middle = statistics.median(seconds)
        spread = f"{middle * 1e3:.1f} ({min(seconds) * 1e3:.1f}-{max(seconds) * 1e3:.1f})"
        share = f"{work['flops'] / middle / work['peak']:.1%}" if work.get("peak") else "-"
        wait = f"{answers[-1]['wait']:.1%}" if "wait" in answers[-1] else "-"
        gib = f"{answers[-1]['memory'] / 2**30:.1f}" if answers[-1]["memory"] else "-"
        # Against torch's: above 1 is faster.
        lines.append((row, batch, side, spread, f"{batch / middle:,.0f}", share, gib, wait, ""))
    others = [side for side in middles if side != "ours"]
    if others and "ours" in middles:
        at = [line[2] for line in lines].index("ours")
        lines[at] = (*lines[at][:-1], f"{middles[others[0]] / middles['ours']:.2f}")
        a, b = found["ours"][0], found[others[0]][0]
        if row == "b16":  # the same weights and batch
            assert a["parameters"] == b["parameters"], (a["parameters"], b["parameters"])
            for mine, theirs in zip(a["losses"], b["losses"], strict=False):
                assert abs(mine - theirs) < 0.02 * abs(theirs), f"losses {a['losses']}, {b['losses']}"
        else:
            print(f"{row}: {a['parameters']:,} parameters, {others[0]} {b['parameters']:,}")
    return lines


def ask(command: list[str]) -> dict:
    """What a side says in its last line; a side that ends otherwise ends all."""
    environment = os.environ | {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    if ran.returncode:
        sys.exit(f"{' '.join(command)}: ended with status {ran.returncode}")
    return json.loads(ran.stdout.splitlines()[-1])


def serve(arguments: argparse.Namespace) -> dict:
    """Our side. It leaves weights and batch in the folder for the other."""
    import jax

    from focusclip_jax import flops

    row, batch, folder = arguments.ours[0], int(arguments.ours[1]), pathlib.Path(arguments.ours[2])
    name, tokens = (TINY if arguments.tiny else ROWS)[row]
    changes = {"model.dtype": "bfloat16", "text.context": tokens, "text.buckets": (tokens,)}
    changes |= {"model.remat": "full" if arguments.remat else "none"}
    if jax.devices()[0].platform == "gpu":
        changes["model.attention"] = "cudnn"
    if arguments.tiny:  # one layer a tower: two cores take minutes to compile more on torch's side
        changes |= {"model.image.depth": 1, "model.text.depth": 1}
    what = Row(name, batch, tokens, changes)
    try:
        step, facts = make_step(what, folder)
        losses = [step() for _ in range(WARM)]
        seconds = []
        for _ in range(STEPS):
            begin = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - begin)
        memory = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
        del step
        wait = data_wait(what, folder)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return {"refused": "does not fit"}
    device = jax.devices()[0]
    chip = flops.chip(device.device_kind)
    return {
        "device": device.device_kind,
        "parameters": facts["parameters"],
        "flops": facts["gflop"] * 1e9,
        "peak": chip.flops if chip else None,
        "losses": losses,
        "seconds": seconds,
        "memory": memory,
        "wait": wait,
    }


def data_wait(row: Row, folder: pathlib.Path) -> float:
    """The share of the loop's time in which it waits for a batch, or for its way to the device."""
    import jax

    from focusclip_jax import optimizer as optimizers
    from focusclip_jax import sharding, state
    from focusclip_jax.data.loader import LoaderSettings, train_batches
    from focusclip_jax.data.shards import Shards
    from focusclip_jax.data.text import Tokenizer, TokenTable
    from focusclip_jax.step import make_train_step, put

    config = configured(row)
    shards = Shards.open(folder / "shards")
    texts = (caption for example in shards.read_each(range(len(shards))) for caption in example.captions)
    tokenizer = Tokenizer.train(texts, 8192)
    arch = state.architecture(config, 30_522 if config.text.tokenizer else config.text.vocabulary)
    table_ = TokenTable.build(shards, tokenizer, row.tokens)
    optimizer = optimizers.make(config.optimizer, config.steps)
    mesh = sharding.make_mesh(1, 1, jax.devices()[:1])
    update = make_train_step(
        state.graph_of(arch), optimizer, state.abstract(arch, optimizer, mesh), mesh, config
    )
    now = state.initial(arch, optimizer, mesh, 0)
    side = config.data.image_size
    settings = LoaderSettings(
        row.batch,
        (side, side),
        text_lengths=(row.tokens,),
        crop_area=(0.6, 1.0),
        crop_aspect=4 / 3,
        flip=0.5,
        threads=len(os.sched_getaffinity(0)),
    )
    waited, before = 0.0, None
    with contextlib.closing(train_batches(shards, table_, settings)) as batches:
        for i in range(WARM + STEPS):
            if i == WARM:
                jax.block_until_ready(now)
                waited, start = 0.0, time.perf_counter()
            begin = time.perf_counter()
            batch = put(next(batches), mesh)
            waited += time.perf_counter() - begin
            now, metrics = update(now, batch)
            jax.block_until_ready(before)  # as in training: one step runs, one waits
            before = metrics
        jax.block_until_ready(now)
    return waited / (time.perf_counter() - start)


def pack(folder: pathlib.Path, images: int) -> None:
    from benchmarks.loader import annotate, write_photographs

    write_photographs(folder, images)
    annotate("pack", f"--journal={folder}", "--split=train", f"--out={folder / 'shards'}", "--size=224x224")


if __name__ == "__main__":
    main()
