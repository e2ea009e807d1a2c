"""From a journal and its photographs to TFRecord shards that TensorFlow Datasets can read.

A split of a data set is, in one directory:

    NAME-SPLIT.tfrecord-00000-of-00004    records: length, its checksum, tf.train.Example, its checksum
    NAME-SPLIT.index-00000-of-00004.npz   where each record lies (`schema.index_name`)
    NAME-SPLIT.manifest.json              what was packed, its sizes and its fingerprint; written last
    dataset_info.json, features.json      TFDS metadata of all splits in the directory

An image's shard is a hash of its id, and a shard is sorted by id: the same records, captions and
photographs give the same bytes, in whatever order and by however many machines they were described and
packed.

Shards are written aside, into `.NAME-SPLIT.partial`, each with a note that says what it was made of, and
put in the place of the old split when all are there. A killed run therefore leaves either the old split or
the new one, or a split without a manifest, and the next run keeps the shards that were finished. Parts of
an array job write their own shards there; the one that ends last puts them in place.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import io
import itertools
import json
import math
import os
import re
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from tqdm import tqdm

from annotation import examples, files, journal, parts, records, schema, shard_index, tfds_metadata
from annotation.errors import UserError
from annotation.records import Description
from annotation.shard_index import Index

IMAGES_PER_SHARD = 4096  # 100 to 200 MB at a short side of 256
_FRAME = 16  # bytes of a record besides its payload: the length, and two checksums
# Counts up when the same photographs must be packed anew. 2: smaller ones in 4:2:0, checksums of indices.
_FORM = 2
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Options:
    """How to pack.

    images: folder of the photographs. size: see `examples.Size`; a short side is never enlarged. quality: of
    JPEGs that are encoded here; a photograph that needs no change keeps its bytes. shards: None for one per
    4,096 images. allow_missing: leave images without a file out, and count them, instead of failing.
    """

    images: Path
    split: str
    dataset: str
    size: examples.Size = 256
    quality: int = 95
    shards: int | None = None
    allow_missing: bool = False


@dataclasses.dataclass(frozen=True)
class _Item:
    """One image to pack: where its row lies, its captions, and a digest of all that it is made of."""

    image_id: str
    records: Path
    offset: int
    captions: tuple[Description, ...]
    digest: bytes


@dataclasses.dataclass(frozen=True)
class _Split:
    """What to write: the items of each shard, and a digest of everything that the shards are made of."""

    out: Path
    options: Options
    shards: list[list[_Item]]
    inputs: str

    @property
    def manifest(self) -> Path:
        return self.out / f"{self.options.dataset}-{self.options.split}.manifest.json"

    @property
    def partial(self) -> Path:
        return self.out / f".{self.options.dataset}-{self.options.split}.partial"

    def shard(self, number: int) -> str:
        return schema.shard_name(self.options.dataset, self.options.split, number, len(self.shards))

    def index(self, number: int) -> str:
        return schema.index_name(self.options.dataset, self.options.split, number, len(self.shards))


def parse_size(text: str) -> examples.Size:
    """A short side ("256"), width and height ("224x224") or no change ("original"). Raises UserError."""
    if text == "original":
        return None
    if match := re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", text):
        return (int(match[1]), int(match[2])) if match[2] else int(match[1])
    raise UserError(f"--size={text}: expected a short side (256), WIDTHxHEIGHT (224x224) or original")


# ----------------------------------------------------------------------------------------------- pack


def pack(directory: Path, out: Path, options: Options, say: Say, part: parts.Part | None = None) -> None:
    """Pack the journal of `directory` into the split `options.split` of `out`.

    say: receives what the user should know, one sentence at a time. part: write only this part's shards; the
    split is complete when all parts have ended, or when this is called again without a part.
    Raises UserError naming the image where a photograph is missing or damaged or has no caption.
    """
    for name, value in (("--split", options.split), ("--dataset", options.dataset)):
        if not _NAME.fullmatch(value):
            raise UserError(f"{name}={value}: expected letters, digits and underscores, a letter first")
    if part is None:
        with files.exclusive(out):
            split = _plan(directory, out, options, say)
            if not _is_packed(split, say):
                _write_shards(split, range(len(split.shards)))
                _finish(split, say)
        return
    with files.shared(out, say):
        split = _plan(directory, out, options, say)
        if _is_packed(split, say):
            return
        share = range(part.number - 1, len(split.shards), part.count)
        _write_shards(split, share)
    say(f"part {part}: {len(share)} of {len(split.shards)} shards are written")
    try:
        with files.exclusive(out):
            if not _is_packed(split, say) and not _say_what_is_waited_for(split, say):
                _finish(split, say)
    except files.Busy:
        say("other parts are still being written; the last part completes it")


def _say_what_is_waited_for(split: _Split, say: Say) -> bool:
    waiting = [number for number in range(len(split.shards)) if not _staged(split, number)]
    if others := sum(_note(split, number).exists() for number in waiting):
        say(
            f"{others} shards were made with other options, of another journal or of other photographs (by "
            "size and time); run their parts again as this one"
        )
    elif waiting:
        say(f"{len(waiting)} shards of other parts are not there yet; the last part completes it")
    return bool(waiting)


def _plan(directory: Path, out: Path, options: Options, say: Say) -> _Split:
    """Read what there is to pack and distribute it over shards. Writes nothing."""
    _refuse_other_dataset(out, options)
    items = sorted(_items(directory, options, say), key=lambda item: item.image_id)
    for one, other in itertools.pairwise(items):
        if one.image_id == other.image_id:
            raise UserError(
                f"image {one.image_id} is in {one.records} and in {other.records}; expected it in one part"
            )
    count = options.shards or math.ceil(len(items) / IMAGES_PER_SHARD)
    shards: list[list[_Item]] = [[] for _ in range(count)]
    for item in items:
        shards[parts.bucket(item.image_id, count)].append(item)
    if not all(shards):
        raise UserError(f"--shards={count}: leaves a shard empty with {len(items)} images; ask for fewer")
    digest = hashlib.sha256(b"".join(item.digest for item in items))
    where_they_lie = f"images={options.images!r}"
    digest.update(repr((schema.VERSION, _FORM, options)).replace(where_they_lie, "images=None").encode())
    return _Split(out, options, shards, digest.hexdigest())


def _items(directory: Path, options: Options, say: Say) -> list[_Item]:
    items, missing, bare = [], [], []
    for folder in parts.journals(directory):
        captions = journal.captions_by_input(folder)
        offset, path = 0, folder / journal.RECORDS
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                record = records.from_json(line, f"{path}: line {number}")
                found = captions.get(journal.input_hash(record), [])
                photograph = _size_and_time(options.images / record.image_id)
                if photograph is None:
                    missing.append(record.image_id)
                elif not found:
                    bare.append(record.image_id)
                else:
                    made_of = json.dumps([photograph, [(c.text, c.source) for c in found]])
                    digest = hashlib.sha256(line + made_of.encode()).digest()
                    items.append(_Item(record.image_id, path, offset, tuple(found), digest))
                offset += len(line)
    total = len(items) + len(missing) + len(bare)
    if missing and not options.allow_missing:
        raise UserError(
            f"{options.images}: {len(missing)} of {total} images are not there ({_some(missing)}); "
            "give their folder with --images, or leave them out with --allow-missing"
        )
    if missing:
        say(f"left out {len(missing)} of {total} images that are not in {options.images} ({_some(missing)})")
    if bare:
        raise UserError(
            f"{directory}: no caption for {len(bare)} of {total} images ({_some(bare)}); "
            "run `annotate describe` again to finish it"
        )
    if not items:
        raise UserError(f"{directory}: no image to pack")
    return items


def _size_and_time(path: Path) -> tuple[int, int] | None:
    """What tells one version of a photograph from another without reading it; None where it is not there."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


