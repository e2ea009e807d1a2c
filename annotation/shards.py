"""From a journal and its photographs to TFRecord shards that TensorFlow Datasets can read.

A split of a data set is, in one directory:

    NAME-SPLIT.tfrecord-00000-of-00004    records: length, its checksum, tf.train.Example, its checksum
    NAME-SPLIT.index-00000-of-00004.npz   where each record lies (`schema.index_name`)
    NAME-SPLIT.manifest.json              what was packed, its sizes and its fingerprint; written last
    dataset_info.json, features.json      TFDS metadata of all splits in the directory

An image's shard is a hash of its id, and a shard is sorted by id: the same records, captions and
photographs give the same bytes, in whatever order they were described. Everything is written aside and
renamed, so a killed run leaves either the old split or the new one, or a split without a manifest, which
the next run writes again.

Joints refer to the pixels as they lie in the photograph's file. An EXIF orientation is therefore dropped,
not applied: picture, joints and description stay consistent with each other.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import io
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
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2
from tqdm import tqdm

from annotation import files, journal, records, schema
from annotation.errors import UserError

IMAGES_PER_SHARD = 4096  # 100 to 200 MB at a short side of 256
_EXIF_ORIENTATION = 0x0112
_FRAME = 16  # bytes of a record besides its payload: the length, and two checksums
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

# How large an image is stored: (width, height), its short side, or None for as it is.
Size = tuple[int, int] | int | None


@dataclasses.dataclass(frozen=True)
class Options:
    """How to pack.

    images: folder of the photographs. size: see `Size`; a short side is never enlarged. quality: of JPEGs
    that are encoded here (4:4:4); a photograph that needs no change keeps its bytes. shards: None for one
    per 4,096 images. allow_missing: leave images without a file out, and count them, instead of failing.
    """

    images: Path
    split: str
    dataset: str
    size: Size = 256
    quality: int = 95
    shards: int | None = None
    allow_missing: bool = False


@dataclasses.dataclass(frozen=True)
class _Item:
    """One image to pack: where its row lies in records.jsonl, and its captions."""

    image_id: str
    offset: int
    captions: tuple[records.Description, ...]


def parse_size(text: str) -> Size:
    """A short side ("256"), width and height ("224x224") or no change ("original"). Raises UserError."""
    if text == "original":
        return None
    if match := re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", text):
        return (int(match[1]), int(match[2])) if match[2] else int(match[1])
    raise UserError(f"--size={text}: expected a short side (256), WIDTHxHEIGHT (224x224) or original")


# ----------------------------------------------------------------------------------------------- pack


def pack(directory: Path, out: Path, options: Options, say: Callable[[str], None]) -> None:
    """Pack the journal of `directory` into the split `options.split` of `out`.

    say: receives what the user should know, one sentence at a time.
    Raises UserError naming the image where a photograph is missing or damaged or has no caption.
    """
    for name, value in (("--split", options.split), ("--dataset", options.dataset)):
        if not _NAME.fullmatch(value):
            raise UserError(f"{name}={value}: expected letters, digits and underscores, a letter first")
    with files.exclusive(out):
        _refuse_other_dataset(out, options)
        inputs = _inputs(directory, options)
        manifest = _manifest_path(out, options)
        if (done := _read_manifest(manifest)) and done["inputs"] == inputs and _is_complete(out, done):
            say(
                f"already packed: {done['examples']} images in {out} (fingerprint {done['fingerprint'][:16]})"
            )
            return
        items = _items(directory, options, say)
        count = options.shards or math.ceil(len(items) / IMAGES_PER_SHARD)
        shards: list[list[_Item]] = [[] for _ in range(count)]
        for item in sorted(items, key=lambda item: item.image_id):
            shards[shard_of(item.image_id, count)].append(item)
        if not all(shards):
            raise UserError(f"--shards={count}: leaves a shard empty with {len(items)} images; ask for fewer")
        done = _write(directory, out, shards, options, say) | {"inputs": inputs}
        _write_tfds_metadata(out, [done, *_other_manifests(out, manifest)])
        with files.replacing(manifest) as file:
            json.dump(done, file, indent=1)
        say(
            f"packed {done['examples']} images with {done['captions']} captions into {count} shard"
            f"{'s' if count > 1 else ''} of {out}, {sum(s['bytes'] for s in done['shards']) / 1e6:.1f} MB "
            f"(fingerprint {done['fingerprint'][:16]})"
        )


def shard_of(image_id: str, shards: int) -> int:
    """Which of `shards` an image belongs to; depends on nothing else."""
    return int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:8], "big") % shards


def _inputs(directory: Path, options: Options) -> str:
    """A digest of everything that the split is made of; photographs by their size and time only."""
    digest = hashlib.sha256()
    names = []
    for name in (journal.RECORDS, journal.JOURNAL):
        if not (directory / name).exists():
            raise UserError(
                f"{directory / name}: not there; `annotate describe … --out={directory}` makes it"
            )
        with open(directory / name, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    with open(directory / journal.RECORDS, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                names.append(json.loads(line)["image_id"])
            except (ValueError, KeyError, TypeError) as error:
                where = f"{directory / journal.RECORDS}: line {number}"
                raise UserError(
                    f"{where}: not a record ({error}); expected one JSON object per line"
                ) from None
    for name in names:
        try:
            stat = os.stat(options.images / name)
            digest.update(struct.pack("<QQ", stat.st_size, stat.st_mtime_ns))
        except OSError:
            digest.update(b"missing")
    digest.update(repr((schema.VERSION, dataclasses.replace(options, images=None))).encode())
    return digest.hexdigest()


def _items(directory: Path, options: Options, say: Callable[[str], None]) -> list[_Item]:
    captions = journal.captions_by_input(directory)
    items, missing, bare = [], [], []
    offset, path = 0, directory / journal.RECORDS
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            record = records.from_json(line, f"{path}: line {number}")
            found = captions.get(journal.input_hash(record), [])
            if not (options.images / record.image_id).is_file():
                missing.append(record.image_id)
            elif not found:
                bare.append(record.image_id)
            else:
                items.append(_Item(record.image_id, offset, tuple(found)))
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
            f"{directory / journal.JOURNAL}: no caption for {len(bare)} of {total} images ({_some(bare)}); "
            "run `annotate describe` again to finish it"
        )
    if not items:
        raise UserError(f"{path}: no image to pack")
    return items


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _write(
    directory: Path, out: Path, shards: list[list[_Item]], options: Options, say: Callable[[str], None]
) -> dict[str, Any]:
    """Write all shards aside, then put them in the place of the old split. Returns the manifest."""
    partial = out / f".{options.dataset}-{options.split}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    fingerprint, summaries, turned = hashlib.sha256(), [], 0
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        open(directory / journal.RECORDS, "rb") as rows,
        tqdm(total=sum(map(len, shards)), unit=" images", desc=f"pack {options.split}", leave=False) as bar,
    ):
        for number, items in enumerate(shards):
            names = (options.dataset, options.split, number, len(shards))
            jobs = ((item, _row_at(rows, item.offset), options) for item in items)
            lengths, crcs = [], []
            with open(partial / schema.shard_name(*names), "wb") as shard:
                for payload, was_turned in _ordered(pool, _example_of, jobs):
                    crcs.append(_write_record(shard, payload))
                    lengths.append(len(payload))
                    turned += was_turned
                    bar.update()
                size = _sync(shard)
            _write_index(partial / schema.index_name(*names), lengths, size)
            fingerprint.update(np.array(lengths, "<i8").tobytes() + np.array(crcs, "<u4").tobytes())
            summaries.append({"name": schema.shard_name(*names), "examples": len(items), "bytes": size})
    if turned:
        say(f"dropped the EXIF orientation of {turned} photographs: joints refer to the file's own pixels")
    _replace_split(out, partial, options)
    return {
        "dataset": options.dataset,
        "split": options.split,
        "examples": sum(map(len, shards)),
        "captions": sum(len(item.captions) for items in shards for item in items),
        "fingerprint": fingerprint.hexdigest(),
        "shards": summaries,
    }


def _row_at(rows: io.BufferedReader, offset: int) -> bytes:
    rows.seek(offset)
    return rows.readline()


def _sync(file: io.BufferedWriter) -> int:
    """Bring what was written to the disk; returns the file's size in bytes."""
    file.flush()
    os.fsync(file.fileno())
    return file.tell()


