"""What many records cost: index, start-up, memory and reading, on disk and in a bucket.

    python -m benchmarks.scale [--records=1000000] [--shards=245] [--folder=DIR] [--latency=0.03]

Records are as small as they may be, so that their number is what is measured: 32 x 32 JPEGs (64 different
ones), one person, one caption of a dozen words each; every caption differs. The packer's own functions write
them. Each part of the table is a process of its own, so that its memory is its own: anonymous (what a process
has alone), and mapped (files, which the processes of a machine share, and which it gives back when memory is
short). Seconds of processor are those of all threads. The bucket is a server on this machine that answers
after `latency` seconds; it and the reader share the cores. All files are removed at the end.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
import PIL.Image
from tensorflow_datasets.proto import tf_example_pb2
from tqdm import tqdm

from annotation import schema
from annotation import shards as packer
from benchmarks import machine
from focusclip_jax.data.loader import LoaderSettings, train_batches
from focusclip_jax.data.shards import Shards
from focusclip_jax.data.text import Tokenizer, TokenTable
from focusclip_jax.evaluation import tasks, training_text

CONTEXT = 64
BATCH = 256
SEED = 0
PICTURES = 64
TEMPLATES = 4096
NUMBER = b"########"
READS = 20_000  # at random
FAR = 1_000_000  # a step to resume at
IMAGE_SIZE = (32, 32)
IN_BUCKET = 12  # batches of each rate
BUCKET_BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=245)
    parser.add_argument("--folder", type=pathlib.Path, help="where the files may lie for the while")
    parser.add_argument("--latency", type=float, default=0.03)
    parser.add_argument("--phase", choices=[*PHASES, "serve"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.phase == "serve":
        serve(options.folder, options.latency)
    elif options.phase:
        print(json.dumps(measured(PHASES[options.phase], options.folder)))
    else:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            run(options, pathlib.Path(folder))


def run(options: argparse.Namespace, folder: pathlib.Path) -> None:
    print(machine.describe())
    begin = time.perf_counter()
    write(folder / "shards", options.records, options.shards)
    seconds = time.perf_counter() - begin
    data, index = (
        sum(path.stat().st_size for path in (folder / "shards").glob(f"*.{kind}-*"))
        for kind in ("tfrecord", "index")
    )
    print(
        f"{options.records:,} records in {options.shards} shards, {data / options.records:,.0f} bytes each, "
        f"written in {seconds:.0f} s; "
        f"indices {index / 1e6:.1f} MB, {index / options.records:.1f} bytes a record",
        flush=True,
    )
    head = ("", "", "", "s of processor", "MB anonymous", "MB mapped", "MB at most")
    for phase in (name for name in PHASES if name != "bucket"):
        told = in_process(phase, folder)
        print(machine.table(head, told["rows"]), flush=True)
        head = ("",) * len(head)
    cache = {path.name: path.stat().st_size for path in (folder / "cache").glob("*/*")}
    print("token cache: " + ", ".join(f"{size / 1e6:.1f} MB of {name}" for name, size in cache.items()))
    server = subprocess.Popen(
        [*command("serve", folder), f"--latency={options.latency}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        environment = json.loads(server.stdout.readline())
        told = in_process("bucket", folder, environment)
    finally:
        server.stdin.close()
        server.wait()
    print(f"in a bucket that answers after {options.latency * 1e3:.0f} ms, load {os.getloadavg()[0]:.1f}:")
    print(machine.table(head[:4], [row[:4] for row in told["rows"]]))


def command(phase: str, folder: pathlib.Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.scale", f"--phase={phase}", f"--folder={folder}"]


def in_process(phase: str, folder: pathlib.Path, environment: dict[str, str] | None = None) -> dict:
    done = subprocess.run(
        command(phase, folder), env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def write(folder: pathlib.Path, records: int, shards: int) -> None:
    """Shards as `annotate pack` writes them, less the manifest."""
    folder.mkdir()
    rng = np.random.default_rng(SEED)
    pictures = [small_jpeg(rng) for _ in range(PICTURES)]
    templates = [payload(pictures[n % PICTURES], rng) for n in range(TEMPLATES)]
    with tqdm(total=records, desc="writing", unit=" records") as bar:
        for number, part in enumerate(np.array_split(np.arange(records), shards)):
            payloads = [templates[i % TEMPLATES].replace(NUMBER, b"%08d" % i) for i in part]
            path = folder / schema.shard_name("scale", "train", number, shards)
            with open(path, "wb") as file:
                checksums = [packer._write_record(file, data) for data in payloads]
            index = folder / schema.index_name("scale", "train", number, shards)
            packer._write_index(index, [len(data) for data in payloads], checksums, path.stat().st_size)
            bar.update(len(part))


def small_jpeg(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    coarse = PIL.Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
    coarse.resize(IMAGE_SIZE, PIL.Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


WORDS = (
    ("A person", "A woman in red", "A man with a hat", "A child", "Somebody", "The climber", "A dancer"),
    ("is running", "is sitting down", "throws a ball", "is bowing", "climbs", "lies on the back", "waves"),
    (
        "with the left arm",
        "with the right knee",
        "with the left hand",
        "with the right foot",
        "with both arms",
    ),
    ("bent", "raised above the head", "stretched out sideways", "behind the back", "close to the body"),
)


def payload(picture: bytes, rng: np.random.Generator) -> bytes:
    """A serialised example with `NUMBER` where its number belongs."""
    chosen = rng.integers(0, [len(words) for words in WORDS])
    caption = (
        " ".join(words[n] for words, n in zip(WORDS, chosen, strict=True))
        + f", seen as number {NUMBER.decode()}."
    )
    example = tf_example_pb2.Example()
    feature = example.features.feature
    texts = {
        schema.IMAGE_ID: f"{NUMBER.decode()}.jpg",
        schema.ACTIVITY: WORDS[1][chosen[1]],
        schema.CATEGORY: "",
        schema.CAPTIONS: caption,
        schema.CAPTION_SOURCES: "benchmark",
    }
    for name, text in texts.items():
        feature[name].bytes_list.value.append(text.encode())
    feature[schema.IMAGE].bytes_list.value.append(picture)
    sides = (schema.HEIGHT, schema.WIDTH, schema.ORIGINAL_HEIGHT, schema.ORIGINAL_WIDTH)
    numbers = {**dict.fromkeys(sides, IMAGE_SIZE[0]), schema.PEOPLE_COMPLETE: 1}
    for name, number in {**numbers, schema.SCHEMA_VERSION: schema.VERSION}.items():
        feature[name].int64_list.value.append(number)
    feature[schema.JOINTS].float_list.value.extend(JOINTS)
    feature[schema.VISIBILITY].int64_list.value.extend([schema.LABELLED] * schema.JOINT_COUNT)
    feature[schema.OCCLUDED].int64_list.value.extend([0] * schema.JOINT_COUNT)
    return example.SerializeToString()


JOINTS = np.random.default_rng(1).uniform(4, 28, 2 * schema.JOINT_COUNT).tolist()


# ---------------------------------------------------------------------------- what a process measures

Row = tuple[str, float, str]


def measured(phase: Callable[[pathlib.Path], Iterator[Row]], folder: pathlib.Path) -> dict:
    before, cpu = memory(), time.process_time()
    rows = []
    for what, value, unit in phase(folder):
        now = time.process_time()
        grown = [after - first for first, after in zip(before, memory(), strict=True)]
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        rows.append((what, f"{value:,.4g}", unit, f"{now - cpu:.2f}", *(f"{x:,.0f}" for x in (*grown, most))))
        cpu = now
    return {"rows": rows}


def memory() -> tuple[float, float]:
    """MB that this process has alone, and MB of files that it has mapped."""
    rows = dict(
        line.split(":")
        for line in pathlib.Path("/proc/self/status").read_text().splitlines()
        if "Rss" in line
    )
    anonymous, mapped = (int(rows[name].split()[0]) * 1024 / 1e6 for name in ("RssAnon", "RssFile"))
    return anonymous, mapped


def timed(what: str, work: Callable) -> tuple[object, Row]:
    begin = time.perf_counter()
    result = work()
    return result, (what, time.perf_counter() - begin, "s")


def opening(folder: pathlib.Path) -> Iterator[Row]:
    shards, row = timed("open the shards", lambda: Shards.open(folder / "shards"))
    yield row
    yield timed("fingerprint", shards.fingerprint)[1]


def training_a_tokenizer(folder: pathlib.Path) -> Iterator[Row]:
    shards = Shards.open(folder / "shards")
    captions = (caption for _, captions in shards.texts() for caption in captions)
    tokenizer, row = timed("train a tokenizer", lambda: Tokenizer.train(captions, 8192))
    tokenizer.save(folder / "tokenizer.json")
    yield row


def tokenising(folder: pathlib.Path) -> Iterator[Row]:
    shards, tokenizer = Shards.open(folder / "shards"), Tokenizer.load(folder / "tokenizer.json")
    yield timed(
        "tokenise every caption, once", lambda: TokenTable.build(shards, tokenizer, CONTEXT, folder / "cache")
    )[1]


def collecting(folder: pathlib.Path) -> Iterator[Row]:
    shards = Shards.open(folder / "shards")
    texts = (text for activity, captions in shards.texts() for text in (activity, *captions))
    yield timed("words of the captions, once", lambda: training_text.collect(texts, tasks.class_names()))[1]


def starting(folder: pathlib.Path) -> Iterator[Row]:
    """Every start but the first: what was made once is there."""
    begin = time.perf_counter()
    shards, tokenizer = Shards.open(folder / "shards"), Tokenizer.load(folder / "tokenizer.json")
    table, row = timed(
        "token table from its cache", lambda: TokenTable.build(shards, tokenizer, CONTEXT, folder / "cache")
    )
    yield row
    yield first_batch("first batch", shards, table, 0)
    yield "start in all, to the first batch", time.perf_counter() - begin, "s"
    yield first_batch(f"first batch at step {FAR:,}", shards, table, FAR)


def first_batch(what: str, shards: Shards, table: TokenTable, step: int) -> Row:
    batches = train_batches(shards, table, settings(BATCH, threads=0), start_step=step)
    row = timed(what, lambda: next(batches))[1]
    batches.close()
    return row


def settings(batch: int, threads: int) -> LoaderSettings:
    return LoaderSettings(batch, IMAGE_SIZE, text_lengths=(CONTEXT,), flip=0.5, threads=threads)


def reading(folder: pathlib.Path) -> Iterator[Row]:
    shards = Shards.open(folder / "shards")
    records = np.random.default_rng(SEED).integers(0, len(shards), READS)
    row = timed("", lambda: [shards.read(int(i)) for i in records])[1]
    yield "records read at random", READS / row[1], "/s"


def loading(folder: pathlib.Path) -> Iterator[Row]:
    shards, tokenizer = Shards.open(folder / "shards"), Tokenizer.load(folder / "tokenizer.json")
    table = TokenTable.build(shards, tokenizer, CONTEXT, folder / "cache")
    yield rate("batches, 2 threads", shards, table, BATCH, 2, 20)


def rate(what: str, shards: Shards, table: TokenTable, batch: int, threads: int, count: int) -> Row:
    batches = train_batches(shards, table, settings(batch, threads))
    next(batches)
    row = timed("", lambda: [next(batches) for _ in range(count)])[1]
    batches.close()
    return what, batch * count / row[1], "images/s"


def in_bucket(folder: pathlib.Path) -> Iterator[Row]:
    shards, row = timed("open the shards", lambda: Shards.open("s3://photos/shards"))
    yield row
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    table = TokenTable.build(shards, tokenizer, CONTEXT, folder / "cache")
    records = np.random.default_rng(SEED).integers(0, len(shards), 2000)
    row = timed("", lambda: [shards.read(int(i)) for i in records[:100]])[1]
    yield "records read one after the other", 100 / row[1], "/s"
    row = timed("", lambda: list(shards.read_each(records)))[1]
    yield "records read at once", 2000 / row[1], "/s"
    for threads in (1, 2, 4, 16):
        what = f"batches of {BUCKET_BATCH}, data.threads={threads}"
        yield rate(what, shards, table, BUCKET_BATCH, threads, IN_BUCKET + 2 * threads)


PHASES = {
    "opening": opening,
    "training": training_a_tokenizer,
    "tokenising": tokenising,
    "collecting": collecting,
    "starting": starting,
    "reading": reading,
    "loading": loading,
    "bucket": in_bucket,
}


def serve(folder: pathlib.Path, latency: float) -> None:
    """A bucket with the files of `folder`, until standard input ends."""
    from tests.focusclip_jax import bucket_server

    with bucket_server.serving(folder, latency=latency) as bucket:
        print(json.dumps(bucket_server.s3_environment(bucket)), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