# ---------------------------------------------------------------------------------------- write aside


def _write_shards(split: _Split, numbers: Iterable[int]) -> None:
    """Write those of the shards that an earlier run of the same inputs did not finish."""
    numbers = [number for number in numbers if not _staged(split, number)]
    total = sum(len(split.shards[number]) for number in numbers)
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=total, unit=" images", desc=f"pack {split.options.split}", leave=False) as bar,
    ):
        for number in numbers:
            with files.exclusive(split.partial / f"{split.shard(number)}.lock"):
                _write_shard(split, number, pool, bar)


def _write_shard(split: _Split, number: int, pool: ThreadPoolExecutor, bar: tqdm) -> None:
    """Write one shard, its index, and then the note that makes them count."""
    _note(split, number).unlink(missing_ok=True)
    lengths, crcs, turned = [], [], 0
    jobs = ((item, row, split.options) for item, row in _rows(split.shards[number]))
    with open(split.partial / split.shard(number), "wb") as shard:
        for payload, was_turned in _ordered(pool, _example_of, jobs):
            crcs.append(_write_record(shard, payload))
            lengths.append(len(payload))
            turned += was_turned
            bar.update()
        size = _sync(shard)
    _write_index(split.partial / split.index(number), lengths, crcs, size)
    note = {"inputs": split.inputs, "bytes": size, "lengths": lengths, "crcs": crcs, "turned": turned}
    with files.replacing(_note(split, number)) as file:
        json.dump(note, file)