def _write_index(path: Path, lengths: list[int], size: int) -> None:
    lengths = np.array(lengths, np.uint64)
    with open(path, "wb") as index:
        ends = np.cumsum(lengths + _FRAME)
        np.savez(
            index, offset=ends - (lengths + _FRAME), length=lengths.astype(np.uint32), size=np.uint64(size)
        )
        _sync(index)


def _replace_split(out: Path, partial: Path, options: Options) -> None:
    """Move the files of `partial` to `out`. Meanwhile the split has no manifest: it counts as not packed."""
    _manifest_path(out, options).unlink(missing_ok=True)
    name = re.escape(f"{options.dataset}-{options.split}.")
    old = re.compile(name + r"(tfrecord-\d{5}-of-\d{5}|index-\d{5}-of-\d{5}\.npz)")
    for path in [path for path in out.iterdir() if old.fullmatch(path.name)]:
        path.unlink()
    for path in sorted(partial.iterdir()):
        os.replace(path, out / path.name)
    partial.rmdir()


def _ordered(pool: ThreadPoolExecutor, function: Callable, jobs: Iterable[tuple]) -> Iterator:
    """`pool.map` that looks only a little ahead, so that a shard is never in memory as a whole."""
    pending: collections.deque = collections.deque()
    for job in jobs:
        pending.append(pool.submit(function, *job))
        if len(pending) > 64:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


