"""Random access to the examples of TFRecord shards, without TensorFlow.

A record of a shard is: uint64 payload length, masked CRC32C of those 8 bytes, payload (a serialised
`tf.train.Example`), masked CRC32C of the payload; integers little-endian. Both checksums are
verified on every read (it costs about 2 microseconds), so damage is found by name and never trained on.
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import mmap
import os
import re
import struct
import zipfile
from collections.abc import Sequence
from typing import Any

import google_crc32c
import numpy as np
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

from annotation import schema
from focusclip_jax.errors import UserError

_NAME = re.compile(r"(?P<dataset>.+)-(?P<split>[^-]+)\.tfrecord-(?P<shard>\d{5})-of-(?P<shards>\d{5})")
_HEADER = struct.Struct("<QI")  # payload length, its checksum
_FOOTER = struct.Struct("<I")  # checksum of the payload


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """One image with its people and captions, as it lies in a shard (see `annotation.schema`).

    image: JPEG bytes. height, width: of the stored image; original_height, original_width: of the photograph.
    joints: float32 (P, 16, 2), pixels of the stored image, 0-based, x then y; NaN where missing.
    visibility: uint8 (P, 16), `schema.MISSING`, `DERIVED` or `LABELLED`. occluded: bool (P, 16).
    captions, caption_sources: the texts and, in the same order, who wrote each.
    """

    image_id: str
    image: bytes
    height: int
    width: int
    original_height: int
    original_width: int
    joints: np.ndarray
    visibility: np.ndarray
    occluded: np.ndarray
    people_complete: bool
    activity: str
    category: str
    captions: tuple[str, ...]
    caption_sources: tuple[str, ...]


class Shards:
    """The examples of a list of shard files, numbered from 0 in the order of the files.

    Safe to share between threads and to pickle: files are mapped when first read, in each process.
    """

    def __init__(self, paths: Sequence[str]):
        """paths: shard files, each with its index beside it (`annotation.schema.index_name`) or without."""
        self.paths = tuple(paths)
        self._maps: dict[int, mmap.mmap] = {}
        indices = [_record_index(path) for path in self.paths]
        counts = [len(offsets) for offsets, _ in indices]
        self._first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._offsets = np.concatenate([offsets for offsets, _ in indices])
        self._lengths = np.concatenate([lengths for _, lengths in indices])

    @classmethod
    def open(cls, path: str | os.PathLike, split: str = "train") -> Shards:
        """Open a directory of shards (its only split, or else the one named `split`) or a glob pattern.

        Raises UserError when nothing matches, a shard of the split is missing, or the split is not there.
        """
        path = os.fspath(path)
        if not os.path.isdir(path):
            paths = sorted(p for p in glob.glob(path) if _NAME.fullmatch(os.path.basename(p)))
            if not paths:
                raise UserError(
                    f"{path}: no such directory of shards, and no file NAME-SPLIT.tfrecord-00000-of-00001 "
                    "matches it as a pattern"
                )
            return cls(paths)
        names = {name: match for name in os.listdir(path) if (match := _NAME.fullmatch(name))}
        splits = sorted({match["split"] for match in names.values()})
        if not splits:
            raise UserError(f"{path}: holds no shards (NAME-SPLIT.tfrecord-00000-of-00001)")
        if len(splits) == 1:
            split = splits[0]
        elif split not in splits:
            raise UserError(f"{path}: has no split {split!r}; it holds {', '.join(splits)}")
        chosen = {name: match for name, match in names.items() if match["split"] == split}
        _check_complete(path, split, chosen)
        return cls([os.path.join(path, name) for name in sorted(chosen)])

    def __len__(self) -> int:
        return len(self._offsets)

    def read(self, i: int) -> Example:
        """Example i. Raises UserError naming file and record where the record is damaged."""
        features = self._message(i).features.feature
        try:
            return _example(features)
        except ValueError as error:
            raise UserError(f"{self.where(i)}: not an example of schema {schema.VERSION} ({error})") from None

    def where(self, i: int) -> str:
        """File and record number within it, for messages."""
        shard = self._shard(i)
        return f"{self.paths[shard]} record {i - self._first[shard]}"

    def fingerprint(self) -> str:
        """Hex digest of every record's stored checksum and length, in order: what a resume must find again.

        It reads four bytes a record, so it is cheap, and any change of content or order changes it.
        The packer writes the same number in the split's manifest.
        """
        digest = hashlib.sha256()
        for shard, path in enumerate(self.paths):
            rows = slice(self._first[shard], self._first[shard + 1])
            if rows.start == rows.stop:
                continue
            lengths = self._lengths[rows].astype(np.int64)
            at = self._offsets[rows].astype(np.int64) + _HEADER.size + lengths
            data = np.memmap(path, np.uint8, "r")
            digest.update(lengths.astype("<i8").tobytes())
            digest.update(data[at[:, None] + np.arange(_FOOTER.size)].tobytes())
        return digest.hexdigest()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_maps": {}}

    def _shard(self, i: int) -> int:
        if not 0 <= i < len(self):
            raise IndexError(f"record {i} of {len(self)}")
        return int(np.searchsorted(self._first, i, side="right")) - 1

    def _message(self, i: int) -> tf_example_pb2.Example:
        shard = self._shard(i)
        if shard not in self._maps:
            with open(self.paths[shard], "rb") as file:
                self._maps[shard] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        start, length = int(self._offsets[i]), int(self._lengths[i])
        record = self._maps[shard][start : start + _HEADER.size + length + _FOOTER.size]
        if not _intact(record, length):
            raise UserError(f"{self.where(i)}: damaged (checksum mismatch); copy or pack this shard again")
        try:
            return tf_example_pb2.Example.FromString(record[_HEADER.size : -_FOOTER.size])
        except DecodeError:
            raise UserError(f"{self.where(i)}: not a tf.train.Example") from None


def _example(features) -> Example:
    """Build an Example from the feature map; ValueError where a field is not as the schema says."""

    def ints(name: str):
        return features[name].int64_list.value

    def texts(name: str):
        return features[name].bytes_list.value

    def one(values, name: str):
        if len(values) != 1:
            raise ValueError(f"{name} holds {len(values)} values, expected 1")
        return values[0]

    number = {name: one(ints(name), name) for name in schema.INT_FEATURES}
    if number[schema.SCHEMA_VERSION] != schema.VERSION:
        raise ValueError(
            f"it says {schema.SCHEMA_VERSION} {number[schema.SCHEMA_VERSION]}; pack the data again"
        )

    joints = np.array(features[schema.JOINTS].float_list.value, np.float32)
    joints = joints.reshape(schema.SHAPES[schema.JOINTS])
    visibility = np.array(ints(schema.VISIBILITY), np.uint8).reshape(schema.SHAPES[schema.VISIBILITY])
    occluded = np.array(ints(schema.OCCLUDED), bool).reshape(schema.SHAPES[schema.OCCLUDED])
    if not len(joints) == len(visibility) == len(occluded):
        raise ValueError(
            f"{len(joints)} people have joints, {len(visibility)} visibility, {len(occluded)} occluded"
        )
    joints[visibility == schema.MISSING] = np.nan
    words: dict[str, Any] = {name: one(texts(name), name).decode() for name in schema.TEXT_FEATURES}
    words |= {name: tuple(text.decode() for text in texts(name)) for name in schema.TEXT_LIST_FEATURES}
    return Example(
        image=one(texts(schema.IMAGE), schema.IMAGE),
        height=number[schema.HEIGHT],
        width=number[schema.WIDTH],
        original_height=number[schema.ORIGINAL_HEIGHT],
        original_width=number[schema.ORIGINAL_WIDTH],
        joints=joints,
        visibility=visibility,
        occluded=occluded,
        people_complete=bool(number[schema.PEOPLE_COMPLETE]),
        **words,
    )


def _check_complete(directory: str, split: str, names: dict[str, re.Match]) -> None:
    sets = sorted({(match["dataset"], match["shards"]) for match in names.values()})
    if len(sets) > 1:
        found = ", ".join(f"{dataset}-{split} of {int(shards)}" for dataset, shards in sets)
        raise UserError(f"{directory}: holds several sets of shards ({found}); name one by a pattern")
    shards = int(sets[0][1])
    missing = sorted(set(range(shards)) - {int(match["shard"]) for match in names.values()})
    if missing:
        raise UserError(
            f"{directory}: shard {schema.shard_name(sets[0][0], split, missing[0], shards)} is missing "
            f"({len(missing)} of {shards} are)"
        )


def _record_index(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Offsets uint64 (N,) and payload lengths uint32 (N,) of a shard, from its index or by a scan."""
    try:
        size = os.path.getsize(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected a shard") from None
    match = _NAME.fullmatch(os.path.basename(path))
    name = match and schema.index_name(
        match["dataset"], match["split"], int(match["shard"]), int(match["shards"])
    )
    index_path = os.path.join(os.path.dirname(path), name or "")
    if not name or not os.path.exists(index_path):
        return _scan(path, size)
    try:
        with np.load(index_path) as index:
            offsets, lengths, expected = index["offset"], index["length"], int(index["size"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{index_path}: not a shard index ({error}); delete it to have it rebuilt") from None
    ends = offsets.astype(np.int64) + lengths + _HEADER.size + _FOOTER.size
    if size != expected or (ends[-1] if len(ends) else 0) != size:
        raise UserError(f"{path}: {size} bytes, its index says {expected}; copy or pack this shard again")
    return offsets, lengths


def _scan(path: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Walk the records of a shard that has no index, checking each length field and the end of the file."""
    offsets: list[int] = []
    lengths: list[int] = []
    at = 0
    with open(path, "rb") as file:
        while at < size:
            file.seek(at)
            header = file.read(_HEADER.size)
            end = at + _HEADER.size + _FOOTER.size
            if len(header) == _HEADER.size:
                length, checksum = _HEADER.unpack(header)
                end += length
            if len(header) < _HEADER.size or checksum != _masked_crc(header[:8]) or end > size:
                raise UserError(
                    f"{path} record {len(offsets)}: damaged or cut off; copy or pack this shard again"
                )
            offsets.append(at)
            lengths.append(length)
            at = end
    return np.array(offsets, np.uint64), np.array(lengths, np.uint32)


def _intact(record: bytes, length: int) -> bool:
    """Whether a whole record (header, payload, footer) says `length` and matches both its checksums."""
    if len(record) != _HEADER.size + length + _FOOTER.size:
        return False
    return _HEADER.unpack_from(record) == (length, _masked_crc(record[:8])) and _FOOTER.unpack_from(
        record, _HEADER.size + length
    )[0] == _masked_crc(record[_HEADER.size : -_FOOTER.size])


def _masked_crc(data: bytes) -> int:
    """CRC32C as TFRecord stores it: rotated and offset, so that a checksum of checksums stays sound."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