def _note(split: _Split, number: int) -> Path:
    return split.partial / f"{split.shard(number)}.json"


def _staged(split: _Split, number: int) -> dict[str, Any] | None:
    """The note of a shard that was written aside to the end, from the same inputs; None for any other."""
    try:
        note = json.loads(_note(split, number).read_bytes())
        size = os.path.getsize(split.partial / split.shard(number))
        os.stat(split.partial / split.index(number))
    except (OSError, ValueError):
        return None
    return note if (note["inputs"], note["bytes"]) == (split.inputs, size) else None


def _rows(items: list[_Item]) -> Iterator[tuple[_Item, bytes]]:
    """Each item with its line of records.jsonl."""
    with contextlib.ExitStack() as stack:
        opened: dict[Path, io.BufferedReader] = {}
        for item in items:
            if item.records not in opened:
                opened[item.records] = stack.enter_context(open(item.records, "rb"))
            opened[item.records].seek(item.offset)
            yield item, opened[item.records].readline()


def _example_of(item: _Item, row: bytes, options: Options) -> tuple[bytes, bool]:
    record = records.from_json(row, f"record {item.image_id}")
    path = options.images / record.image_id
    return examples.serialised(record, item.captions, path, options.size, options.quality)


def _ordered(pool: ThreadPoolExecutor, function: Callable, jobs: Iterable[tuple]) -> Iterator:
    """`pool.map` that looks only a little ahead, so that a shard is never in memory as a whole."""
    pending: collections.deque = collections.deque()
    for job in jobs:
        pending.append(pool.submit(function, *job))
        if len(pending) > 64:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _write_record(file: io.BufferedWriter, payload: bytes) -> int:
    """Append one TFRecord record; returns the payload's checksum as stored."""
    length = struct.pack("<Q", len(payload))
    crc = masked_crc(payload)
    file.write(length + struct.pack("<I", masked_crc(length)) + payload + struct.pack("<I", crc))
    return crc


def masked_crc(data: bytes) -> int:
    """CRC32C as TFRecord stores it: rotated by 15 bits and offset."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _write_index(path: Path, payloads: list[int], crcs: list[int], size: int) -> None:
    lengths = np.array(payloads, np.uint64)
    offsets = np.cumsum(lengths + _FRAME) - (lengths + _FRAME)
    with open(path, "wb") as file:
        file.write(shard_index.to_bytes(Index(offsets, lengths, np.array(crcs), size)))
        _sync(file)


def _sync(file: io.BufferedWriter) -> int:
    """Bring what was written to the disk; returns the file's size in bytes."""
    file.flush()
    os.fsync(file.fileno())
    return file.tell()