# -------------------------------------------------------------------------------------------- example


def _example_of(item: _Item, row: bytes, options: Options) -> tuple[bytes, bool]:
    """The serialised example of one image, and whether its photograph carries an EXIF orientation."""
    record = records.from_json(row, f"record {item.image_id}")
    path = options.images / record.image_id
    try:
        jpeg, stored, original, turned = stored_jpeg(path.read_bytes(), options.size, options.quality)
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: cannot be decoded as an image ({error})") from None
    if (record.width or original[0], record.height or original[1]) != original:
        raise UserError(
            f"{path}: is {original[0]}x{original[1]} pixels, its annotation says "
            f"{record.width}x{record.height}; joints must refer to the pixels of this file, as they lie in it"
        )
    return example(record, item.captions, jpeg, stored, original).SerializeToString(
        deterministic=True
    ), turned


def stored_jpeg(
    data: bytes, size: Size, quality: int
) -> tuple[bytes, tuple[int, int], tuple[int, int], bool]:
    """RGB JPEG bytes to store; stored and original (width, height); whether EXIF says it should be turned.

    A JPEG that is RGB already and keeps its size keeps its bytes. It is decoded all the same, so that damage
    is found here. Raises what Pillow raises.
    """
    image = Image.open(io.BytesIO(data))
    original = image.size
    stored = stored_size(original, size)
    turned = image.getexif().get(_EXIF_ORIENTATION, 1) != 1
    if image.format == "JPEG" and image.mode == "RGB" and stored == original and not turned:
        image.load()
        return data, stored, original, turned
    # A JPEG can be decoded at a fraction of its size, for a third of the time; `box` is the photograph in it.
    draft = image.draft(image.mode, stored) if stored != original else None
    image = image.convert("RGB")
    if stored != original:
        image = image.resize(stored, Image.Resampling.BICUBIC, box=draft[1] if draft else None)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling="4:4:4")
    return buffer.getvalue(), stored, original, turned


def stored_size(original: tuple[int, int], size: Size) -> tuple[int, int]:
    """(width, height) to store for a photograph of `original` (width, height)."""
    if size is None:
        return original
    if isinstance(size, tuple):
        return size
    scale = size / min(original)
    return original if scale >= 1 else (round(original[0] * scale), round(original[1] * scale))


def example(
    record: records.ImageRecord,
    captions: Iterable[records.Description],
    jpeg: bytes,
    stored: tuple[int, int],
    original: tuple[int, int],
) -> tf_example_pb2.Example:
    """The example of `annotation.schema`. stored, original: (width, height) in pixels."""
    captions = list(captions)
    scale = np.array(stored) / np.array(original)
    joints = [
        np.where(p.visibility[:, None] == schema.MISSING, 0, (p.joints + 0.5) * scale - 0.5)
        for p in record.people
    ]
    values: dict[str, Any] = {
        schema.IMAGE_ID: [record.image_id.encode()],
        schema.IMAGE: [jpeg],
        schema.WIDTH: [stored[0]],
        schema.HEIGHT: [stored[1]],
        schema.ORIGINAL_WIDTH: [original[0]],
        schema.ORIGINAL_HEIGHT: [original[1]],
        schema.JOINTS: np.ravel(joints).astype(np.float32),
        schema.VISIBILITY: np.ravel([p.visibility for p in record.people]).astype(int),
        schema.OCCLUDED: np.ravel([p.occluded for p in record.people]).astype(int),
        schema.PEOPLE_COMPLETE: [int(record.people_complete)],
        schema.ACTIVITY: [record.activity.encode()],
        schema.CATEGORY: [record.category.encode()],
        schema.CAPTIONS: [caption.text.encode() for caption in captions],
        schema.CAPTION_SOURCES: [caption.source.encode() for caption in captions],
        schema.SCHEMA_VERSION: [schema.VERSION],
    }
    message = tf_example_pb2.Example()
    for name, value in values.items():
        feature = message.features.feature[name]
        if name == schema.JOINTS:
            feature.float_list.value.extend(value)
        elif name in (schema.VISIBILITY, schema.OCCLUDED, *schema.INT_FEATURES):
            feature.int64_list.value.extend(value)
        else:
            feature.bytes_list.value.extend(value)
    return message


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


