"""Claim: on CPU a float32 step of ViT-B/16 and BERT-base is no slower than torch's eager one.

    python -m benchmarks.step --torch-python=PATH [--rows=b16_77,…] [--steps=7] [--cores=2]

Needs a Python with torch and numpy, which the project itself does not use:

    python3 -m venv torch && torch/bin/pip install numpy torch

Ours is the project's real update (`make_train_step`, three views, dual objective, clipping, AdamW) of
shipped configs; theirs is the same model and update in plain torch (`benchmarks/step_torch.py`), started
from the same weights on the same batch. Each side lives in a process of its own with the same cores, and
they take turns, step by step, one at work while the other waits. Parameters are counted and losses
compared at every step: a row is printed only if they agree.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import runpy
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Row:
    """A shipped config at a batch size and text length, with whatever else is changed."""

    config: str
    batch: int
    tokens: int
    changes: dict


# What the pod recipe chooses for accelerators, chosen for this CPU instead.
ON_CPU = {"model.dtype": "float32", "model.attention": "matmul", "model.remat": "none", "model.unroll": True}

ROWS = {
    "tiny": Row("focusclip_tiny", 128, 40, {}),
    "b16_77": Row("focusclip_b16", 4, 77, ON_CPU | {"text.context": 77}),
    "b16_512": Row("focusclip_b16", 2, 512, ON_CPU | {"text.context": 512}),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--torch-python", required=True)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--cores", type=int, default=2)
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[: arguments.cores]
    os.sched_setaffinity(0, cores)  # inherited by both sides
    ours = Side([sys.executable, "-c", "from benchmarks.step import serve; serve()"])
    theirs = Side([arguments.torch_python, str(ROOT / "benchmarks" / "step_torch.py")])
    print(f"{ours.greeting} against {theirs.greeting}; float32, medians of {arguments.steps} (min-max)")
    print(f"{'row':10s} {'':6s} {'wall s':24s} {'cpu s':>7s} {'GFLOP/s':>8s}   speed, wall   speed, cpu")
    for name in arguments.rows.split(","):
        with tempfile.TemporaryDirectory() as folder:
            measure(name, ours, theirs, folder, arguments.steps)


def measure(name: str, ours: Side, theirs: Side, folder: str, steps: int) -> None:
    """Take turns and print one row."""
    work = ours.ask(f"{name} {folder}")  # ours writes what theirs starts from
    assert work["parameters"] == theirs.ask(folder)["parameters"]
    taken = {"torch": [], "ours": []}
    for i in range(steps + 2):
        a, b = theirs.ask("step"), ours.ask("step")
        assert abs(a["loss"] - b["loss"]) < 1e-3 * abs(a["loss"]), f"step {i}: loss {a['loss']}, {b['loss']}"
        if i >= 2:  # the first steps allocate and warm up
            taken["torch"].append(a)
            taken["ours"].append(b)
    middle = {
        side: {clock: statistics.median(answer[clock] for answer in answers) for clock in ("wall", "cpu")}
        for side, answers in taken.items()
    }
    for side, answers in taken.items():
        wall, cpu = middle[side]["wall"], middle[side]["cpu"]
        walls = [answer["wall"] for answer in answers]
        spread = f"{wall:.3f} ({min(walls):.3f}-{max(walls):.3f})"
        line = f"{name:10s} {side:6s} {spread:24s} {cpu:7.3f} {work['gflop'] / wall:8.0f}"
        if side == "ours":
            line += f"   {middle['torch']['wall'] / wall:11.2f}   {middle['torch']['cpu'] / cpu:10.2f}"
        print(line)
    print(f"{'':10s} {work['shapes']}; {work['parameters']:,} parameters, {work['gflop']:,.0f} GFLOP")


class Side:
    """One of the two processes: a question is a line, and so is the answer."""

    def __init__(self, command: list[str]):
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.greeting = self._process.stdout.readline().strip()

    def ask(self, question: str) -> dict:
        print(question, file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


def serve() -> None:
    """Our side: a question is the name of a row and a folder to leave the start in, or "step"."""
    import jax

    print(f"jax {jax.__version__}, {len(os.sched_getaffinity(0))} threads", flush=True)
    step = None
    for line in sys.stdin:
        if line.strip() == "step":
            wall, cpu = time.perf_counter(), time.process_time()
            loss = step()
            answer = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "loss": loss}
        else:
            name, folder = line.split()
            step = None  # frees the row before
            step, answer = make_step(ROWS[name], pathlib.Path(folder))
        print(json.dumps(answer), flush=True)


def make_step(row: Row, folder: pathlib.Path):
    """A function that makes one update and returns the loss before it, and what there is to know about it."""
    import jax

    from focusclip_jax import flops, sharding, state
    from focusclip_jax import optimizer as optimizers
    from focusclip_jax.step import make_train_step, put

    config = configured(row)
    arch = state.architecture(config, 30_522 if config.text.tokenizer else config.text.vocabulary)
    optimizer = optimizers.make(config.optimizer, config.steps)
    mesh = sharding.make_mesh(1, 1)
    update = make_train_step(
        state.graph_of(arch), optimizer, state.abstract(arch, optimizer, mesh), mesh, config
    )
    now = state.initial(arch, optimizer, mesh, seed=0)
    batch = random_batch(config, row.tokens, arch.text.vocabulary)
    leaves = jax.tree_util.tree_flatten_with_path(now.params)[0]
    np.savez(folder / "parameters.npz", **{sharding.name_of(path): np.asarray(leaf) for path, leaf in leaves})
    np.savez(folder / "batch.npz", **batch)
    shape = dataclasses.asdict(arch) | {"optimizer": config.optimizer.to_dict()}
    for tower in ("image", "text"):
        shape[tower] |= shape[tower].pop("transformer")
    (folder / "shape.json").write_text(json.dumps(shape, default=str))
    placed = put(batch, mesh)

    def step():
        nonlocal now
        now, metrics = update(now, placed)
        return float(jax.block_until_ready((now, metrics))[1]["loss"])

    return step, {
        "parameters": sum(leaf.size for _, leaf in leaves),
        "gflop": flops.of_step(arch, config, row.tokens).model / 1e9,
        "shapes": f"batch {row.batch}, two views of {config.data.image_size} px, {row.tokens} tokens",
    }


def configured(row: Row):
    config = runpy.run_path(str(ROOT / "configs" / f"{row.config}.py"))["get_config"]()
    config.batch_size = row.batch
    config.optimizer.schedule, config.optimizer.warmup_steps = "constant", 0
    config.update_from_flattened_dict(row.changes)
    return config


def random_batch(config, tokens: int, vocabulary: int) -> dict[str, np.ndarray]:
    """Texts of half the tokens to all of them, one of the whole length."""
    rng = np.random.default_rng(0)
    rows, side = config.batch_size, config.data.image_size
    lengths = rng.integers(tokens // 2, tokens + 1, (rows, 1)).astype(np.int32)
    lengths[0] = tokens
    return {
        "image": rng.integers(0, 256, (rows, side, side, 3), np.uint8),
        "heatmap": rng.random((rows, side, side), np.float32),
        "tokens": rng.integers(0, vocabulary, (rows, 1, tokens)).astype(np.int32),
        "lengths": lengths,
        "image_id": np.arange(rows, dtype=np.int32),
    }


if __name__ == "__main__":
    main()