# --------------------------------------------------------------------------------------- put in place


def _finish(split: _Split, say: Say) -> None:
    """Put the shards, all written aside, in the place of the old split, and the manifest last."""
    notes = [json.loads(_note(split, number).read_bytes()) for number in range(len(split.shards))]
    fingerprint = hashlib.sha256()
    for note in notes:
        fingerprint.update(np.array(note["lengths"], "<i8").tobytes())
        fingerprint.update(np.array(note["crcs"], "<u4").tobytes())
    manifest: dict[str, Any] = {
        "dataset": split.options.dataset,
        "split": split.options.split,
        "examples": sum(map(len, split.shards)),
        "captions": sum(len(item.captions) for items in split.shards for item in items),
        "fingerprint": fingerprint.hexdigest(),
        "shards": [
            {"name": split.shard(number), "examples": len(note["lengths"]), "bytes": note["bytes"]}
            for number, note in enumerate(notes)
        ],
        "inputs": split.inputs,
    }
    _replace_split(split)
    other_splits = [other for path, other in _manifests(split.out).items() if path != split.manifest]
    tfds_metadata.write(split.out, [manifest, *other_splits])
    with files.replacing(split.manifest) as file:
        json.dump(manifest, file, indent=1)
    shutil.rmtree(split.partial)
    if turned := sum(note["turned"] for note in notes):
        say(f"dropped the EXIF orientation of {turned} photographs: joints refer to the file's own pixels")
    say(
        f"packed {manifest['examples']} images with {manifest['captions']} captions into {len(notes)} shard"
        f"{'s' if len(notes) > 1 else ''} of {split.out}, "
        f"{sum(note['bytes'] for note in notes) / 1e6:.1f} MB (fingerprint {manifest['fingerprint'][:16]})"
    )


def _replace_split(split: _Split) -> None:
    """Move the shards in place. Meanwhile the split has no manifest: it counts as not packed."""
    split.manifest.unlink(missing_ok=True)
    name = re.escape(f"{split.options.dataset}-{split.options.split}.")
    old = re.compile(name + r"(tfrecord-\d{5}-of-\d{5}|index-\d{5}-of-\d{5}\.npz)")
    for path in [path for path in split.out.iterdir() if old.fullmatch(path.name)]:
        path.unlink()
    for number in range(len(split.shards)):
        for name in (split.shard(number), split.index(number)):
            os.replace(split.partial / name, split.out / name)


def _is_packed(split: _Split, say: Say) -> bool:
    manifest = _read_manifest(split.manifest)
    if not manifest or manifest["inputs"] != split.inputs or not (split.out / "dataset_info.json").exists():
        return False
    for number, shard in enumerate(manifest["shards"]):
        try:
            if os.path.getsize(split.out / shard["name"]) != shard["bytes"]:
                return False
            os.stat(split.out / split.index(number))
        except OSError:
            return False
    say(
        f"already packed: {manifest['examples']} images in {split.out} "
        f"(fingerprint {manifest['fingerprint'][:16]})"
    )
    return True


def _read_manifest(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path}: not a manifest ({error}); delete it to pack again") from None


def _manifests(out: Path) -> dict[Path, dict[str, Any]]:
    paths = sorted(out.glob("*.manifest.json"))
    return {path: manifest for path in paths if (manifest := _read_manifest(path))}


def _refuse_other_dataset(out: Path, options: Options) -> None:
    for other in _manifests(out).values():
        if other["dataset"] != options.dataset:
            raise UserError(
                f"{out}: holds the data set {other['dataset']!r} already; choose another --out or "
                f"--dataset={other['dataset']}"
            )