# ------------------------------------------------------------------------------------------- metadata


def _manifest_path(out: Path, options: Options) -> Path:
    return out / f"{options.dataset}-{options.split}.manifest.json"


def _read_manifest(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path}: not a manifest ({error}); delete it to pack again") from None


def _is_complete(out: Path, manifest: dict[str, Any]) -> bool:
    return (out / "dataset_info.json").exists() and all(
        (out / shard["name"]).exists()
        and (out / shard["name"]).stat().st_size == shard["bytes"]
        and (
            out / schema.index_name(manifest["dataset"], manifest["split"], n, len(manifest["shards"]))
        ).exists()
        for n, shard in enumerate(manifest["shards"])
    )


def _other_manifests(out: Path, manifest: Path) -> list[dict[str, Any]]:
    return [_read_manifest(path) for path in sorted(out.glob("*.manifest.json")) if path != manifest]


def _refuse_other_dataset(out: Path, options: Options) -> None:
    for other in {manifest["dataset"] for manifest in _other_manifests(out, _manifest_path(out, options))}:
        if other != options.dataset:
            raise UserError(
                f"{out}: holds the data set {other!r} already; choose another --out or --dataset={other}"
            )


def _write_tfds_metadata(out: Path, manifests: list[dict[str, Any]]) -> None:
    """dataset_info.json and features.json of all splits of one data set."""
    import tensorflow_datasets as tfds  # a second to import

    dataset = manifests[0]["dataset"]
    integer = tfds.features.Scalar(np.int64)
    special = {
        schema.IMAGE: tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
        schema.JOINTS: tfds.features.Tensor(shape=(None, schema.JOINT_COUNT, 2), dtype=np.float32),
        schema.VISIBILITY: tfds.features.Tensor(shape=(None, schema.JOINT_COUNT), dtype=np.int64),
        schema.OCCLUDED: tfds.features.Tensor(shape=(None, schema.JOINT_COUNT), dtype=np.int64),
    }
    features = tfds.features.FeaturesDict(
        special
        | dict.fromkeys(schema.INT_FEATURES, integer)
        | dict.fromkeys(schema.TEXT_FEATURES, tfds.features.Text())
        | dict.fromkeys(schema.TEXT_LIST_FEATURES, tfds.features.Sequence(tfds.features.Text()))
    )
    info = tfds.core.DatasetInfo(
        builder=tfds.core.DatasetIdentity(
            name=dataset, version=tfds.core.Version("1.0.0"), data_dir=str(out), module_name=""
        ),
        description="Images with people's joints, their activity and pose descriptions.",
        features=features,
    )
    info.set_file_format(tfds.core.FileFormat.TFRECORD)
    template = tfds.core.ShardedFileTemplate(data_dir=out, dataset_name=dataset, filetype_suffix="tfrecord")
    splits = [
        tfds.core.SplitInfo(
            name=manifest["split"],
            shard_lengths=[shard["examples"] for shard in manifest["shards"]],
            num_bytes=sum(shard["bytes"] for shard in manifest["shards"]),
            filename_template=template.replace(split=manifest["split"]),
        )
        for manifest in sorted(manifests, key=lambda manifest: manifest["split"])
    ]
    info.set_splits(tfds.core.SplitDict(splits))
    partial = out / ".metadata.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    info.write_to_directory(partial)
    for path in sorted(partial.iterdir()):
        os.replace(path, out / path.name)
    partial.rmdir()
