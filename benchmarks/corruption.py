"""Damage files at random, and see whether what reads them notices.

    python -m benchmarks.corruption [--times=1000] [--seed=0]

Shards, their indexes, the token cache and every file of a checkpoint, its manifest among them, are hit in
turn: one flipped bit or a cut at a random place. Then everything is read as training reads it: shards
opened and every record parsed, ids loaded, the checkpoint restored. Damage is detected where that ends in a
UserError; harmless where what was read is bit for bit what it was without damage (a flipped bit in the time
stamp of an index); loaded where neither is so, which must not happen. Any other exception ends the
measurement.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import pathlib
import random
import shutil
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from benchmarks import kills, machine
from focusclip_jax.checkpoint import Checkpoints
from focusclip_jax.data.shards import Shards
from focusclip_jax.data.text import Tokenizer, TokenTable
from focusclip_jax.errors import UserError

CONTEXT = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(machine.describe(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print(measure(pathlib.Path(folder), options.times, options.seed))


def measure(folder: pathlib.Path, times: int, seed: int) -> str:
    chance = random.Random(seed)
    kills.make_data(folder / "data")
    shards, cache, checkpoints = folder / "data" / "figures", folder / "cache", folder / "checkpoints"
    tokenizer = tokenizer_of(shards)
    abstract = save(checkpoints)

    def read_shards():
        opened = Shards.open(shards, "train")
        return [opened.read(i) for i in range(len(opened))]

    def read_cache():
        return TokenTable.build(Shards.open(shards, "train"), tokenizer, CONTEXT, cache)

    def read_checkpoint():
        with Checkpoints(checkpoints) as opened:
            return jax.device_get(opened.restore(2, abstract))

    read_cache()
    kinds = {
        "shard": (read_shards, [*shards.glob("*-train.tfrecord-*")]),
        "shard index": (read_shards, [*shards.glob("*-train.index-*")]),
        "token cache": (read_cache, [*cache.glob("*/*")]),
        "checkpoint": (read_checkpoint, files(checkpoints / "2", "manifest.json", wanted=False)),
        "checkpoint manifest": (read_checkpoint, files(checkpoints / "2", "manifest.json", wanted=True)),
    }
    whole = {read: digest(read()) for read, _ in kinds.values()}
    outcomes: dict[tuple[str, str], collections.Counter] = collections.defaultdict(collections.Counter)
    for number in tqdm(range(times), unit="damage"):
        name = [*kinds][number % len(kinds)]
        read, paths = kinds[name]
        path = chance.choice(paths)
        good = path.read_bytes()
        how = chance.choice(("flipped bit", "cut off"))
        path.write_bytes(damaged(good, how, chance))
        try:
            outcome = "harmless" if digest(read()) == whole[read] else "LOADED"
        except UserError:
            outcome = "detected"
        path.write_bytes(good)
        outcomes[name, how][outcome] += 1
    rows = [
        (name, how, counts.total(), counts["detected"], counts["harmless"], counts["LOADED"])
        for (name, how), counts in sorted(outcomes.items())
    ]
    return machine.table(("file", "damage", "times", "detected", "harmless", "LOADED"), rows)


def damaged(data: bytes, how: str, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    if how == "cut off":
        return data[:at]
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def tokenizer_of(shards: pathlib.Path) -> Tokenizer:
    opened = Shards.open(shards, "train")
    return Tokenizer.train((text for i in range(len(opened)) for text in opened.read(i).captions), 300)


def save(folder: pathlib.Path):
    """Two checkpoints of arrays that do not compress, so that no damage hides; returns their shapes."""
    shutil.rmtree(folder, ignore_errors=True)
    values = np.random.default_rng(0).normal(size=(2, 64, 64)).astype(np.float32)
    state = {"params": {"a_kernel": jnp.asarray(values[0]), "b_kernel": jnp.asarray(values[1])}}
    with Checkpoints(folder) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def files(folder: pathlib.Path, name: str, wanted: bool) -> list[pathlib.Path]:
    """Files below a folder that hold something: those called `name`, or all the others."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size)
    return [path for path in found if (path.name == name) == wanted]


def digest(value) -> str:
    """Of everything that was read: arrays and texts in any nesting."""
    found = hashlib.sha256()

    def add(item) -> None:
        if isinstance(item, np.ndarray):
            found.update(f"{item.dtype}{item.shape}".encode() + item.tobytes())
        elif isinstance(item, dict):
            for key in sorted(item):
                found.update(key.encode())
                add(item[key])
        elif isinstance(item, list | tuple):
            for part in item:
                add(part)
        elif hasattr(item, "__dataclass_fields__"):
            add(vars(item))
        else:
            found.update(repr(item).encode())

    add(value)
    return found.hexdigest()


if __name__ == "__main__":
    main()
